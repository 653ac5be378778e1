"""Edits of two real V4 sessions by the preset `quick`, judged by responses that an encoding model predicts.

    OMP_NUM_THREADS=1 python benchmarks/bench_real_edits.py --data ../shared/data --session hvm
    OMP_NUM_THREADS=1 python benchmarks/bench_real_edits.py --data ../shared/data --session natural --out DIR

`hvm`: 640 photographs of 8 objects on backgrounds, 50 units; groups `object` and two free ones. `natural`:
1,200 colour photographs, 89 units; three free groups. Printed for each method: transfer of the edited group's
latents by group, the mean of the others', and how much of the others' is kept; then the same judged by edge
energy, in which no network for photographs had a part; contrast and edges of the edits beside those of the
shown images. With --out the first edits are drawn, uncurated: source, edit and target, three rows per group.
"""

from __future__ import annotations

import argparse
import io
import runpy
import sys
import tempfile
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr
from PIL import Image

from nwb_migvis import Config, Results, read_session
from nwb_migvis.analysis import Study
from nwb_migvis.config import GroupConfig, LatentsConfig
from nwb_migvis.read.recorded import small_images

N_DRAWN = 12


def hvm(data: Path, folder: Path) -> tuple[xr.Dataset, tuple[GroupConfig, ...]]:
    """Return the session of objects, and its groups."""
    arrays = np.load(data / "v4_hvm" / "session_210325.npz")
    session = read_session(data / "nwb_dicarlo_layout" / "session_with_images.nwb")
    rows = [int(name.removeprefix("im").removesuffix(".png")) for name in session["stimulus"].values]
    session = session.assign_coords(object=("stimulus", arrays["object"][rows].astype(object)))
    return session, (GroupConfig(name="object", labels=("object",)), *free_groups(2))


def natural(data: Path, folder: Path) -> tuple[xr.Dataset, tuple[GroupConfig, ...]]:
    """Return the session of colour photographs, and its groups."""
    path, images, given = folder / "natural.nwb", folder / "images", sys.argv
    sys.argv = ["build_session.py", str(path)]
    runpy.run_path(str(data / "v4_natural" / "build_session.py"))
    sys.argv = given
    images.mkdir()
    with zipfile.ZipFile(data / "v4_natural" / "images_201025.zip") as archive:
        for name in archive.namelist():
            if name.endswith((".jpg", ".png")):
                Image.open(io.BytesIO(archive.read(name))).save(images / Path(name).name)
    return read_session(path, images=images, window_s=(0.05, 0.15)), free_groups(3)


def free_groups(n: int) -> tuple[GroupConfig, ...]:
    return tuple(GroupConfig(name=f"free_{i}") for i in range(1, n + 1))


SESSIONS = {"hvm": hvm, "natural": natural}


def print_transfers(results: Results) -> None:
    """Print transfer and retention by method."""
    record = results.provenance["encoding"]
    reading = {group: round(of["correlation"], 2) for group, of in record["reading"].items()}
    print(f"  judged by {record['network']}, which reads {reading}")
    for method, cells in record["transfer"].items():
        own = [cells[group][group]["transfer"] for group in reading]
        others = [
            [cells[edited][of][what] for edited in reading for of in reading if of != edited]
            for what in ("transfer", "retention")
        ]
        moved, kept = (np.nanmean(np.array(values, float)) for values in others)
        by_group = ", ".join("-" if value is None else f"{value:.2f}" for value in own)
        mean = np.nanmean(np.array(own, float))
        print(f"  {method:9s} {mean:.2f} ({by_group}); others {moved:.2f}, kept {kept:.2f}", flush=True)


def print_looks(edits: xr.Dataset, shown: np.ndarray) -> None:
    """Print contrast and edges of the pairs' edits by method, in standard deviations of the shown images'."""

    def looks(images: np.ndarray) -> np.ndarray:
        x = images.astype(np.float64)
        x = x.mean(axis=-1) if x.ndim == 4 else x
        return np.stack([x.std(axis=(1, 2)), np.abs(np.diff(x, axis=2)).mean(axis=(1, 2))])

    real = looks(shown)
    edits = edits.isel(edit=np.flatnonzero(edits["role"].values == "main"))
    for method in np.unique(edits["method"].values.astype(str)):
        own = looks(edits["image"].values[edits["method"].values == method])
        contrast, edges = (own.mean(axis=1) - real.mean(axis=1)) / real.std(axis=1)
        print(f"  {method:9s} contrast {contrast:+.2f} SD, edges {edges:+.2f} SD")


def draw(edits: xr.Dataset, shown: dict[str, np.ndarray], path: Path) -> None:
    """Draw the first edits of each group by `pmi` between source and target."""
    rows = []
    for group in dict.fromkeys(edits["group"].values.astype(str).tolist()):
        chosen = (edits["group"] == group) & (edits["method"] == "pmi") & (edits["role"] == "main")
        own = edits.isel(edit=np.flatnonzero(chosen.values)[:N_DRAWN])
        ends = [[shown[str(name)] for name in own[end].values] for end in ("source", "target")]
        rows += [np.concatenate(row, axis=1) for row in (ends[0], list(own["image"].values), ends[1])]
    grid = np.concatenate(rows, axis=0)
    Image.fromarray(grid).resize((2 * grid.shape[1], 2 * grid.shape[0]), Image.Resampling.NEAREST).save(path)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--session", choices=list(SESSIONS), default="hvm")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        session, groups = SESSIONS[options.session](options.data, Path(folder))
        for seed in options.seeds:
            config = Config(seed=seed, n_threads=options.threads, latents=LatentsConfig(groups=groups))
            study, begun = Study(session, config), time.process_time()
            study.run()
            results = study.results
            print(f"{options.session}, seed {seed}: {time.process_time() - begun:.0f} s of CPU", flush=True)
            for name, verdict in results.groups["verdict"].items():
                print(f"  {name}: {verdict}")
            print_transfers(results)
            images = small_images(session["image"], config.prior.size_px)
            shown = dict(zip(session["stimulus"].values.astype(str), images, strict=True))
            print_looks(results.synthesized, images)
            if options.out is not None:
                draw(results.synthesized, shown, options.out / f"{options.session}_{seed}.png")
            by_edges = replace(study.config.evidence, encoder="edges", readers=("conv",))
            study._state.set_config(evidence=by_edges)
            study.measure()
            print_transfers(study.results)


if __name__ == "__main__":
    main()
