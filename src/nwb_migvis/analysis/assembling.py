"""The record of a run, assembled from what its steps made."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping
from dataclasses import dataclass, replace
from importlib.metadata import version
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr
from numpy.typing import NDArray

from nwb_migvis.analysis.agreement import agreement_note
from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.edits import SessionEdits
from nwb_migvis.analysis.latents import SessionLatents
from nwb_migvis.analysis.observed import observed_note
from nwb_migvis.labels import labels_dataset
from nwb_migvis.plain import Json, plain
from nwb_migvis.results import Results, no_presentations

if TYPE_CHECKING:
    from nwb_migvis.analysis.evidence import SessionEvidence
    from nwb_migvis.analysis.networks import PriorRecord

MAX_PRIOR_BYTES = 20_000_000
"""Priors of this size and more are not stored in the NWB file."""

_APART = ("source", "reading")
"""Attributes of a session that are not recorded with the others."""

_RECORDED = (
    "nwb-migvis",
    "pynwb",
    "hdmf",
    "h5py",
    "numpy",
    "xarray",
    "pandas",
    "torch",
    "diffusers",
    "scipy",
)


@dataclass(frozen=True)
class TrainedNetworks:
    """The networks of images, with what the provenance says of the prior.

    Attributes
    ----------
    weights : mapping of str to bytes
        Critic and prior, where there are any.
    prior : PriorRecord, optional
    """

    weights: Mapping[str, bytes]
    prior: PriorRecord | None = None


def assemble(
    name: str,
    session: xr.Dataset,
    latents: SessionLatents,
    edits: SessionEdits,
    *,
    evidence: SessionEvidence,
    networks: TrainedNetworks,
    context: Context,
) -> tuple[Results, dict[str, bytes]]:
    """Return the results of one session with the weights that are stored beside them.

    Parameters
    ----------
    name : str
        Of the run.
    session : xarray.Dataset
    latents : SessionLatents
    edits : SessionEdits
    evidence : SessionEvidence
    networks : TrainedNetworks
    context : Context

    Returns
    -------
    results : Results
    weights : dict of str to bytes
        safetensors bytes of `vae` and, where the session has pixels, `critic` and `prior` (the prior only
        below 20 MB).
    """
    config = context.config
    weights = {"vae": latents.model.to_bytes()} if latents.knows_responses else {}
    if "image" in session and edits.n_edits:
        weights |= {
            key: value
            for key, value in networks.weights.items()
            if key != "prior" or len(value) < MAX_PRIOR_BYTES
        }
    record = networks.prior
    notes = _notes(session, latents, evidence, weights) + ([] if record is None else list(record.notes))
    provenance: Json = {
        "config": replace(config, cache="").to_dict(),
        "versions": {p: version(p) for p in _RECORDED} | {"python": platform.python_version()},
        "seeds": context.seeds,
        "n_threads": config.n_threads,
        "device": config.device,
        "weights": {key: hashlib.sha256(value).hexdigest() for key, value in weights.items()},
        "session": {key: plain(value) for key, value in session.attrs.items() if key not in _APART},
        "reading": plain(session.attrs.get("reading", {})),
        "n_units_left_out": evidence.n_units_left_out,
        "notes": notes,
    }
    if record is not None and record.content:
        provenance["prior"] = record.content
    if context.clock.curves:
        provenance["training"] = context.clock.curves
    if evidence.appearance:
        provenance["appearance"] = evidence.appearance
    if evidence.encoding.record:
        provenance["encoding"] = dict(evidence.encoding.record)
    if evidence.independence:
        provenance["independence"] = list(evidence.independence)
    if evidence.shared_with:
        provenance["shared_with"] = list(evidence.shared_with)
    results = Results(
        name,
        evidence.groups,
        latents.to_dataset(session["stimulus"].values),
        evidence.units,
        evidence.encoding.with_rates(edits.synthesized),
        evidence.selectivity,
        provenance,
        evidence.decoding,
        labels_dataset(latents.labels, session["stimulus"].values),
        presentations=_presentations(session, latents.n_presentations),
    )
    return results, weights


def _presentations(session: xr.Dataset, n_presentations: NDArray[np.int64]) -> xr.Dataset:
    """Return the rows of each stimulus's presentations in their table; none where there is no such table."""
    if "table_row" not in session:
        return no_presentations()
    index, row = session["stimulus_index"].values, session["table_row"]
    if not np.array_equal(np.bincount(index, minlength=len(n_presentations)), n_presentations):
        return no_presentations()
    about = {"table": str(row.attrs.get("table", ""))}
    return xr.Dataset({"stimulus_index": ("presentation", index), "row": ("presentation", row.values, about)})


def unmeasured(
    name: str, session: xr.Dataset, latents: SessionLatents, edits: SessionEdits, *, context: Context
) -> Results:
    """Return the latents and edits of one session as results of which nothing is measured."""
    stimulus, groups = session["stimulus"].values, latents.groups
    table = pd.DataFrame(
        {
            "first": [part.start for part in groups.slices.values()],
            "size": [part.stop - part.start for part in groups.slices.values()],
            "supervised_by": [",".join(group.labels) for group in latents.model.groups],
        },
        index=pd.Index(list(groups.slices), name="group"),
    )
    return Results(
        name,
        table.assign(verdict="not measured: the run goes on"),
        latents.to_dataset(stimulus),
        xr.Dataset(coords={"unit": session["unit"].values}),
        edits.synthesized,
        provenance={"training": dict(context.clock.curves)},
        labels=labels_dataset(latents.labels, stimulus),
    )


def _notes(
    session: xr.Dataset, latents: SessionLatents, evidence: SessionEvidence, weights: Mapping[str, bytes]
) -> list[str]:
    """Say what was left out of the results, and why."""
    notes = [] if "image" in session else ["synthesis was skipped: the session holds no pixels of its images"]
    if not latents.knows_responses:
        notes.append(
            "the latents were given as an array: what they say about responses was not measured, and no "
            "latent model is stored"
        )
    elif evidence.groups["variance_explained"].isna().all():
        notes.append(
            "variance explained was not measured: it needs repeats of ten training and ten test images, "
            "and a unit that is reliable"
        )
    elif evidence.n_units_left_out:
        n_units = evidence.units.sizes["unit"]
        notes.append(
            f"{evidence.n_units_left_out} of {n_units} units are too unreliable to count as variance"
        )
    if (note := observed_note(latents.spike_count)) is not None:
        notes.append(note)
    notes += evidence.notes
    if "prior" not in weights and "critic" in weights:
        notes.append(f"the prior is not stored: it takes {MAX_PRIOR_BYTES / 1e6:g} MB or more")
    return [*notes, *(agreement_note(record) for record in evidence.shared_with)]
