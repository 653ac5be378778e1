"""Units that respond to pixels: read-outs of frozen features that carry pose, category or content."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwb_migvis.simulate.features import Describe, feature_maps
from nwb_migvis.simulate.population import Population
from nwb_migvis.simulate.render import POSE

Array = NDArray[np.float64]

N_REFERENCE = 4096
"""Renders that read-outs are fitted to; no session shows them."""
REFERENCE_SEED = 2**31 - 1
N_COMPONENTS = 256
"""Principal components of the features that units read."""

_PENALTY = 0.005
_MOST_DRIVE = 4.0


@dataclass(frozen=True, eq=False)
class PixelPopulation:
    """Tuning of n units to images.

    The drive of a unit is a fixed sum of features, scaled to mean 0 and standard deviation 1 over reference
    renders; a rate is what `Population` makes of such a drive.

    Attributes
    ----------
    tuning : Population
        Planted groups, mean rates and strength of tuning.
    describe : callable
        uint8 images -> features.
    weight : float (feature, unit)
    offset : float (unit,)
    level : float (unit,)
        Mean of the rectified drive over the reference renders.
    """

    tuning: Population
    describe: Describe
    weight: Array
    offset: Array
    level: Array

    @property
    def planted_group(self) -> NDArray[np.str_]:
        """Kind of factors that each unit carries, (unit,)."""
        return self.tuning.planted_group

    def rate_hz(self, images: NDArray[np.uint8]) -> Array:
        """Return expected rates in Hz, (image, unit), for uint8 images (n, y, x (, channel))."""
        drive = np.clip(self.describe(images) @ self.weight + self.offset, -_MOST_DRIVE, _MOST_DRIVE)
        return self.tuning.mean_hz * self.tuning.rectified(drive) / self.level


def pixel_population(
    tuning: Population,
    factors: pd.DataFrame,
    images: NDArray[np.uint8],
    *,
    features: str = "random",
) -> PixelPopulation:
    """Fit read-outs of pixels to the tuning of a population.

    The drive by the factors of units of `pose`, `category` and `mixed` is regressed on the features'
    principal components. Units of `content` read random directions of these. Units of a planted group other
    than `mixed` read only directions that are uncorrelated, over the reference renders, with pose (and its
    squares) and category as far as they are not their own.

    Parameters
    ----------
    tuning : Population
    factors : pandas.DataFrame
        Of the reference renders.
    images : uint8 (n, y, x)
        The reference renders.
    features : str
        As `feature_maps` takes it.
    """
    describe = feature_maps(features)
    described = describe(images)
    mean, scale = described.mean(axis=0), np.maximum(described.std(axis=0), 1e-6)
    basis = np.linalg.svd((described - mean) / scale, full_matrices=False)[2][:N_COMPONENTS].T
    components = (described - mean) / scale @ basis
    (goal,) = tuning.drives(factors)
    rng = np.random.default_rng([len(components), goal.shape[1]])
    weight = np.zeros((components.shape[1], goal.shape[1]))
    for group in np.unique(tuning.planted_group):
        units = tuning.planted_group == group
        blind = _null_space(components, _nuisances(str(group), factors))
        if group == "content":
            weight[:, units] = blind @ rng.normal(size=(blind.shape[1], int(units.sum())))
        else:
            weight[:, units] = blind @ _ridge(components @ blind, goal[:, units])
    drive = components @ weight
    centre, spread = drive.mean(axis=0), np.maximum(drive.std(axis=0), 1e-9)
    weight = basis @ weight / scale[:, None] / spread
    offset = -mean @ weight - centre / spread
    level = tuning.rectified(np.clip((drive - centre) / spread, -_MOST_DRIVE, _MOST_DRIVE)).mean(axis=0)
    return PixelPopulation(tuning, describe, weight, offset, level)


def _ridge(x: Array, y: Array) -> Array:
    gram = x.T @ x
    gram[np.diag_indices_from(gram)] += _PENALTY * np.trace(gram) / len(gram)
    return np.linalg.solve(gram, x.T @ (y - y.mean(axis=0)))


def _null_space(components: Array, nuisances: Array) -> Array:
    """Return orthonormal directions (component, direction) uncorrelated with all nuisances (row, column)."""
    if not nuisances.shape[1]:
        return np.eye(components.shape[1])
    centred = nuisances - nuisances.mean(axis=0)
    left, size, _ = np.linalg.svd(centred, full_matrices=False)
    shared = components.T @ left[:, size > 1e-6 * size.max()]
    q, _ = np.linalg.qr(shared, mode="complete")
    return q[:, shared.shape[1] :]


def _nuisances(group: str, factors: pd.DataFrame) -> Array:
    """Return functions of the factors, (row, column), that a planted group must not follow."""
    if group == "mixed":
        return np.zeros((len(factors), 0))
    parts = {"pose": _polynomials(factors, POSE), "category": _classes(factors)}
    return np.concatenate([part for name, part in parts.items() if name != group], axis=1)


def _polynomials(factors: pd.DataFrame, names: tuple[str, ...]) -> Array:
    x = factors[list(names)].to_numpy(np.float64)
    x = (x - x.mean(axis=0)) / np.maximum(x.std(axis=0), 1e-9)
    return np.concatenate([x, x**2], axis=1)


def _classes(factors: pd.DataFrame) -> Array:
    names = sorted(set(factors["category"]))
    return np.stack([(factors["category"] == name).to_numpy(np.float64) for name in names], axis=1)
