"""Write the file that every later version must read: run once, with the released version, and never again.

    python tests/data/write_frozen.py tests/data/frozen_0_1_0.nwb

The file holds a simulated session and two runs side by side: "migvis" with every table, maps, controls,
directions and further edits, "second" with other groups and a prior that is not conditional. Beside it, a
JSON file keeps digests of the arrays that `read_results` returned on the day.
"""

from __future__ import annotations

import hashlib
import json
import sys
import tempfile
from pathlib import Path

import numpy as np

from nwb_migvis import Config, read_results, run, simulate_session, synthesize_more
from nwb_migvis.config import METHODS

UNITS = {"pose": 3, "category": 3, "content": 1, "mixed": 1}
SETTINGS = {
    "n_threads": 1,
    "latents": {
        "n_steps": 30,
        "n_hidden": 8,
        "circular": {"rotation_z": 360.0},
        "groups": [
            {"name": "pose", "size": 3, "labels": ["rotation_x", "rotation_z", "position_x"]},
            {"name": "category", "size": 3, "labels": ["category"]},
            {"name": "free_1", "size": 2},
        ],
    },
    "prior": {"size_px": 12, "channels": [8, 8], "n_steps": 4, "batch_size": 8},
    "critic": {"channels": [8, 8], "n_steps": 10, "batch_size": 16, "n_negatives": 16},
    "synthesis": {
        "n_steps": 3,
        "n_pairs": 4,
        "n_dose": 1,
        "n_traversal": 1,
        "dose": [0.5, 0.9],
        "gammas": [1.0],
        "methods": list(METHODS),
        "directions": ["ones", "pc1", "position_x"],
        "maps": True,
        "n_samples": 4,
        "batch_size": 8,
        "guidance_rescale": 0.5,
    },
    "evidence": {
        "n_permutations": 19,
        "n_bootstrap": 19,
        "reader_steps": 5,
        "min_reader_score": -1e9,
        "stability_seeds": 1,
        "information_draws": 2,
    },
}
SECOND = {
    "n_threads": 1,
    "latents": {
        "n_steps": 10,
        "n_hidden": 8,
        "groups": [{"name": "category", "size": 2, "labels": ["category"]}, {"name": "free", "size": 1}],
    },
    "prior": {"size_px": 12, "channels": [8, 8], "n_steps": 2, "batch_size": 8, "conditional": False},
    "critic": {"channels": [8, 8], "n_steps": 4, "batch_size": 16, "n_negatives": 16},
    "synthesis": {
        "n_steps": 2,
        "n_pairs": 2,
        "n_dose": 0,
        "n_traversal": 0,
        "condition": 0.0,
        "adherence": 0.0,
        "n_samples": 0,
        "batch_size": 8,
    },
    "evidence": {"n_permutations": 9, "n_bootstrap": 9, "reader_steps": 2},
}


def digest(values: np.ndarray) -> str:
    """Return a digest of an array's shape and values; text by its characters."""
    values = np.asarray(values)
    text = values.dtype.kind not in "biuf"
    data = "\0".join(map(str, values.ravel())).encode() if text else np.ascontiguousarray(values).tobytes()
    kind = "text" if text else values.dtype.str
    return hashlib.sha256(f"{kind}{values.shape}".encode() + data).hexdigest()[:16]


def digests(path: Path, name: str) -> dict[str, str]:
    """Return digests of every array of a run as `read_results` gives it."""
    results = read_results(path, name)
    found = {f"groups/{key}": digest(results.groups[key].to_numpy()) for key in results.groups}
    for table in ("latents", "units", "synthesized", "selectivity", "decoding"):
        arrays = getattr(results, table).variables
        found |= {f"{table}/{key}": digest(array.values) for key, array in arrays.items()}
    return found


def write(path: Path) -> None:
    """Write the file and the digests beside it."""
    with tempfile.TemporaryDirectory() as folder:
        session = simulate_session(
            Path(folder) / "session.nwb", seed=3, n_stimuli=100, n_repeats=4, size_px=12, units=UNITS
        )
        run(session, out=path, config=Config.from_dict(SETTINGS))
    synthesize_more(path, group="pose", n=2, in_place=True, name="migvis")
    path.with_name(f"{path.name}.bak").unlink()
    run(path, in_place=True, name="second", config=Config.from_dict(SECOND))
    path.with_name(f"{path.name}.bak").unlink()
    found = {name: digests(path, name) for name in ("migvis", "second")}
    path.with_suffix(".json").write_text(json.dumps(found, indent=1, sort_keys=True) + "\n")


if __name__ == "__main__":
    write(Path(sys.argv[1]))
