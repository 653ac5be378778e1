"""How far the latents that guide edits lie from those of shown stimuli."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd
from scipy.spatial import cKDTree

from nwb_migvis.errors import MigvisError
from nwb_migvis.groups import LatentGroups

N_NEIGHBOURS = 5
"""Training stimuli to which a distance is measured, and averaged."""
LIMIT = 95.0
"""Percentile of the held-out stimuli's distances up to which latents are within the support."""
BEYOND_START = 0.1
"""Share by which the end of a traversal may lie farther out than its start."""
_N_STEPS = 40


@dataclass(frozen=True, eq=False)
class Support:
    """Distances of latents from the training stimuli's, beside those of held-out stimuli.

    Parameters
    ----------
    train : numpy.ndarray, shape (n_train, n_latents)
        Standardised latents of the training stimuli.
    held_out : numpy.ndarray, shape (n_test, n_latents)
        Those of the test stimuli.
    """

    train: np.ndarray
    held_out: np.ndarray

    def __post_init__(self) -> None:
        object.__setattr__(self, "_tree", cKDTree(self.train))
        object.__setattr__(self, "_distances", np.sort(self.distance(self.held_out)))

    @classmethod
    def of(cls, z: np.ndarray, split: np.ndarray) -> Support:
        """Return the support that a split of stimuli gives.

        Parameters
        ----------
        z : numpy.ndarray, shape (n_stimuli, n_latents)
            Standardised.
        split : numpy.ndarray of str, shape (n_stimuli,)

        Raises
        ------
        MigvisError
            If no stimulus was trained on, or none held out.
        """
        absent = [part for part in ("train", "test") if not (split == part).any()]
        if absent:
            raise MigvisError(
                f"latents: no stimulus has the split {absent[0]!r}; expected some trained on and "
                "some held out; `nwb-migvis validate` says what else is wrong"
            )
        z = np.asarray(z, dtype=np.float64)
        return cls(z[split == "train"], z[split == "test"])

    def distance(self, z: np.ndarray) -> np.ndarray:
        """Return the mean distance of latents (n, latent) to their nearest five training stimuli, (n,)."""
        tree: cKDTree = self._tree  # type: ignore[attr-defined]
        k = min(N_NEIGHBOURS, tree.n)
        distance, _ = tree.query(np.asarray(z, dtype=np.float64), k=np.arange(1, k + 1))
        return distance.mean(axis=1)

    def percentile(self, z: np.ndarray) -> np.ndarray:
        """Return the percentage of held-out stimuli no farther out than latents (n, latent), (n,)."""
        distances: np.ndarray = self._distances  # type: ignore[attr-defined]
        n_within = np.searchsorted(distances, self.distance(z), side="right")
        return 100 * n_within / max(len(distances), 1)

    def reach(self, start: np.ndarray, move: np.ndarray) -> float:
        """Return the share of a move, in [0, 1], that stays within the support all the way.

        The limit is the distance of the 95th percentile, or a tenth more than the start's own where that is
        larger.

        Parameters
        ----------
        start, move : numpy.ndarray, shape (n_latents,)
        """
        distances: np.ndarray = self._distances  # type: ignore[attr-defined]
        shares = np.arange(_N_STEPS + 1) / _N_STEPS
        path = self.distance(start + shares[:, None] * move)
        edge = float(np.percentile(distances, LIMIT)) if len(distances) else 0.0
        limit = max(edge, (1 + BEYOND_START) * float(path[0]))
        beyond = path > limit * (1 + 1e-9)
        return float(shares[int(np.argmax(beyond)) - 1]) if beyond.any() else 1.0


def within_support(
    plan: pd.DataFrame,
    z: np.ndarray,
    support: Support,
    *,
    groups: LatentGroups,
    directions: Mapping[tuple[str, str], np.ndarray],
) -> pd.DataFrame:
    """Shorten the traversals of a plan that leave the support.

    All steps of a source along one side of a direction are shortened by the factor that brings the longest
    one to the edge, so that they stay apart and in order.

    Parameters
    ----------
    plan : pandas.DataFrame
        From `plan_edits`.
    z : numpy.ndarray, shape (n_stimuli, n_latents)
        Standardised latents.
    support : Support
    groups : LatentGroups
    directions : mapping of (group, direction) to array
        From `direction_vectors`.

    Returns
    -------
    pandas.DataFrame
        With other values of `gamma`.
    """
    gamma = plan["gamma"].to_numpy(copy=True)
    traversals = plan[(plan["role"] == "traversal") & (gamma != 0)]
    side = np.sign(traversals["gamma"])
    for (source, group, direction, _), rows in traversals.groupby(["source", "group", "direction", side]):
        move = np.zeros(groups.n_latents)
        longest = rows["gamma"].to_numpy()[np.argmax(np.abs(rows["gamma"].to_numpy()))]
        move[groups.slices[group]] = longest * np.asarray(directions[group, direction])
        gamma[rows.index] *= support.reach(np.asarray(z[source], dtype=np.float64), move)
    return plan.assign(gamma=gamma)
