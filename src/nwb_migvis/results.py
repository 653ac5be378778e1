"""The record of one run: what `run` returns, `write` stores and `read_results` reads back."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

GROUP_COLUMNS: dict[str, type] = {
    "first": np.int64,
    "size": np.int64,
    "supervised_by": str,
    "variance_explained": np.float64,
    "variance_explained_p": np.float64,
    "variance_unique": np.float64,
    "variance_unique_p": np.float64,
    "mi_bound_nats": np.float64,
    "mi_cap_nats": np.float64,
    "mi_p": np.float64,
    "stability": np.float64,
    "variance_explained_q": np.float64,
    "variance_unique_q": np.float64,
    "mi_q": np.float64,
    "information_nats": np.float64,
    "information_p": np.float64,
    "variance_beyond_labels": np.float64,
    "variance_beyond_labels_p": np.float64,
    "variance_beyond_images": np.float64,
    "variance_beyond_images_p": np.float64,
    "decoding": np.float64,
    "decoding_p": np.float64,
    "decoding_q": np.float64,
    "own_group_gap": np.float64,
    "participation_ratio": np.float64,
    "twonn_dimension": np.float64,
    "verdict": str,
}
"""Columns of `Results.groups` in order."""

OPTIONAL_GROUP_COLUMNS = tuple(GROUP_COLUMNS)[tuple(GROUP_COLUMNS).index("stability") :]
"""Columns that are absent where they were not measured."""

EDIT_COORDS: dict[str, Any] = {
    "group": str,
    "source": str,
    "target": str,
    "method": str,
    "role": str,
    "strength": np.float64,
    "guidance": np.float64,
    "gamma": np.float64,
    "direction": str,
    "seed": np.int64,
    "score_before": np.float64,
    "score_after": np.float64,
}
"""Coordinates along `edit` of `Results.synthesized`, with their types."""

EDIT_MAPS = ("map", "critic_map")
"""Variables (edit, y, x) of `Results.synthesized` that are absent unless `synthesis.maps` is set."""

ROLES = ("main", "dose", "traversal", "further")
"""Purposes of edits: pairs that evidence is measured on, rising doses, traversals, pairs made later."""

SPLITS = ("train", "validation", "test")


def no_edits() -> xr.Dataset:
    """Return the `synthesized` dataset of a run that made no images (no pixels to learn from)."""
    coords = {
        name: ("edit", np.empty(0, dtype=object if kind is str else kind))
        for name, kind in EDIT_COORDS.items()
    }
    return xr.Dataset({"image": (("edit", "y", "x"), np.zeros((0, 0, 0), np.uint8))}, coords=coords)


def no_selectivity() -> xr.Dataset:
    """Return the `selectivity` dataset of a run without edits or without labels."""
    by_edit = (
        "transfer",
        "transfer_low",
        "transfer_high",
        "retention",
        "retention_low",
        "retention_high",
        "p_value",
    )
    empty = np.empty(0, dtype=object)
    coords = dict.fromkeys(("group", "label", "method", "reader"), empty)
    data: dict[str, Any] = {
        name: (("group", "label", "method", "reader"), np.empty((0, 0, 0, 0))) for name in by_edit
    }
    data["reader_score"] = (("label", "reader"), np.empty((0, 0)))
    data["si_transfer"] = (("method", "reader"), np.empty((0, 0)))
    data["si_strict"] = (("method", "reader"), np.empty((0, 0)))
    return xr.Dataset(data, coords=coords)


def no_decoding() -> xr.Dataset:
    """Return the `decoding` dataset of a run without labels."""
    both = {
        name: (("group", "label"), np.empty((0, 0))) for name in ("score", "chance", "p_value", "q_value")
    }
    each = {name: (("label",), np.empty(0)) for name in ("score_all", "mig", "sap")}
    return xr.Dataset({**both, **each}, coords=dict.fromkeys(("group", "label"), np.empty(0, dtype=object)))


@dataclass(frozen=True)
class Results:
    """What one run found in one session.

    Attributes
    ----------
    name : str
        Name of the run inside the NWB file; several runs can stand side by side.
    groups : pandas.DataFrame
        One row a latent group (index `group`), columns as in `GROUP_COLUMNS`: first latent and number
        of latents, labels that supervise the group (joined by commas, "" if free), fraction of the
        reliable response variance explained alone and uniquely on test stimuli with p-values, held-out
        InfoNCE bound and its cap in nats with a p-value, and where measured `stability`, p-values adjusted
        over the groups (`..._q`), the information that a conditional prior estimates, variance beyond labels
        and image features, decoding of the group's own labels, its dimension, and the `verdict` on it.
    latents : xarray.Dataset
        Dims (stimulus, latent): `mean`, `log_var` (log variance of the posterior). Coordinates
        `group` (latent), `split` (stimulus; "train", "validation" or "test") and `n_presentations`
        (stimulus).
    units : xarray.Dataset
        Dims (unit, latent): `loading`. Dim unit: `r2`, `noise_ceiling`, `reliability`.
    synthesized : xarray.Dataset
        Dims (edit, y, x (, channel)): `image` (uint8), optionally, (edit, y, x; float32), `map` (where
        the edit changed the image) and `critic_map` (where the critic looked). Coordinates as in
        `EDIT_COORDS`. Zero edits where the session holds no pixels.
    selectivity : xarray.Dataset
        Dims (group, label, method, reader): `transfer`, `retention` with the bounds of their 95 %
        confidence intervals (`transfer_low`, ...) and `p_value`; (label, reader): `reader_score`
        (held-out R2 or balanced accuracy above chance, scaled to 1); (method, reader): `si_transfer`,
        `si_strict`. Zero labels where the session has none.
    decoding : xarray.Dataset
        Dims (group, label): `score` (cross-validated R2 or accuracy on the test stimuli), `chance`,
        `p_value`, `q_value`; (label): `score_all` from all latents, `mig`, `sap` between groups. Zero labels
        where the session has none.
    provenance : dict
        JSON-serialisable: `config`, `versions`, `seeds`, `n_threads`, `device`, `inputs` (with sha256),
        `weights` (sha256 by name), `reading`, `times`; `appearance` (what edits look like; see
        docs/evidence.md) where there are edits, and `further_edits`, which rows were added later.
    """

    name: str
    groups: pd.DataFrame
    latents: xr.Dataset
    units: xr.Dataset
    synthesized: xr.Dataset = field(default_factory=no_edits)
    selectivity: xr.Dataset = field(default_factory=no_selectivity)
    provenance: dict[str, Any] = field(default_factory=dict)
    decoding: xr.Dataset = field(default_factory=no_decoding)
