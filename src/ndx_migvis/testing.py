"""Small objects of every type of the extension, for tests: of this package and of readers of its files.

Each function makes an object with every required part, random numbers from a seed, and what is given by
keyword instead.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

import numpy as np
from hdmf.common import VectorData
from pynwb.base import ImageReferences, Images
from pynwb.image import GrayscaleImage

from ndx_migvis import types
from ndx_migvis.types import (
    AnalysisTable,
    FurtherAnalyses,
    MigvisModel,
    MigvisRun,
    NetworkWeights,
    StimulusLabel,
    StimulusLabelsTable,
)

GROUPS = ("pose", "category", "free_1")
"""Groups of the objects here; each has two latents."""
STIMULI = ("image_0.png", "image_1.png", "image_2.png", "image_3.png")
UNITS = (3, 5, 8)
LABELS = ("rotation_x", "category")
METHODS = ("pmi", "none")
READERS = ("conv", "kernel")

_AXES: Mapping[str, tuple[str, ...]] = {
    "SelectivityTable": ("group", "label", "method", "reader"),
    "ReaderScoresTable": ("label", "reader"),
    "SelectivityIndexTable": ("method", "reader"),
    "DecodingTable": ("group", "label"),
    "LabelDecodingTable": ("label",),
}
_VALUES = {"group": GROUPS, "label": LABELS, "method": METHODS, "reader": READERS}


def mock_table(type_name: str, *, name: str | None = None, seed: int = 0, **columns: Any) -> Any:
    """Return a table of a type, with all required columns but of the columns given.

    Parameters
    ----------
    type_name : str
        Of a table of the extension, such as "LatentGroupsTable".
    name : str, optional
        Of the object; as in a run where it is None.
    seed : int
        Of the numbers.
    **columns
        Values by column, first axis the rows.
    """
    kind = getattr(types, type_name)
    data = {**_required(type_name, np.random.default_rng(seed)), **columns}
    table = kind.from_columns(name=name or _NAMES[type_name], description="A table for tests.", data=data)
    return table


def mock_NetworkWeights(*, name: str = "vae", data: bytes = b"weights", **changes: Any) -> NetworkWeights:
    """Return weights of a network, with their digest."""
    about = {"description": "A network for tests.", "sha256": hashlib.sha256(data).hexdigest()}
    return NetworkWeights(name=name, data=np.frombuffer(data, np.uint8), **{**about, **changes})


def mock_MigvisModel(*, name: str = "model", **changes: Any) -> MigvisModel:
    """Return the record of how a run was made, with weights of one network."""
    parts = {"config": json.dumps({"seed": 0}), "versions": "{}", "provenance": "{}"}
    if "network_weights" not in changes:
        changes["network_weights"] = [mock_NetworkWeights()]
    return MigvisModel(name=name, **{**parts, **changes})


def mock_StimulusLabelsTable(*, name: str = "stimulus_labels", **labels: Any) -> StimulusLabelsTable:
    """Return the labels of the stimuli: a number that wraps and a category, or those given."""
    labels = labels or {"rotation_x": np.linspace(0, 90, len(STIMULI)), "category": ["fruit", "table"] * 2}
    columns = [VectorData(name="stimulus", description="Stimulus id.", data=list(STIMULI))]
    for label, values in labels.items():
        period = 180.0 if label == "rotation_x" else 0.0
        columns.append(
            StimulusLabel(name=label, description=f"Label {label}.", data=values, label=label, period=period)
        )
    return StimulusLabelsTable(
        name=name, description="Labels.", columns=columns, colnames=[c.name for c in columns]
    )


def mock_AnalysisTable(*, name: str = "spread", analysis: str = "spread", seed: int = 0) -> AnalysisTable:
    """Return the table of an analysis: one number per group."""
    structure = {
        "dims": ["group"],
        "shape": [len(GROUPS)],
        "coordinates": [],
        "names": {"group": "group", "spread": "spread"},
        "attributes": {},
    }
    columns = [
        VectorData(name="group", description="Latent group.", data=list(GROUPS)),
        VectorData(
            name="spread", description="A number.", data=np.random.default_rng(seed).random(len(GROUPS))
        ),
    ]
    return AnalysisTable(
        name=name,
        description="A further analysis.",
        columns=columns,
        colnames=["group", "spread"],
        analysis=analysis,
        structure=json.dumps(structure),
    )


def mock_FurtherAnalyses(*, name: str = "analyses") -> FurtherAnalyses:
    """Return a group with the table of one analysis."""
    return FurtherAnalyses(name=name, analysis_tables=[mock_AnalysisTable()])


def mock_gallery(edits: Any, *, name: str = "gallery") -> Images:
    """Return images of the rows of a table of edits, in order."""
    images = [
        GrayscaleImage(name=f"{i:06d}", data=pixels, description=f"Edit {i}.")
        for i, pixels in enumerate(edits["image"].data)
    ]
    gallery = Images(name=name, images=images, description="Edits for viewers.")
    gallery.order_of_images = ImageReferences(name="order_of_images", data=images)
    return gallery


def mock_MigvisRun(*, name: str = "migvis", seed: int = 0, **parts: Any) -> MigvisRun:
    """Return a run with every part, or with those given instead; a part that is None is absent."""
    made = {own: mock_table(kind, seed=seed) for kind, own in _NAMES.items()}
    made |= {"model": mock_MigvisModel(), "stimulus_labels": mock_StimulusLabelsTable()}
    made |= {"gallery": mock_gallery(made["synthesized_images"]), "analyses": mock_FurtherAnalyses()}
    chosen = {key: value for key, value in {**made, **parts}.items() if value is not None}
    return MigvisRun(name=name, description="A run for tests.", **chosen)


_NAMES = {
    "LatentGroupsTable": "latent_groups",
    "StimulusLatentsTable": "stimulus_latents",
    "UnitLoadingsTable": "unit_loadings",
    "SynthesizedImagesTable": "synthesized_images",
    "SelectivityTable": "selectivity",
    "ReaderScoresTable": "reader_scores",
    "SelectivityIndexTable": "selectivity_index",
    "DecodingTable": "decoding",
    "LabelDecodingTable": "label_decoding",
}
"""Tables of a run by type."""


def _required(type_name: str, rng: np.random.Generator) -> dict[str, Any]:
    """Return values for the required columns of a table."""
    n_latents, n = 2 * len(GROUPS), len(STIMULI)
    if type_name in _AXES:
        axes = np.meshgrid(*(_VALUES[axis] for axis in _AXES[type_name]), indexing="ij")
        data: dict[str, Any] = {
            axis: values.ravel().tolist() for axis, values in zip(_AXES[type_name], axes, strict=True)
        }
        n_rows = axes[0].size
    else:
        data, n_rows = _special(type_name, n_latents, n, rng)
    for column in types.column_specs(type_name).values():
        if column.required and column.name not in data:
            data[column.name] = rng.random(n_rows)
    return data


def _special(type_name: str, n_latents: int, n: int, rng: np.random.Generator) -> tuple[dict[str, Any], int]:
    """Return the columns that are more than a number per row, and the number of rows."""
    if type_name == "LatentGroupsTable":
        first = 2 * np.arange(len(GROUPS))
        supervised = ["rotation_x", "category", ""]
        data = {"group": list(GROUPS), "first": first, "size": np.full(3, 2), "supervised_by": supervised}
        return data, len(GROUPS)
    if type_name == "StimulusLatentsTable":
        latents = {name: rng.standard_normal((n, n_latents), np.float32) for name in ("mean", "log_var")}
        split = ["train", "train", "validation", "test"]
        return latents | {"stimulus": list(STIMULI), "split": split, "n_presentations": np.full(n, 4)}, n
    if type_name == "UnitLoadingsTable":
        loading = rng.standard_normal((len(UNITS), n_latents), np.float32)
        return {"unit": np.array(UNITS), "loading": loading}, len(UNITS)
    edits = {
        "group": list(GROUPS),
        "source": list(STIMULI[:3]),
        "target": [*STIMULI[1:3], ""],
        "method": ["pmi"] * 3,
        "role": ["main", "main", "traversal"],
        "direction": ["", "", "ones"],
        "seed": np.arange(3),
        "strength": np.full(3, 0.9),
        "image": rng.integers(0, 256, (3, 8, 10), dtype=np.uint8),
    }
    return edits, len(GROUPS)
