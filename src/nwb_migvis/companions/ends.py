"""Directions of latent groups, and the held-out images at both of their ends."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.companions.held import Held

ENDS = ("low", "high")
N_IMAGES = 8
"""Images that are kept of each end."""
SHARE = 0.2
"""Share of the held-out images that make an end, and at least `N_IMAGES` of them."""
LEAST_TOLD = 0.05
"""A group that tells less of a label or a word than this is not named after it, however sure that is."""
LEAST_LEAN = 0.5
"""The same of an end, standard deviations."""


@dataclass(frozen=True, eq=False)
class Direction:
    """A principal axis of a group's latents on the training images.

    Attributes
    ----------
    group : str
    score : numpy.ndarray, shape (n_test,)
        Of the held-out images, in standard deviations of the training images.
    axis : int
        1 for the first one.
    """

    group: str
    score: np.ndarray
    axis: int = 1

    def end(self, which: str, n: int) -> np.ndarray:
        """Return the rows, among the held-out images, of the n images at the "low" or "high" end."""
        order = np.argsort(self.score, kind="stable")
        return order[:n] if which == "low" else order[::-1][:n]


def n_at_end(n: int) -> int:
    """Return how many of n images make an end."""
    return max(N_IMAGES, round(SHARE * n))


def directions(held: Held, *, n_axes: int = 1) -> list[Direction]:
    """Return up to `n_axes` directions per group; a score's third moment is positive on training images."""
    return [
        Direction(name, score[held.test], axis)
        for name in held.latents.groups
        for axis, score in enumerate(axis_scores(held.spaces[name], train=held.train)[:n_axes], start=1)
    ]


def axis_scores(z: np.ndarray, *, train: np.ndarray) -> list[np.ndarray]:
    """Return the standardised scores (stimulus,) along each principal axis of some rows."""
    centred = z - z[train].mean(axis=0)
    _, _, axes = np.linalg.svd(centred[train], full_matrices=False)
    scores = []
    for axis in axes:
        score = centred @ axis
        scale = max(float(score[train].std()), 1e-12)
        scores.append(score / scale * (1 if (score[train] ** 3).sum() >= 0 else -1))
    return scores
