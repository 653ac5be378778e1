"""Comparison of two HDF5 files, object by object: nothing of the source may be lost or altered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

import h5py
import numpy as np

BLOCK_BYTES = 16 * 2**20
_TYPE_ATTRIBUTES = ("namespace", "neurodata_type")

Address = tuple[int, int]
IsSubtype = Callable[[Any, Any], bool]


@dataclass(frozen=True)
class Rules:
    """What may differ between a file and its copy.

    Attributes
    ----------
    is_subtype : callable
        `is_subtype(old, new)` for pairs (namespace, type): whether a later schema's `new` type extends the
        `old` one. An export may give an object such a type.
    skip : collection of str
        Paths that are left out, with all below them.
    may_grow : collection of str
        Datasets to which the copy may add rows.
    most_bytes : int, optional
        Of larger datasets of numbers only shape and type are compared.
    """

    is_subtype: IsSubtype
    skip: Collection[str] = ()
    may_grow: Collection[str] = ()
    most_bytes: int | None = None


def lost_or_altered(source: h5py.File, copy: h5py.File, rules: Rules) -> Iterator[str]:
    """Yield a line for everything of `source` that `copy` lacks or holds otherwise.

    Every attribute and every value of every dataset is compared, a block at a time; references by the
    object that they point to; text whatever its character set and storage; a single value and a list of
    that one value are the same. Not compared: the cached specifications, with what names them, and the
    version of the NWB schema, which an export brings up to date.

    Parameters
    ----------
    source, copy : h5py.File
    rules : Rules
    """
    objects = _Objects(source, copy, pairs={}, paths=[])
    yield from _walk(objects, {*rules.skip, "/specifications"})
    same = _Comparison(source, copy, objects.pairs)
    for path in objects.paths:
        a, b = source[path], copy[path]
        yield from _attributes(path, dict(a.attrs), dict(b.attrs), same=same, is_subtype=rules.is_subtype)
        if not isinstance(a, h5py.Dataset):
            continue
        if path in rules.may_grow and a.ndim and a.shape[1:] == b.shape[1:] and len(a) < len(b):
            is_same = same.values(a[()], b[: len(a)])
        else:
            is_same = same.data(a, b, rules.most_bytes)
        if not is_same:
            yield f"{path} differs"


@dataclass(frozen=True)
class _Objects:
    """The path of every object of two files, once, and its address in both."""

    source: h5py.File
    copy: h5py.File
    pairs: dict[Address, Address]
    paths: list[str]


def _walk(objects: _Objects, skip: set[str]) -> Iterator[str]:
    """Fill in paths and addresses; yield what is absent."""
    source, copy, pairs, paths = objects.source, objects.copy, objects.pairs, objects.paths
    stack, visited = ["/"], set()
    while stack:
        path = stack.pop()
        if path in skip:
            continue
        a, b = source.get(path), copy.get(path)
        if a is None:
            yield f"{path} is a link to something that is not there"
        elif b is None or isinstance(a, h5py.Group) != isinstance(b, h5py.Group):
            yield f"{path} is absent"
        elif (pair := (_address(a.id), _address(b.id))) not in visited:
            visited.add(pair)
            pairs.setdefault(*pair)
            paths.append(path)
            if isinstance(a, h5py.Group):
                stack.extend(f"{path.rstrip('/')}/{name}" for name in a)


def _address(identifier: Any) -> Address:
    information = h5py.h5o.get_info(identifier)
    return information.fileno, information.addr


def _attributes(
    path: str,
    before: Mapping[str, Any],
    after: Mapping[str, Any],
    *,
    same: _Comparison,
    is_subtype: IsSubtype,
) -> Iterator[str]:
    for name, value in before.items():
        if path == "/" and name in (".specloc", "nwb_version"):
            continue
        if name not in after:
            yield f"{path}@{name} is absent"
        elif not same.values(value, after[name]) and not (
            name in _TYPE_ATTRIBUTES and _has_subtype(before, after, is_subtype)
        ):
            yield f"{path}@{name} differs"


def _has_subtype(before: Mapping[str, object], after: Mapping[str, object], is_subtype: IsSubtype) -> bool:
    old, new = (tuple(o.get(n) for n in _TYPE_ATTRIBUTES) for o in (before, after))
    return None not in old and None not in new and is_subtype(old, new)


class _Comparison:
    """Equality of values read from two files, where `pairs` maps addresses of one to those of the other."""

    def __init__(self, source: h5py.File, copy: h5py.File, pairs: dict[Address, Address]) -> None:
        self._source = source
        self._copy = copy
        self._pairs = pairs

    def data(self, a: h5py.Dataset, b: h5py.Dataset, most_bytes: int | None) -> bool:
        """Compare two datasets, block by block."""
        if not _same_dtype(a.dtype, b.dtype):
            return False
        if a.shape != b.shape:
            return {a.shape, b.shape} == {(), (1,)} and self.values(a[()], b[()])
        if most_bytes is not None and a.dtype.kind in "iufb" and a.nbytes > most_bytes:
            return True
        return a.shape is None or all(self.values(a[block], b[block]) for block in _blocks(a))

    def values(self, x: Any, y: Any) -> bool:
        """Compare values; floats bit for bit, so that NaN equals NaN."""
        if isinstance(x, h5py.Empty) or isinstance(y, h5py.Empty):
            return isinstance(x, h5py.Empty) and isinstance(y, h5py.Empty)
        if isinstance(x, h5py.Reference) or isinstance(y, h5py.Reference):
            return type(x) is type(y) and self._references(x, y)
        x, y = np.asarray(x), np.asarray(y)
        if {x.shape, y.shape} == {(), (1,)}:
            x, y = x.reshape(1), y.reshape(1)
        if x.shape != y.shape or x.dtype.names != y.dtype.names:
            return False
        if x.dtype.names:
            return all(self.values(x[n], y[n]) for n in x.dtype.names)
        if x.dtype.kind in "OSU" or y.dtype.kind in "OSU":
            return all(self._items(u, v) for u, v in zip(x.ravel(), y.ravel(), strict=True))
        return x.dtype == y.dtype and x.tobytes() == y.tobytes()

    def _items(self, u: Any, v: Any) -> bool:
        if isinstance(u, (str, bytes)) or isinstance(v, (str, bytes)):
            return _utf8(u) == _utf8(v)
        return self.values(u, v)

    def _references(self, x: Any, y: Any) -> bool:
        if not x or not y:
            return bool(x) == bool(y)
        a = h5py.h5r.dereference(x, self._source.id)
        b = h5py.h5r.dereference(y, self._copy.id)
        if isinstance(x, h5py.RegionReference):
            u, v = h5py.h5r.get_region(x, self._source.id), h5py.h5r.get_region(y, self._copy.id)
            if (
                u.get_select_bounds() != v.get_select_bounds()
                or u.get_select_npoints() != v.get_select_npoints()
            ):
                return False
        return self._pairs.get(_address(a)) == _address(b)


def _same_dtype(a: np.dtype, b: np.dtype) -> bool:
    """Compare dtypes; texts of either character set, and of fixed or variable length, are one."""
    if a.names:
        return a.names == b.names and all(_same_dtype(a[n], b[n]) for n in a.names)
    if h5py.check_string_dtype(a) and h5py.check_string_dtype(b):
        return True
    return a == b and h5py.check_ref_dtype(a) == h5py.check_ref_dtype(b)


def _blocks(dataset: h5py.Dataset) -> Iterator[Any]:
    """Yield selections along the first axis of about `BLOCK_BYTES`, in whole chunks."""
    if not dataset.shape:
        yield ()
        return
    row_bytes = max(1, int(np.prod(dataset.shape[1:], dtype=np.int64))) * max(dataset.dtype.itemsize, 1)
    chunk = dataset.chunks[0] if dataset.chunks else 1
    step = max(1, BLOCK_BYTES // (row_bytes * chunk)) * chunk
    for start in range(0, dataset.shape[0], step):
        yield slice(start, min(start + step, dataset.shape[0]))


def _utf8(text: Any) -> Any:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text
