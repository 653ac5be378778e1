"""A population with planted groups: nonlinear tuning to the factors, and gain-modulated Poisson counts."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwb_migvis.errors import MigvisError
from nwb_migvis.simulate.render import POSE, RANGES, SHAPE, draw_factors
from nwb_migvis.simulate.solids import CATEGORIES

Array = NDArray[np.float64]

PLANTED_GROUPS = ("pose", "category", "content", "mixed")

DEFAULT_UNITS = {"pose": 45, "category": 40, "content": 35, "mixed": 40}
"""Units in each planted group."""

RATE_RANGE_HZ = (3.0, 60.0)
GAIN_VARIANCE = 0.10
"""Variance of the gain (mean 1) that each unit draws anew at every presentation."""
SHARED_GAIN_VARIANCE = 0.02
"""Variance of the gain (mean 1) that all units share at a presentation."""

TUNINGS = ("bumps", "monotone", "sparse")
"""Forms of tuning: bumps over the pose; slopes that saturate; responses to a few images alone."""

_N_BUMPS = 3
_REFERENCE_STIMULI = 2048


@dataclass(frozen=True)
class Population:
    """Tuning of n units; a rate is a function of a stimulus' factors alone.

    The drive of a unit is `mix` . (pose, category, content) + `mix_product` * pose * category, each term
    with mean 0 and standard deviation 1 over stimuli; a rate is `mean_hz` * softplus(1 + `depth` * drive),
    normalised to a mean of `mean_hz`.

    Attributes
    ----------
    planted_group : str (unit,)
        One of `PLANTED_GROUPS`.
    mean_hz, depth : float (unit,)
        Mean rate over stimuli in Hz, and strength of tuning.
    mix : float (unit, 3)
        Weights of pose, category and content; zero where a planted group is blind.
    mix_product : float (unit,)
        Weight of the interaction.
    pose_weight : float (unit, bump, 6), pose_centre, pose_width, pose_height : float (unit, bump)
        Bumps over projections of the standardised pose. They are broad enough that the rates of 160 units
        span about 24 dimensions: no group of latents has to borrow another's for lack of room.
    preference : float (unit, category)
    content_weight : float (unit, 2), content_bend : float (unit,)
        Direction among the two shape parameters, and curvature along it.
    categories : tuple of str
        In the order of `preference`.
    form : str
        One of `TUNINGS`. "monotone" units have saturating slopes over the pose in place of bumps. "sparse"
        units respond to the images whose drive is about a standard deviation above the mean or more.
    """

    planted_group: NDArray[np.str_]
    mean_hz: Array
    depth: Array
    mix: Array
    mix_product: Array
    pose_weight: Array
    pose_centre: Array
    pose_width: Array
    pose_height: Array
    preference: Array
    content_weight: Array
    content_bend: Array
    categories: tuple[str, ...] = tuple(CATEGORIES)
    form: str = "bumps"

    def rate_hz(self, factors: pd.DataFrame, *, reference: pd.DataFrame | None = None) -> Array:
        """Return expected rates in Hz, (stimulus, unit).

        Parameters
        ----------
        factors : pandas.DataFrame
            As from `draw_factors`.
        reference : pandas.DataFrame, optional
            Stimuli over which a unit has its mean rate; 2,048 of `draw_factors` where it is None.
        """
        reference = draw_factors(_REFERENCE_STIMULI, seed=0) if reference is None else reference
        drives = self.drives(reference, factors)
        levels = [self.rectified(drive) for drive in drives]
        return self.mean_hz * levels[1] / levels[0].mean(0)

    def rectified(self, drive: Array) -> Array:
        """Return what a drive (stimulus, unit) does before it is scaled to the mean rate."""
        if self.form == "sparse":
            return np.logaddexp(0, 8 * self.depth * (drive - 1))
        return np.logaddexp(0, 2 * (1 + self.depth * drive))

    def drives(self, *stimuli: pd.DataFrame) -> list[Array]:
        """Return drives (stimulus, unit) of sets of factors, terms standardised over the first set."""
        base = [(d.mean(0), np.maximum(d.std(0), 1e-9)) for d in self._terms(stimuli[0])]
        return [self._drive(factors, base) for factors in stimuli]

    def _drive(self, factors: pd.DataFrame, base: list[tuple[Array, Array]]) -> Array:
        pose, category, content = (
            (d - mean) / sd for d, (mean, sd) in zip(self._terms(factors), base, strict=True)
        )
        linear = self.mix[:, 0] * pose + self.mix[:, 1] * category + self.mix[:, 2] * content
        return linear + self.mix_product * pose * category

    def _terms(self, factors: pd.DataFrame) -> tuple[Array, Array, Array]:
        """Return the raw drives of pose, category and content, each (stimulus, unit)."""
        pose, shape = _standardised(factors, POSE), _standardised(factors, SHAPE)
        codes = pd.Categorical(factors["category"], categories=list(self.categories)).codes
        bumps = np.zeros((len(factors), len(self.mean_hz)))
        for k in range(_N_BUMPS):
            at = pose @ self.pose_weight[:, k].T - self.pose_centre[:, k]
            if self.form == "monotone":
                bumps += self.pose_height[:, k] * np.tanh(at / self.pose_width[:, k])
            else:
                bumps += self.pose_height[:, k] * np.exp(-0.5 * (at / self.pose_width[:, k]) ** 2)
        along = shape @ self.content_weight.T
        content = np.tanh(1.2 * along) + self.content_bend * (along**2 - 1)
        return bumps, self.preference.T[codes], content


def _standardised(factors: pd.DataFrame, names: tuple[str, ...]) -> Array:
    """Return columns scaled to mean 0 and variance 1 under the simulator's uniform ranges."""
    low, high = np.array([RANGES[name] for name in names]).T
    return (factors[list(names)].to_numpy(np.float64) - (low + high) / 2) / ((high - low) / np.sqrt(12))


def draw_population(
    units: Mapping[str, int] | None = None,
    *,
    seed: int,
    form: str = "bumps",
    categories: tuple[str, ...] = tuple(CATEGORIES),
) -> Population:
    """Draw the tuning of a population.

    Parameters
    ----------
    units : mapping of str to int, optional
        Units in each planted group (`PLANTED_GROUPS`); a group that is not named has none. Default
        `DEFAULT_UNITS`.
    seed : int
    form : str
        One of `TUNINGS`.
    categories : tuple of str
        Of the images.

    Returns
    -------
    Population
        Units in the order of `PLANTED_GROUPS`. Units of `pose` depend on the six pose factors alone, of
        `category` on the category alone, of `content` on the two shape parameters alone, of `mixed` on all.

    Raises
    ------
    MigvisError
        For an unknown group or form, a negative size, or no unit at all.
    """
    if form not in TUNINGS:
        raise MigvisError(f"tuning {form!r} is unknown; expected one of {', '.join(TUNINGS)}")
    sizes = dict(DEFAULT_UNITS if units is None else units)
    for group, size in sizes.items():
        if group not in PLANTED_GROUPS:
            raise MigvisError(f"planted group {group!r} is unknown; expected {', '.join(PLANTED_GROUPS)}")
        if isinstance(size, bool) or not isinstance(size, (int, np.integer)) or size < 0:
            raise MigvisError(f"units of planted group {group!r}: found {size!r}; expected 0 or more")
    planted = np.repeat(PLANTED_GROUPS, [sizes.get(group, 0) for group in PLANTED_GROUPS])
    n = len(planted)
    if n == 0:
        raise MigvisError("the population has no unit; give at least one planted group a size above 0")
    rng = np.random.default_rng([seed, 3])
    low, high = RATE_RANGE_HZ
    mean_hz = low * (high / low) ** rng.beta(1, 1.6, n)
    depth = 0.54 * (12 / mean_hz) ** 0.3 * np.exp(rng.normal(0, 0.28, n))
    pure = {"pose": (1, 0, 0), "category": (0, 1, 0), "content": (0, 0, 1)}
    blend = np.sqrt(rng.dirichlet((2, 2, 2), n)) * rng.choice((-1, 1), (n, 3))
    mixed = planted == "mixed"
    mix = np.array([blend[i] if mixed[i] else pure[planted[i]] for i in range(n)], dtype=np.float64)
    angle = np.pi * (np.arange(n) + rng.uniform(0, 1, n)) / 8 + np.pi * rng.integers(0, 2, n)
    return Population(
        planted_group=planted,
        mean_hz=mean_hz,
        depth=depth,
        mix=mix,
        mix_product=np.where(mixed, rng.normal(0, 0.2, n), 0.0),
        pose_weight=_pose_weights(n, rng),
        pose_centre=rng.uniform(-2.4, 2.4, (n, _N_BUMPS)),
        pose_width=rng.uniform(1.4, 3.0, (n, _N_BUMPS)),
        pose_height=rng.choice((-1, 1), (n, _N_BUMPS)) * rng.uniform(0.5, 1.5, (n, _N_BUMPS)),
        preference=rng.gamma(0.7, size=(n, len(categories))),
        content_weight=np.stack([np.cos(angle), np.sin(angle)], axis=1),
        content_bend=rng.normal(0, 0.25, n),
        categories=tuple(categories),
        form=form,
    )


def _pose_weights(n: int, rng: np.random.Generator) -> Array:
    """Return unit projections of the pose (unit, bump, factor): each near one factor, all factors in turn."""
    weight = 0.35 * rng.normal(size=(n, _N_BUMPS, len(POSE)))
    units = np.arange(n)
    for k in range(_N_BUMPS):
        main = units % len(POSE) if k < 2 else rng.integers(0, len(POSE), n)
        weight[units, k, main] += 1
    return weight / np.linalg.norm(weight, axis=2, keepdims=True)


def draw_counts(
    rate_hz: Array, order: NDArray[np.int64], duration_s: float, *, seed: int
) -> NDArray[np.uint16]:
    """Draw spike counts of every presentation.

    Parameters
    ----------
    rate_hz : float (stimulus, unit)
        Expected rates.
    order : int (presentation,)
        Stimulus of each presentation.
    duration_s : float
        Length of the response window.
    seed : int

    Returns
    -------
    uint16 (presentation, unit)
        Poisson counts whose rate is multiplied by a gamma gain of the presentation
        (`SHARED_GAIN_VARIANCE`) and one of the presentation and unit (`GAIN_VARIANCE`).
    """
    rng = np.random.default_rng([seed, 4])
    counts = np.empty((len(order), rate_hz.shape[1]), np.uint16)
    shared = rng.gamma(1 / SHARED_GAIN_VARIANCE, SHARED_GAIN_VARIANCE, len(order))
    for unit, own in enumerate(rng.spawn(rate_hz.shape[1])):
        gain = shared * own.gamma(1 / GAIN_VARIANCE, GAIN_VARIANCE, len(order))
        counts[:, unit] = own.poisson(rate_hz[order, unit] * duration_s * gain)
    return counts
