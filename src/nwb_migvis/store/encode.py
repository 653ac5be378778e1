"""Results to the extension's types."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import xarray as xr
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.common import DynamicTable, VectorData
from pynwb import NWBFile
from pynwb.base import ImageReferences, Images
from pynwb.image import GrayscaleImage, RGBImage

from ndx_migvis import (
    DecodingTable,
    LabelDecodingTable,
    LatentGroupsTable,
    MigvisModel,
    MigvisRun,
    NetworkWeights,
    ReaderScoresTable,
    SelectivityIndexTable,
    SelectivityTable,
    StimulusLabel,
    StimulusLabelsTable,
    StimulusLatentsTable,
    SynthesizedImagesTable,
    UnitLoadingsTable,
)
from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import free_name
from nwb_migvis.results import EDIT_RATES, Results
from nwb_migvis.store.analyses import encode_analyses
from nwb_migvis.store.canonical import DECODING, DECODING_DIMS, EVIDENCE_DIMS, SELECTIVITY, UNITS, Form
from nwb_migvis.store.compressed import LEVEL, one_by_one
from nwb_migvis.store.digests import IS_DIGESTED, TABLES, part_digests

NETWORKS = {
    "vae": "Group-wise variational autoencoder: spike counts to latents and back.",
    "critic": "Critic: scores of images against the latents of each group, at every noise level.",
    "prior": "Diffusion prior over the session's images.",
}


def encode(
    results: Results,
    *,
    nwbfile: NWBFile,
    weights: Mapping[str, bytes],
    images: Callable[[np.ndarray], Any] = one_by_one,
) -> MigvisRun:
    """Return the container of a run.

    Parameters
    ----------
    results : Results
        In canonical form.
    nwbfile : pynwb.NWBFile
        The file that the container will be in; its Units table is pointed to where it has the units.
    weights : mapping of str to bytes
        safetensors bytes by the network's name.
    images : callable
        What images, maps included, are written by: at once, or later; see
        `nwb_migvis.store.compressed.ImagesToCome`.

    Raises
    ------
    ValueError
        If a digest in the provenance is not that of the weights.
    """
    parts: dict[str, Any] = {}
    if results.synthesized.sizes["edit"]:  # first, for images may be compressed while the rest is made
        parts["synthesized_images"] = _synthesized_images(results.synthesized, images)
        parts["gallery"] = _gallery(results.gallery)
    parts |= {
        "model": _model(results, weights),
        "latent_groups": _latent_groups(results),
        "stimulus_latents": _stimulus_latents(results, nwbfile),
        "unit_loadings": _unit_loadings(results.units, nwbfile),
    }
    if results.labels.data_vars:
        parts["stimulus_labels"] = _stimulus_labels(results.labels)
    if results.selectivity["transfer"].size:
        parts.update(_selectivity(results.selectivity))
    if results.decoding["score"].size:
        parts.update(_decoding(results.decoding))
    if results.analyses:
        parts["analyses"] = encode_analyses(results.analyses)
    return MigvisRun(
        name=results.name,
        description="Latent groups of the population's visual responses, guided image synthesis and evidence "
        "(nwb-migvis).",
        **parts,
    )


def _model(results: Results, weights: Mapping[str, bytes]) -> MigvisModel:
    stored, provenance = [], results.provenance
    recorded = provenance.get("weights", {})
    for name, data in weights.items():
        digest = hashlib.sha256(data).hexdigest()
        if recorded.get(name, digest) != digest:
            raise ValueError(
                f"provenance: weights.{name} is {recorded[name]}; the weights' sha256 is {digest}"
            )
        stored.append(
            NetworkWeights(
                name=name,
                data=np.frombuffer(data, dtype=np.uint8),
                description=_description(name, provenance),
                sha256=digest,
            )
        )
    apart = {key: provenance[key] for key in ("config", "versions") if key in provenance}
    digests = {key: provenance[key] for key in ("inputs", "weights") if key in provenance}
    rest = {k: v for k, v in provenance.items() if k not in {*apart, *digests}}
    return MigvisModel(
        name="model",
        provenance=_json({**rest, IS_DIGESTED: True}),
        network_weights=stored,
        **{key: _json(value) for key, value in apart.items()},
        digests=_json({**digests, TABLES: part_digests(results)}),
    )


def _description(name: str, provenance: Mapping[str, Any]) -> str:
    """Say what a network is; under "vae" lies the latent model that the settings name."""
    model = provenance.get("config", {}).get("latents", {}).get("model", "group-vae")
    if name == "vae" and model != "group-vae":
        return f"Latent model {model!r}: spike counts to latents and back."
    return NETWORKS.get(name, f"Network {name}.")


def _json(value: Any) -> str:
    return json.dumps(value, sort_keys=True, ensure_ascii=False, allow_nan=False)


def _latent_groups(results: Results) -> LatentGroupsTable:
    groups = results.groups
    data = {"group": list(groups.index)} | {c: _column(groups[c].to_numpy()) for c in groups.columns}
    return LatentGroupsTable.from_columns(
        name="latent_groups", description="Groups of latents and what each explains.", data=data
    )


def _stimulus_latents(results: Results, nwbfile: NWBFile) -> StimulusLatentsTable:
    names = ("stimulus", "mean", "log_var", "split", "n_presentations")
    data = {name: _column(results.latents[name].values) for name in names}
    shown, table = results.presentations, None
    if shown.sizes:
        table = _table_of(shown, nwbfile)
        ends = np.cumsum(np.bincount(shown["stimulus_index"].values, minlength=len(data["stimulus"])))
        data["presentations"] = np.split(shown["row"].values, ends[:-1])
    return StimulusLatentsTable.from_columns(
        name="stimulus_latents",
        description="Latents of the shown stimuli: the posterior given the population's response.",
        data=data,
        table=table,
    )


def _table_of(shown: xr.Dataset, nwbfile: NWBFile) -> DynamicTable:
    """Return the table that presentations are rows of, or refuse a file that does not have it."""
    place, rows = shown["row"].attrs["table"], shown["row"].values
    tables = [table for table in nwbfile.objects.values() if isinstance(table, DynamicTable)]
    found = next((t for t in tables if getattr(t.id.data, "name", None) == f"{place}/id"), None)
    if found is None or not ((rows >= 0) & (rows < len(found.id))).all():
        state = "is absent" if found is None else f"has {len(found.id)} rows"
        raise MigvisError(
            f"the results' presentations do not lead to rows of {place or 'a table'}, which {state}; "
            "expected the session that the results are of"
        )
    return found


def _stimulus_labels(labels: xr.Dataset) -> StimulusLabelsTable:
    about = {"name": "stimulus", "description": "Stimulus id, as in `stimulus_latents` and in its order."}
    columns = [VectorData(**about, data=_column(labels["stimulus"].values))]
    taken = {*dir(StimulusLabelsTable), "stimulus", "id", "columns", "colnames", "description", "name"}
    for name, values in labels.data_vars.items():
        column = free_name(re.sub(r"[/:]|^\.+$", "_", str(name)) or "_", taken)
        taken.add(column)
        period = float(values.attrs.get("period", 0.0))
        wraps = f", which wraps at {period:g}" if period else ""
        about = {"name": column, "description": f"Label {str(name)!r} of the stimuli{wraps}."}
        data = _column(values.values)
        columns.append(StimulusLabel(**about, data=data, label=str(name), period=period))
    return StimulusLabelsTable(
        name="stimulus_labels",
        description="Labels of the shown stimuli.",
        columns=columns,
        colnames=[column.name for column in columns],
    )


def _unit_loadings(units: xr.Dataset, nwbfile: NWBFile) -> UnitLoadingsTable:
    names = ("unit", "loading", "r2", "noise_ceiling", "reliability")
    data = {name: _column(units[name].values) for name in (*names, *UNITS.optional) if name in units}
    if "unit_row" in units:
        _check_rows(units, nwbfile)
    return UnitLoadingsTable.from_columns(
        name="unit_loadings",
        description="Loadings of the units on the latents, and how well each unit is predicted.",
        data=data,
        table=nwbfile.units,
    )


def _check_rows(units: xr.Dataset, nwbfile: NWBFile) -> None:
    """Refuse rows that are not those of the units in the file's Units table."""
    ids = np.empty(0, np.int64) if nwbfile.units is None else np.asarray(nwbfile.units.id[:])
    rows = units["unit_row"].values
    fits = ((rows >= 0) & (rows < len(ids))).all()
    if not fits or not np.array_equal(ids[rows], units["unit"].values):
        raise MigvisError(
            f"the results' unit_row does not lead to their units in /units, which has {len(ids)} rows; "
            "expected the session that the results are of"
        )


def _synthesized_images(edits: xr.Dataset, images: Callable[[np.ndarray], Any]) -> SynthesizedImagesTable:
    data: dict[str, Any] = {str(name): _column(edits[name].values) for name in edits.coords}
    data |= {
        str(name): variable.values if name in EDIT_RATES else images(variable.values)
        for name, variable in edits.data_vars.items()
    }
    return SynthesizedImagesTable.from_columns(
        name="synthesized_images", description="Edits of shown images, one row per edit.", data=data
    )


def _gallery(edits: xr.Dataset) -> Images:
    """Return the edits of a gallery as images, in order."""
    kind = RGBImage if "channel" in edits["image"].dims else GrayscaleImage
    images = [
        kind(
            name=name,
            data=H5DataIO(pixels, compression="gzip", compression_opts=LEVEL, shuffle=True),
            description=f"Edit {row} of synthesized_images.",
        )
        for name, row, pixels in zip(
            edits["name"].values.tolist(), edits["row"].values, edits["image"].values, strict=True
        )
    ]
    gallery = Images(
        name="gallery",
        images=images,
        description="Some of the edits, drawn by the run's seed. Names say row of synthesized_images, group, "
        "source, target (or direction and length) and strength.",
    )
    gallery.order_of_images = ImageReferences(name="order_of_images", data=images)
    return gallery


def _long(dataset: xr.Dataset, form: Form, dims: tuple[str, ...]) -> dict[str, Any]:
    """Return the columns of the variables with these dims, one row per combination of their values."""
    names = [name for name, (d, _) in form.data.items() if d == dims and name in dataset]
    axes = np.meshgrid(*(dataset[d].values for d in dims), indexing="ij")
    return {d: _column(a.ravel()) for d, a in zip(dims, axes, strict=True)} | {
        name: dataset[name].values.ravel() for name in names
    }


def _decoding(decoding: xr.Dataset) -> dict[str, Any]:
    return {
        "decoding": DecodingTable.from_columns(
            name="decoding",
            description="How well each label is decoded from each group.",
            data=_long(decoding, DECODING, DECODING_DIMS),
        ),
        "label_decoding": LabelDecodingTable.from_columns(
            name="label_decoding",
            description="How well each label is decoded from all latents, and how far by one group alone.",
            data=_long(decoding, DECODING, ("label",)),
        ),
    }


def _selectivity(selectivity: xr.Dataset) -> dict[str, Any]:
    return {
        "selectivity": SelectivityTable.from_columns(
            name="selectivity",
            description="How far edits of each group move each label.",
            data=_long(selectivity, SELECTIVITY, EVIDENCE_DIMS),
        ),
        "reader_scores": ReaderScoresTable.from_columns(
            name="reader_scores",
            description="How well each reader reads each label on real held-out images.",
            data=_long(selectivity, SELECTIVITY, ("label", "reader")),
        ),
        "selectivity_index": SelectivityIndexTable.from_columns(
            name="selectivity_index",
            description="Selectivity over the supervised groups.",
            data=_long(selectivity, SELECTIVITY, ("method", "reader")),
        ),
    }


def _column(values: np.ndarray) -> Any:
    """Return text as a list, which hdmf stores as variable-length UTF-8, and numbers as they are."""
    return values.astype(object) if values.dtype.kind in "UTO" else values
