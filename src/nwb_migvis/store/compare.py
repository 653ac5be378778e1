"""Comparison of two HDF5 files, object by object: nothing of the source may be lost or altered."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator
from typing import Any

import h5py
import numpy as np

BLOCK_BYTES = 16 * 2**20
_TYPE_ATTRIBUTES = ("namespace", "neurodata_type")


def lost_or_altered(
    source: h5py.File, copy: h5py.File, *, skip: Collection[str], is_subtype: Callable[..., bool]
) -> Iterator[str]:
    """Yield a line for everything of `source` that `copy` lacks or holds otherwise.

    Every attribute and every value of every dataset is compared, a block at a time; references by the path
    that they point to. Not compared: the cached specifications, with what names them, and the version of
    the NWB schema, which an export brings up to date.

    Parameters
    ----------
    source, copy : h5py.File
    skip : collection of str
        Paths that are left out, with all below them.
    is_subtype : callable
        `is_subtype(old, new)` for pairs (namespace, type): whether a later schema's `new` type extends the
        `old` one. An export may give an object such a type.
    """
    seen = set()
    stack = ["/"]
    while stack:
        path = stack.pop()
        a, b = source[path], copy.get(path)
        if b is None or isinstance(a, h5py.Group) != isinstance(b, h5py.Group):
            yield f"{path} is absent"
            continue
        if a.id in seen:
            continue
        seen.add(a.id)
        yield from _attributes(a, b, path, is_subtype)
        if isinstance(a, h5py.Dataset):
            if not _same_data(a, b):
                yield f"{path} differs"
            continue
        for name in a:
            child = f"{path.rstrip('/')}/{name}"
            if child not in skip and child != "/specifications":
                verdict = _link(source, copy, child)
                if verdict is None:
                    stack.append(child)
                elif verdict:
                    yield verdict


def _link(source: h5py.File, copy: h5py.File, path: str) -> str | None:
    """Return None to compare what a link leads to, "" for the same link, else what is wrong."""
    a, b = source.get(path, getlink=True), copy.get(path, getlink=True)
    if isinstance(a, h5py.SoftLink) and isinstance(b, h5py.SoftLink) and a.path == b.path:
        return ""
    if source.get(path) is None:
        return f"{path} is a link to something that is not there"
    return None


def _attributes(a: Any, b: Any, path: str, is_subtype: Callable[..., bool]) -> Iterator[str]:
    old, new = (tuple(o.attrs.get(n) for n in _TYPE_ATTRIBUTES) for o in (a, b))
    retyped = old != new and None not in old and None not in new and is_subtype(old, new)
    for name in a.attrs:
        if path == "/" and name in (".specloc", "nwb_version"):
            continue
        if name in _TYPE_ATTRIBUTES and retyped:
            continue
        if name not in b.attrs:
            yield f"{path}@{name} is absent"
        elif not _same_values(a.attrs[name], b.attrs[name], a, b):
            yield f"{path}@{name} differs"


def _same_data(a: h5py.Dataset, b: h5py.Dataset) -> bool:
    if a.shape != b.shape or not _same_dtype(a.dtype, b.dtype):
        return False
    if a.shape is None:
        return True
    return all(_same_values(a[block], b[block], a, b) for block in _blocks(a))


def _same_dtype(a: np.dtype, b: np.dtype) -> bool:
    """Compare dtypes; variable-length texts of either character set are one."""
    if a.names:
        return a.names == b.names and all(_same_dtype(a[n], b[n]) for n in a.names)
    if h5py.check_string_dtype(a) and h5py.check_string_dtype(b):
        return a.kind == b.kind
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


def _same_values(x: Any, y: Any, a: Any, b: Any) -> bool:
    """Compare values read from object `a` and object `b`; floats bit for bit, so that NaN equals NaN."""
    if isinstance(x, h5py.Empty) or isinstance(y, h5py.Empty):
        return isinstance(x, h5py.Empty) and isinstance(y, h5py.Empty)
    if isinstance(x, h5py.Reference):
        return isinstance(y, h5py.Reference) and _target(x, a) == _target(y, b)
    x, y = np.asarray(x), np.asarray(y)
    if x.shape != y.shape:
        return False
    if x.dtype.names:
        return x.dtype.names == y.dtype.names and all(_same_values(x[n], y[n], a, b) for n in x.dtype.names)
    if x.dtype.kind == "O" or y.dtype.kind == "O":
        return all(_same_item(u, v, a, b) for u, v in zip(x.ravel(), y.ravel(), strict=True))
    return x.dtype == y.dtype and x.tobytes() == y.tobytes()


def _same_item(u: Any, v: Any, a: Any, b: Any) -> bool:
    if isinstance(u, (str, bytes)) or isinstance(v, (str, bytes)):
        return _utf8(u) == _utf8(v)
    return _same_values(u, v, a, b)


def _utf8(text: Any) -> Any:
    return text.encode("utf-8", "surrogateescape") if isinstance(text, str) else text


def _target(reference: Any, owner: Any) -> Any:
    """Return what a reference points to, independent of the file: a path, and a selection for a region."""
    if not reference:
        return None
    target = owner.file[reference].name
    if isinstance(reference, h5py.RegionReference):
        return target, h5py.h5r.get_region(reference, owner.id).get_select_bounds()
    return target
