"""Results with every table filled, without a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from types import MappingProxyType
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.results import (
    BY_CELL,
    BY_LABEL,
    BY_METHOD,
    EDIT_COORDS,
    EDIT_MAPS,
    OPTIONAL_GROUP_COLUMNS,
    Results,
    no_decoding,
    no_edits,
    no_labels,
    no_selectivity,
)
from nwb_migvis.tensors import write_tensors

MOCK_UNITS = (3, 5, 8, 9)
MOCK_STIMULI = tuple(f"image_{i:02d}.png" for i in range(12))

_SIZES = {"pose": 3, "category": 2, "free_1": 1}
_GROUPS = tuple(_SIZES)
_PARTS = ("stability", "edits", "labels", "evidence")


def _mock_weights() -> dict[str, bytes]:
    """Return weights that have the settings and the tensors that are checked, and no others."""
    unet = {
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": [8],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"],
    }
    groups = [[name, size, []] for name, size in _SIZES.items()]
    settings: dict[str, dict[str, Any]] = {
        "vae": {
            "kind": "group VAE",
            "groups": groups,
            "n_units": len(MOCK_UNITS),
            "n_hidden": 8,
            "n_layers": 1,
            "likelihood": "poisson",
            "n_targets": [[0, []]] * 3,
        },
        "critic": {"kind": "critic", "sizes": [3, 2, 1], "channels": [8], "n_channels": 1},
        "prior": {
            "kind": "prior",
            "shape": [8, 10],
            "patch_px": 1,
            "precision": "float32",
            "predicts": "v_prediction",
            "scale": {"mean": 0.0, "std": 1.0},
            "sizes": [3, 2, 1],
            "unet": unet,
        },
    }
    shapes: dict[str, dict[str, tuple[int, ...]]] = {
        "vae": {"decoder.weight": (len(MOCK_UNITS), 6), "trunk.0.weight": (8, len(MOCK_UNITS))},
        "critic": {"mean": (6,), "std": (6,), "bank": (2, 6), "network.convolutions.0.weight": (8, 1, 3, 3)},
        "prior": {
            "alpha_bar": (10,),
            "unet.conv_in.weight": (8, 1, 3, 3),
            "unet.conv_out.weight": (1, 8, 3, 3),
            "unet.down_blocks.0.resnets.0.conv1.weight": (8, 8, 3, 3),
            "unet.time_embedding.linear_2.weight": (32, 32),
        },
    }
    return {
        name: write_tensors(
            {tensor: np.ones(shape, np.float32) for tensor, shape in shapes[name].items()},
            {"nwb-migvis": json.dumps(about)},
        )
        for name, about in settings.items()
    }


MOCK_WEIGHTS: Mapping[str, bytes] = MappingProxyType(_mock_weights())
"""Weights that `mock_results` records the digests of: settings and tensors as real ones have, and no more."""


def mock_results(
    *,
    name: str = "migvis",
    seed: int = 0,
    units: Sequence[int] | np.ndarray = MOCK_UNITS,
    stimuli: Sequence[str] = MOCK_STIMULI,
    channels: bool = False,
    maps: bool = False,
    without: Collection[str] = (),
) -> Results:
    """Return results of three groups with every attribute filled, some values NaN.

    Parameters
    ----------
    name : str
        Name of the run.
    seed : int
        Of the numbers.
    units : sequence of int
        Ids of the units.
    stimuli : sequence of str
        Ids of the stimuli, seven or more.
    channels : bool
        Whether the edits have colour.
    maps : bool
        Whether the edits have their optional maps.
    without : collection of str
        What is absent: "stability", "edits", "labels" (and what is measured of them) or "evidence" (the other
        optional columns of `Results.groups`, and `Results.decoding`).

    Raises
    ------
    MigvisError
        If `without` names anything else.
    """
    for part in without:
        if part not in _PARTS:
            raise MigvisError(f"without: found {part!r}; expected some of {', '.join(_PARTS)}")
    rng = np.random.default_rng(seed)
    groups = _mock_groups(rng, without)
    n_latents = int(groups["size"].sum())
    means = rng.standard_normal((len(stimuli), n_latents), dtype=np.float32)
    log_vars = rng.standard_normal((len(stimuli), n_latents), dtype=np.float32)
    latents = xr.Dataset(
        {"mean": (("stimulus", "latent"), means), "log_var": (("stimulus", "latent"), log_vars)},
        coords={
            "stimulus": list(stimuli),
            "split": ("stimulus", [("train", "validation", "test")[i % 3] for i in range(len(stimuli))]),
            "n_presentations": ("stimulus", rng.integers(1, 20, len(stimuli))),
            "group": ("latent", np.repeat(groups.index.to_numpy(dtype=str), groups["size"])),
        },
    )
    loadings = xr.Dataset(
        {
            "loading": (("unit", "latent"), rng.standard_normal((len(units), n_latents))),
            "r2": ("unit", rng.random(len(units))),
            "noise_ceiling": ("unit", rng.random(len(units))),
            "reliability": ("unit", np.where(np.arange(len(units)) == 1, np.nan, 0.5)),
        },
        coords={"unit": np.asarray(units)},
    )
    has_labels = "labels" not in without
    return Results(
        name=name,
        groups=groups,
        latents=latents,
        units=loadings,
        synthesized=no_edits() if "edits" in without else _mock_edits(rng, stimuli, channels, maps),
        selectivity=_mock_selectivity(rng) if has_labels else no_selectivity(),
        provenance=_mock_provenance(seed),
        decoding=_mock_decoding(rng) if has_labels and "evidence" not in without else no_decoding(),
        labels=_mock_labels(seed, stimuli) if has_labels else no_labels(),
    )


def _mock_groups(rng: np.random.Generator, without: Collection[str]) -> pd.DataFrame:
    groups = pd.DataFrame(
        {
            "first": np.array([0, 3, 5]),
            "size": np.array([3, 2, 1]),
            "supervised_by": ["rotation_x,rotation_y", "category", ""],
            "variance_explained": [0.4, np.nan, 0.01],
            "variance_explained_p": [0.001, np.nan, 0.3],
            "variance_unique": rng.random(3),
            "variance_unique_p": rng.random(3),
            "mi_bound_nats": rng.random(3),
            "mi_cap_nats": np.full(3, np.log(256)),
            "mi_p": rng.random(3),
        },
        index=pd.Index(_GROUPS, name="group"),
    )
    if "stability" not in without:
        groups["stability"] = rng.random(3)
    if "evidence" not in without:
        for column in OPTIONAL_GROUP_COLUMNS[1:-1]:
            groups[column] = [*rng.random(2), np.nan]
        groups["verdict"] = ["established", "not established", "not measured"]
    return groups


def _mock_edits(rng: np.random.Generator, stimuli: Sequence[str], channels: bool, maps: bool) -> xr.Dataset:
    """Return seven edits of 8 x 10 px: five pairs and two traversals."""
    n = 7
    shape = (n, 8, 10, 3) if channels else (n, 8, 10)
    dims = ("edit", "y", "x", "channel")[: len(shape)]
    traversal = np.arange(n) >= 5
    values = {
        "group": [_GROUPS[i % 3] for i in range(n)],
        "source": [stimuli[i] for i in range(n)],
        "target": ["" if t else stimuli[-1 - i] for i, t in enumerate(traversal)],
        "method": [("pmi", "none", "shuffled")[i % 3] for i in range(n)],
        "role": ["traversal" if t else "main" for t in traversal],
        "strength": np.full(n, 0.9),
        "guidance": np.full(n, 0.3),
        "gamma": np.where(traversal, 2.0, 0.0),
        "direction": ["ones" if t else "" for t in traversal],
        "seed": rng.integers(0, 2**40, n),
        "score_before": rng.standard_normal(n),
        "score_after": rng.standard_normal(n),
        "support": rng.uniform(0, 100, n),
    }
    data: dict[str, Any] = {"image": (dims, rng.integers(0, 256, shape, dtype=np.uint8))}
    if maps:
        data |= {name: (dims[:3], rng.random(shape[:3], dtype=np.float32)) for name in EDIT_MAPS}
    return xr.Dataset(data, coords={name: ("edit", values[name]) for name in EDIT_COORDS})


def _mock_selectivity(rng: np.random.Generator) -> xr.Dataset:
    """Return the evidence of three groups, two labels, two methods and two readers."""
    coords = {
        "group": list(_GROUPS),
        "label": ["rotation_x", "category"],
        "method": ["pmi", "none"],
        "reader": ["conv", "forest"],
    }

    def random(*dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, rng.random([len(coords[dim]) for dim in dims])

    data = {name: random("group", "label", "method", "reader") for name in BY_CELL}
    for score in ("transfer", "retention"):
        ends = ("_low", "", "_high")
        values = np.sort([data[f"{score}{end}"][1] for end in ends], axis=0)
        data |= {f"{score}{end}": (data[score][0], v) for end, v in zip(ends, values, strict=True)}
    data["p_value"][1][0, 1] = np.nan
    data["reader_score"] = random("label", "reader")
    data |= {name: random("method", "reader") for name in BY_METHOD}
    return xr.Dataset(data, coords=coords)


def _mock_decoding(rng: np.random.Generator) -> xr.Dataset:
    """Return the decoding of three labels from three groups, one label not measured."""
    both = {name: rng.random((3, 3)) for name in ("score", "chance", "p_value", "q_value")}
    each = {name: rng.random(3) for name in BY_LABEL}
    for values in both.values():
        values[:, 2] = np.nan
    data: dict[str, Any] = {
        **{name: (("group", "label"), values) for name, values in both.items()},
        **{name: (("label",), values) for name, values in each.items()},
    }
    return xr.Dataset(data, coords={"group": list(_GROUPS), "label": ["rotation_x", "category", "flat"]})


def _mock_labels(seed: int, stimuli: Sequence[str]) -> xr.Dataset:
    """Return two numbers, of which one wraps, and a category, each unknown of one stimulus."""
    rng, n = np.random.default_rng([seed, 1]), len(stimuli)
    numbers, category = rng.uniform(-90, 90, (2, n)), rng.choice(["fruit", "table"], n).astype(object)
    numbers[:, 0], category[1] = np.nan, ""
    data = {
        "rotation_x": ("stimulus", numbers[0], {"period": 180.0}),
        "rotation_y": ("stimulus", numbers[1]),
        "category": ("stimulus", category.astype(str)),
    }
    return xr.Dataset(data, coords={"stimulus": list(stimuli)})


def _mock_provenance(seed: int) -> Json:
    groups = [{"name": name, "size": size, "labels": []} for name, size in _SIZES.items()]
    return {
        "config": {"seed": seed, "latents": {"groups": groups}},
        "versions": {"nwb-migvis": "0.1.0", "numpy": np.__version__},
        "seeds": {"run": seed},
        "n_threads": 1,
        "inputs": {"session.nwb": "0" * 64},
        "weights": {name: hashlib.sha256(data).hexdigest() for name, data in MOCK_WEIGHTS.items()},
        "times": {"start": "2026-01-01T00:00:00+00:00", "synthesis_s": 1.5, "prior_s": None},
        "reading": {"layout": "Bilder für α", "window_s": [0.07, 0.17]},
    }
