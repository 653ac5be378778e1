"""Directions of latent groups, and the held-out images at both of their ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.companions.held import Held


@dataclass(frozen=True, eq=False)
class Direction:
    """The first principal axis of a group's latents on the training images.

    Attributes
    ----------
    group : str
    score : numpy.ndarray, shape (n_test,)
        Of the held-out images, in standard deviations of the training images.
    """

    group: str
    score: np.ndarray

    def end(self, which: str, n: int) -> np.ndarray:
        """Return the rows, among the held-out images, of the n images at the "low" or "high" end."""
        order = np.argsort(self.score, kind="stable")
        return order[:n] if which == "low" else order[::-1][:n]


def directions(held: Held) -> list[Direction]:
    """Return one direction per group; its sign makes the score's third moment positive on training images."""
    return [
        Direction(name, first_axis(held.spaces[name], train=held.train)[held.test])
        for name in held.latents.groups
    ]


def first_axis(z: np.ndarray, *, train: np.ndarray) -> np.ndarray:
    """Return the standardised score (stimulus,) along the first principal axis of some rows."""
    centred = z - z[train].mean(axis=0)
    _, _, axes = np.linalg.svd(centred[train], full_matrices=False)
    score = centred @ axes[0]
    scale = max(float(score[train].std()), 1e-12)
    return score / scale * (1 if (score[train] ** 3).sum() >= 0 else -1)
