"""Train the prior that ships with the package, on renders that no demo or test shows.

    python benchmarks/train_shipped_prior.py FOLDER --device cuda [--steps N] [--batch-size N] [--workers N]

Worker processes render while the network learns: chunk k has the seed SEED + k and joins the pool that
batches are drawn from after k * `--every` steps, whether rendering is fast or slow. The network is
conditioned on what was rendered (pose, category and shape, dropped at random like latent groups), so that it
learns to use its condition. A session that conditions it on its latents then only has to teach it their
meaning. FOLDER/renders gets the network with the averaged weights, without the embedding of its condition. It
is written every `--keep` steps, too.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import replace
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nwb_migvis.config import PriorConfig
from nwb_migvis.groups import LatentGroups, LatentScale
from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.simulate.render import POSE, SHAPE
from nwb_migvis.synthesis.conditions import Conditions
from nwb_migvis.synthesis.prior.folder import save_prior
from nwb_migvis.synthesis.prior.model import PixelScale
from nwb_migvis.synthesis.prior.training import PriorTraining, denoising_loss

SEED = 700_000_000
"""Far from the seeds that people choose: the renders are nobody's session."""

N_CHUNK = 8192
SIZE_PX = 32
LATENT_NOISE = 0.15
"""Standard deviation of the noise on what the prior is conditioned on, in those of each value."""


def conditions_of(factors: pd.DataFrame) -> Conditions:
    """Return what was rendered as three groups: pose, category (one of eight), shape."""
    pose, shape = factors[list(POSE)], factors[list(SHAPE)]
    category = pd.get_dummies(factors["category"])
    parts = [part.to_numpy(np.float32) for part in (pose, category, shape)]
    z, sizes = np.concatenate(parts, axis=1), tuple(part.shape[1] for part in parts)
    groups = LatentGroups(("pose", "category", "shape"), sizes, ((),) * len(sizes))
    return Conditions(z, groups, LatentScale.of(z))


def rendered(k: int) -> tuple[np.ndarray, Conditions]:
    """Render chunk k; chunk -1 is for validation."""
    factors = draw_factors(N_CHUNK, seed=SEED + k)
    images = render_stimuli(factors, size_px=SIZE_PX, seed=SEED + k, background="textured", n_threads=1)
    return images, conditions_of(factors)


def chunks(n: int, *, workers: int) -> Iterator[tuple[np.ndarray, Conditions]]:
    """Render the chunk for validation and n others, in order, ahead of their use."""
    with ProcessPoolExecutor(workers, mp_context=get_context("fork")) as pool:
        yield from pool.map(rendered, range(-1, n))


@torch.no_grad()
def held_out(training: PriorTraining, images: np.ndarray, z: np.ndarray, *, device: str) -> str:
    """Return the denoising errors of other renders, conditioned on nothing and on all, as text."""
    prior = training.prior()
    x = training.scale.to_x(images[:2048]).to(device)
    latents, found = prior.denoiser.latents, []
    for kept in (0.0, 1.0):
        keep = torch.full((len(x), len(latents.sizes)), kept, device=device)
        given = latents(latents.standardise(torch.as_tensor(z[: len(x)], device=device)), keep)
        generator = torch.Generator(device=device).manual_seed(0)
        loss = denoising_loss(prior.denoiser, x, prior.alpha_bar, generator, condition=given)
        found.append(float(loss))
    return f"denoising error without condition {found[0]:.4f}, with all of it {found[1]:.4f}"


def keep(training: PriorTraining, folder: Path) -> None:
    """Write the prior so far, in half precision."""
    prior = training.prior().to("cpu")
    save_prior(replace(prior, denoiser=prior.denoiser.with_conditioning(None)), folder / "renders", half=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--steps", type=int, default=20_000)
    parser.add_argument("--batch-size", type=int, default=1024)
    parser.add_argument("--learning-rate", type=float, default=1e-3)
    parser.add_argument("--every", type=int, default=100, help="steps between two chunks of renders")
    parser.add_argument("--workers", type=int, default=15)
    parser.add_argument("--keep", type=int, default=5000, help="steps between two copies of the prior")
    given = parser.parse_args()
    given.folder.mkdir(parents=True, exist_ok=True)
    n_chunks = 1 + (given.steps - 1) // given.every
    coming = chunks(n_chunks, workers=given.workers)
    validation, first = next(coming), next(coming)
    images, conditions = first
    config = replace(
        PriorConfig(),
        n_steps=given.steps,
        batch_size=given.batch_size,
        optimiser="adamw",
        learning_rate=given.learning_rate,
        latent_noise=LATENT_NOISE,
        ema_decay=0.9995,
    )
    training = PriorTraining(
        images.shape[1:],
        PixelScale(float(images.mean()), float(images.std())),
        config=config,
        seed=SEED,
        device=given.device,
        conditions=conditions,
    )
    latents = training.denoiser.latents
    pool = torch.empty((n_chunks * N_CHUNK, SIZE_PX, SIZE_PX), dtype=torch.uint8, device=given.device)
    pool_z = torch.empty((len(pool), conditions.z.shape[1]), device=given.device)
    begin, n_ready = time.perf_counter(), 0
    for step in range(given.steps):
        if step % given.every == 0:
            images, conditions = first if step == 0 else next(coming)
            new = slice(n_ready, n_ready + len(images))
            pool[new] = torch.as_tensor(images).to(given.device)
            pool_z[new] = latents.standardise(torch.as_tensor(conditions.z).to(given.device))
            n_ready = new.stop
        index = torch.randint(n_ready, (given.batch_size,), generator=training.generator, device=given.device)
        training.advance(
            (pool[index, None].float() - training.scale.mean) / training.scale.std, pool_z[index]
        )
        if (step + 1) % given.keep == 0 or step + 1 == given.steps:
            score = held_out(training, validation[0], validation[1].z, device=given.device)
            keep(training, given.folder)
            spent = time.perf_counter() - begin
            print(f"step {step + 1}, {n_ready} renders, {spent:.0f} s: {score}", flush=True)


if __name__ == "__main__":
    main()
