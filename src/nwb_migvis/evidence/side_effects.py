"""What edits do to low-level properties of images, beside what they were asked to change."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from nwb_migvis.evidence.low_level import LOW_LEVEL, low_level_features
from nwb_migvis.evidence.significance import benjamini_hochberg, permutation_p
from nwb_migvis.evidence.transfer import MIN_PAIRS, Draws, numeric_transfer
from nwb_migvis.levels import Exchange

QUANTITIES = LOW_LEVEL[:4]
"""What is measured: all but the extent, which edits of an object's size are asked to change."""
NONE = "none"
"""Method without guidance: what the prior alone does to images."""


def side_effects(
    edits: xr.Dataset,
    *,
    images: np.ndarray,
    stimulus: Sequence[str],
    real: np.ndarray,
    draws: Draws,
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    """Measure how edits of each group and method change luminance, contrast, edges and high frequencies.

    Parameters
    ----------
    edits : xarray.Dataset
        Of role `main`.
    images : array of uint8 (stimulus, y, x (, channel))
    stimulus : sequence of str
    real : array of uint8 (image, y, x (, channel))
        Real images, whose standard deviation is the unit of change.
    draws : Draws

    Returns
    -------
    dict of group to dict of method to dict of quantity to dict
        `change` from source to edit; `beyond_none`, the change from the unguided reconstruction of the same
        source to the edit (of `none` itself, from the source), with its two-sided `p_value` (signs flipped
        by source) and `q_value` (adjusted over the table); `transfer` and `retention` as of a numeric label.
        Changes are in standard deviations of real images. Fewer than eight pairs give no p-value.
    """
    row = {str(name): i for i, name in enumerate(stimulus)}
    ends = (np.array([row[str(name)] for name in edits[end].values]) for end in ("source", "target"))
    source, target = ends
    scale = np.maximum(_quantities(real).std(axis=0), 1e-12)
    on_edits, on_images = (_quantities(x) / scale for x in (edits["image"].values, images))
    group, method = edits["group"].values.astype(str), edits["method"].values.astype(str)
    unguided = {
        (g, s): on_edits[i]
        for i, (g, m, s) in enumerate(zip(group, method, source, strict=True))
        if m == NONE
    }
    table: dict[str, dict[str, dict[str, dict[str, float]]]] = {}
    for g, m in dict.fromkeys(zip(group, method, strict=True)):
        rows = np.flatnonzero((group == g) & (method == m))
        before = on_images[source[rows]]
        rebuilt = before
        if m != NONE:
            rebuilt = np.array([unguided.get((g, s), on_images[s]) for s in source[rows]])
        change, beyond = on_edits[rows] - before, on_edits[rows] - rebuilt
        p = _sign_flip_p(beyond, source[rows], draws)
        cells = table.setdefault(g, {}).setdefault(m, {})
        for i, name in enumerate(QUANTITIES):
            moved = numeric_transfer(
                on_edits[rows, i],
                on_images[target[rows], i],
                source=before[:, i],
                draws=draws,
                ends=(source[rows], target[rows]),
            )
            cells[name] = {
                "change": float(change[:, i].mean()),
                "beyond_none": float(beyond[:, i].mean()),
                "p_value": float(p[i]),
                "transfer": moved.transfer,
                "retention": moved.retention,
            }
    return _adjusted(table)


def _quantities(images: np.ndarray) -> np.ndarray:
    return low_level_features(images)[:, : len(QUANTITIES)]


def _sign_flip_p(change: np.ndarray, source: np.ndarray, draws: Draws) -> np.ndarray:
    """Two-sided p-values of mean changes (pair, quantity), signs flipped by source, (quantity,)."""
    if len(change) < MIN_PAIRS:
        return np.full(change.shape[1], np.nan)
    levels = Exchange.of(source)
    sums = np.stack([change[rows].sum(axis=0) for rows in levels.members])
    signs = np.random.default_rng([draws.seed, 3]).choice([-1.0, 1.0], (draws.n_permutations, len(sums)))
    return permutation_p(np.abs(sums.sum(axis=0)), np.abs(signs @ sums))


def _adjusted(
    table: Mapping[str, Mapping[str, Mapping[str, dict[str, float]]]],
) -> dict[str, dict[str, dict[str, dict[str, float]]]]:
    cells = [cell for methods in table.values() for by_name in methods.values() for cell in by_name.values()]
    for cell, q in zip(cells, benjamini_hochberg(np.array([cell["p_value"] for cell in cells])), strict=True):
        cell["q_value"] = float(q)
    return {g: {m: dict(by_name) for m, by_name in methods.items()} for g, methods in table.items()}
