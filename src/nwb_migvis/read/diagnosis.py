"""What keeps a file from being read though it is whole: filters that are not loaded, links to nowhere."""

from __future__ import annotations

import functools
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import h5py

from nwb_migvis.sources import Source, open_hdf5

_MOST_OBJECTS = 100_000
_FILTERS = {
    32000: "LZF",
    32001: "Blosc",
    32004: "LZ4",
    32008: "Bitshuffle",
    32013: "ZFP",
    32015: "Zstandard",
    32017: "SZ",
    32026: "Blosc2",
}
"""Names of registered HDF5 filters that NWB files meet, by number."""


@functools.cache
def load_filters() -> None:
    """Load the compression filters of hdf5plugin, where it is installed."""
    if find_spec("hdf5plugin") is not None:
        import hdf5plugin  # noqa: F401


def broken_links(path: Source) -> dict[str, str]:
    """Return the links of a file that lead nowhere, each with its target. pynwb omits what is behind them."""
    links: dict[str, str] = {}
    names: list[str] = []

    def note(name: bytes, link: Any) -> None:
        if link.type != h5py.h5l.TYPE_HARD:
            names.append(name.decode(errors="surrogateescape"))

    try:
        with open_hdf5(path) as file:
            file.id.links.visit(note, info=True)
            for name in names:
                if not _opens(file, name):
                    links[name] = _target(file.get(name, getlink=True))
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        pass  # the reading itself says what is wrong with the file
    return links


def _target(link: Any) -> str:
    if isinstance(link, h5py.ExternalLink):
        return f"{link.path} of {link.filename}"
    return link.path if isinstance(link, h5py.SoftLink) else "another place"


def why_not_readable(path: Source | str) -> str | None:
    """Return which filter or link of an HDF5 file is not there, with what to do, or None."""
    try:
        with open_hdf5(path) as file:
            return next(_missing(file), None)
    except (OSError, RuntimeError, KeyError, ValueError, TypeError):
        return None


def _missing(file: h5py.File) -> Iterator[str]:
    for name, item in _objects(file):
        if isinstance(item, str):
            yield f"the link {name} leads to {item}, which does not exist; restore that, or remove the link"
            continue
        number = missing_filter(item)
        if number is not None:
            yield (
                f"{name} is compressed with the HDF5 filter {number} "
                f"({_FILTERS.get(number, 'of another kind')}), "
                "which is not loaded; install hdf5plugin (pip install hdf5plugin), or the filter's own plugin"
            )


def missing_filter(dataset: h5py.Dataset) -> int | None:
    """Return the number of a filter that a dataset needs and that is not loaded, or None."""
    plist = dataset.id.get_create_plist()
    for i in range(plist.get_nfilters()):
        number = int(plist.get_filter(i)[0])
        if not h5py.h5z.filter_avail(number):
            return number
    return None


def _objects(file: h5py.File) -> Iterator[tuple[str, h5py.Dataset | str]]:
    """Yield the datasets of a file, and the targets of links that lead nowhere, each after its path."""
    groups = [file["/"]]
    n_objects = 0
    while groups:
        group = groups.pop()
        for key in group:
            n_objects += 1
            if n_objects > _MOST_OBJECTS:
                return
            link = group.get(key, getlink=True)
            name = f"{group.name.rstrip('/')}/{key}"
            if isinstance(link, h5py.HardLink):
                item = group[key]
                if isinstance(item, h5py.Group):
                    groups.append(item)
                elif isinstance(item, h5py.Dataset):
                    yield name, item
            elif not _opens(group, key):
                yield name, _target(link)


def _opens(group: h5py.Group, key: str) -> bool:
    try:
        return group[key] is not None
    except (KeyError, OSError):
        return False
