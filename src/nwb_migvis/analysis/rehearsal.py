"""How long a run takes here, and how much memory: a few steps of it are taken on a stand-in of its sizes."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis import progress
from nwb_migvis.analysis.context import Context, torch_settings
from nwb_migvis.analysis.edits import N_INFORMATION, SessionEdits, planned_edits
from nwb_migvis.analysis.judges import chosen_critic, open_judges
from nwb_migvis.analysis.latents import SessionLatents, fit_sessions
from nwb_migvis.analysis.networks import Pictures, obtain_critic, obtain_prior, start_of
from nwb_migvis.analysis.scoring import fit_edit_readers
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.config import Config, CriticConfig

_STAND_IN = 160
"""Most images of the stand-in."""

_STEPS, _DENOISING, _DESCRIBED = 4, 4, 32
"""Steps of each training, steps of each edit, and images that a network for photographs describes."""

_MARGIN = 1.2
"""Of memory: what is written, and results."""

_VALIDATION = 1.1
"""Of the critic: with its validations, which are not rehearsed."""

_EVALUATIONS = {"recorded": (2, 1.2), "searched": (9, 6)}
"""Of a prior at each step of an inversion: in the few steps of a rehearsal, and in a run."""

STATISTICS_S = 6e-3
"""Seconds per image and group that the statistics of the evidence take on a core of 2024: the only part that
is not rehearsed (`benchmarks/bench_estimate.py`)."""


@dataclass(frozen=True)
class Sizes:
    """The sizes of the sessions of a run.

    Attributes
    ----------
    n_sessions, n_units, n_presentations, n_stimuli : int
        Units and presentations of all sessions together.
    image_shape : tuple of int, or None
        (y, x) or (y, x, channel); None without pixels.
    labels : mapping of str to int
        Number of classes of each label, 0 of a numeric one.
    """

    n_sessions: int
    n_units: int
    n_presentations: int
    n_stimuli: int
    image_shape: tuple[int, ...] | None
    labels: Mapping[str, int]

    @classmethod
    def of(cls, contents: Mapping[str, Any]) -> Sizes:
        """Return the sizes of what `inspect_session` returned."""
        each = contents.get("sessions", [contents])
        shapes = [tuple(one["image_shape"]) for one in each if one["image_shape"] is not None]
        labels = {
            name: label["n_values"] if label["kind"] == "categorical" else 0
            for one in each
            for name, label in one["labels"].items()
        }
        return cls(
            len(each),
            sum(one["n_units"] for one in each),
            sum(one["n_presentations"] for one in each),
            contents["n_stimuli"],
            shapes[0] if shapes else None,
            labels,
        )


@dataclass(frozen=True)
class Estimate:
    """What a run takes.

    Attributes
    ----------
    seconds : dict of str to float
        By stage.
    memory_bytes : float
    rests_on : str
        What was measured.
    """

    seconds: dict[str, float]
    memory_bytes: float
    rests_on: str

    def __str__(self) -> str:
        total = sum(self.seconds.values())
        parts = ", ".join(f"{name} {_duration(value)}" for name, value in self.seconds.items())
        return (
            f"some {_duration(total)} and {max(self.memory_bytes / 1e9, 0.1):.1f} GB of memory ({parts}); "
            f"{self.rests_on}"
        )


def estimate_run(sizes: Sizes, config: Config) -> Estimate:
    """Estimate what a run takes on this machine, from a few steps of each training and of the edits.

    Parameters
    ----------
    sizes : Sizes
    config : Config
        Of the run. A run stops earlier where training of the latents does.

    Returns
    -------
    Estimate
        Right within a factor of about two where nothing else uses the machine.
    """
    start = time.perf_counter()
    step_s, n_groups = _rehearse(sizes, config)
    n_again = config.evidence.stability_seeds + config.split.folds - 1
    critic = _critic_of(sizes, config)
    seconds = {"latents": config.latents.n_steps * step_s.get("latents", 0.0)}
    judging = 0.0
    if sizes.image_shape is not None:
        seconds["prior"] = config.prior.n_steps * step_s["prior"]
        seconds["prior"] += config.prior.autoencoder_steps * step_s.get("autoencoder", 0.0)
        seconds["critic"] = _VALIDATION * critic.n_steps * step_s["critic"]
        if critic.sees == "estimate":
            seconds["critic"] = _levels() * step_s["critic"] * max(1.0, sizes.n_stimuli / _STAND_IN)
        seconds["edits"] = _edits_s(sizes, config, n_groups, step_s)
        judging = config.evidence.reader_steps * step_s.get("reader", 0.0)
        judging += sizes.n_stimuli * step_s["description"]
    if n_again:
        seconds["further fits"] = n_again * seconds["latents"]
    seconds["evidence"] = judging + STATISTICS_S * sizes.n_stimuli * n_groups
    took = time.perf_counter() - start
    rests_on = f"from {_STEPS} steps of each training here, {took:.0f} s; times are of a machine left alone"
    return Estimate(seconds, _MARGIN * (_peak_bytes() + _data_bytes(sizes, config)), rests_on)


def _edits_s(sizes: Sizes, config: Config, n_groups: int, step_s: Mapping[str, float]) -> float:
    """Return the seconds that the edits of all sessions take: batches times steps times what a step takes."""
    edits, n_test = config.synthesis, round(config.split.test * sizes.n_stimuli)
    n_main = edits.n_pairs * len([method for method in edits.methods if method != "none"])
    n_main += edits.n_traversal * len(edits.gammas) * len(edits.directions)

    def batches(n: float) -> float:
        return float(np.ceil(n / edits.batch_size))

    guided = inverted = 0.0
    for strength in {edits.strength, *edits.dose}:
        n_dose = edits.n_dose * (strength in edits.dose)
        is_main = strength == edits.strength
        guided += batches(n_groups * (n_main * is_main + n_dose))
        inverted += batches(min(n_test, edits.n_pairs * is_main + n_dose))
    draws = config.evidence.information_draws * min(N_INFORMATION, n_test) * (n_groups + 1)
    plain = batches(edits.n_pairs) + batches(edits.n_samples) + batches(draws) / edits.n_steps
    untrained, trained = _EVALUATIONS[edits.inversion]
    forward_s = step_s["inversion"] / untrained
    once = guided * step_s["edits"] + (trained * inverted + plain) * forward_s
    return sizes.n_sessions * once * edits.n_steps / _DENOISING


def _critic_of(sizes: Sizes, config: Config) -> CriticConfig:
    return chosen_critic(config, round((1 - config.split.test - config.split.validation) * sizes.n_stimuli))


def _levels() -> int:
    """Return the noise levels at which a critic is fitted that sees estimates."""
    from nwb_migvis.synthesis.critic.estimate import LEVELS

    return len(LEVELS)


def _rehearse(sizes: Sizes, config: Config) -> tuple[dict[str, float], int]:
    """Return the seconds per step of each kind of work, and the number of groups."""
    short = replace(
        config,
        cache="",
        latents=replace(config.latents, n_steps=2 * _STEPS),
        prior=replace(config.prior, n_steps=_STEPS, images="", autoencoder_steps=_STEPS),
        critic=replace(_critic_of(sizes, config), n_steps=_STEPS),
        synthesis=replace(
            config.synthesis,
            n_steps=_DENOISING,
            n_pairs=max(1, config.synthesis.batch_size // 2),
            methods=("pmi",),
            dose=(),
            n_dose=0,
            n_traversal=0,
            maps=False,
        ),
        evidence=replace(config.evidence, readers=("conv",), reader_steps=_STEPS, information_draws=0),
    )
    sessions, context = Sessions.of([_stand_in(sizes)]), Context(short)
    with torch_settings(short), progress.timing() as timed:
        latents = fit_sessions(sessions, context)
        if sizes.image_shape is not None:
            edits = _edit(sessions, latents, context)
            fit_edit_readers(latents[0], edits, context, judges={})
    step_s = {what: _typical(seconds) for what, seconds in timed.items()}
    if sizes.image_shape is not None:
        step_s["description"] = _description_s(edits.image[:_DESCRIBED], config)
    return step_s, len(latents[0].groups)


def _edit(sessions: Sessions, latents: Sequence[SessionLatents], context: Context) -> SessionEdits:
    from nwb_migvis.synthesis.editing.batch import EditNetworks
    from nwb_migvis.synthesis.editing.synthesize import EditStimuli

    start = start_of(context.config)
    pictures = Pictures.of(sessions, latents, start or context.config.prior, context)
    prior = obtain_prior(pictures, start, context)
    critic = obtain_critic(pictures, prior, context)
    z = critic.scale.standardise(latents[0].mean)
    stimuli = EditStimuli(sessions.stimuli["stimulus"].values, pictures.image, z)
    return planned_edits(stimuli, latents[0], EditNetworks(prior, critic, pictures.groups), context)


def _description_s(images: np.ndarray, config: Config) -> float:
    """Return the seconds per image that the networks for photographs take."""
    judges = open_judges(config)
    start = time.perf_counter()
    for judge in judges.values():
        judge(images)
    return (time.perf_counter() - start) / len(images)


def _stand_in(sizes: Sizes) -> xr.Dataset:
    """Return a session of these sizes that was never recorded, with fewer images."""
    rng = np.random.default_rng(0)
    n_stimuli = min(sizes.n_stimuli, _STAND_IN)
    index = np.repeat(np.arange(n_stimuli), 3)
    counts = rng.poisson(2, (len(index), sizes.n_units)).astype(np.uint16)
    data: dict[str, Any] = {
        "spike_count": (("presentation", "unit"), counts),
        "stimulus_index": ("presentation", index),
        "start_time": ("presentation", 0.5 * np.arange(len(index))),
    }
    if sizes.image_shape is not None:
        dims = ("stimulus", "y", "x", "channel")[: 1 + len(sizes.image_shape)]
        data["image"] = (dims, rng.integers(0, 256, (n_stimuli, *sizes.image_shape), dtype=np.uint8))
    coords: dict[str, Any] = {
        "unit": np.arange(sizes.n_units),
        "stimulus": np.array([f"image {i}" for i in range(n_stimuli)]),
    }
    for name, n_classes in sizes.labels.items():
        values = rng.uniform(size=n_stimuli)
        if n_classes:
            values = np.array([f"class {i % min(n_classes, n_stimuli // 8)}" for i in range(n_stimuli)])
        coords[name] = ("stimulus", values)
    return xr.Dataset(data, coords=coords, attrs={"source": "", "identifier": "", "window_s": (0.0, 0.1)})


def _typical(seconds: Sequence[float]) -> float:
    """Return the least of all but the first, which includes what is done once: others may use the machine."""
    return min(seconds[1:] or seconds)


def _peak_bytes() -> float:
    """Return the most memory that this process has held, 0 where that is unknown."""
    try:
        import resource
    except ImportError:
        return 0.0
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return float(peak) if sys.platform == "darwin" else 1024.0 * peak


def _data_bytes(sizes: Sizes, config: Config) -> float:
    """Return what counts and images of the session take beyond those of the stand-in."""
    counts = 3 * 8 * sizes.n_presentations * sizes.n_units
    if sizes.image_shape is None:
        return counts
    scale = min(1.0, config.prior.size_px / max(sizes.image_shape[:2]))
    pixels = scale**2 * sizes.n_stimuli * float(np.prod(sizes.image_shape))
    return counts + 4 * 4 * pixels


def _duration(seconds: float) -> str:
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = seconds / 60
    return f"{minutes:.0f} min" if minutes < 90 else f"{minutes / 60:.1f} h"
