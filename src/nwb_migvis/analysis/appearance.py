"""What the edits of a run look like, as a record of plain values."""

from __future__ import annotations

from itertools import product
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.analysis.edits import SessionEdits
from nwb_migvis.analysis.latents import SessionLatents
from nwb_migvis.plain import Json, plain

if TYPE_CHECKING:
    from nwb_migvis.evidence.selectivity import EditScoring


def describe_edits(latents: SessionLatents, edits: SessionEdits, scoring: EditScoring, *, seed: int) -> Json:
    """Return memorisation, realism, change without labels, the ends of the directions, and the dose response.

    Nothing where the session has no pixels; no dose response where it has no labels.
    """
    from nwb_migvis.evidence.appearance import (
        extreme_stimuli,
        feature_components,
        feature_transfer,
        memorisation,
        realism,
        start_dependence,
    )
    from nwb_migvis.evidence.readers.kernel import edge_features
    from nwb_migvis.evidence.selectivity import dose_response
    from nwb_migvis.evidence.side_effects import side_effects

    synthesized, readers = edits.synthesized, scoring.readers
    if not edits.has_pairs:
        return {}
    main = synthesized.isel(edit=np.flatnonzero(synthesized["role"].values == "main"))
    traversals = synthesized.isel(edit=np.flatnonzero(synthesized["role"].values == "traversal"))
    method = main["method"].values
    sets = {str(name): main["image"].values[method == name] for name in dict.fromkeys(method)}
    sources = {name: main["source"].values[method == name] for name in sets}
    if len(edits.samples):
        sets["samples"] = edits.samples
    train, test = (edits.image[latents.split == part] for part in ("train", "test"))
    components = feature_components(edge_features, train)
    change = feature_transfer(
        main, images=edits.image, stimulus=scoring.stimulus, components=components, draws=scoring.draws
    )
    record = {
        "memorisation": memorisation(sets, train=edits.trained_on, held_out=test),
        "frechet": realism(
            sets,
            held_out=test,
            features={reader.kind: reader.features for reader in readers} or {"edges": edge_features},
            seed=seed,
            sources=sources,
        ),
        "feature_transfer": {
            group: {name: cell.record() for name, cell in cells.items()} for group, cells in change.items()
        },
        "side_effects": side_effects(
            main, images=edits.image, stimulus=scoring.stimulus, real=test, draws=scoring.draws
        ),
        "start": start_dependence(traversals, components=components),
        "extremes": extreme_stimuli(
            edits.z, scoring.stimulus, directions=edits.directions, groups=latents.groups
        ),
    }
    if readers:
        doses = dose_response(synthesized, scoring, groups=latents.groups, by="strength")
        record["dose"] = _measured(doses)
    return plain(record, finite=True)


def _measured(doses: xr.Dataset) -> Json:
    """Return the doses' transfer and retention by group, label and reader, where they were measured."""
    cells: Json = {}
    axes = (doses[name].values.tolist() for name in ("group", "label", "reader"))
    for group, label, reader in product(*axes):
        cell = doses.sel(group=group, label=label, reader=reader)
        if np.isfinite(cell["transfer"].values).any():
            of_group = cells.setdefault(group, {}).setdefault(label, {})
            of_group[reader] = {name: cell[name].values.tolist() for name in ("transfer", "retention")}
    return {"strength": doses["strength"].values.tolist(), "cells": cells}
