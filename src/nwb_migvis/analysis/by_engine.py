"""Fits of a study that do not need each other, by an engine: here, in other processes, or on a cluster."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from functools import partial
from typing import Any, TypeVar

from nwb_migvis.analysis.context import Context, torch_settings
from nwb_migvis.config import Config
from nwb_migvis.engines import Lost, work_through
from nwb_migvis.errors import MigvisError
from nwb_migvis.progress import progress, timing

T = TypeVar("T")


def fits_by_engine(fit: Callable[[Any], T], items: Sequence[Any], context: Context, *, what: str) -> list[T]:
    """Do a fit for every item by the context's engine, and return what came of each, in order.

    In other processes torch and BLAS use as many threads as they do here, so that the arrays are the same.

    Parameters
    ----------
    fit : callable
        A function of a module, or a partial of one, with the data that it needs.
    items : sequence
        What tells one fit from another.
    context : Context
        Its settings have the number of threads that is used here.
    what : str
        What is done, for the bar; "" for none.

    Raises
    ------
    MigvisError
        What a fit raises; if a worker is killed each time that it does one.
    """

    def watched(iterable: Iterable[Any]) -> Iterable[Any]:
        return progress(iterable, what=what, total=len(items), unit="fit") if what else iterable

    engine, config = context.engine, context.config
    if engine.name == "loop":
        return [fit(item) for item in watched(items)]
    work = work_through(
        partial(_in_worker, fit=fit, config=config, blas_threads=_blas_threads()),
        items,
        engine=engine.name,
        engine_kwargs=engine.settings,
        n_threads=config.n_threads,
        send_once=True,
    )
    with closing(work):  # ends what is under way where this is interrupted
        ended = dict(watched(work))
    return [_made(ended[i], f"fit {i + 1} of {len(items)}") for i in range(len(items))]


def _made(value: Any, name: str) -> Any:
    """Return what came of a fit, or raise what it raised."""
    if isinstance(value, Lost):
        raise MigvisError(
            f"{name} was lost: {value.why}; expected all of them; do fewer at once (engine_kwargs), or use "
            "the engine 'loop'"
        )
    if isinstance(value, Exception):
        raise value
    return value


def _in_worker(
    item: Any, _: int, *, fit: Callable[[Any], Any], config: Config, blas_threads: int | None
) -> Any:
    """Do a fit in silence, with the threads of the process that asked for it; return what it raises."""
    from threadpoolctl import threadpool_limits

    try:
        with (
            torch_settings(config),
            threadpool_limits(blas_threads, user_api="blas"),
            warnings.catch_warnings(action="ignore"),
            timing(),
        ):
            return fit(item)
    except Exception as error:
        return error


def _blas_threads() -> int | None:
    """Return how many threads BLAS uses in this process, None where that is unknown."""
    from threadpoolctl import threadpool_info

    return max(
        (pool["num_threads"] for pool in threadpool_info() if pool["user_api"] == "blas"), default=None
    )
