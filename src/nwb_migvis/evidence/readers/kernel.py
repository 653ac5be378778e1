"""A reader of labels that is kernel ridge regression on local edge orientations."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from scipy.ndimage import gaussian_filter

from nwb_migvis.evidence.labels import by_presence
from nwb_migvis.evidence.readers.protocol import Examples
from nwb_migvis.evidence.readers.resolution import reduced
from nwb_migvis.labels import LabelCode

MAX_TRAIN = 5000
"""Training images beyond this number are omitted at random: the kernel is solved exactly."""
N_ORIENTATIONS = 8
CELL_PX = 4
POOLING_SD_PX = 2.5
WIDTHS = (0.25, 0.5, 1.0)
PENALTIES = (1e-3, 1e-2, 1e-1, 1.0)


@dataclass(frozen=True)
class _Solution:
    """One label's weights on the training images of its kernel."""

    width: float
    rows: np.ndarray
    weight: np.ndarray
    offset: np.ndarray
    error: float


class KernelReader:
    """A fitted kernel regression; see `nwb_migvis.evidence.readers.protocol.Reader`."""

    kind = "kernel"

    def __init__(
        self,
        features: np.ndarray,
        codes: tuple[LabelCode, ...],
        solutions: Mapping[str, _Solution],
        *,
        distance: float,
    ) -> None:
        self.codes = codes
        self._features, self._solutions, self._distance = features, dict(solutions), distance

    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Read every label from uint8 images (n, y, x) or (n, y, x, channel)."""
        parts = [self._read(images[i : i + 1024]) for i in range(0, max(len(images), 1), 1024)]
        return {code.name: np.concatenate([part[code.name] for part in parts]) for code in self.codes}

    def features(self, images: np.ndarray) -> np.ndarray:
        """Edge features relative to the spread of the training images, (n, feature)."""
        return edge_features(images) / np.sqrt(self._distance)

    def _read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        squared = _squared_distances(edge_features(images), self._features) / self._distance
        readings = {}
        for code in self.codes:
            solution = self._solutions[code.name]
            kernel = np.exp(-squared[:, solution.rows] / solution.width)
            columns = kernel @ solution.weight + solution.offset
            readings[code.name] = code.decode(probabilities(columns) if code.classes else columns)
        return readings


def edge_features(images: np.ndarray) -> np.ndarray:
    """Describe images by the energy of edges of each direction around each place.

    The brightness gradient is divided among `N_ORIENTATIONS` directions (full circle, so that light on dark
    differs from dark on light), pooled by a Gaussian and sampled every `CELL_PX`. It is a smooth version of
    histograms of oriented gradients (Dalal and Triggs 2005) without their normalisation.

    Parameters
    ----------
    images : array of uint8 (n, y, x) or (n, y, x, channel)
        Seen at the resolution of `reduced`. Channels are described apart.

    Returns
    -------
    array of float64 (n, feature)
    """
    x = reduced(images)
    along_y, along_x = np.gradient(x, axis=(1, 2))
    energy = np.hypot(along_x, along_y)
    direction = np.arctan2(along_y, along_x) / (2 * np.pi) * N_ORIENTATIONS
    features = []
    for k in range(N_ORIENTATIONS):
        away = np.abs((direction - k + N_ORIENTATIONS / 2) % N_ORIENTATIONS - N_ORIENTATIONS / 2)
        own = energy * np.maximum(1 - away, 0)
        pooled = gaussian_filter(own, (0, POOLING_SD_PX, POOLING_SD_PX, 0), mode="nearest")
        start = CELL_PX // 2
        features.append(pooled[:, start::CELL_PX, start::CELL_PX].reshape(len(x), -1))
    return np.concatenate(features, axis=1).astype(np.float64)


def fit_kernel_reader(
    train: Examples,
    validation: Examples,
    *,
    codes: tuple[LabelCode, ...],
    seed: int,
    n_steps: int = 1,
    checkpoints: Path | None = None,
) -> KernelReader:
    """Fit the regression; parameters as in `nwb_migvis.evidence.readers.protocol.fit_readers`.

    A Gaussian kernel of the edge features; each label takes the width (relative to the median squared
    distance) and penalty with the least squared error on the validation stimuli. Categories are regressed as
    one-hot columns. It is solved in one step, so no state is saved.
    """
    images, targets, targets_validation = train.images, train.encode(codes), validation.encode(codes)
    if len(images) > MAX_TRAIN:
        chosen = np.sort(np.random.default_rng(seed).choice(len(images), MAX_TRAIN, replace=False))
        images, targets = images[chosen], {name: values[chosen] for name, values in targets.items()}
    features = edge_features(images)
    within = _squared_distances(features, features)
    distance = float(np.median(within)) or 1.0
    across = _squared_distances(edge_features(validation.images), features) / distance
    within /= distance
    solutions: dict[str, _Solution] = {}
    for present, names in by_presence(targets):
        rows = np.flatnonzero(present)
        goals = {name: targets[name][rows] for name in names}
        for width in WIDTHS:
            kernel = np.exp(-within[np.ix_(rows, rows)] / width)
            kernel_validation = np.exp(-across[:, rows] / width)
            for penalty in PENALTIES:
                for name, (weight, offset) in _solve(kernel, goals, penalty).items():
                    error = _error(kernel_validation @ weight + offset, targets_validation[name])
                    if name not in solutions or error < solutions[name].error:
                        solutions[name] = _Solution(width, rows, weight, offset, error)
    return KernelReader(features, codes, solutions, distance=distance)


def _solve(
    kernel: np.ndarray, goals: Mapping[str, np.ndarray], penalty: float
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    penalised = kernel.copy()
    penalised[np.diag_indices_from(penalised)] += penalty
    factor = cho_factor(penalised, lower=True, overwrite_a=True)
    solved = {}
    for name, goal in goals.items():
        offset = goal.mean(axis=0)
        solved[name] = (cho_solve(factor, goal - offset), offset)
    return solved


def _error(read: np.ndarray, goal: np.ndarray) -> float:
    present = np.isfinite(goal).all(axis=1)
    return float(((read - goal)[present] ** 2).mean()) if present.any() else 0.0


def probabilities(columns: np.ndarray) -> np.ndarray:
    """Turn regressed one-hot columns into probabilities: negative parts cut, the rest scaled to 1."""
    positive = np.maximum(columns, 1e-6)
    return positive / positive.sum(axis=1, keepdims=True)


def _squared_distances(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    squared = (a**2).sum(axis=1)[:, None] + (b**2).sum(axis=1)[None] - 2 * a @ b.T
    return np.maximum(squared, 0.0)
