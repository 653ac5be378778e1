"""The verdict on each latent group: whether what it claims stands above its nulls."""

from __future__ import annotations

import math

LEVEL = 0.05
"""False discovery rate over the groups of a run."""

ESTABLISHED, NOT_ESTABLISHED, NOT_MEASURED = "established", "not established", "not measured"


def verdict(*, supervised: bool, decoding_q: float, variance_q: float) -> str:
    """Say whether a group's claim stands.

    A supervised group claims that it encodes its labels: they are decoded from it better than permuted
    labels are, and it explains response variance of other repeats. A free group claims the latter alone.
    Where the session has no repeats a supervised group is judged by decoding alone.

    Parameters
    ----------
    supervised : bool
    decoding_q, variance_q : float
        Adjusted p-values (Benjamini and Hochberg over the groups of the run) of the decoding of its own
        labels and of the variance explained; NaN where not measured.

    Returns
    -------
    str
        "established", "not established", or "not measured" where the claim's own test is NaN.
    """
    needed = decoding_q if supervised else variance_q
    if math.isnan(needed):
        return NOT_MEASURED
    tests = [q for q in (needed, variance_q) if not math.isnan(q)]
    return ESTABLISHED if max(tests) < LEVEL else NOT_ESTABLISHED
