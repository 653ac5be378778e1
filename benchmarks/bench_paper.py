"""Time the preset `paper` on a GPU: steps of its prior and critic, its edits, and their memory.

    python benchmarks/bench_paper.py [--device cuda] [--images N] [--pairs N] [--tiny]

Renders of 128 px, and the factors they were drawn from in place of latents, through the preset's own networks
and settings. Networks are trained for some steps only: what is timed is the arithmetic, not the result. Each
timing begins after a warm-up and ends when the device has finished; memory is the most that torch had
reserved on the device. With --tiny everything is small and short, on any device; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from nwb_migvis.analysis.context import torch_settings
from nwb_migvis.config import Config, PriorConfig, SynthesisConfig
from nwb_migvis.groups import LatentGroups, LatentScale
from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.simulate.render import POSE, SHAPE
from nwb_migvis.synthesis.conditions import Conditions
from nwb_migvis.synthesis.critic.model import Critic
from nwb_migvis.synthesis.critic.training import train_critic
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize
from nwb_migvis.synthesis.prior.model import PixelScale, Prior
from nwb_migvis.synthesis.prior.training import PriorTraining

SIZES = (6, 8, 2)
GROUPS = LatentGroups(("pose", "category", "shape"), SIZES, ((), (), ()))


@dataclass(frozen=True)
class Stimuli:
    """Renders with what was rendered, standardised, as their latents."""

    images: np.ndarray
    latents: np.ndarray
    split: np.ndarray

    @classmethod
    def draw(cls, n: int, size_px: int) -> Stimuli:
        """Render n stimuli; a fifth each for validation and test."""
        factors = draw_factors(n, seed=5)
        parts = (factors[list(POSE)], pd.get_dummies(factors["category"]), factors[list(SHAPE)])
        latents = np.concatenate([part.to_numpy(np.float32) for part in parts], axis=1)
        images = render_stimuli(factors, size_px=size_px, seed=5, n_threads=os.cpu_count() or 2)
        split = np.array(["train", "train", "train", "validation", "test"])[np.arange(n) % 5]
        return cls(images, (latents - latents.mean(0)) / latents.std(0), split)

    @property
    def conditions(self) -> Conditions:
        """The latents with their groups and scale."""
        scale = LatentScale.of(self.latents[self.split == "train"])
        return Conditions(self.latents, LatentGroups.of(GROUPS), scale)


class Device:
    """A device with its clock and its memory."""

    def __init__(self, name: str) -> None:
        self.name, self.is_cuda = name, name.startswith("cuda")
        self.card = torch.cuda.get_device_name(name) if self.is_cuda else "CPU"

    def seconds(self, work: Callable[[], object]) -> tuple[float, float]:
        """Return the seconds that work takes, and the most memory it holds (GB; NaN on a CPU)."""
        if self.is_cuda:
            torch.cuda.synchronize()
            torch.cuda.empty_cache()
            torch.cuda.reset_peak_memory_stats()
        begin = time.perf_counter()
        work()
        if self.is_cuda:
            torch.cuda.synchronize()
        spent = time.perf_counter() - begin
        return spent, torch.cuda.max_memory_reserved() / 1e9 if self.is_cuda else float("nan")


def time_prior(stimuli: Stimuli, settings: PriorConfig, device: Device, n: int) -> Prior:
    """Print the steps per second of training the prior; return it, hardly trained."""
    images = stimuli.images[stimuli.split == "train"]
    z = stimuli.latents[stimuli.split == "train"]
    training = PriorTraining(
        images.shape[1:],
        PixelScale(float(images.mean()), float(images.std())),
        config=settings,
        seed=0,
        device=device.name,
        conditions=stimuli.conditions[stimuli.split == "train"] if settings.conditional else None,
    )
    told = torch.as_tensor(z, device=device.name) if settings.conditional else None
    shown = torch.as_tensor(images, device=device.name)

    def steps(count: int) -> None:
        size, generator = (settings.batch_size,), training.generator
        for _ in range(count):
            index = torch.randint(len(images), size, generator=generator, device=device.name)
            x = training.scale.to_x(shown[index])
            training.advance(x, None if told is None else told[index])

    steps(max(1, n // 10))
    spent, memory = device.seconds(lambda: steps(n))
    n_parameters = sum(p.numel() for p in training.denoiser.parameters())
    print(
        f"prior, {n_parameters / 1e6:.1f} M parameters, batches of {settings.batch_size}: "
        f"{n / spent:.1f} steps/s, {memory:.1f} GB; "
        f"{settings.n_steps:,} steps would take {settings.n_steps * spent / n / 3600:.1f} h",
        flush=True,
    )
    return training.prior()


def time_critic(stimuli: Stimuli, prior: Prior, config: Config, device: Device, n: int) -> Critic:
    """Print the steps per second of training the critic; return it."""
    made = []

    def train(n_steps: int) -> None:
        made[:] = [
            train_critic(
                stimuli.images,
                stimuli.conditions,
                split=stimuli.split,
                prior=prior,
                config=replace(config.critic, n_steps=n_steps),
                seed=0,
            )
        ]

    train(max(1, n // 10))
    spent, memory = device.seconds(lambda: train(n))
    print(
        f"critic, batches of {config.critic.batch_size}: {n / spent:.1f} steps/s, {memory:.1f} GB", flush=True
    )
    return made[0]


def time_edits(stimuli: Stimuli, prior: Prior, critic: Critic, config: Config, device: Device) -> None:
    """Print the edits per second by the method proper, inversions included."""
    settings = config.synthesis
    plan = plan_edits(
        np.flatnonzero(stimuli.split == "test"),
        GROUPS,
        labels={},
        config=settings,
        rng=np.random.default_rng(0),
    )
    names = np.array([f"render {i}" for i in range(len(stimuli.images))])
    given = EditStimuli(names, stimuli.images, critic.standardise(stimuli.latents).cpu().numpy())
    networks = EditNetworks(prior, critic, GROUPS)

    def edit(these: pd.DataFrame, settings: SynthesisConfig = config.synthesis) -> None:
        synthesize(these, given, networks, config=settings, seed=0)

    edit(plan.iloc[:1], replace(settings, n_steps=2))
    spent, memory = device.seconds(lambda: edit(plan))
    guides = "critic and conditional prior" if settings.is_conditioned else "critic"
    print(
        f"edits guided by {guides}, {settings.n_steps} steps, batches of {settings.batch_size}: "
        f"{len(plan) / spent:.1f} edits/s, {memory:.1f} GB ({len(plan)} edits of {settings.n_pairs} pairs)",
        flush=True,
    )


def settings_of(device: str, pairs: int, *, tiny: bool) -> Config:
    """Return the preset's settings, for edits of pairs by the method proper."""
    config = Config.from_preset("paper")
    synthesis = replace(
        config.synthesis, n_pairs=pairs, methods=("pmi",), n_dose=0, n_traversal=0, maps=False
    )
    if tiny:
        config = replace(config, prior=replace(config.prior, size_px=32, channels=(8, 16), batch_size=4))
        config = replace(config, critic=replace(config.critic, channels=(8, 8), batch_size=4))
        synthesis = replace(synthesis, n_steps=3, batch_size=4)
    return replace(config, device=device, synthesis=synthesis)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--images", type=int, default=320, help="renders to train on and edit")
    parser.add_argument("--pairs", type=int, default=64, help="held-out pairs per group")
    parser.add_argument("--steps", type=int, default=100, help="of training that are timed")
    parser.add_argument("--tiny", action="store_true", help="a short run that shows that all of it works")
    given = parser.parse_args()
    if given.tiny:
        given.images, given.pairs, given.steps = 100, 4, 2
    config, device = settings_of(given.device, given.pairs, tiny=given.tiny), Device(given.device)
    stimuli = Stimuli.draw(given.images, config.prior.size_px)
    print(f"{device.card}, torch {torch.__version__}, {config.prior.size_px} px", flush=True)
    with torch_settings(config):
        prior = time_prior(stimuli, config.prior, device, given.steps)
        critic = time_critic(stimuli, prior, config, device, given.steps)
        time_edits(stimuli, prior, critic, config, device)


if __name__ == "__main__":
    main()
