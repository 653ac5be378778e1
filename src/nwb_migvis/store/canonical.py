"""The exact form of `Results` that a file can hold, and the comparison of two of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import plain
from nwb_migvis.results import (
    BEYOND,
    BY_CELL,
    BY_LABEL,
    BY_METHOD,
    EDIT_COORDS,
    EDIT_MAPS,
    EDIT_RATES,
    GROUP_COLUMNS,
    OPTIONAL_EDIT_COORDS,
    OPTIONAL_GROUP_COLUMNS,
    Results,
    no_decoding,
    no_edits,
    no_labels,
    no_presentations,
    no_selectivity,
)
from nwb_migvis.results.analyses import canonical_analysis

Dims = tuple[str, ...]


@dataclass(frozen=True)
class Form:
    """Names, dims and kinds of the variables of one dataset.

    Kinds: `str`; `np.int64` and `np.float64` are converted to; `np.floating` keeps float32 and float64;
    `np.uint8` has to be that already.
    """

    data: Mapping[str, tuple[Dims, type]]
    coords: Mapping[str, tuple[Dims, type]]
    optional: tuple[str, ...] = ()


LATENTS = Form(
    data=dict.fromkeys(("mean", "log_var"), (("stimulus", "latent"), np.floating)),
    coords={
        "stimulus": (("stimulus",), str),
        "split": (("stimulus",), str),
        "n_presentations": (("stimulus",), np.int64),
        "group": (("latent",), str),
    },
)
UNITS = Form(
    data={
        "loading": (("unit", "latent"), np.floating),
        **dict.fromkeys(("r2", "noise_ceiling", "reliability"), (("unit",), np.float64)),
    },
    coords={
        "unit": (("unit",), np.int64),
        "unit_row": (("unit",), np.int64),
        "electrode_group": (("unit",), str),
    },
    optional=("unit_row", "electrode_group"),
)
EVIDENCE_DIMS = ("group", "label", "method", "reader")
SELECTIVITY = Form(
    data={
        **dict.fromkeys(BY_CELL, (EVIDENCE_DIMS, np.float64)),
        "reader_score": (("label", "reader"), np.float64),
        **dict.fromkeys(BY_METHOD, (("method", "reader"), np.float64)),
    },
    coords={name: ((name,), str) for name in EVIDENCE_DIMS},
    optional=("q_value", *(name for name in BY_METHOD if name.endswith(("_low", "_high")))),
)

DECODING_DIMS = ("group", "label")
DECODING = Form(
    data={
        **dict.fromkeys(("score", "chance", "p_value", "q_value", *BEYOND), (DECODING_DIMS, np.float64)),
        **dict.fromkeys(BY_LABEL, (("label",), np.float64)),
    },
    coords={name: ((name,), str) for name in DECODING_DIMS},
    optional=(*BEYOND, "mig_low", "mig_high"),
)


def edits_form(dataset: xr.Dataset) -> Form:
    """Return the form of `Results.synthesized`, whose images are grayscale or have a channel dim."""
    colour = "image" in dataset and "channel" in dataset["image"].dims
    dims: Dims = ("edit", "y", "x", "channel") if colour else ("edit", "y", "x")
    return Form(
        data={
            "image": (dims, np.uint8),
            **dict.fromkeys(EDIT_MAPS, (("edit", "y", "x"), np.float32)),
            **dict.fromkeys(EDIT_RATES, (("edit", "unit"), np.float32)),
        },
        coords={name: (("edit",), kind) for name, kind in EDIT_COORDS.items()},
        optional=(*EDIT_MAPS, *EDIT_RATES, *OPTIONAL_EDIT_COORDS),
    )


def canonical(results: Results) -> Results:
    """Return the same results in the form that a file holds.

    Text is NumPy text, integers are int64, statistics float64; the provenance is plain JSON values (NaN
    becomes null); a `synthesized` without edits, a `selectivity` and a `decoding` without labels are the
    empty datasets of `results.py`.

    Raises
    ------
    ValueError
        If a variable is absent, unknown, or of another dtype or other dims than the schema has.
    MigvisError
        If the name of the run cannot name an object in an NWB file.
    """
    check_name(results.name)
    groups = _groups(results.groups)
    latents = _conform(results.latents, LATENTS, "latents")
    of_groups = np.repeat(groups.index.to_numpy(dtype=str), groups["size"])
    starts = np.cumsum(groups["size"]) - groups["size"]
    if not (np.array_equal(latents["group"].values, of_groups) and np.array_equal(groups["first"], starts)):
        raise ValueError("results.latents: the coordinate `group` is not that of results.groups, in order")
    units = _conform(results.units, UNITS, "units")
    synthesized, selectivity = results.synthesized, results.selectivity
    return replace(
        results,
        groups=groups,
        latents=latents,
        units=units,
        synthesized=_conform(
            synthesized if synthesized.sizes["edit"] else no_edits(), edits_form(synthesized), "synthesized"
        ),
        selectivity=_conform(
            selectivity if selectivity["transfer"].size else no_selectivity(), SELECTIVITY, "selectivity"
        ),
        provenance=plain(results.provenance, finite=True),
        decoding=_conform(
            results.decoding if results.decoding["score"].size else no_decoding(), DECODING, "decoding"
        ),
        labels=_labels(results.labels, latents["stimulus"].values),
        analyses={name: canonical_analysis(name, data) for name, data in results.analyses.items()},
        presentations=_presentations(results.presentations, latents.sizes["stimulus"]),
    )


def check_name(name: str) -> None:
    """Refuse a run name that cannot name an object in an NWB file."""
    if (
        not name
        or name != name.strip()
        or any(c in name for c in "/:")
        or not name.isprintable()
        or name == "."
    ):
        raise MigvisError(
            f"the run name {name!r} cannot name an object in an NWB file; "
            "expected printable text without '/', ':' or outer spaces"
        )


def differences(one: Results, other: Results) -> list[str]:
    """Return the names of the parts in which two canonical results differ (NaN equals NaN)."""
    parts = []
    if one.name != other.name:
        parts.append("name")
    if not one.groups.equals(other.groups):
        parts.append("groups")
    for name in ("latents", "units", "synthesized", "selectivity", "decoding", "labels", "presentations"):
        a, b = getattr(one, name), getattr(other, name)
        if not _is_same(a, b):
            parts.append(name)
    if one.analyses.keys() != other.analyses.keys() or not all(
        _is_same(data, other.analyses[name]) for name, data in one.analyses.items()
    ):
        parts.append("analyses")
    if one.provenance != other.provenance:
        parts.append("provenance")
    return parts


def _is_same(a: xr.Dataset, b: xr.Dataset) -> bool:
    if any(name not in b.data_vars or a[name].dtype != b[name].dtype for name in a.data_vars):
        return False
    # xarray looks for NaN, and takes several times as long, in arrays that cannot have any
    whole = [name for name in a.data_vars if a[name].dtype.kind in "iub"]
    same = all(
        a[n].dims == b[n].dims and a[n].attrs == b[n].attrs and np.array_equal(a[n].values, b[n].values)
        for n in whole
    )
    return same and a.drop_vars(whole).identical(b.drop_vars(whole))


def _groups(frame: pd.DataFrame) -> pd.DataFrame:
    unknown = [c for c in frame.columns if c not in GROUP_COLUMNS]
    lacking = [c for c in GROUP_COLUMNS if c not in frame.columns and c not in OPTIONAL_GROUP_COLUMNS]
    if unknown or lacking or not len(frame):
        raise ValueError(f"results.groups: {len(frame)} rows, unknown {unknown}, absent {lacking}")
    columns = {
        c: _cast(frame[c].to_numpy(), kind, f"groups.{c}") for c, kind in GROUP_COLUMNS.items() if c in frame
    }
    index = pd.Index([str(v) for v in frame.index], name="group")
    if index.has_duplicates:
        raise ValueError(f"results.groups: the names {list(index)} repeat")
    return pd.DataFrame({c: list(v) if v.dtype.kind == "U" else v for c, v in columns.items()}, index=index)


def _labels(labels: xr.Dataset, stimuli: np.ndarray) -> xr.Dataset:
    if not labels.data_vars:
        return no_labels()
    if set(labels.variables) - set(labels.data_vars) != {"stimulus"} or labels.attrs:
        raise ValueError("results.labels: found coordinates or attributes besides `stimulus`")
    if not np.array_equal(labels["stimulus"].values.astype(str), stimuli):
        raise ValueError("results.labels: the stimuli are not those of results.latents, in order")
    arrays = {}
    for name, variable in labels.data_vars.items():
        is_number = variable.dtype.kind == "f"
        period = float(variable.attrs.get("period", 0.0))
        if variable.dims != ("stimulus",) or set(variable.attrs) - {"period"} or (period and not is_number):
            raise ValueError(f"results.labels: {name} has other dims or attributes than a label")
        values = _cast(variable.values, np.float64 if is_number else str, f"labels.{name}")
        arrays[str(name)] = ("stimulus", values, {"period": period} if period else {})
    return xr.Dataset(arrays, coords={"stimulus": stimuli})


def _presentations(rows: xr.Dataset, n_stimuli: int) -> xr.Dataset:
    if not rows.variables:
        return no_presentations()
    found = {str(name): variable.dims for name, variable in rows.variables.items()}
    if found != dict.fromkeys(("stimulus_index", "row"), ("presentation",)):
        raise ValueError(f"results.presentations: found {found}; expected stimulus_index, row (presentation)")
    index = _cast(rows["stimulus_index"].values, np.int64, "presentations.stimulus_index")
    row = _cast(rows["row"].values, np.int64, "presentations.row")
    if ((index < 0) | (index >= n_stimuli)).any():
        raise ValueError(f"results.presentations: stimulus_index leaves the {n_stimuli} stimuli")
    order = np.lexsort((row, index))
    about = {"table": str(rows["row"].attrs.get("table", ""))}
    return xr.Dataset(
        {"stimulus_index": ("presentation", index[order]), "row": ("presentation", row[order], about)}
    )


def _conform(dataset: xr.Dataset, form: Form, where: str) -> xr.Dataset:
    variables = {**form.data, **form.coords}
    unknown = [str(n) for n in dataset.variables if n not in variables]
    lacking = [n for n in variables if n not in dataset.variables and n not in form.optional]
    if unknown or lacking:
        raise ValueError(f"results.{where}: unknown variables {unknown}, absent {lacking}")
    if dataset.attrs or any(v.attrs for v in dataset.variables.values()):
        raise ValueError(f"results.{where}: attributes have no place in the file; use the provenance")
    arrays = {}
    for name, (dims, kind) in variables.items():
        if name not in dataset.variables:
            continue
        variable = dataset[name].variable
        if set(variable.dims) != set(dims):
            raise ValueError(f"results.{where}: {name} has dims {variable.dims}; expected {dims}")
        arrays[name] = (dims, _cast(variable.transpose(*dims).values, kind, f"{where}.{name}"))
    return xr.Dataset(
        {n: arrays[n] for n in form.data if n in arrays},
        coords={n: arrays[n] for n in form.coords if n in arrays},
    )


def _cast(values: np.ndarray, kind: type, where: str) -> np.ndarray:
    if kind is str:
        if not all(isinstance(v, str) for v in np.ravel(values)):
            raise ValueError(f"results.{where}: found values that are not text")
        return np.asarray(values, dtype=str) if values.size else np.empty(values.shape, dtype="<U1")
    fits = {"u": (np.uint8,), "i": (np.int64,), "f": (np.floating, np.float32, np.float64)}
    if kind in fits["u"]:
        good = values.dtype == np.uint8
    elif kind in fits["i"]:
        good = values.dtype.kind in "iu"
    else:
        good = values.dtype.kind == "f"
    if not good:
        raise ValueError(f"results.{where}: found {values.dtype}; expected {kind.__name__}")
    if kind is np.floating:
        kind = np.float32 if values.dtype.itemsize <= 4 else np.float64
    return np.ascontiguousarray(values, dtype=kind)
