"""Train the prior that ships with the package, on renders that no demo or test shows.

    python benchmarks/train_shipped_prior.py WORK_FOLDER [--threads N] [--steps N]
    python benchmarks/train_shipped_prior.py OTHER_FOLDER --steps N --start renders --learning-rate R [--told]

The state of training is kept in WORK_FOLDER every 500 steps; run the same command again to go on. The prior
ends up in WORK_FOLDER/renders; its `unet` goes into src/nwb_migvis/synthesis/priors/renders. The second
form trains a prior on, here the one that the package has; --draw K draws other batches and noise than the
training before. With --told it is told what was rendered (pose, category and shape, dropped at random like
latent groups), so that it learns to listen: a session that conditions it on its latents has only the
meaning of those left to teach. What is kept is the network without the embedding of what it was told.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nwb_migvis.config import PriorConfig
from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.simulate.render import POSE, SHAPE
from nwb_migvis.synthesis.prior_folder import open_prior, save_prior
from nwb_migvis.synthesis.prior_training import Conditions, grow, train_prior

SEED = 700_000_000
"""Far from the seeds that people choose: the renders are nobody's session."""

N_IMAGES = 48_000
SIZE_PX = 32


LATENT_NOISE = 0.15
"""Standard deviation of the noise on what the prior is told, in those of each value."""


def told(factors: pd.DataFrame) -> Conditions:
    """Return what was rendered as three groups: pose, category (one of eight), shape."""
    pose, shape = factors[list(POSE)], factors[list(SHAPE)]
    category = pd.get_dummies(factors["category"])
    parts = [part.to_numpy(float) for part in (pose, category, shape)]
    return Conditions(np.concatenate(parts, axis=1), tuple(part.shape[1] for part in parts))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--steps", type=int, default=10_000)
    parser.add_argument("--start", default="", help="prior to train on: its name or folder")
    parser.add_argument("--learning-rate", type=float, default=PriorConfig().learning_rate)
    parser.add_argument("--draw", type=int, default=0, help="of batches and noise")
    parser.add_argument("--told", action="store_true", help="tell it what was rendered")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    given.folder.mkdir(parents=True, exist_ok=True)
    rendered = given.folder / "renders.npy"
    factors = draw_factors(N_IMAGES, seed=SEED)
    if not rendered.exists():
        np.save(rendered, render_stimuli(factors, size_px=SIZE_PX, seed=SEED, background="textured"))
    config = replace(
        PriorConfig(), n_steps=given.steps, learning_rate=given.learning_rate, latent_noise=LATENT_NOISE
    )
    start = open_prior(given.start) if given.start else None
    prior = train_prior(
        np.load(rendered),
        config=config,
        seed=SEED + (start is not None) + given.told + given.draw,
        start=start,
        conditions=told(factors) if given.told else None,
        checkpoint=given.folder / "checkpoint.pt",
    )
    prior = replace(prior, denoiser=grow(prior.denoiser, None))
    save_prior(prior, given.folder / "renders", half=True)


if __name__ == "__main__":
    main()
