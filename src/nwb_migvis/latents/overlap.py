"""Which stimuli several sessions share, and one split of them all."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import combinations

import numpy as np

from nwb_migvis.config import SplitConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.latents.design import MIN_STIMULI, check_parts
from nwb_migvis.levels import Exchange

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
    shown: np.ndarray,
    names: Sequence[str],
    config: SplitConfig,
    *,
    rng: np.random.Generator,
    levels: Exchange | None = None,
    fold: int = 0,
) -> np.ndarray:
    """Split the stimuli of several sessions at random, each the same way wherever it was shown.

    Stimuli that the same sessions saw are split in the configured proportions (within one stimulus), so
    that the shared ones, which may be few, are in every part. A level counts as shown where any of its
    stimuli was, and stays whole.

    Parameters
    ----------
    shown : numpy.ndarray of bool, shape (n_sessions, n_stimuli)
    names : sequence of str
        The sessions, for messages.
    config : SplitConfig
    rng : numpy.random.Generator
    levels, fold
        As for `split_stimuli`.

    Returns
    -------
    numpy.ndarray of str, shape (n_stimuli,)
        "train", "validation" or "test".

    Raises
    ------
    MigvisError
        If a part of a session would be too small.
    """
    levels = Exchange.singles(shown.shape[1]) if levels is None else levels
    by_level = np.stack([shown[:, rows].any(axis=1) for rows in levels.members], axis=1)
    order = rng.permutation(levels.n_levels)
    _, kind = np.unique(by_level, axis=1, return_inverse=True)
    order = order[np.argsort(kind.ravel()[order], kind="stable")]
    of_level = np.full(order.size, "train", dtype="<U10")
    test = _spread(order.size, config.test, shift=fold)
    of_level[order[test]] = "test"
    rest = order[~test]
    of_level[rest[_spread(rest.size, config.validation / (1 - config.test))]] = "validation"
    split = of_level[levels.level]
    for name, saw in zip(names, shown, strict=True):
        check_parts(split[saw], where=f"{name}: ")
    return split


def _spread(n: int, fraction: float, *, shift: int = 0) -> np.ndarray:
    """Mark a fraction of n places, as evenly as they can lie, and the ones `shift` places before each."""
    return np.roll(np.diff(np.floor(np.arange(n + 1) * fraction + 0.5)) > 0, -shift)
