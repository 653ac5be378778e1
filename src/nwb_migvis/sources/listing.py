"""Which files a Zarr folder at an address has: as the archive lists them, or by its metadata."""

from __future__ import annotations

import hashlib
import itertools
import json
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json

MOST_FILES = 2 * 10**6
"""Of a folder: metadata can claim any number of chunks."""

METADATA = ("zarr.json", ".zmetadata", ".zgroup", ".zattrs", ".zarray")
"""Names of the files that say what a folder holds."""


@dataclass(frozen=True)
class FileThere:
    """A file of a folder at an address.

    Attributes
    ----------
    key : str
        Its path in the folder.
    size : int or None
        Bytes; None where nothing lists it.
    state : str
        What changes when it does; "" where nothing lists it.
    md5 : str
        Digest of its bytes, in hexadecimal; "" where it is not known.
    may_be_absent : bool
        Whether a file that is not there means what was never written.
    """

    key: str
    size: int | None = None
    state: str = ""
    md5: str = ""
    may_be_absent: bool = False

    @property
    def is_metadata(self) -> bool:
        """Whether it says what the folder holds."""
        return self.key.rpartition("/")[2] in METADATA


def place_of(key: str, folder: Path, *, address: str) -> Path:
    """Return the path of a file in a folder on this machine.

    Raises
    ------
    MigvisError
        If it would lie outside of the folder.
    """
    parts = key.split("/")
    if "\\" in key or "\0" in key or any(part in ("", ".", "..") or ":" in part for part in parts):
        raise MigvisError(
            f"{address} names the file {key!r}; expected names of files inside the folder; it is damaged or "
            "not to be trusted"
        )
    return folder.joinpath(*parts)


def nodes_of(root: Json) -> Mapping[str, Any] | None:
    """Return the metadata of a folder's groups and arrays by path, as its `zarr.json` lists them."""
    listed = root.get("consolidated_metadata")
    nodes = listed.get("metadata") if isinstance(listed, dict) else None
    return nodes if isinstance(nodes, dict) else None


def metadata_files(nodes: Mapping[str, Any]) -> list[FileThere]:
    """Return the metadata files of groups and arrays."""
    return [FileThere(f"{place}/zarr.json") for place in nodes]


def chunk_files(nodes: Mapping[str, Any], *, address: str) -> list[FileThere]:
    """Return the files that the arrays of a folder may have: those of chunks that were written are there.

    Parameters
    ----------
    nodes : mapping of str to dict
        Metadata (Zarr 3) by path.
    address : str
        For messages.

    Raises
    ------
    MigvisError
        If an array is stored in a way that is not known, or has too many chunks.
    """
    arrays = {place: node for place, node in nodes.items() if _is_array(node)}
    n_files = 0
    grids = {}
    for place, node in arrays.items():
        try:
            grids[place] = _grid(node)
        except (KeyError, TypeError, ValueError, ZeroDivisionError):
            raise MigvisError(
                f"{address}: the chunks of /{place} are not named in a known way; expected a regular grid; "
                "download the folder and give its path"
            ) from None
        n_files += math.prod(grids[place])
    if n_files > MOST_FILES:
        raise MigvisError(
            f"{address}: its arrays have {n_files} chunks; expected at most {MOST_FILES}; download the "
            "folder and give its path"
        )
    return [
        FileThere(f"{place}/{name}", may_be_absent=True)
        for place, node in arrays.items()
        for name in _chunk_names(node, grids[place])
    ]


def _is_array(node: Any) -> bool:
    return isinstance(node, dict) and node.get("node_type") == "array"


def _grid(node: Json) -> list[int]:
    """Return the number of chunks (of shards, where there are any) along each axis."""
    if node["chunk_grid"]["name"] != "regular" or node["chunk_key_encoding"]["name"] not in ("default", "v2"):
        raise ValueError
    shape, chunk = node["shape"], node["chunk_grid"]["configuration"]["chunk_shape"]
    return [-(-int(n) // int(size)) for n, size in zip(shape, chunk, strict=True)]


def _chunk_names(node: Json, grid: list[int]) -> Iterator[str]:
    encoding = node["chunk_key_encoding"]
    is_default = encoding["name"] == "default"
    separator = (encoding.get("configuration") or {}).get("separator", "/" if is_default else ".")
    for place in itertools.product(*map(range, grid)):
        parts = list(map(str, place))
        if is_default:
            yield separator.join(["c", *parts])
        else:
            yield separator.join(parts) or "0"


def archive_checksum(files: list[FileThere]) -> str:
    """Return the digest that the DANDI archive gives a folder (`dandi-zarr-checksum`).

    It is `MD5-COUNT--BYTES`. The digest of a folder is that of a JSON text with name, size and digest of
    what it holds, folders before files, each in the order of names (https://github.com/dandi/zarr_checksum).
    """
    return _checksum([(PurePosixPath(file.key).parts, file) for file in files])[0]


def _checksum(files: list[tuple[tuple[str, ...], FileThere]]) -> tuple[str, int, int]:
    """Return digest, number of files and bytes of a folder, from paths in it."""
    entries: dict[str, list[Json]] = {"directories": [], "files": []}
    n_files = n_bytes = 0
    for name, inside in itertools.groupby(sorted(files, key=lambda f: f[0]), key=lambda f: f[0][0]):
        held = [(parts[1:], file) for parts, file in inside]
        if held[0][0]:
            kind, (digest, count, size) = "directories", _checksum(held)
        else:
            kind, digest, count, size = "files", held[0][1].state, 1, held[0][1].size or 0
        entries[kind].append({"digest": digest, "name": name, "size": size})
        n_files, n_bytes = n_files + count, n_bytes + size
    md5 = hashlib.md5(json.dumps(entries, separators=(",", ":")).encode(), usedforsecurity=False).hexdigest()
    return f"{md5}-{n_files}--{n_bytes}", n_files, n_bytes
