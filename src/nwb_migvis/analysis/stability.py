"""Fitting again, with other seeds or on halves of the data, to see whether the same groups come out."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from nwb_migvis.analysis.stages import Fitted, average_counts
from nwb_migvis.config import Config

HALVES = ("units", "stimuli")


def other_seeds(seed: int, n: int) -> list[int]:
    """Return further seeds, drawn from one."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(n)]


def seed_stability(fitted: Fitted, others: Iterable[np.ndarray]) -> pd.Series:
    """Agreement of each group between the fit and fits from other seeds, on the same data.

    Parameters
    ----------
    fitted : Fitted
    others : iterable of numpy.ndarray (stimulus, latent)
        The latents in the other fits, as `refit` returns them.

    Returns
    -------
    pandas.Series
        By group, the mean linear CKA on the test stimuli with the group that it is matched to.
    """
    return pd.DataFrame([_similarity(fitted, fitted.mean, other) for other in others]).mean()


def half_stability(fitted: Fitted, config: Config, *, seed: int, of: str) -> pd.Series:
    """Agreement of each group between two fits on random halves of the units or of the training stimuli.

    Parameters
    ----------
    fitted : Fitted
    config : Config
    seed : int
    of : {"units", "stimuli"}

    Returns
    -------
    pandas.Series
        By group, the linear CKA on the test stimuli with the group that it is matched to.
    """
    rng = np.random.default_rng(seed)
    if of == "units":
        in_first = rng.permuted(np.arange(fitted.spike_count.shape[1]) % 2 == 0)
        halves = [refit(fitted, config, seed=seed, units=half) for half in (in_first, ~in_first)]
    elif of == "stimuli":
        train = rng.permutation(np.flatnonzero(fitted.split == "train"))
        halves = []
        for left_out in (train[::2], train[1::2]):
            split = fitted.split.copy()
            split[left_out] = "unused"
            halves.append(refit(fitted, config, seed=seed, split=split))
    else:
        raise ValueError(f"found of = {of!r}; expected one of {', '.join(HALVES)}")
    return pd.Series(_similarity(fitted, *halves))


def refit(
    fitted: Fitted,
    config: Config,
    *,
    seed: int,
    units: np.ndarray | None = None,
    split: np.ndarray | None = None,
) -> np.ndarray:
    """Fit the same groups again and return every stimulus's latents, (stimulus, latent).

    Parameters
    ----------
    fitted : Fitted
    config : Config
    seed : int
    units : numpy.ndarray of bool, shape (n_units,), optional
        The units to use.
    split : numpy.ndarray of str, shape (n_stimuli,), optional
        Another split; a part of another name than "train" and "validation" is not looked at.
    """
    from nwb_migvis.labels import as_labels
    from nwb_migvis.latents import LatentTask, Recording
    from nwb_migvis.latents.fit import fit_latents

    counts = fitted.spike_count if units is None else fitted.spike_count[:, units]
    (model,) = fit_latents(
        [Recording.alone(counts, fitted.stimulus_index, fitted.split.size)],
        LatentTask(
            as_labels(fitted.labels, circular=config.latents.circular),
            fitted.model.groups,
            fitted.split if split is None else split,
        ),
        config=replace(config.latents, groups=fitted.model.groups),
        seed=seed,
        device=config.device,
    )
    return model.encode(average_counts(counts, fitted.stimulus_index, fitted.split.size))[0]


def _similarity(fitted: Fitted, first: np.ndarray, second: np.ndarray) -> Mapping[str, float]:
    from nwb_migvis.evidence.stability import match_groups

    test = fitted.split == "test"
    groups = fitted.slices
    return match_groups(first[test], second[test], groups_a=groups, groups_b=groups).similarity
