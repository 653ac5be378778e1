"""Train the prior that ships with the package, on renders that no demo or test shows.

    python benchmarks/train_shipped_prior.py WORK_FOLDER [--threads N] [--steps N]
    python benchmarks/train_shipped_prior.py OTHER_FOLDER --start renders --learning-rate 4e-4 --steps N

The state of training is kept in WORK_FOLDER every 500 steps; run the same command again to go on. The prior
ends up in WORK_FOLDER/renders: its place in the package is src/nwb_migvis/synthesis/priors/renders. The
second form trains a prior on, here the one that the package has.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nwb_migvis.config import PriorConfig
from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.synthesis.prior_folder import open_prior, save_prior
from nwb_migvis.synthesis.prior_training import train_prior

SEED = 700_000_000
"""Far from the seeds that people choose: the renders are nobody's session."""

N_IMAGES = 48_000
SIZE_PX = 32


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--start", default="", help="prior to train on: its name or folder")
    parser.add_argument("--learning-rate", type=float, default=PriorConfig().learning_rate)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.folder.mkdir(parents=True, exist_ok=True)
    rendered = given.folder / "renders.npy"
    if not rendered.exists():
        factors = draw_factors(N_IMAGES, seed=SEED)
        np.save(rendered, render_stimuli(factors, size_px=SIZE_PX, seed=SEED, background="textured"))
    config = replace(PriorConfig(), n_steps=given.steps, learning_rate=given.learning_rate)
    start = open_prior(given.start) if given.start else None
    prior = train_prior(
        np.load(rendered),
        config=config,
        seed=SEED + (start is not None),
        start=start,
        checkpoint=given.folder / "checkpoint.pt",
    )
    save_prior(prior, given.folder / "renders", half=True)


if __name__ == "__main__":
    main()
