"""How far each label is held by one latent group alone: MIG and SAP between groups."""

from __future__ import annotations

import numpy as np
import xarray as xr

from nwb_migvis.labels import LabelCode

MAX_BINS = 10
PER_BIN = 10
"""Numeric labels are cut at quantiles into at most `MAX_BINS` bins of at least `PER_BIN` stimuli."""


def bin_indices(code: LabelCode, values: np.ndarray, readings: np.ndarray | None = None) -> np.ndarray:
    """Put a label's values, or readings of it, into classes or bins.

    Parameters
    ----------
    code : LabelCode
    values : array (n,)
        True values, all present: they set the edges of the bins.
    readings : array, optional
        As `LabelCode.decode` gives them; the true values are binned where it is None.

    Returns
    -------
    array (n,) of int
    """
    if code.classes:
        return code.class_index(values) if readings is None else readings.argmax(axis=1)
    truth = np.asarray(values, dtype=np.float64)
    if code.period:
        truth = truth % code.period
        turn = None if readings is None else np.arctan2(readings[:, 1], readings[:, 0]) / (2 * np.pi)
        readings = None if turn is None else (turn % 1) * code.period
    n_bins = int(np.clip(len(truth) // PER_BIN, 2, MAX_BINS))
    edges = np.unique(np.quantile(truth, np.linspace(0, 1, n_bins + 1)[1:-1]))
    return np.searchsorted(edges, truth if readings is None else readings, side="right")


def mutual_information(a: np.ndarray, b: np.ndarray) -> float:
    """Mutual information of two integer variables in nats, at least 0.

    The plug-in value minus its bias, (cells - rows - columns + 1) / 2n with only those that occur (Miller
    1955); of a variable with itself it is the plug-in entropy plus (values - 1) / 2n.

    Parameters
    ----------
    a, b : array (n,) of int
    """
    counts = np.zeros((a.max() + 1, b.max() + 1))
    np.add.at(counts, (a, b), 1)
    n = counts.sum()

    def entropy(of: np.ndarray) -> float:
        share = of[of > 0] / n
        return float(-(share * np.log(share)).sum() + (len(share) - 1) / (2 * n))

    information = entropy(counts.sum(axis=1)) + entropy(counts.sum(axis=0)) - entropy(counts.ravel())
    return max(information, 0.0)


def group_mig(information: xr.DataArray, entropy: xr.DataArray) -> xr.DataArray:
    """Mutual information gap of each label between groups (after Chen et al. 2018, arXiv 1802.04942).

    (I_best - I_second) / H(label): 1 where one group alone holds all of the label, 0 where two hold as much.
    I is the information about the label in a group's cross-validated reading, binned. It bounds the group's
    own from below and compares groups of any size.

    Parameters
    ----------
    information : xarray.DataArray (group, label)
        Nats.
    entropy : xarray.DataArray (label)
        Nats, of the label in the same bins.

    Returns
    -------
    xarray.DataArray (label)
        NaN with fewer than two groups.
    """
    return _best_two(information) / entropy


def group_sap(score: xr.DataArray) -> xr.DataArray:
    """Separated predictability of each label between groups (after Kumar et al. 2018, arXiv 1711.00848).

    The score of the best group minus that of the second best, scores under chance counted as chance.

    Parameters
    ----------
    score : xarray.DataArray (group, label)
        On one scale: 0 for guesses, 1 for perfect.

    Returns
    -------
    xarray.DataArray (label)
        NaN with fewer than two groups.
    """
    return _best_two(score.clip(min=0))


def _best_two(values: xr.DataArray) -> xr.DataArray:
    if values.sizes["group"] < 2:
        return values.mean("group") * np.nan
    ranked = np.sort(values.transpose("group", "label").values, axis=0)
    return xr.DataArray(ranked[-1] - ranked[-2], dims="label", coords={"label": values["label"]})
