"""A prior that starts from one of other photographs beside one from scratch, for equal time, on V4 sessions.

    OMP_NUM_THREADS=1 python benchmarks/bench_start.py --data ../shared/data --session hvm
    OMP_NUM_THREADS=1 python benchmarks/bench_start.py --data ../shared/data --tiny

The sessions are those of `bench_real_edits.py`. The photographs of the one teach a prior that knows no
latents; the other session's prior starts from it, and is trained for as many seconds of CPU as one from
scratch. Printed for each: the error of denoising held-out photographs, told their latents (of v, per pixel),
and what edits do to predicted responses (encoding check). The first prior's own seconds are printed beside.
"""

from __future__ import annotations

import argparse
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_autoencoder import steps_within, train
from bench_real_edits import SESSIONS, print_looks, print_transfers

from nwb_migvis import Config
from nwb_migvis.analysis import Study
from nwb_migvis.config import LatentsConfig, PriorConfig
from nwb_migvis.runs.training_priors import Training, train_prior_on
from nwb_migvis.synthesis.editing.prior_guidance import embed_condition
from nwb_migvis.synthesis.prior.training import denoising_loss

PHOTOGRAPHS = {"hvm": "v4_hvm/images_210325.zip", "natural": "v4_natural/images_201025.zip"}
OTHER = {"hvm": "natural", "natural": "hvm"}
N_DRAWS = 20
"""Draws of noise per held-out photograph."""


def settings_of(given: argparse.Namespace, groups: tuple) -> Config:
    """Return the settings of the run from scratch."""
    config = Config(seed=given.seed, n_threads=given.threads, latents=LatentsConfig(groups=groups))
    if not given.tiny:
        return config
    edits = {"n_steps": 3, "n_pairs": 10, "n_dose": 0, "n_traversal": 0, "n_samples": 0, "batch_size": 5}
    few = {"n_permutations": 19, "n_bootstrap": 19, "reader_steps": 5, "information_draws": 0}
    return replace(
        config,
        latents=replace(config.latents, n_steps=50),
        prior=replace(config.prior, channels=(8, 8), n_steps=4),
        critic=replace(config.critic, features="trained", sees="noisy", n_steps=4, batch_size=16),
        synthesis=replace(config.synthesis, methods=("pmi",), **edits),
        evidence=replace(config.evidence, readers=("conv",), stability_seeds=0, **few),
    )


def prior_of_others(given: argparse.Namespace, folder: Path, *, colour: bool, prior: PriorConfig) -> Path:
    """Train a prior on the photographs of the other session, and return its folder."""
    photographs, out = folder / "photographs", folder / "prior"
    with zipfile.ZipFile(given.data / PHOTOGRAPHS[OTHER[given.session]]) as archive:
        archive.extractall(photographs)
    config = Config(
        seed=given.seed,
        n_threads=given.threads,
        prior=replace(prior, n_steps=4 if given.tiny else given.pretraining),
    )
    begun = time.process_time()
    train_prior_on(photographs, out, Training(config, colour=colour))
    print(
        f"prior of other photographs ({OTHER[given.session]}): {config.prior.n_steps} steps, "
        f"{time.process_time() - begun:.0f} s of CPU",
        flush=True,
    )
    return out


@torch.no_grad()
def held_out_error(study: Study) -> float:
    """Return the mean squared error of v on test photographs, told their latents."""
    prior, latents = study.prior, study.latents
    test = np.flatnonzero(latents.split == "test")
    x = prior.encode(study._state.pictures().image[test])
    assert prior.denoiser.latents is not None
    told = prior.denoiser.latents.standardise(torch.as_tensor(latents.mean[test], dtype=torch.float32))
    condition = embed_condition(prior, told)
    generator = torch.Generator().manual_seed(0)
    losses = [
        denoising_loss(prior.denoiser, x, prior.alpha_bar, generator, condition=condition)
        for _ in range(N_DRAWS)
    ]
    return float(torch.stack(losses).mean())


def report(name: str, study: Study, seconds: float) -> None:
    """Print what there is to say of one prior, with edits by it."""
    steps = study.config.prior.n_steps
    error = held_out_error(study)
    print(f"{name}: {steps} steps, {seconds:.0f} s of CPU; error of held-out v {error:.4f}", flush=True)
    study.train_critic()
    study.edit()
    study.measure()
    print_transfers(study.results)
    print_looks(study.results.synthesized, study._state.pictures().image)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--session", choices=list(SESSIONS), default="hvm")
    parser.add_argument("--pretraining", type=int, default=3000, help="steps of the prior of others")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--tiny", action="store_true", help="a minute's run that shows that all of it works")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        session, groups = SESSIONS[given.session](given.data, Path(folder))
        config = settings_of(given, groups)
        study = Study(session, config)
        study.fit_latents()
        seconds = train(study, config.prior)
        report("from scratch", study, seconds)
        colour = study._state.pictures().image.ndim == 4
        other = prior_of_others(given, Path(folder), colour=colour, prior=config.prior)
        started = steps_within(study, replace(config.prior, start=str(other)), seconds)
        report("started", study, train(study, started))


if __name__ == "__main__":
    main()
