"""CPU seconds of each further analysis beside those of a run of `quick`: for `bench_companions.py`.

A simulated session of 640 images and 8 repeats. Latents, prior and critic are trained for a tenth of their
steps, a tenth of the pairs is edited, and all four are counted ten times, the latents once more for each seed
of the evidence. The rest of the evidence is not counted, so that the run takes longer. One process with one
thread.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from nwb_migvis import Config, Study, read_session, simulate_session
from nwb_migvis.registry import ANALYSES

TENTH = 10


def cost() -> None:
    """Print the seconds of each analysis, and their share of the run."""
    config = _tenth(Config(n_threads=1))
    with tempfile.TemporaryDirectory() as folder:
        path = simulate_session(Path(folder) / "session.nwb", n_stimuli=640, n_repeats=8)
        session = read_session(path)
        n = session.sizes["unit"]
        area, depth = np.repeat(["V4", "IT"], [n // 2, n - n // 2]), np.arange(n) // 2
        study = Study(session.assign_coords(area=("unit", area), depth=("unit", depth)), config)
        spent = {}
        for step in ("fit_latents", "train_prior", "train_critic", "edit"):
            spent[step] = _seconds(getattr(study, step))
            print(f"cost, a tenth of {step}: {spent[step]:.1f} s of CPU", flush=True)
        n_refits = config.evidence.stability_seeds
        whole = TENTH * (sum(spent.values()) + n_refits * spent["fit_latents"])
        print(f"cost, a run of quick without its evidence: {whole:.0f} s of CPU", flush=True)
        for name in ANALYSES:
            seconds = _seconds(lambda name=name: study.compute(name))
            print(f"cost, {name}: {seconds:.1f} s of CPU, {seconds / whole:.3f} of the run", flush=True)


def _tenth(config: Config) -> Config:
    """Return settings with a tenth of the steps and edits."""
    return replace(
        config,
        latents=replace(config.latents, n_steps=config.latents.n_steps // TENTH),
        prior=replace(config.prior, n_steps=config.prior.n_steps // TENTH),
        critic=replace(config.critic, n_steps=config.critic.n_steps // TENTH),
        synthesis=replace(config.synthesis, n_pairs=max(config.synthesis.n_pairs // TENTH, 2)),
        companions=replace(config.companions, areas="area", windows_s=((0.07, 0.12), (0.12, 0.17))),
    )


def _seconds(do: Callable[[], Any]) -> float:
    start = time.process_time()
    do()
    return time.process_time() - start
