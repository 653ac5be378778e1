"""The record of one run, and its empty parts."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json, free_name, nearest
from nwb_migvis.results.export import write_images, write_netcdf, write_tables
from nwb_migvis.results.gallery import gallery_of
from nwb_migvis.results.plots import Plots
from nwb_migvis.results.printing import results_html, results_lines
from nwb_migvis.results.table import group_table

PARTS = ("repeatable", "decoded", "beyond_labels", "stable", "shown")
"""Parts of a verdict."""

PART_ENDS = ("", "_low", "_high", "_p", "_q")
"""Ends of the columns of a part: estimate, bounds, p, q."""

PART_COLUMNS = tuple(f"{part}{end}" for part in PARTS for end in PART_ENDS)
"""Columns of the parts: estimate, 95 % interval, p-value, and the p-value adjusted over the groups."""

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
    "variance_explained_low": np.float64,
    "variance_explained_high": np.float64,
    "variance_unique_low": np.float64,
    "variance_unique_high": np.float64,
    "own_group_gap_low": np.float64,
    "own_group_gap_high": np.float64,
    **dict.fromkeys(PART_COLUMNS, np.float64),
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
    "support": np.float64,
}
"""Coordinates along `edit` of `Results.synthesized`, with their types."""

OPTIONAL_EDIT_COORDS = ("support",)
"""Coordinates that edits of earlier versions lack."""

BY_CELL = (
    "transfer",
    "transfer_low",
    "transfer_high",
    "retention",
    "retention_low",
    "retention_high",
    "p_value",
    "q_value",
)
"""Variables (group, label, method, reader) of `Results.selectivity`."""

BY_METHOD = tuple(f"{name}{end}" for name in ("si_transfer", "si_strict") for end in ("", "_low", "_high"))
"""Variables (method, reader) of `Results.selectivity`."""

BEYOND = tuple(f"beyond{end}" for end in ("", "_low", "_high", "_p", "_q", "_left"))
"""Variables (group, label) of `Results.decoding` beyond all else that is known; new in 0.2."""

BY_LABEL = ("score_all", "mig", "mig_low", "mig_high", "sap")
"""Variables (label) of `Results.decoding`."""

EDIT_RATES = ("predicted_rate",)
"""Variables (edit, unit) of `Results.synthesized` that are absent without an encoding model; new in 0.2."""

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
    empty = np.empty(0, dtype=object)
    coords = dict.fromkeys(("group", "label", "method", "reader"), empty)
    data: dict[str, Any] = {
        name: (("group", "label", "method", "reader"), np.empty((0, 0, 0, 0))) for name in BY_CELL
    }
    data["reader_score"] = (("label", "reader"), np.empty((0, 0)))
    data |= {name: (("method", "reader"), np.empty((0, 0))) for name in BY_METHOD}
    return xr.Dataset(data, coords=coords)


def no_decoding() -> xr.Dataset:
    """Return the `decoding` dataset of a run without labels."""
    names = ("score", "chance", "p_value", "q_value", *BEYOND)
    both = {name: (("group", "label"), np.empty((0, 0))) for name in names}
    each = {name: (("label",), np.empty(0)) for name in BY_LABEL}
    return xr.Dataset({**both, **each}, coords=dict.fromkeys(("group", "label"), np.empty(0, dtype=object)))


def no_labels() -> xr.Dataset:
    """Return the `labels` of results without a label."""
    return xr.Dataset()


def no_presentations() -> xr.Dataset:
    """Return the `presentations` of results that were not read from a table of presentations."""
    return xr.Dataset()


@dataclass(frozen=True)
class Results:
    """What one run found in one session.

    Attributes
    ----------
    name : str
        Name of the run inside the NWB file; several runs can stand side by side.
    groups : pandas.DataFrame
        One row per latent group (index `group`), columns as in `GROUP_COLUMNS`. First latent and number of
        latents; labels that supervise the group (joined by commas, "" if free). Fraction of the reliable
        response variance explained alone and uniquely on test stimuli, with p-values. Held-out InfoNCE bound
        and its cap in nats, with a p-value. Where measured: `stability`, p-values adjusted over the groups
        (`..._q`), and the information that a conditional prior estimates. Also variance beyond labels and
        image features, decoding of the group's own labels, its dimension, 95 % intervals
        (`..._low`, `..._high`), the parts of the verdict (`PART_COLUMNS`), and the `verdict` itself.
    latents : xarray.Dataset
        Dims (stimulus, latent): `mean`, `log_var` (log variance of the posterior). Coordinates
        `group` (latent), `split` (stimulus; "train", "validation" or "test") and `n_presentations`
        (stimulus).
    units : xarray.Dataset
        Dims (unit, latent): `loading`. Dim unit: `r2`, `noise_ceiling`, `reliability`. Coordinates `unit`
        (ids), optionally `unit_row` (rows of the file's Units table) and, where ids repeat,
        `electrode_group`.
    synthesized : xarray.Dataset
        Dims (edit, y, x (, channel)): `image` (uint8), optionally, (edit, y, x; float32), `map` (where
        the edit changed the image) and `critic_map` (where the critic looked). Optionally, (edit, unit),
        `predicted_rate`: the spike count per presentation that an encoding model expects, in the order of
        `units`; NaN for edits that were added later. Coordinates as in `EDIT_COORDS`. Zero edits where the
        session holds no pixels.
    selectivity : xarray.Dataset
        Dims (group, label, method, reader): `transfer`, `retention` with the bounds of their 95 %
        confidence intervals (`transfer_low`, ...), `p_value` and `q_value`; (label, reader): `reader_score`
        (held-out R2 or balanced accuracy above chance, scaled to 1); (method, reader): `si_transfer`,
        `si_strict` with the bounds of theirs. Zero labels where the session has none.
    decoding : xarray.Dataset
        Dims (group, label): `score` (cross-validated R2 or accuracy on the test stimuli), `chance`,
        `p_value`, `q_value`; beyond the other labels, low-level image features and time: `beyond` (signed
        squared correlation, 0 for a guess) with interval, `beyond_p`, `beyond_q`, and the share of the label
        that is left for it, `beyond_left`; (label): `score_all` from all latents, `mig` (with bounds), `sap`
        between groups. Zero labels where the session has none.
    labels : xarray.Dataset
        Dim (stimulus,): a variable per label that the run knew of its stimuli, float64 (NaN where unknown) or
        text ("" where unknown); numbers that wrap have the attribute `period`. Empty without labels.
    provenance : dict
        JSON-serialisable: `config`, `versions`, `seeds`, `n_threads`, `device`, `inputs` (with sha256),
        `weights` (sha256 by name), `reading`, `times`; `appearance` (what edits look like; see
        docs/evidence.md) and `encoding` (the encoding check) where there are edits, and `further_edits`,
        which rows were added later.
    analyses : mapping of str to xarray.Dataset
        What further analyses (`Study.compute`) gave, by the name of the analysis.
    presentations : xarray.Dataset
        Dim (presentation,): `stimulus_index` (position along `stimulus`) and `row`, the row in the table of
        the file that the presentations were read from, whose path is the attribute `table` of `row`. Sorted
        by both. Empty where they were read from a series, and in files without the recording.
    """

    name: str
    groups: pd.DataFrame
    latents: xr.Dataset
    units: xr.Dataset
    synthesized: xr.Dataset = field(default_factory=no_edits)
    selectivity: xr.Dataset = field(default_factory=no_selectivity)
    provenance: Json = field(default_factory=dict)
    decoding: xr.Dataset = field(default_factory=no_decoding)
    labels: xr.Dataset = field(default_factory=no_labels)
    analyses: Mapping[str, xr.Dataset] = field(default_factory=dict)
    presentations: xr.Dataset = field(default_factory=no_presentations)

    def __repr__(self) -> str:
        return "\n".join(results_lines(self))

    def _repr_html_(self) -> str:
        return results_html(self)

    @property
    def plot(self) -> Plots:
        """Figures of these results: `results.plot.NAME(...)` is `nwb_migvis.plot.NAME(results, ...)`."""
        return Plots(self)

    def table(self) -> str:
        """Return the latent groups with their evidence as plain text, as the command line prints them."""
        return group_table(self)

    @property
    def gallery(self) -> xr.Dataset:
        """At most 40 of the edits, drawn by the run's seed; see `results.gallery.gallery_of`."""
        return gallery_of(self.synthesized, self.provenance)

    def edits(
        self,
        *,
        group: str | Collection[str] | None = None,
        method: str | Collection[str] | None = None,
        role: str | Collection[str] | None = None,
    ) -> xr.Dataset:
        """Return the edits of `synthesized` that fit all that is given.

        Parameters
        ----------
        group, method, role : str or collection of str, optional
            Accepted values of the coordinate of this name; None accepts all.

        Raises
        ------
        MigvisError
            For a group that the run does not have, a method that made none of its edits, or an unknown role.
        """
        edits = self.synthesized
        choices: dict[str, list[str]] = {
            "group": [str(name) for name in self.groups.index],
            "method": sorted({str(name) for name in edits["method"].values}),
            "role": list(ROLES),
        }
        fits = np.ones(edits.sizes["edit"], dtype=bool)
        for name, given in (("group", group), ("method", method), ("role", role)):
            if given is None:
                continue
            accepted = [given] if isinstance(given, str) else list(given)
            for value in accepted:
                if value not in choices[name]:
                    raise MigvisError(
                        f"edits: found {name} = {value!r}; expected some of "
                        f"{nearest(str(value), choices[name]) or 'none: the run made no edits'}"
                    )
            fits &= np.isin(edits[name].values.astype(str), accepted)
        return edits.isel(edit=np.flatnonzero(fits))

    def to_datatree(self) -> xr.DataTree:
        """Return all tables as one tree: one node per table, the provenance as JSON in the root's attributes.

        Returns
        -------
        xarray.DataTree
            Nodes by the names of the attributes of `Results`; `groups` has the dim `group` and a variable per
            column. Attributes of the root: `name` and `provenance` (JSON).
        """
        nodes: dict[str, xr.Dataset] = {"groups": _as_dataset(self.groups)}
        for each in fields(self):
            value = getattr(self, each.name)
            if isinstance(value, xr.Dataset) and (value.sizes or each.name != "presentations"):
                nodes[each.name] = _without_slashes(value)
        for name, analysis in self.analyses.items():
            nodes[f"analyses/{name}"] = _without_slashes(analysis)
        record = json.dumps(self.provenance, sort_keys=True, ensure_ascii=False)
        root = xr.Dataset(attrs={"name": self.name, "provenance": record})
        return xr.DataTree.from_dict({"/": root, **nodes}, name=self.name)

    def to_netcdf(self, path: str | Path) -> Path:
        """Write all tables into a new netCDF file; see `results.export.write_netcdf`."""
        return write_netcdf(self, Path(path))

    def to_tables(self, folder: str | Path) -> list[Path]:
        """Write all tables into a new folder as CSV files; see `results.export.write_tables`."""
        return write_tables(self, Path(folder))

    def to_images(self, folder: str | Path) -> list[Path]:
        """Write the edits into a new folder as PNG files, with a CSV; see `results.export.write_images`."""
        return write_images(self, Path(folder))


def _as_dataset(groups: pd.DataFrame) -> xr.Dataset:
    """Return the groups' columns as variables along `group`, text as numpy's own."""
    is_text = {column: not pd.api.types.is_numeric_dtype(groups[column]) for column in groups}
    data = {
        str(column): ("group", groups[column].to_numpy(dtype=str if is_text[column] else None))
        for column in groups
    }
    return xr.Dataset(data, coords={"group": groups.index.to_numpy(dtype=str)})


def _without_slashes(dataset: xr.Dataset) -> xr.Dataset:
    """Return a dataset whose variables can stand in a tree, where a slash divides names."""
    names: dict[Any, str] = {}
    for name in dataset.data_vars:
        if "/" in str(name):
            taken = {*map(str, dataset.variables), *names.values()}
            names[name] = free_name(str(name).replace("/", "_"), taken)
    return dataset.rename(names)
