"""Results beside a large recording: time of writing, time of opening, and size without the recording.

    python benchmarks/bench_large_files.py FOLDER --mb 500
    python benchmarks/bench_large_files.py FOLDER --mb 1000 --only size

A small session gets a recording of so many bytes, noise that no filter makes smaller. Then, in turns:

- `writing`: `write_results` with 4,000 edits of 128 px, against a plain copy of the file and the same pixels
  written as one array with the same filters;
- `opening`: `NWBHDF5IO(...).read()` of source and output;
- `size`: of a file with the results alone.
"""

from __future__ import annotations

import argparse
import os
import shutil
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from pynwb import NWBHDF5IO, TimeSeries

from nwb_migvis import Results
from nwb_migvis.store import write_results

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

N_EDITS, SIZE_PX = 4000, 128
PARTS = ("writing", "opening", "size")


def large_session(path: Path, n_bytes: int) -> Path:
    """Write a session with a recording of so many bytes, int16."""
    from examples import write_session

    small = write_session(path.with_name("small.nwb"))
    rng = np.random.default_rng(0)
    data = rng.integers(-(2**15), 2**15, (n_bytes // 128, 64), dtype=np.int16)
    with NWBHDF5IO(small, "r") as reading, NWBHDF5IO(path, "w") as writing:
        nwbfile = reading.read()
        nwbfile.add_acquisition(
            TimeSeries(name="recording", data=data, unit="volts", rate=1e3, description="Noise.")
        )
        writing.export(src_io=reading, nwbfile=nwbfile)
    small.unlink()
    return path


def many_edits() -> Results:
    """Return results with 4,000 edits of 128 px, smooth as edits are."""
    from examples import example_results
    from PIL import Image

    results = example_results()
    few = results.synthesized
    rng = np.random.default_rng(1)
    coarse = rng.integers(0, 256, (N_EDITS, 16, 16), dtype=np.uint8)
    pixels = [Image.fromarray(image).resize((SIZE_PX, SIZE_PX), Image.Resampling.BICUBIC) for image in coarse]
    rows = few.isel(edit=np.arange(N_EDITS) % few.sizes["edit"])
    image = xr.DataArray(np.stack([np.asarray(p) for p in pixels]), dims=("edit", "y", "x"))
    return replace(results, synthesized=rows.drop_vars(list(rows.data_vars)).assign(image=image))


def write_array(path: Path, pixels: np.ndarray) -> None:
    """Write pixels as one array, filtered as in our files: one image per chunk, gzip 4, shuffle."""
    with h5py.File(path, "w") as file:
        filters = {"chunks": (1, *pixels.shape[1:]), "compression": "gzip", "compression_opts": 4}
        file.create_dataset("image", data=pixels, shuffle=True, **filters)
    _sync(path)


def copy(source: Path, path: Path) -> None:
    """Copy a file, and wait until it is on the disk."""
    shutil.copyfile(source, path)
    _sync(path)


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    os.fsync(descriptor)
    os.close(descriptor)


def seconds_of(function: Callable[[], object]) -> float:
    """Return the time that a call takes."""
    start = time.perf_counter()
    function()
    return time.perf_counter() - start


def open_file(path: Path) -> None:
    """Read a file as pynwb does: all objects, no data."""
    with NWBHDF5IO(path, "r") as io:
        io.read()


def time_writing(source: Path, results: Results, n: int) -> Path:
    """Print the times of copying, of writing pixels and of writing results; return the output."""
    folder, pixels = source.parent, results.synthesized["image"].values
    times: dict[str, list[float]] = {"copy": [], "pixels": [], "results": []}
    out = folder / "out.nwb"
    for _ in range(n):
        out.unlink(missing_ok=True)
        times["copy"].append(seconds_of(lambda: copy(source, folder / "copy.nwb")))
        times["pixels"].append(seconds_of(lambda: write_array(folder / "pixels.h5", pixels)))
        times["results"].append(seconds_of(lambda: write_results(results, source=source, out=out)))
        for name in ("copy.nwb", "pixels.h5"):
            (folder / name).unlink()
    least = {name: min(values) for name, values in times.items()}
    allowed = 2 * least["copy"] + least["pixels"]
    print("writing:", ", ".join(f"{name} {value:.2f} s" for name, value in least.items()))
    print(f"  results / (2 x copy + pixels) = {least['results'] / allowed:.2f}", flush=True)
    return out


def time_opening(source: Path, out: Path, n: int) -> None:
    """Print the times of opening source and output."""
    before, after = [], []
    for _ in range(n):
        before.append(seconds_of(lambda: open_file(source)))
        after.append(seconds_of(lambda: open_file(out)))
    print(f"opening: source {min(before):.3f} s, output {min(after):.3f} s (least of {n})")
    print(f"  median of the differences {statistics.median(np.subtract(after, before)):.3f} s", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--mb", type=int, default=500)
    parser.add_argument("--n", type=int, default=3, help="repeats")
    parser.add_argument("--only", nargs="+", choices=PARTS, default=PARTS)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    source = large_session(options.folder / "large.nwb", options.mb * 10**6)
    results = many_edits()
    print(f"{source.stat().st_size / 1e6:.0f} MB, {N_EDITS} edits of {SIZE_PX} px", flush=True)
    if "size" in options.only:
        alone = write_results(results, source=source, out=source.with_name("alone.nwb"), results_only=True)
        print(f"size: {alone.stat().st_size / 1e6:.2f} MB without the recording", flush=True)
    if {"writing", "opening"} & {*options.only}:
        out = time_writing(source, results, options.n)
        time_opening(source, out, 5 * options.n)


if __name__ == "__main__":
    main()
