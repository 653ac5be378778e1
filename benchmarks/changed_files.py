"""Changes to the structure of HDF5 files, for the fuzzers: other types, attributes, sizes and places."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np

KEPT = "specifications"
"""Group that is left alone: the schema itself, which only a library reads."""
TYPES = (
    "Units",
    "TimeIntervals",
    "DynamicTable",
    "VectorData",
    "VectorIndex",
    "IndexSeries",
    "Images",
    "NWBFile",
)
FAULTS = (KeyError, ValueError, TypeError, IndexError, AttributeError, OSError, RuntimeError)


def objects(file: h5py.File) -> list[str]:
    """Return the paths of all objects but the schema."""
    names: list[str] = []
    file.visit(lambda name: names.append(name) if not name.startswith(KEPT) else None)
    return names


def pick(names: list[Any], rng: np.random.Generator) -> Any:
    return names[rng.integers(len(names))]


def swap_types(file: h5py.File, rng: np.random.Generator) -> None:
    """Give an object another's type, or the name of another."""
    typed = [name for name in objects(file) if "neurodata_type" in file[name].attrs]
    item = file[pick(typed, rng)]
    others = [str(file[name].attrs["neurodata_type"]) for name in typed]
    item.attrs["neurodata_type"] = pick([*others, *TYPES], rng)


def change_attribute(file: h5py.File, rng: np.random.Generator) -> None:
    """Change, remove or exchange an attribute."""
    item = file[pick([name for name in objects(file) if len(file[name].attrs)], rng)]
    key = pick(list(item.attrs), rng)
    odd: list[Any] = [
        "",
        "x",
        3,
        -1,
        np.nan,
        np.zeros(4),
        np.zeros((2, 2)),
        "x" * 5000,
        np.array(["a", "b"], "S"),
    ]
    odd += [h5py.Empty("f"), file.ref, file[pick(objects(file), rng)].ref]
    kind = rng.integers(4)
    del item.attrs[key]
    if kind == 1:
        other = file[pick([name for name in objects(file) if key in file[name].attrs], rng)]
        item.attrs[key] = other.attrs[key]
    elif kind > 1:
        item.attrs[key] = pick(odd, rng)


def change_dataset(file: h5py.File, rng: np.random.Generator) -> None:
    """Store a dataset in another type, length or number of dimensions."""
    name = pick([name for name in objects(file) if isinstance(file[name], h5py.Dataset)], rng)
    if file[name].nbytes > 2**28:
        raise ValueError(f"{name} was inflated before")
    values, attributes = np.asarray(file[name][()]), dict(file[name].attrs)
    n = values.size
    put: list[Callable[[], Any]] = [
        lambda: np.zeros(values.shape, pick(["f4", "f8", "i8", "u1", "?", "S3", "c16"], rng)),
        lambda: np.array(["text"] * n, dtype=object).reshape(values.shape),
        lambda: values.ravel()[: n // 2],
        lambda: np.concatenate([values.ravel()] * 3),
        lambda: values[None],
        lambda: values.ravel()[0],
        lambda: np.array([(1, 2.0)] * 3, dtype=[("a", "i4"), ("b", "f8")]),
        lambda: h5py.Empty(values.dtype if values.dtype.kind != "O" else "f"),
        lambda: np.full(values.shape, pick([-1, 2**40, 1e300, np.nan, np.inf], rng)),
        lambda: np.array([file.ref, file["units"].ref], h5py.ref_dtype),
    ]
    changed = pick(put, rng)()
    del file[name]
    file[name] = changed
    file[name].attrs.update(attributes)


def change_tensor(arrays: dict[str, np.ndarray], name: str, kind: int, rng: np.random.Generator) -> bool:
    """Remove, cast, cut or fill a tensor (kinds 0 to 3); return whether the kind was one of these."""
    if kind == 0:
        del arrays[name]
    elif kind == 1:
        arrays[name] = arrays[name].astype(np.float64)
    elif kind == 2:
        arrays[name] = arrays[name].ravel()[: rng.integers(arrays[name].size + 1)]
    elif kind == 3:
        arrays[name] = np.full_like(arrays[name], [np.nan, np.inf, 0, -1][rng.integers(4)])
    return kind < 4


def inflate(file: h5py.File, name: str, rng: np.random.Generator) -> None:
    """Say that a dataset is far larger than its bytes."""
    old = file[name]
    attributes, dtype, rest = dict(old.attrs), old.dtype, old.shape[1:]
    del file[name]
    shape = (int(10 ** rng.uniform(6, 12)), *rest)
    file.create_dataset(name, shape, dtype, chunks=(min(shape[0], 4096), *rest), compression="gzip")
    file[name].attrs.update(attributes)


def change_size(file: h5py.File, rng: np.random.Generator) -> None:
    """Inflate one of the datasets."""
    names = [name for name in objects(file) if isinstance(file[name], h5py.Dataset)]
    inflate(file, pick([name for name in names if file[name].ndim], rng), rng)


def move(file: h5py.File, rng: np.random.Generator) -> None:
    """Move, copy, remove or replace an object."""
    names = objects(file)
    name, other = pick(names, rng), pick(names, rng)
    groups = ["/", *(each for each in names if isinstance(file[each], h5py.Group))]
    home = f"{pick(groups, rng).rstrip('/')}/{name.rpartition('/')[2]}"
    kind = rng.integers(6)
    if kind == 0:
        file.move(name, home)
    elif kind == 1:
        file.copy(name, home)
    elif kind == 2:
        del file[name]
    elif kind == 3:
        file.move(name, f"{name}_")
    else:
        link = pick(
            [h5py.SoftLink(f"/{other}"), h5py.SoftLink("/gone"), h5py.ExternalLink("gone", "/x")], rng
        )
        target = file[other] if kind == 4 else link
        del file[name]
        file[name] = target


CHANGES = (swap_types, change_attribute, change_dataset, move, change_size)
_SHARES = (0.2, 0.25, 0.25, 0.25, 0.05)


def change(path: Path, rng: np.random.Generator) -> None:
    """Change one to three things in a file."""
    with h5py.File(path, "r+") as file:
        for _ in range(rng.integers(1, 4)):
            try:
                rng.choice(CHANGES, p=_SHARES)(file, rng)
            except FAULTS:
                continue  # an earlier change took away what this one is of
