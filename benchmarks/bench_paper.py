"""Time the preset `paper` on a GPU, in one call: its trainings, edits, memory, a run, and the GPU's tests.

    python benchmarks/bench_paper.py [--device cuda] [--minutes 8] [--parts PART ...] [--tiny]

Parts, in order; what one cannot do is printed, and the others go on:

- prior, autoencoder, critic, edits: renders of 128 px, and the factors they were drawn from in place of
  latents, through the preset's own networks and settings. Networks are trained for some steps only: what is
  timed is the arithmetic, not the result. Each timing begins after a warm-up and ends when the device has
  finished; memory is the most that torch had reserved on the device.
- tests: `tests/test_cuda.py`.
- run: all steps of the preset on a simulated session, in what is left of the minutes. The prior, the critic
  and the edits are cut short; what they take in full is extrapolated from what was done, and said so.

With --tiny everything is small and short, on any device; its numbers mean nothing.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch

from nwb_migvis.analysis import Study
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
from nwb_migvis.synthesis.prior.autoencoder_training import AutoencoderTraining
from nwb_migvis.synthesis.prior.model import Prior
from nwb_migvis.synthesis.prior.training import ImageTraining
from nwb_migvis.synthesis.prior.training_images import TrainingImages
from nwb_migvis.testing import mock_session

PARTS = ("prior", "autoencoder", "critic", "edits", "tests", "run")
SHARES = {"prior": 0.6, "critic": 0.1}
"""Of the time that is left for the run, what the trainings may take."""
UNITS = {"pose": 60, "category": 60, "content": 40}
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
        return Conditions(self.latents, GROUPS, scale)


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


def per_second(device: Device, steps: Callable[[int], object], n: int, size: int) -> tuple[float, str]:
    """Time steps after a tenth of them as a warm-up; return steps per second, and what is said of them."""
    steps(max(1, n // 10))
    spent, memory = device.seconds(lambda: steps(n))
    return n / spent, f"{n / spent:.1f} steps/s, {size * n / spent:,.0f} images/s, {memory:.1f} GB"


def time_prior(stimuli: Stimuli, settings: PriorConfig, device: Device, n: int) -> tuple[Prior, float]:
    """Print the steps per second of a prior, and its autoencoder; return it, hardly trained, and its own."""
    is_train = stimuli.split == "train"
    images, autoencoder = TrainingImages(stimuli.images[is_train]), None
    if settings.autoencoder:
        first = AutoencoderTraining(images, config=settings, seed=0, device=device.name)
        rate, said = per_second(device, lambda k: [first.step() for _ in range(k)], n, settings.batch_size)
        print(
            f"autoencoder: {said}; {settings.autoencoder_steps:,} steps would take "
            f"{settings.autoencoder_steps / rate / 60:.1f} min",
            flush=True,
        )
        autoencoder = first.trained()
    training = ImageTraining(
        images,
        config=settings,
        seed=0,
        device=device.name,
        conditions=stimuli.conditions[is_train] if settings.conditional else None,
        autoencoder=autoencoder,
    )
    rate, said = per_second(device, lambda k: [training.step() for _ in range(k)], n, settings.batch_size)
    n_parameters = sum(p.numel() for p in training.denoiser.parameters())
    where = "latents of the autoencoder" if settings.autoencoder else "pixels"
    print(
        f"prior of {where}, {n_parameters / 1e6:.1f} M parameters, batches of {settings.batch_size}: {said}; "
        f"{settings.n_steps:,} steps would take {settings.n_steps / rate / 3600:.1f} h",
        flush=True,
    )
    return training.prior(), rate


def time_critic(
    stimuli: Stimuli, prior: Prior, config: Config, device: Device, n: int
) -> tuple[Critic, float]:
    """Print the steps per second of training the critic; return it, and them."""
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

    rate, said = per_second(device, train, n, config.critic.batch_size)
    print(f"critic ({config.critic.features}), batches of {config.critic.batch_size}: {said}", flush=True)
    return made[0], rate


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
    given = EditStimuli(names, stimuli.images, critic.scale.standardise(stimuli.latents))
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


def settings_of(device: str, *, tiny: bool) -> Config:
    """Return the preset's settings, with the critic that it has for 1,500 training images and more."""
    config = Config.from_preset("paper")
    config = replace(config, device=device, critic=replace(config.critic, features="trained"))
    if not tiny:
        return config
    few = {"n_permutations": 9, "n_bootstrap": 9, "reader_steps": 3, "information_draws": 0}
    return replace(
        config,
        latents=replace(config.latents, n_steps=20),
        prior=replace(config.prior, size_px=32, channels=(8, 16), batch_size=4, autoencoder_steps=4),
        critic=replace(config.critic, channels=(8, 8), batch_size=4),
        synthesis=replace(config.synthesis, n_steps=3, batch_size=4, n_samples=2),
        evidence=replace(config.evidence, readers=("conv",), encoder="edges", stability_seeds=0, **few),
    )


def run_tests() -> None:
    """Run the GPU's tests."""
    path = Path(__file__).parents[1] / "tests" / "test_cuda.py"
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(path)]
    done = subprocess.run(command, capture_output=True, text=True)
    print("tests: " + "\n  ".join(done.stdout.strip().splitlines()[-12:]), flush=True)
    if done.returncode:
        raise RuntimeError(f"the tests ended with {done.returncode}")


def time_run(config: Config, rates: dict[str, float], seconds: float, *, n_images: int) -> None:
    """Take all steps of the preset in the seconds that are left; print each, and what it takes in full."""
    n_prior = int(np.clip(SHARES["prior"] * seconds * rates["prior"], 2, config.prior.n_steps))
    n_critic = int(np.clip(SHARES["critic"] * seconds * rates["critic"], 2, config.critic.n_steps))
    few = replace(config.synthesis, n_pairs=4, n_dose=4, n_traversal=2)
    short = replace(
        config,
        prior=replace(config.prior, n_steps=n_prior),
        critic=replace(config.critic, n_steps=n_critic),
        synthesis=few,
    )
    session = mock_session(n_stimuli=n_images, n_repeats=4, size_px=config.prior.size_px, units=UNITS)
    study = Study(session, short)
    begun = time.perf_counter()
    study.run(after=lambda step: print(f"  {step}: {time.perf_counter() - begun:.0f} s so far", flush=True))
    made = study.results.synthesized.sizes["edit"]
    full = len(plan_of(study, config.synthesis))
    parts = {
        "prior": (f"{n_prior:,} of {config.prior.n_steps:,} steps", config.prior.n_steps / n_prior),
        "critic": (f"{n_critic:,} of {config.critic.n_steps:,} steps", config.critic.n_steps / n_critic),
        "edits": (f"{made:,} of {full:,} edits", full / made),
    }
    print(f"run of {n_images} images, {session.sizes['unit']} units: seconds, and in full")
    total = 0.0
    for stage, spent in study.seconds.items():
        done, times = parts.get(stage, ("all of it", 1.0))
        total += spent * times
        said = "measured" if times == 1 else "extrapolated"
        print(f"  {stage:13s} {spent:8.1f} s ({done}); in full {spent * times / 60:8.1f} min, {said}")
    print(f"  a whole run: {total / 3600:.1f} h, most of it extrapolated", flush=True)


def plan_of(study: Study, settings: SynthesisConfig) -> pd.DataFrame:
    """Return the edits that settings plan for a study."""
    latents = study.latents
    return plan_edits(
        np.flatnonzero(latents.split == "test"),
        latents.groups,
        labels=latents.labels,
        config=settings,
        rng=np.random.default_rng(0),
    )


class Bench:
    """The parts in turn, and what the later ones need of the earlier ones.

    Parameters
    ----------
    given : argparse.Namespace
        The options.
    """

    def __init__(self, given: argparse.Namespace) -> None:
        self.given, self.device, self.begun = given, Device(given.device), time.perf_counter()
        self.config = settings_of(given.device, tiny=given.tiny)
        self.stimuli = Stimuli.draw(given.images, self.config.prior.size_px)
        print(f"{self.device.card}, torch {torch.__version__}, {self.config.prior.size_px} px", flush=True)
        self.prior: Prior | None = None
        self._critic: Critic | None = None
        self.rates = {"prior": 1.0, "critic": 1.0}

    def do(self, part: str) -> bool:
        """Do a part; print what it cannot do, and return whether it could."""
        begun = time.perf_counter()
        try:
            if part == "tests":  # in a process of its own
                run_tests()
            else:
                with torch_settings(self.config):
                    getattr(self, f"do_{part}")()
        except Exception:
            print(f"{part} failed:\n{traceback.format_exc()}", flush=True)
            return False
        print(f"({part}: {time.perf_counter() - begun:.0f} s)", flush=True)
        return True

    def do_prior(self) -> None:
        """Time the prior of the preset."""
        self.prior, self.rates["prior"] = time_prior(
            self.stimuli, self.config.prior, self.device, self.given.steps
        )

    def do_autoencoder(self) -> None:
        """Time an autoencoder, and a prior in its latents."""
        settings = replace(self.config.prior, autoencoder=True, patch_px=0)
        time_prior(self.stimuli, settings, self.device, self.given.steps)

    def do_critic(self) -> None:
        """Time the critic."""
        if self.prior is None:
            self.do_prior()
        self._critic, self.rates["critic"] = time_critic(
            self.stimuli, self.prior, self.config, self.device, self.given.steps
        )

    def do_edits(self) -> None:
        """Time edits by the method proper."""
        if self._critic is None:
            self.do_critic()
        own = {"n_pairs": self.given.pairs, "methods": ("pmi",), "n_dose": 0, "n_traversal": 0, "maps": False}
        config = replace(self.config, synthesis=replace(self.config.synthesis, **own))
        time_edits(self.stimuli, self.prior, self._critic, config, self.device)

    def do_run(self) -> None:
        """Take all steps of the preset in the time that is left."""
        left = 60 * self.given.minutes - (time.perf_counter() - self.begun)
        seconds = 5.0 if self.given.tiny else max(left, 60.0)
        time_run(self.config, self.rates, seconds, n_images=self.given.images)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--minutes", type=float, default=8.0, help="of all parts together, about")
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=list(PARTS))
    parser.add_argument("--images", type=int, default=320, help="renders to train on and edit")
    parser.add_argument("--pairs", type=int, default=64, help="held-out pairs per group")
    parser.add_argument("--steps", type=int, default=100, help="of training that are timed")
    parser.add_argument("--tiny", action="store_true", help="a short run that shows that all of it works")
    given = parser.parse_args()
    if given.tiny:
        given.images, given.pairs, given.steps = 120, 4, 2
    bench = Bench(given)
    failed = [part for part in given.parts if not bench.do(part)]
    if failed:
        raise SystemExit(f"failed: {', '.join(failed)}")


if __name__ == "__main__":
    main()
