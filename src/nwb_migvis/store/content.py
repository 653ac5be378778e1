"""What in a session's file could not be copied: links and references to nothing, filters that are absent."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.sources import Source, open_hdf5

_FILTERS = {
    307: "bzip2",
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32026: "Blosc2",
}
"""Names of the filters that the HDF5 Group registered and that neurophysiology uses."""


def check_content(file: h5py.File, source: Path, *, is_moved: bool) -> None:
    """Refuse a file of which a copy would lose something, as far as links, references and filters tell.

    Parameters
    ----------
    file : h5py.File
    source : Path
        Where it is, for messages.
    is_moved : bool
        Whether the copy goes to another folder, which breaks relative paths of images.

    Raises
    ------
    MigvisError
        Naming the object.
    """
    addresses, referring = {h5py.h5o.get_info(file.id).addr}, [("/", file["/"])]
    for path, item, link in objects_in(file):
        if item is None:
            raise MigvisError(
                f"{source}: {path} is a link to something that is not there{_target(link)}; expected all of "
                "the session; bring the linked file or object back, or the copy would lose it"
            )
        if isinstance(item, h5py.Dataset):
            _check_filters(item, path, source)
        addresses.add(h5py.h5o.get_info(item.id).addr)
        referring.append((path, item))
        relative = [p for p in _external_paths(path, item) if not _is_absolute(p)] if is_moved else []
        if relative:
            raise MigvisError(
                f"{source}: {path} points to {relative[0]}, relative to the file's folder; "
                "expected an output beside the source; omit --out or give a file in its folder"
            )
    for path, item in referring:
        _check_references(item, path, addresses, source)


def check_unlinked(path: Source) -> None:
    """Refuse a file that the archive refuses: one with links to other files, or images that lie beside it.

    Raises
    ------
    MigvisError
    """
    with open_hdf5(path) as file:
        for place, item, link in objects_in(file):
            paths = _external_paths(place, item) if isinstance(item, h5py.Dataset) else []
            target = link.filename if isinstance(link, h5py.ExternalLink) else next(iter(paths), None)
            if target is not None:
                raise MigvisError(
                    f"{path}: {place} lies in another file ({target}), which the archive refuses; expected "
                    "all in one file; give --results-only to publish the results alone"
                )


def objects_in(file: h5py.File) -> Iterator[tuple[str, h5py.Group | h5py.Dataset | None, Any]]:
    """Yield every object by path, with its link, each group once; None for a link that leads nowhere."""
    stack, visited = ["/"], set()
    while stack:
        parent = stack.pop()
        group = file[parent]
        if group.id in visited:
            continue
        visited.add(group.id)
        for name in group:
            path = f"{parent.rstrip('/')}/{name}"
            if path == "/specifications":
                continue
            item = group.get(name)
            yield path, item, group.get(name, getlink=True)
            if isinstance(item, h5py.Group):
                stack.append(path)


def _target(link: Any) -> str:
    if isinstance(link, h5py.ExternalLink):
        return f" ({link.path} of {link.filename})"
    return f" ({link.path})" if isinstance(link, h5py.SoftLink) else ""


def _check_filters(dataset: h5py.Dataset, path: str, source: Path) -> None:
    settings = dataset.id.get_create_plist()
    for i in range(settings.get_nfilters()):
        code, _, _, name = settings.get_filter(i)
        if not h5py.h5z.filter_avail(code) and not _load_filters(code):
            called = _FILTERS.get(code) or name.decode(errors="replace") or "unknown"
            raise MigvisError(
                f"{source}: {path} is compressed by the filter {code} ({called}), which is not loaded; "
                "expected one that HDF5 has here; pip install hdf5plugin, and run again"
            )


def _load_filters(code: int) -> bool:
    """Load the filters of hdf5plugin where it is installed; tell whether one is there now."""
    try:
        import hdf5plugin  # noqa: F401
    except ImportError:
        return False
    return bool(h5py.h5z.filter_avail(code))


def _check_references(item: h5py.Group | h5py.Dataset, path: str, addresses: set[int], source: Path) -> None:
    names = [n for n in item.attrs if n != ".specloc" and _refers(item.attrs.get_id(n).dtype)]
    values = [(f"{path}@{name}", item.attrs[name]) for name in names]
    if isinstance(item, h5py.Dataset) and item.shape is not None and _refers(item.dtype):
        values.append((path, item[()]))
    for place, value in values:
        for row, reference in enumerate(_references(value)):
            if reference and not _leads_to(reference, item.file, addresses):
                raise MigvisError(
                    f"{source}: {place} refers to an object that is not there (reference {row}); expected "
                    "all of the session; bring the object back or remove the reference"
                )


def _refers(kind: np.dtype) -> bool:
    if kind.names:
        return any(_refers(kind[name]) for name in kind.names)
    return h5py.check_ref_dtype(kind) is not None


def _references(value: Any) -> Iterator[Any]:
    if isinstance(value, (h5py.Reference, h5py.RegionReference)):
        yield value
        return
    array = np.asarray(value)
    if array.dtype.names:
        for name in array.dtype.names:
            if _refers(array.dtype[name]):
                yield from array[name].ravel()
    else:
        yield from array.ravel()


def _leads_to(reference: Any, file: h5py.File, addresses: set[int]) -> bool:
    try:
        return h5py.h5o.get_info(h5py.h5r.dereference(reference, file.id)).addr in addresses
    except (ValueError, RuntimeError, OSError, KeyError):
        return False


def _external_paths(path: str, item: h5py.Group | h5py.Dataset) -> list[str]:
    if not isinstance(item, h5py.Dataset):
        return []
    if path.endswith("/external_file"):
        return [str(p) for p in item.asstr()[()].ravel()]
    return [str(item.asstr()[()])] if item.attrs.get("neurodata_type") == "ExternalImage" else []


def _is_absolute(path: str) -> bool:
    return Path(path).is_absolute() or "://" in path
