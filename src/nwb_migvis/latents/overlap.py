"""Which stimuli several sessions share, and one split of them all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from nwb_migvis.config import SplitConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.latents.design import MIN_STIMULI, check_parts

MIN_SHARED = MIN_STIMULI
"""Two sessions are linked in one latent space only if they share at least this many stimuli."""


def linked_pairs(shown: np.ndarray, names: Sequence[str]) -> list[tuple[int, int]]:
    """Return the pairs of sessions that share enough stimuli to hold one latent space together.

    Parameters
    ----------
    shown : numpy.ndarray of bool, shape (n_sessions, n_stimuli)
        Which stimuli each session saw.
    names : sequence of str
        The sessions, for messages.

    Raises
    ------
    MigvisError
        If the pairs do not connect all sessions.
    """
    n_shared = shown.astype(np.int64) @ shown.T
    pairs = [(a, b) for a, b in combinations(range(len(names)), 2) if n_shared[a, b] >= MIN_SHARED]
    reached = {0}
    for _ in names:
        reached |= {end for pair in pairs if reached & set(pair) for end in pair}
    for i, name in enumerate(names):
        if i not in reached:
            counts = ", ".join(f"{n_shared[i, j]} with {names[j]}" for j in range(len(names)) if j != i)
            raise MigvisError(
                f"{name}: shares too few images with the other sessions ({counts}); expected at least "
                f"{MIN_SHARED} with one that is linked to the rest; run it on its own"
            )
    return pairs


def split_shared_stimuli(
    shown: np.ndarray, names: Sequence[str], config: SplitConfig, *, rng: np.random.Generator
) -> np.ndarray:
    """Split the stimuli of several sessions at random, each the same way wherever it was shown.

    Stimuli that the same sessions saw are split in the configured proportions (within one stimulus), so
    that the shared ones, which may be few, are in every part.

    Parameters
    ----------
    shown : numpy.ndarray of bool, shape (n_sessions, n_stimuli)
    names : sequence of str
        The sessions, for messages.
    config : SplitConfig
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of str, shape (n_stimuli,)
        "train", "validation" or "test".

    Raises
    ------
    MigvisError
        If a part of a session would be too small.
    """
    order = rng.permutation(shown.shape[1])
    _, kind = np.unique(shown, axis=1, return_inverse=True)
    order = order[np.argsort(kind.ravel()[order], kind="stable")]
    split = np.full(order.size, "train", dtype="<U10")
    test = _spread(order.size, config.test)
    split[order[test]] = "test"
    rest = order[~test]
    split[rest[_spread(rest.size, config.validation / (1 - config.test))]] = "validation"
    for name, saw in zip(names, shown, strict=True):
        check_parts(split[saw], where=f"{name}: ")
    return split


def _spread(n: int, fraction: float) -> np.ndarray:
    """Mark a fraction of n places, as evenly as they can lie."""
    return np.diff(np.floor(np.arange(n + 1) * fraction + 0.5)) > 0
