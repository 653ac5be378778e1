"""Figures as methods of results, looked up when used: reading results must not load matplotlib."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial, update_wrapper
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from nwb_migvis.results.record import Results

_MODULE = "nwb_migvis.plot"


class Plots:
    """The functions of `nwb_migvis.plot`, given their results.

    Parameters
    ----------
    results : Results
    """

    def __init__(self, results: Results) -> None:
        self._results = results

    def __getattr__(self, name: str) -> Callable[..., Any]:
        if name not in _figures():
            raise AttributeError(f"there is no figure {name!r}; expected one of {', '.join(_figures())}")
        draw = getattr(import_module(_MODULE), name)
        return update_wrapper(partial(draw, self._results), draw)

    def __dir__(self) -> list[str]:
        return [*_figures(), *object.__dir__(self)]

    def __repr__(self) -> str:
        return f"Figures of results {self._results.name!r}: {', '.join(_figures())}"


def _figures() -> list[str]:
    return list(import_module(_MODULE).FIGURES)
