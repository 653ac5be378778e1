"""Small synthetic results and sessions for tests."""

from __future__ import annotations

import hashlib
import json
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import Images
from pynwb.file import Subject
from pynwb.image import GrayscaleImage, IndexSeries

from nwb_migvis.results import (
    EDIT_COORDS,
    EDIT_MAPS,
    OPTIONAL_GROUP_COLUMNS,
    Results,
    no_decoding,
    no_edits,
    no_selectivity,
)
from nwb_migvis.store.safetensors import write_tensors

SIZES = {"pose": 3, "category": 2, "free_1": 1}


def example_weights() -> dict[str, bytes]:
    """Return weights that have the settings and the tensors that are checked, and no others."""
    unet = {
        "in_channels": 1,
        "out_channels": 1,
        "block_out_channels": [8],
        "layers_per_block": 1,
        "down_block_types": ["DownBlock2D"],
        "up_block_types": ["UpBlock2D"],
    }
    groups = [[name, size, []] for name, size in SIZES.items()]
    settings = {
        "vae": {
            "kind": "group VAE",
            "groups": groups,
            "n_units": len(UNIT_IDS),
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
    shapes = {
        "vae": {"decoder.weight": (len(UNIT_IDS), 6), "trunk.0.weight": (8, len(UNIT_IDS))},
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


UNIT_IDS = np.array([3, 5, 8, 9])
STIMULI = [f"image_{i:02d}.png" for i in range(12)]
WEIGHTS = example_weights()


def example_results(
    *,
    name: str = "migvis",
    seed: int = 0,
    units: np.ndarray = UNIT_IDS,
    stimuli: list[str] = STIMULI,
    channels: bool = False,
    maps: bool = False,
    stability: bool = True,
    edits: bool = True,
    labels: bool = True,
    evidence: bool = True,
) -> Results:
    """Return results with every attribute filled, some values NaN, from a seed."""
    rng = np.random.default_rng(seed)
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
        index=pd.Index(["pose", "category", "free_1"], name="group"),
    )
    if stability:
        groups["stability"] = rng.random(3)
    if evidence:
        for column in OPTIONAL_GROUP_COLUMNS[1:-1]:
            groups[column] = [*rng.random(2), np.nan]
        groups["verdict"] = ["established", "not established", "not measured"]
    latents = xr.Dataset(
        {
            "mean": (("stimulus", "latent"), rng.standard_normal((len(stimuli), 6), dtype=np.float32)),
            "log_var": (("stimulus", "latent"), rng.standard_normal((len(stimuli), 6), dtype=np.float32)),
        },
        coords={
            "stimulus": stimuli,
            "split": ("stimulus", [("train", "validation", "test")[i % 3] for i in range(len(stimuli))]),
            "n_presentations": ("stimulus", rng.integers(1, 20, len(stimuli))),
            "group": ("latent", np.repeat(groups.index.to_numpy(dtype=str), groups["size"])),
        },
    )
    loadings = xr.Dataset(
        {
            "loading": (("unit", "latent"), rng.standard_normal((len(units), 6))),
            "r2": ("unit", rng.random(len(units))),
            "noise_ceiling": ("unit", rng.random(len(units))),
            "reliability": ("unit", np.where(np.arange(len(units)) == 1, np.nan, 0.5)),
        },
        coords={"unit": units},
    )
    return Results(
        name=name,
        groups=groups,
        latents=latents,
        units=loadings,
        synthesized=example_edits(rng, stimuli, channels=channels, maps=maps) if edits else no_edits(),
        selectivity=example_selectivity(rng, list(groups.index)) if labels else no_selectivity(),
        provenance={
            "config": {
                "seed": seed,
                "latents": {"groups": [{"name": n, "size": k, "labels": []} for n, k in SIZES.items()]},
            },
            "versions": {"nwb-migvis": "0.1.0", "numpy": np.__version__},
            "seeds": {"run": seed},
            "n_threads": 1,
            "inputs": {"session.nwb": "0" * 64},
            "weights": {n: hashlib.sha256(w).hexdigest() for n, w in WEIGHTS.items()},
            "times": {"start": "2026-01-01T00:00:00+00:00", "synthesis_s": 1.5, "prior_s": None},
            "reading": {"layout": "Bilder für α", "window_s": [0.07, 0.17]},
        },
        decoding=example_decoding(rng, list(groups.index)) if evidence and labels else no_decoding(),
    )


def example_edits(
    rng: np.random.Generator, stimuli: list[str], *, channels: bool = False, maps: bool = False
) -> xr.Dataset:
    """Return seven edits of 8 x 10 px: five pairs and two traversals."""
    n = 7
    shape = (n, 8, 10, 3) if channels else (n, 8, 10)
    dims = ("edit", "y", "x", "channel")[: len(shape)]
    traversal = np.arange(n) >= 5
    coords = {
        "group": [("pose", "category", "free_1")[i % 3] for i in range(n)],
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
    }
    assert list(coords) == list(EDIT_COORDS)
    data = {"image": (dims, rng.integers(0, 256, shape, dtype=np.uint8))}
    if maps:
        data |= {name: (dims[:3], rng.random(shape[:3], dtype=np.float32)) for name in EDIT_MAPS}
    return xr.Dataset(data, coords={k: ("edit", v) for k, v in coords.items()})


def example_selectivity(rng: np.random.Generator, groups: list[str]) -> xr.Dataset:
    """Return the evidence of three groups, two labels, two methods and two readers."""
    coords = {
        "group": groups,
        "label": ["rotation_x", "category"],
        "method": ["pmi", "none"],
        "reader": ["conv", "forest"],
    }
    sizes = {name: len(values) for name, values in coords.items()}

    def random(*dims: str) -> tuple[tuple[str, ...], np.ndarray]:
        return dims, rng.random([sizes[d] for d in dims])

    data = {
        name: random("group", "label", "method", "reader")
        for name in (
            "transfer",
            "transfer_low",
            "transfer_high",
            "retention",
            "retention_low",
            "retention_high",
        )
    }
    data["p_value"] = random("group", "label", "method", "reader")
    data["p_value"][1][0, 1] = np.nan
    data["reader_score"] = random("label", "reader")
    data["si_transfer"] = random("method", "reader")
    data["si_strict"] = random("method", "reader")
    return xr.Dataset(data, coords=coords)


def example_decoding(rng: np.random.Generator, groups: list[str]) -> xr.Dataset:
    """Return the decoding of three labels from the groups, one of them not measured."""
    labels = ["rotation_x", "category", "flat"]
    both = {name: rng.random((len(groups), 3)) for name in ("score", "chance", "p_value", "q_value")}
    each = {name: rng.random(3) for name in ("score_all", "mig", "sap")}
    for values in both.values():
        values[:, 2] = np.nan
    return xr.Dataset(
        {
            **{name: (("group", "label"), values) for name, values in both.items()},
            **{name: (("label",), values) for name, values in each.items()},
        },
        coords={"group": groups, "label": labels},
    )


def write_session(path: Path, *, seed: int = 0) -> Path:
    """Write a session with subject, electrodes, units, images, their presentations and trials."""
    rng = np.random.default_rng(seed)
    file = NWBFile(
        session_description="Passive viewing of images.",
        identifier=f"session-{seed}",
        session_start_time=datetime(2026, 1, 1, tzinfo=UTC),
        experimenter=["Doe, Jane"],
        institution="University of Somewhere",
        experiment_description="Responses of inferior temporal cortex to images of objects.",
        keywords=["vision"],
        subject=Subject(
            subject_id="monkey", species="Macaca mulatta", sex="F", age="P8Y", description="Adult monkey."
        ),
    )
    device = file.create_device(name="array", description="Multi-electrode array.")
    shank = file.create_electrode_group(
        name="shank", description="All electrodes.", location="inferior temporal cortex", device=device
    )
    for _ in UNIT_IDS:
        file.add_electrode(location="inferior temporal cortex", group=shank)
    file.add_unit_column("quality", "Rating of the sorter.")
    for i, unit in enumerate(UNIT_IDS):
        spikes = np.sort(rng.uniform(0, 30, 200 + i))
        file.add_unit(id=unit, spike_times=spikes, electrodes=[i], quality="good")
    file.units.resolution = 1 / 30_000
    pictures = [
        GrayscaleImage(name=s, data=rng.integers(0, 256, (8, 10), dtype=np.uint8), description="An object.")
        for s in STIMULI
    ]
    images = Images(name="images", images=pictures, description="Images of objects.")
    images.order_of_images = _order(pictures)
    file.add_stimulus_template(images)
    order = np.tile(np.arange(len(STIMULI), dtype=np.uint32), 4)
    series = IndexSeries(
        name="presentations",
        data=order,
        unit="N/A",
        indexed_images=images,
        rate=2.0,
        starting_time=0.5,
        description="Which image was shown.",
    )
    file.add_stimulus(series)
    for i in range(len(order)):
        file.add_trial(start_time=0.5 + 0.5 * i, stop_time=0.8 + 0.5 * i)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def _order(pictures: list[GrayscaleImage]):
    from pynwb.base import ImageReferences

    return ImageReferences(name="order_of_images", data=pictures)
