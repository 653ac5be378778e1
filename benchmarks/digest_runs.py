"""Digests of every array that four tiny runs make, to show that a change of the code changes no result.

    python benchmarks/digest_runs.py before.json        # with the code as it was
    python benchmarks/digest_runs.py after.json         # with the code as it is now, on the same machine
    python benchmarks/digest_runs.py --compare before.json after.json

The runs are one session (with every control, directions, maps, a stability fit and further edits), two
sessions that share their images, units sorted with SpikeInterface, and a session without pixels. Digests
hold for one machine and one set of library versions; settings are left out of them, so that a setting may
get another name.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from nwb_migvis import Config, Results, read_results, read_session, run, simulate_session, synthesize_more
from nwb_migvis.cli import main
from nwb_migvis.config import METHODS, GroupConfig

UNITS = {"pose": 8, "category": 8, "content": 4, "mixed": 4}
TINY = {
    "n_threads": 1,
    "latents": {"n_steps": 60, "n_hidden": 32},
    "prior": {"size_px": 16, "channels": (8, 16), "n_steps": 4, "batch_size": 8},
    "critic": {"channels": (8, 8), "n_steps": 10, "batch_size": 16, "n_negatives": 16},
    "synthesis": {"n_steps": 3, "n_pairs": 10, "n_dose": 2, "n_traversal": 2, "dose": (0.5, 0.9)},
    "evidence": {
        "n_permutations": 19,
        "n_bootstrap": 19,
        "reader_steps": 5,
        "min_reader_score": -1e9,
        "stability_seeds": 0,
    },
}
METADATA = """
[session]
identifier = "sorted"
session_description = "Sorted units."
session_start_time = 2026-01-31T09:30:00+01:00
[subject]
subject_id = "monkey"
species = "Macaca mulatta"
sex = "F"
age = "P8Y"
[device]
name = "array"
[electrodes]
location = "IT"
"""


def array_digest(values: np.ndarray) -> str:
    """Return a digest of an array's type, shape and values."""
    values = np.asarray(values)
    if values.dtype.kind in "OUTS" or "string" in str(values.dtype).lower():
        data = "\0".join(map(str, values.ravel())).encode()
        kind = "text"
    else:
        data, kind = np.ascontiguousarray(values).tobytes(), str(values.dtype)
    return hashlib.sha256(f"{kind} {values.shape}\n".encode() + data).hexdigest()[:16]


def results_digests(results: Results) -> dict[str, str]:
    """Return a digest for every array of results, for their weights and for what the provenance measured."""
    found = {f"groups/{name}": array_digest(results.groups[name].to_numpy()) for name in results.groups}
    for table in ("latents", "units", "synthesized", "selectivity", "decoding"):
        dataset: xr.Dataset = getattr(results, table)
        found |= {f"{table}/{name}": array_digest(array.values) for name, array in dataset.variables.items()}
    for key in ("weights", "seeds", "n_units_left_out", "notes", "appearance", "shared_with"):
        text = json.dumps(results.provenance.get(key), sort_keys=True, default=str)
        found[f"provenance/{key}"] = hashlib.sha256(text.encode()).hexdigest()[:16]
    return found


def one_session(folder: Path) -> list[Results]:
    """Run on one session with everything that can be asked for, and add edits to its file."""
    path = simulate_session(
        folder / "session.nwb", seed=1, n_stimuli=120, n_repeats=4, size_px=16, units=UNITS
    )
    config = Config.from_dict(TINY)
    synthesis = replace(
        config.synthesis,
        methods=METHODS,
        maps=True,
        guidance_rescale=0.7,
        directions=("ones", "pc1", "size", f"category={_a_category(path)}"),
    )
    evidence = replace(config.evidence, stability_seeds=1)
    config = replace(config, synthesis=synthesis, evidence=evidence, latents=_groups(config))
    results = run(path, out=folder / "one.nwb", config=config)
    stimulus = results.synthesized["source"].values[0]
    further = synthesize_more(
        folder / "one.nwb",
        group=["pose", "free_1"],
        source=str(stimulus),
        n=2,
        strength=(0.5, 0.9),
        out=folder / "more.nwb",
    )
    moved = synthesize_more(
        folder / "one.nwb", group="pose", gamma=(1.0,), direction=("pc1", "size"), out=folder / "moved.nwb"
    )
    return [results, further, moved]


def _groups(config: Config):
    pose = ("rotation_x", "rotation_y", "rotation_z", "position_x", "position_y", "size")
    groups = (
        GroupConfig(name="pose", labels=pose),
        GroupConfig(name="category", labels=("category",)),
        GroupConfig(name="free_1", size=4),
    )
    return replace(config.latents, groups=groups, circular={"rotation_z": 360.0})


def _a_category(path: Path) -> str:
    return str(read_session(path)["category"].values[0])


def two_sessions(folder: Path) -> list[Results]:
    """Run on two sessions with the same images and different units, one latent space."""
    first = simulate_session(folder / "a.nwb", seed=1, n_stimuli=120, n_repeats=4, size_px=16, units=UNITS)
    second = Path(shutil.copy(first, folder / "b.nwb"))
    with h5py.File(second, "r+") as file:
        units = file["units"]
        ends = units["spike_times_index"][()]
        trains = np.split(units["spike_times"][()], ends[:-1])[::-1]
        units["spike_times"][...] = np.concatenate(trains)
        units["spike_times_index"][...] = np.cumsum([len(train) for train in trains])
        file["identifier"][()] = "another session"
    config = Config.from_dict(TINY | {"evidence": TINY["evidence"] | {"stability_seeds": 1}})
    return list(run([first, second], config=config))


def sorted_units(folder: Path) -> list[Results]:
    """Run on units sorted with SpikeInterface, through the command line."""
    from spikeinterface.core import generate_ground_truth_recording

    n_stimuli, n_repeats = 60, 4
    rng = np.random.default_rng(0)
    _, sorting = generate_ground_truth_recording(durations=[60.0], num_units=6, num_channels=4, seed=0)
    sorting.save(folder=folder / "sorting")
    shown = rng.permutation(np.tile(np.arange(n_stimuli), n_repeats))
    table = pd.DataFrame({"start_time": 0.2 + 0.2 * np.arange(len(shown))})
    table["stimulus"] = [f"im{k:02d}" for k in shown]
    table["category"] = ["xy"[k % 2] for k in shown]
    table.to_csv(folder / "presentations.csv", index=False)
    (folder / "images").mkdir()
    for k in range(n_stimuli):
        pixels = rng.integers(0, 256, (16, 16), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"im{k:02d}.png")
    (folder / "meta.toml").write_text(METADATA)
    latents = {
        "groups": [{"name": "category", "size": 2, "labels": ["category"]}, {"name": "free", "size": 2}]
    }
    config = Config.from_dict(TINY | {"latents": TINY["latents"] | latents})
    (folder / "tiny.toml").write_text(config.to_toml())
    words = {
        "--presentations": folder / "presentations.csv",
        "--images": folder / "images",
        "--metadata": folder / "meta.toml",
        "--config": folder / "tiny.toml",
        "--out": folder / "sorted.nwb",
    }
    try:
        main(
            [
                "run",
                "--no-report",
                str(folder / "sorting"),
                *(str(part) for pair in words.items() for part in pair),
            ]
        )
    except SystemExit as stopped:
        if stopped.code:
            raise
    return [read_results(folder / "sorted.nwb")]


def without_pixels(folder: Path) -> list[Results]:
    """Run on a session that holds no pixels, with a Gaussian likelihood."""
    path = simulate_session(folder / "bare.nwb", seed=2, n_stimuli=120, n_repeats=4, size_px=8, units=UNITS)
    with h5py.File(path, "r+") as file:
        del file["stimulus/presentation/presentations"]
        del file["stimulus/templates/images"]
    config = Config.from_dict(TINY | {"latents": TINY["latents"] | {"likelihood": "gaussian"}})
    return [run(path, config=config, stimulus="stimulus")]


RUNS = {
    "one session": one_session,
    "two sessions": two_sessions,
    "sorting": sorted_units,
    "no pixels": without_pixels,
}


def digests() -> dict[str, dict[str, str]]:
    """Make the four runs and return the digests of each."""
    found = {}
    for name, make in RUNS.items():
        with tempfile.TemporaryDirectory() as folder:
            results = make(Path(folder))
        found[name] = {
            f"{i}/{key}": value
            for i, each in enumerate(results)
            for key, value in results_digests(each).items()
        }
        print(f"{name}: {len(found[name])} digests")
    return found


def compare(before: Path, after: Path) -> int:
    """Print what differs between two files of digests; return how many do. Arrays that are new do not."""
    old, new = (json.loads(path.read_text()) for path in (before, after))
    n_different, n_new = 0, 0
    for name in old.keys() | new.keys():
        was, now = old.get(name, {}), new.get(name, {})
        for key in sorted(was.keys() | now.keys()):
            if key not in was:
                n_new += 1
            elif was[key] != now.get(key):
                n_different += 1
                print(f"{name}: {key}: {was.get(key)} -> {now.get(key)}")
    print(f"{n_different} of {sum(map(len, old.values()))} digests differ; {n_new} are new")
    return n_different


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--compare", action="store_true")
    parser.add_argument("files", nargs="+", type=Path)
    given = parser.parse_args()
    if given.compare:
        raise SystemExit(bool(compare(*given.files)))
    given.files[0].write_text(json.dumps(digests(), indent=1, sort_keys=True))
