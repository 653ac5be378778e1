"""Engines that work through a list: a loop, processes of this machine (joblib), or a cluster (dask)."""

from __future__ import annotations

import asyncio
import itertools
import logging
import os
import re
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import CLUSTER, require
from nwb_migvis.plain import nearest

ENGINES: Mapping[str, Mapping[str, Any]] = {
    "loop": {},
    "joblib": {"n_jobs": -1},
    "dask": {"client": None, "address": None},
}
"""Engines with what `engine_kwargs` can hold, and what stands where nothing is given."""

MOST_BREAKS = 2
"""Workers of joblib that may be killed before the items that they may have had are done one at a time."""

SECONDS_TO_CONNECT = 20
"""How long a scheduler of dask may take to answer."""

Task = Callable[[Any, int], Any]
"""Takes an item and the number of threads that it may use (0: as many as it likes); raises nothing."""


@dataclass(frozen=True)
class Engine:
    """An engine with its settings.

    Attributes
    ----------
    name : {"loop", "joblib", "dask"}
    settings : mapping
        What was given as `engine_kwargs`.
    """

    name: str = "loop"
    settings: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def of(cls, engine: str, engine_kwargs: Mapping[str, Any] | None) -> Engine:
        """Return the engine of this name, having checked that it can be had; raises as `check_engine`."""
        check_engine(engine, engine_kwargs)
        return cls(engine, dict(engine_kwargs or {}))


LOOP = Engine()


@dataclass(frozen=True)
class Lost:
    """What came of an item whose worker was killed each time it was tried."""

    why: str


def engine_settings(engine: str, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the settings of an engine, with what is given in place.

    Raises
    ------
    MigvisError
        For an unknown engine or setting, a value that does not fit, or what is not installed.
    """
    if engine not in ENGINES:
        raise MigvisError(f"engine {engine!r} is unknown; expected one of {nearest(engine, ENGINES)}")
    known = ENGINES[engine]
    for name in given or {}:
        if name not in known:
            expected = f"expected {nearest(name, known)}" if known else "it has none; omit engine_kwargs"
            raise MigvisError(f"engine_kwargs: the engine {engine!r} has no {name!r}; {expected}")
    settings = {**known, **(given or {})}
    if engine == "joblib":
        require(("joblib",), what="the engine 'joblib'", extra="cluster")
        n_jobs = settings["n_jobs"]
        if not isinstance(n_jobs, int) or isinstance(n_jobs, bool) or n_jobs == 0:
            raise MigvisError(f"engine_kwargs: n_jobs is {n_jobs!r}; expected 1 or more, or -1 for all cores")
    if engine == "dask":
        require(CLUSTER, what="the engine 'dask'", extra="cluster")
        _check_scheduler(settings["client"], settings["address"])
    return settings


def _check_scheduler(client: Any, address: Any) -> None:
    if (client is None) == (address is None):
        raise MigvisError(
            "engine_kwargs: the engine 'dask' needs the address of a scheduler, or in Python a client; "
            "give one of them, such as address=tcp://HOST:8786"
        )
    if address is not None and not isinstance(address, str):
        raise MigvisError(
            f"engine_kwargs: address is {address!r:.80}; expected a host and a port, as in tcp://HOST:8786"
        )
    from distributed import Client

    if client is not None and not isinstance(client, Client):
        raise MigvisError(
            f"engine_kwargs: client is {client!r:.80}; expected a dask.distributed.Client; give the address "
            "of a scheduler as address"
        )


def check_engine(engine: str, given: Mapping[str, Any] | None) -> int | None:
    """Check that an engine can be had, a scheduler of dask included; return how many workers that has.

    Returns
    -------
    int or None
        None for an engine without a scheduler.

    Raises
    ------
    MigvisError
        As `engine_settings`; if a scheduler cannot be reached.
    """
    settings = engine_settings(engine, given)
    if engine != "dask":
        return None
    with _client(settings) as client:
        return len(client.nthreads())


def work_through(
    task: Task,
    items: Sequence[Any],
    *,
    engine: str = "loop",
    engine_kwargs: Mapping[str, Any] | None = None,
    n_threads: int = 0,
    send_once: bool = False,
) -> Generator[tuple[int, Any], None, None]:
    """Do a task for every item, and yield positions and what came of them as they end.

    An item whose worker was killed is done again. One whose worker is killed each time is `Lost`, and the
    others go on.

    Parameters
    ----------
    task : callable
        A function of a module, or a partial of one, that returns what can be pickled.
    items : sequence
    engine : {"loop", "joblib", "dask"}
    engine_kwargs : mapping, optional
        joblib: `n_jobs`, by default as many as there are cores. dask: `client`, or the `address` of a
        scheduler.
    n_threads : int
        Threads of each item. With 0 the cores are shared evenly among those that are done at once, and none
        has more than `OMP_NUM_THREADS`, where that is set.
    send_once : bool
        Whether each worker of dask gets the task once, for a task that holds much data, and not with every
        item. If all workers that have it are killed, the items that are left are `Lost`.

    Raises
    ------
    MigvisError
        As `engine_settings`; if a scheduler cannot be reached.
    """
    settings = engine_settings(engine, engine_kwargs)
    if engine == "joblib":
        return _by_joblib(task, items, n_jobs=settings["n_jobs"], n_threads=n_threads)
    if engine == "dask":
        return _by_dask(task, items, settings, n_threads=n_threads, send_once=send_once)
    return ((i, task(item, n_threads)) for i, item in enumerate(items))


def _by_joblib(
    task: Task, items: Sequence[Any], *, n_jobs: int, n_threads: int
) -> Generator[tuple[int, Any], None, None]:
    from concurrent.futures.process import BrokenProcessPool

    from joblib import cpu_count

    n_cores = cpu_count()
    n_jobs = min(n_jobs if n_jobs > 0 else max(n_cores + 1 + n_jobs, 1), max(len(items), 1))
    n_threads = n_threads or _share(n_cores, n_jobs)
    left, n_broken = dict(enumerate(items)), 0
    while left:
        try:
            for i, value in _in_processes(task, left, n_jobs, n_threads):
                del left[i]
                yield i, value
        except BrokenProcessPool:
            n_broken += 1
        if n_broken < MOST_BREAKS:
            continue
        # Who was killed is not known. It is among the first: each of them gets a pool for itself.
        for i in list(itertools.islice(left, n_jobs)):
            item = left.pop(i)
            try:
                yield from list(_in_processes(task, {i: item}, 2, n_threads))
            except BrokenProcessPool:
                yield i, Lost("its worker process was killed each time (is there too little memory?)")
        n_broken = 0


def _in_processes(
    task: Task, items: Mapping[int, Any], n_jobs: int, n_threads: int
) -> Generator[tuple[int, Any], None, None]:
    from joblib import Parallel, delayed, parallel_config

    # joblib replaces a worker whose memory grew, by the networks of its first session say, and loses nothing.
    # Where warnings are errors, this one ends the thread that hands out items, and the others wait for ever.
    warnings.filterwarnings(
        "ignore", message="A worker stopped while some jobs were given", category=UserWarning
    )
    with parallel_config("loky", n_jobs=n_jobs, inner_max_num_threads=n_threads):
        pool = Parallel(return_as="generator_unordered", batch_size=1, pre_dispatch=n_jobs)
        yield from pool([delayed(_numbered)(i, task, item, n_threads) for i, item in items.items()])


def _numbered(i: int, task: Task, item: Any, n_threads: int) -> tuple[int, Any]:
    return i, task(item, n_threads)


def _by_dask(
    task: Task, items: Sequence[Any], settings: Mapping[str, Any], *, n_threads: int, send_once: bool
) -> Generator[tuple[int, Any], None, None]:
    from distributed import as_completed

    with ExitStack() as stack:
        client = stack.enter_context(_client(settings))
        hosts = [address.rpartition(":")[0] for address in client.nthreads()]
        beside = {host: hosts.count(host) for host in hosts}
        sent = client.scatter(task, broadcast=True, hash=False) if send_once else task
        futures = {
            client.submit(_on_cluster, sent, item, n_threads, beside, pure=False): i
            for i, item in enumerate(items)
        }
        stack.callback(client.cancel, list(futures))
        for future in as_completed(list(futures)):
            yield futures[future], _came_of(future)


def _came_of(future: Any) -> Any:
    if future.status not in ("finished", "error"):
        return Lost("the connection to the scheduler of dask was lost, or the work was cancelled there")
    error = future.exception()
    if error is None:
        return future.result()
    words = " ".join(str(error).split())
    return Lost(f"dask gave it up: {type(error).__name__}: {words:.300}")


@contextmanager
def _client(settings: Mapping[str, Any]) -> Iterator[Any]:
    """Give the client of the settings, or one of its own for the time of the block."""
    from distributed import Client

    if settings["client"] is not None:
        yield settings["client"]
        return
    address = settings["address"]
    try:
        _await_greeting(address)
        client = Client(address, timeout=SECONDS_TO_CONNECT)
    except (OSError, ValueError) as error:
        why = str(error) or f"it is connected, and silent for {SECONDS_TO_CONNECT} s; is it the dashboard?"
        raise MigvisError(
            f"engine_kwargs: no scheduler of dask answers at {address} ({why}); expected the address that "
            "cluster.scheduler_address gives"
        ) from None
    log = logging.getLogger("distributed.client")  # prints a traceback where the scheduler is lost
    level = log.level
    log.setLevel(logging.CRITICAL)
    try:
        with client:
            yield client
    finally:
        log.setLevel(level)


def _await_greeting(address: str) -> None:
    """Wait until a scheduler greets, which `Client` does for ever where something else listens.

    Raises
    ------
    OSError, ValueError
    """
    from distributed import Security
    from distributed.comm import connect

    async def greet() -> None:
        given = Security().get_connection_args("client")
        comm = await asyncio.wait_for(
            connect(address, timeout=SECONDS_TO_CONNECT, **given), SECONDS_TO_CONNECT + 1
        )
        comm.abort()

    with ThreadPoolExecutor(1) as pool:  # here a notebook has a loop of its own
        pool.submit(asyncio.run, greet()).result()


def _on_cluster(task: Task, item: Any, n_threads: int, beside: Mapping[str, int]) -> Any:
    """Do an item in a worker of dask, which has one thread of dask and several of the task."""
    from dask.system import CPU_COUNT
    from distributed import get_worker

    worker = get_worker()
    if worker.state.nthreads != 1:
        return Lost(
            f"its dask worker has {worker.state.nthreads} threads, and would do as many sessions in one "
            "process; expected one; start workers with threads_per_worker=1 (dask worker --nthreads 1, "
            "dask-jobqueue cores=1), and give n_threads"
        )
    host = worker.address.rpartition(":")[0]
    return task(item, n_threads or _share(CPU_COUNT, beside.get(host, 1)))


def _share(n_cores: int, n_beside: int) -> int:
    """Return how many threads each of the items has that are done at once: no more than OpenMP is allowed."""
    allowed = os.environ.get("OMP_NUM_THREADS", "")
    share = max(n_cores // n_beside, 1)
    return min(share, int(allowed)) if re.fullmatch("[1-9][0-9]*", allowed) else share
