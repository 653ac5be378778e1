"""What surrounds a run: settings, seeds, threads, clocks and digests."""

from __future__ import annotations

import contextlib
import hashlib
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from nwb_migvis import progress
from nwb_migvis.config import Config
from nwb_migvis.engines import LOOP, Engine
from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.sources import Source, open_hdf5

STAGES = ("split", "latents", "prior", "critic", "pairs", "evidence")


class Clock:
    """Seconds by stage, and the losses of each training."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self.curves: dict[str, Json] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        """Add the time of what is done inside to a stage, and keep the curves of its trainings.

        Within another stage it is a part of that one: its time counts there, and its trainings are
        repetitions, whose curves are not kept.
        """
        outer = progress.open_stage()
        start = time.perf_counter()
        with progress.stage(stage), progress.keeping_curves(self.curves if outer in (None, stage) else {}):
            yield
        if outer is None:
            self.seconds[stage] = round(self.seconds.get(stage, 0.0) + time.perf_counter() - start, 3)


@dataclass(frozen=True)
class Context:
    """What surrounds every stage of a run.

    Attributes
    ----------
    config : Config
        With the values that were actually used, as far as they are known.
    clock : Clock
    engine : Engine
        By which fits are done that do not need each other.
    """

    config: Config
    clock: Clock = field(default_factory=Clock)
    engine: Engine = LOOP

    @property
    def seeds(self) -> dict[str, int]:
        """A seed for each stage."""
        return stage_seeds(self.config.seed)

    @property
    def device(self) -> str:
        """Where networks are."""
        return self.config.device

    def rng(self, stage: str) -> np.random.Generator:
        """Return a new generator of a stage's draws."""
        return np.random.default_rng(self.seeds[stage])

    def with_seed_of(self, stage: str, seed: int) -> Context:
        """Return the context of a repetition that differs in the seed of one stage, on a clock of its own."""
        return _Reseeded(self.config, stage=stage, seed=seed)


@dataclass(frozen=True)
class _Reseeded(Context):
    stage: str = ""
    seed: int = 0

    @property
    def seeds(self) -> dict[str, int]:
        return {**stage_seeds(self.config.seed), self.stage: self.seed}


def stage_seeds(seed: int) -> dict[str, int]:
    """Return an independent seed for each stage."""
    words = np.random.SeedSequence(seed).generate_state(len(STAGES))
    return {stage: int(word) for stage, word in zip(STAGES, words, strict=True)}


def check_device(config: Config) -> None:
    """Refuse a device that this machine does not have."""
    import torch

    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise MigvisError(
            f"device {config.device!r} cannot be used: {str(error).splitlines()[0]}; give --device cpu, or "
            'device = "cpu" in the settings'
        ) from None


@contextmanager
def torch_settings(config: Config) -> Iterator[int]:
    """Set threads and determinism for the duration of a run; yield the number of threads."""
    import torch

    # cuBLAS is deterministic only with a fixed workspace, which it reads when a process first uses it.
    os.environ.setdefault("CUBLAS_WORKSPACE_CONFIG", ":4096:8")
    check_device(config)
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    fill = torch.utils.deterministic.fill_uninitialized_memory  # type: ignore[attr-defined]
    try:
        if config.n_threads:
            torch.set_num_threads(config.n_threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        torch.utils.deterministic.fill_uninitialized_memory = False  # type: ignore[attr-defined]
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)
        torch.utils.deterministic.fill_uninitialized_memory = fill  # type: ignore[attr-defined]


@contextmanager
def one_thread() -> Iterator[int]:
    """Let numpy and torch use one thread, and yield how many torch had.

    For many small operations a second thread costs more than it helps. Where other processes use the cores,
    each operation waits for the slower of its threads.
    """
    import torch
    from threadpoolctl import threadpool_limits

    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        with threadpool_limits(1, user_api="blas"):
            yield n_threads
    finally:
        torch.set_num_threads(n_threads)


def digest_of(source: Source) -> dict[str, str]:
    """Return a file's name and the digest of its bytes, with the object id of an NWB file.

    Of a file at an address these are the address, and what the archive or server says of it: dandiset,
    version, asset id, digest. The provenance lists inputs so.
    """
    if isinstance(source, Path):
        with source.open("rb") as file:
            record = {"path": source.name, "sha256": hashlib.file_digest(file, "sha256").hexdigest()}
    else:
        record = source.provenance()
    with contextlib.suppress(OSError), open_hdf5(source) as session:
        record["object_id"] = str(session.attrs.get("object_id", ""))
    return record
