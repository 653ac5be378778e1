"""Estimates with their intervals and nulls, as variables of a dataset."""

from __future__ import annotations

from typing import Any

import numpy as np

from nwb_migvis.evidence.intervals import ENDS
from nwb_migvis.evidence.significance import benjamini_hochberg, permutation_p

Variables = dict[str, tuple[tuple[str, ...], np.ndarray, str]]
"""Dims, values and description by name."""


def measured(
    name: str,
    dims: tuple[str, ...],
    estimate: Any,
    description: str,
    *,
    null: np.ndarray | None = None,
    resampled: np.ndarray | None = None,
) -> Variables:
    """Return an estimate with its interval, and its null with p and q over all of its cells.

    Parameters
    ----------
    name : str
    dims : tuple of str
    estimate : array (*dims)
        Large values speak against the null.
    description : str
    null : array (permutation, *dims), optional
    resampled : array (resample, *dims), optional
    """
    value = np.asarray(estimate, dtype=np.float64)
    made: Variables = {name: (dims, value, description)}
    if resampled is not None:
        absent = np.isnan(value) | (np.isnan(resampled).all(axis=0) if len(resampled) else False)
        drawn = np.where(absent, 0.0, resampled)
        low, high = np.nanpercentile(drawn, ENDS, axis=0) if len(resampled) else (value, value)
        low, high = (np.where(absent, np.nan, end) for end in (low, high))
        made[f"{name}_low"] = (dims, low, f"Lower end of the 95 % interval of {name}.")
        made[f"{name}_high"] = (dims, high, f"Upper end of the 95 % interval of {name}.")
    if null is not None:
        p = permutation_p(value, null)
        made[f"{name}_null"] = (dims, null.mean(axis=0), f"Mean of {name} over the permutations.")
        made[f"{name}_p"] = (dims, p, f"Permutation p-value of {name}, one-sided.")
        made[f"{name}_q"] = (dims, benjamini_hochberg(p), f"The p-value adjusted over all cells of {name}.")
    return made
