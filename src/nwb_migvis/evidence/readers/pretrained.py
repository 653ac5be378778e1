"""A reader of labels that is a regression on the features of a network for photographs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

import numpy as np

from nwb_migvis.evidence.readers.kernel import probabilities
from nwb_migvis.evidence.readers.protocol import Examples
from nwb_migvis.evidence.ridge import PENALTIES, Ridge, RidgeBasis, singular_vectors
from nwb_migvis.labels import LabelCode

MAX_TRAIN = 1500
"""Training images beyond this number are omitted at random: the regression is solved exactly."""
N_COMPONENTS = 64
"""Principal components of the features that images are compared by."""


class Describer(Protocol):
    """A network that describes images, as `nwb_migvis.networks.describing.ImageDescriber`."""

    kind: str

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Return features (n, feature) of uint8 images (n, y, x (, channel))."""
        ...


class PretrainedReader:
    """A fitted regression; see `nwb_migvis.evidence.readers.protocol.Reader`."""

    def __init__(
        self,
        describe: Describer,
        codes: tuple[LabelCode, ...],
        ridges: Mapping[str, Ridge],
        *,
        components: np.ndarray,
    ) -> None:
        self.kind, self.codes = describe.kind, codes
        self._describe, self._ridges, self._components = describe, dict(ridges), components

    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Read every label from uint8 images (n, y, x) or (n, y, x, channel)."""
        features, readings = self._describe(images), {}
        for code in self.codes:
            columns = self._ridges[code.name].predict(features)
            readings[code.name] = code.decode(probabilities(columns) if code.classes else columns)
        return readings

    def features(self, images: np.ndarray) -> np.ndarray:
        """Return the first principal components of the training images' features, (n, component)."""
        return self._describe(images) @ self._components


def fit_pretrained_reader(
    describe: Describer,
    train: Examples,
    validation: Examples,
    *,
    codes: tuple[LabelCode, ...],
    seed: int,
    n_steps: int = 1,
    checkpoints: Path | None = None,
) -> PretrainedReader:
    """Fit ridge regressions on the features of a network; parameters as in `protocol.fit_readers`.

    Each label takes the penalty with the least squared error on the validation stimuli. Categories are
    regressed as one-hot columns. It is solved in one step, so no state is saved.

    Parameters
    ----------
    describe : Describer
    train, validation, codes, seed, n_steps, checkpoints
        As `nwb_migvis.evidence.readers.protocol.ReaderFactory` takes them.
    """
    used = np.arange(len(train))
    if len(used) > MAX_TRAIN:
        used = np.sort(np.random.default_rng(seed).choice(used, MAX_TRAIN, replace=False))
    features, goals = describe(train.images[used]), train.encode(codes)
    new, goals_new = describe(validation.images), validation.encode(codes)
    ridges: dict[str, Ridge] = {}
    bases: dict[bytes, RidgeBasis] = {}
    for code in codes:
        goal, goal_new = goals[code.name][used], goals_new[code.name]
        rows, rows_new = (np.isfinite(g).all(axis=1) for g in (goal, goal_new))
        if (key := rows.tobytes()) not in bases:
            bases[key] = RidgeBasis(features[rows])
        basis = bases[key]
        penalty = None
        if rows_new.any():
            errors = basis.errors(goal[rows], x_new=new[rows_new], y_new=goal_new[rows_new])
            penalty = float(PENALTIES[int(np.argmin(errors))])
        ridges[code.name] = basis.fit(goal[rows], penalty=penalty)
    centred = features - features.mean(axis=0)
    components = singular_vectors(centred)[2][:N_COMPONENTS].T
    return PretrainedReader(describe, codes, ridges, components=components)
