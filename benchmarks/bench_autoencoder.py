"""A prior in the latents of an autoencoder beside one of pixels, trained for equal time, on V4 photographs.

    OMP_NUM_THREADS=1 python benchmarks/bench_autoencoder.py --data ../shared/data --session hvm
    OMP_NUM_THREADS=1 python benchmarks/bench_autoencoder.py --data ../shared/data --tiny

The sessions are those of `bench_real_edits.py`, at 128 px or the size of their photographs (112 px). The
autoencoder and a prior in its latents are trained by the settings; then a prior of pixels for as many seconds
of CPU. Printed for each, of held-out photographs: what the prior's x keeps of them; what inversion and
denoising back change, relative to x and in gray levels; and what edits do to predicted responses (encoding
check). With --out held-out photographs are drawn above what the autoencoder makes of them.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
from bench_real_edits import SESSIONS, print_looks, print_transfers
from PIL import Image

from nwb_migvis import Config
from nwb_migvis.analysis import Study
from nwb_migvis.analysis.kept import Kept
from nwb_migvis.config import LatentsConfig, PriorConfig
from nwb_migvis.synthesis.prior.ddim import invert, sample, time_grid
from nwb_migvis.synthesis.prior.model import Prior

N_TIMED = 10
"""Steps of training that the seconds per step are taken from."""
N_DRAWN, N_ROUND_TRIPS = 8, 32


def settings_of(given: argparse.Namespace, groups: tuple) -> Config:
    """Return the settings of the run with an autoencoder."""
    prior = PriorConfig(
        size_px=given.size, autoencoder=True, autoencoder_steps=given.autoencoder_steps, n_steps=given.steps
    )
    config = Config(
        seed=given.seed, n_threads=given.threads, prior=prior, latents=LatentsConfig(groups=groups)
    )
    if not given.tiny:
        return config
    edits = {"n_steps": 3, "n_pairs": 10, "n_dose": 0, "n_traversal": 0, "n_samples": 0, "batch_size": 5}
    few = {"n_permutations": 19, "n_bootstrap": 19, "reader_steps": 5, "information_draws": 0}
    return replace(
        config,
        latents=replace(config.latents, n_steps=50),
        prior=replace(prior, channels=(8, 8), n_steps=4, autoencoder_steps=20),
        critic=replace(config.critic, features="trained", sees="noisy", n_steps=4, batch_size=16),
        synthesis=replace(config.synthesis, methods=("pmi",), **edits),
        evidence=replace(config.evidence, readers=("conv",), stability_seeds=0, **few),
    )


def train(study: Study, prior: PriorConfig) -> float:
    """Train a study's prior by these settings, and return the seconds of CPU that it took."""
    study._state.set_config(prior=prior)
    begun = time.process_time()
    study.train_prior()
    return time.process_time() - begun


def steps_within(study: Study, prior: PriorConfig, seconds: float) -> PriorConfig:
    """Return the settings of a prior with as many steps as fit into the seconds."""
    once, often = (train(study, replace(prior, n_steps=n)) for n in (1, 1 + N_TIMED))
    step_s = max(often - once, 1e-6) / N_TIMED
    return replace(prior, n_steps=max(1, round(seconds / step_s)))


@torch.no_grad()
def print_round_trip(prior: Prior, config: Config, images: np.ndarray) -> None:
    """Print what inverting held-out images and denoising them back changes."""
    options = config.synthesis
    path = {
        "alpha_bar": prior.alpha_bar,
        "grid": time_grid(prior.n_timesteps, strength=options.strength, n_steps=options.n_steps),
    }
    x0 = prior.encode(images)
    x_t = invert(prior.eps_and_x0_hat, x0, **path)
    back = sample(prior.eps_and_x0_hat, x_t, **path)
    kept, made = (prior.decode(x).astype(np.float32) for x in (x0, back))
    error = float((back - x0).norm() / x0.norm())
    changed, off = (np.sqrt(np.mean((made - other) ** 2)) for other in (kept, images))
    print(
        f"  there and back: {error:.4f} of x, {changed:.2f} gray levels; {off:.2f} from the photographs; "
        f"x_t has the standard deviation {float(x_t.std()):.2f}",
        flush=True,
    )


def report(name: str, study: Study, shown: np.ndarray, seconds: float) -> None:
    """Print what there is to say of one prior, with edits by it."""
    prior, config = study.prior, study.config
    print(f"{name}: {config.prior.n_steps} steps, {seconds:.0f} s of CPU; x has the shape {prior.x_shape}")
    test = shown[study.latents.split == "test"]
    kept = Kept.of(prior, test).record
    print(f"  kept: off by {kept['rms_gray_levels']:.2f} gray levels of {kept['sd_gray_levels']:.1f} (SD)")
    print_round_trip(prior, config, test[:N_ROUND_TRIPS])
    begun = time.process_time()
    study.train_critic()
    study.edit()
    print(f"  critic and edits: {time.process_time() - begun:.0f} s of CPU", flush=True)
    study.measure()
    print_transfers(study.results)
    print_looks(study.results.synthesized, shown)


def draw(prior: Prior, images: np.ndarray, path: Path) -> None:
    """Draw photographs above their reconstructions."""
    rows = [np.concatenate(list(row), axis=1) for row in (images, prior.decode(prior.encode(images)))]
    grid = np.concatenate(rows, axis=0)
    Image.fromarray(grid).resize((2 * grid.shape[1], 2 * grid.shape[0]), Image.Resampling.NEAREST).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--session", choices=list(SESSIONS), default="hvm")
    parser.add_argument("--size", type=int, default=128)
    parser.add_argument("--steps", type=int, default=PriorConfig().n_steps, help="of the prior in latents")
    parser.add_argument("--autoencoder-steps", type=int, default=PriorConfig().autoencoder_steps)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path, help="folder of a picture of reconstructions")
    parser.add_argument("--tiny", action="store_true", help="a minute's run that shows that all of it works")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        session, groups = SESSIONS[given.session](given.data, Path(folder))
        config = settings_of(given, groups)
        study = Study(session, config)
        study.fit_latents()
        seconds = train(study, config.prior)
        shown = study._state.pictures().image
        if given.out is not None:
            test = shown[study.latents.split == "test"]
            draw(study.prior, test[:N_DRAWN], given.out / f"autoencoder_{given.session}.png")
        report("latents", study, shown, seconds)
        pixels = steps_within(study, replace(config.prior, autoencoder=False), seconds)
        report("pixels", study, shown, train(study, pixels))


if __name__ == "__main__":
    main()
