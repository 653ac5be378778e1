"""Checks of dtype and shape that hdmf does not make.

hdmf converts what it is given to the dtype of the specification: a float image in [0, 1) would be stored as
integer zeros. Here such data are refused when a type is built.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np
from hdmf.spec import DatasetSpec
from pynwb import get_manager

from ndx_migvis.errors import MigvisError
from ndx_migvis.namespace import NAMESPACE

_KINDS = {"int": ("iu", "integers"), "float": ("f", "floats")}


@cache
def column_specs(type_name: str) -> dict[str, DatasetSpec]:
    """Return the specification of every column of a table type, by column name."""
    return {d.name: d for d in data_spec(type_name).datasets if d.name not in (None, "id")}


@cache
def data_spec(type_name: str) -> Any:
    """Return the specification of a type of the extension."""
    return _catalog().get_spec(NAMESPACE, type_name)


@cache
def _catalog() -> Any:
    """Return the specifications in use; a manager is a deep copy of all of them."""
    return get_manager().type_map.namespace_catalog


def check_data(data: Any, spec: DatasetSpec, *, where: str) -> None:
    """Check the dtype and shape of data against a specification.

    Parameters
    ----------
    data : array_like, h5py.Dataset or hdmf.data_utils.DataIO
    spec : hdmf.spec.DatasetSpec
        `dtype` and `shape` are used. Integers and floats may be of any size, which hdmf widens without loss;
        `uint8` has to be exactly that.
    where : str
        Place for the error message.

    Raises
    ------
    MigvisError
        Naming what was found and what was expected.
    """
    array = data if hasattr(data, "dtype") and hasattr(data, "shape") else np.asarray(data)
    dtype, shape = np.dtype(array.dtype), tuple(array.shape)
    expected = spec.dtype
    family = expected.rstrip("0123456789")
    if expected == "text":
        fits, values = _is_text(array, dtype), "text"
    elif family in _KINDS:
        kinds, values = _KINDS[family]
        fits = dtype.kind in kinds
    else:
        fits, values = dtype == np.dtype(expected), expected
    if not fits:
        raise MigvisError(f"{where}: found {dtype} values; expected {values}; convert them first")
    shapes = _shapes(spec)
    if not any(_fits(shape, s) for s in shapes):
        allowed = " or ".join(_shown(s) for s in shapes)
        raise MigvisError(f"{where}: found the shape {shape}; expected {allowed}; reshape it first")


def _is_text(array: Any, dtype: np.dtype) -> bool:
    if dtype.kind in "UST":
        return True
    return dtype.kind == "O" and all(isinstance(v, str) for v in np.ravel(np.asarray(array)))


def _shapes(spec: DatasetSpec) -> list[tuple[int | None, ...]]:
    shape: Any = spec.shape or (None,)
    return [tuple(s) for s in shape] if isinstance(shape[0], Iterable) else [tuple(shape)]


def _fits(shape: tuple[int, ...], expected: tuple[int | None, ...]) -> bool:
    return len(shape) == len(expected) and all(
        e is None or n == e for n, e in zip(shape, expected, strict=True)
    )


def _shown(shape: tuple[int | None, ...]) -> str:
    return (
        "("
        + ", ".join("any" if n is None else str(n) for n in shape)
        + ("," if len(shape) == 1 else "")
        + ")"
    )
