"""How time and peak memory grow with units, presentations, images, edits and sessions.

    OMP_NUM_THREADS=1 python benchmarks/bench_growth.py [units presentations images edits sessions] [--large]
    OMP_NUM_THREADS=1 python benchmarks/bench_growth.py --whole

Every point is a process of its own. Printed are its CPU seconds, and its peak memory beyond what was
there before. The slope of an axis is that of the log of each against the log of the size, over the last
two points, where the fixed part is least: 1 is linear. `--large` takes the sizes of a large laboratory.

- units, presentations: latents (300 steps), and drift taken out, reliability and variance explained of
  the evidence.
- images: those of a file (64 px, with `--large` 256 px too), read for the prior at 32 px.
- edits: 3 guided steps each, with a small network.
- sessions: latents of sessions that share their images, and their evidence.

`--whole` writes a session of 1,000 units, 200,000 presentations and 10,000 images of 256 px, and runs it
with few training steps: the peak memory of `run`.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

AXES = {
    "units": ((50, 200, 800), (50, 200, 800, 2000)),
    "presentations": ((10_000, 40_000, 160_000), (10_000, 100_000, 1_000_000)),
    "images": ((500, 2000, 8000), (500, 5000, 50_000)),
    "edits": ((48, 192, 768), (100, 1000, 10_000)),
    "sessions": ((1, 4, 8), (1, 5, 20)),
}
"""Sizes of each axis: those of some minutes, and large ones."""

MOST_SLOPE = 1.1

LARGER = np.ones((1, 8, 8), np.uint8)
"""Pixels of 256 px per pixel of 32 px."""


def session(n_units: int, n_presentations: int, *, n_stimuli: int = 500, seed: int = 0):
    """Return a session in memory whose counts follow a few factors of its images."""
    import xarray as xr

    rng = np.random.default_rng(seed)
    factors = np.random.default_rng(0).normal(size=(n_stimuli, 4)).astype(np.float32)
    rate = np.exp(0.3 * factors @ rng.normal(size=(4, n_units)).astype(np.float32) + 0.5)
    shown = np.concatenate([rng.permutation(n_stimuli) for _ in range(-(-n_presentations // n_stimuli))])
    shown = shown[:n_presentations]
    counts = np.empty((n_presentations, n_units), np.uint16)
    for first in range(0, n_presentations, 10_000):
        rows = slice(first, first + 10_000)
        counts[rows] = rng.poisson(rate[shown[rows]])
    data = {
        "spike_count": (("presentation", "unit"), counts),
        "stimulus_index": ("presentation", shown.astype(np.int64)),
        "start_time": ("presentation", 0.3 * np.arange(n_presentations), {"unit": "s"}),
    }
    coords = {
        "unit": np.arange(n_units),
        "unit_row": ("unit", np.arange(n_units)),
        "stimulus": np.array([f"im{i:05d}" for i in range(n_stimuli)]),
        "pose": ("stimulus", factors[:, 0].astype(np.float64)),
    }
    attrs = {"source": "", "identifier": f"s{seed}", "layout": "", "window_s": (0.07, 0.17), "dropped": {}}
    return xr.Dataset(data, coords=coords, attrs={**attrs, "n_blank": 0, "n_dropped": 0})


def small_config(**changes):
    from nwb_migvis.testing import tiny_config

    evidence = {"n_permutations": 19, "n_bootstrap": 19, "stability_seeds": 0}
    return tiny_config(latents={"n_steps": 300}, evidence=evidence, **changes)


def work_on(axis: str, size: int, size_px: int, folder: Path):
    """Return the work of a point, ready to be timed."""
    import nwb_migvis

    if axis in ("units", "presentations", "sessions"):
        n_units = size if axis == "units" else 100
        n_presentations = size if axis == "presentations" else 10_000
        several = [
            session(n_units, n_presentations, seed=i) for i in range(size if axis == "sessions" else 1)
        ]
        study = nwb_migvis.Study(several if axis == "sessions" else several[0], small_config())
        return lambda: (study.fit_latents(), study.measure())
    if axis == "images":
        import dask.array
        import h5py
        import xarray as xr

        from nwb_migvis.read.recorded import small_images

        path = folder / "images.h5"
        with h5py.File(path, "w") as file:
            shape = (size, size_px, size_px)
            pixels = file.create_dataset("images", shape, np.uint8, chunks=(16, size_px, size_px))
            rng = np.random.default_rng(0)
            for first in range(0, size, 500):
                n = min(500, size - first)
                pixels[first : first + n] = rng.integers(0, 256, (n, *shape[1:]), dtype=np.uint8)
        pieces = dask.array.from_array(h5py.File(path)["images"], chunks=(200, -1, -1))
        image = xr.DataArray(pieces, dims=("stimulus", "y", "x"))
        return lambda: small_images(image, 32)
    from nwb_migvis.testing import mock_session

    changes = {
        "synthesis": {"n_pairs": size // 4, "n_dose": 0, "n_traversal": 0, "methods": ["pmi"], "n_steps": 3}
    }
    study = nwb_migvis.Study(mock_session(n_stimuli=400, n_repeats=2), small_config(**changes))
    study.fit_latents()
    study.train_prior()
    study.train_critic()
    return study.edit


def status(name: str) -> float:
    """Return a line of this process's status in bytes."""
    return 1024.0 * int(Path("/proc/self/status").read_text().split(name)[1].split()[0])


def child(axis: str, size: int, size_px: int) -> None:
    """Do a point, and print its CPU seconds and peak bytes beyond what was there before."""
    with tempfile.TemporaryDirectory() as folder:
        work = work_on(axis, size, size_px, Path(folder))
        Path("/proc/self/clear_refs").write_text("5")  # the peak counts from here
        before, begin = status("VmRSS:"), sum(os.times()[:4])
        work()
        print(json.dumps([sum(os.times()[:4]) - begin, status("VmHWM:") - before]))


def slope(sizes: list[int], values: list[float]) -> float:
    """Return the slope of log values against log sizes over the last two points."""
    return float(np.log(values[-1] / values[-2]) / np.log(sizes[-1] / sizes[-2]))


def grow(axis: str, sizes: tuple[int, ...], size_px: int = 0) -> bool:
    """Print an axis; return whether its time is near linear."""
    print(f"{axis}{f' of {size_px} px' if size_px else ''}: CPU s, peak MB beyond what was there", flush=True)
    seconds, peaks = [], []
    for size in sizes:
        command = [sys.executable, "-W", "ignore", __file__, "--point", axis, str(size), str(size_px)]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(done.stderr)
        second, peak = json.loads(done.stdout.splitlines()[-1])
        seconds.append(second)
        peaks.append(max(peak, 1e6))
        print(f"  {size:>9,} {second:9.2f} {peak / 1e6:9.0f}", flush=True)
    of_time, of_memory = slope(list(sizes), seconds), slope(list(sizes), peaks)
    print(f"  slope     {of_time:9.2f} {of_memory:9.2f}", flush=True)
    return of_time <= MOST_SLOPE


def whole() -> None:
    """Run a session of 1,000 units, 200,000 presentations and 10,000 images of 256 px; print the peak."""
    import nwb_migvis
    from nwb_migvis.simulate.scene import Scene

    class Enlarged(Scene):
        """Renders of 32 px made larger: of 256 px they would take most of an hour."""

        def render(self, factors, *, size_px, seed):
            return np.kron(super().render(factors, size_px=32, seed=seed), LARGER)

        def masks(self, factors, *, size_px):
            return np.kron(super().masks(factors, size_px=32), LARGER.astype(bool))

    with tempfile.TemporaryDirectory() as name:
        path = Path(name) / "session.nwb"
        units = {"pose": 300, "category": 300, "content": 200, "mixed": 200}
        how = {"n_stimuli": 10_000, "n_repeats": 20, "size_px": 256, "scene": Enlarged()}
        nwb_migvis.simulate_session(path, units=units, **how)
        Path("/proc/self/clear_refs").write_text("5")
        begin = time.perf_counter()
        nwb_migvis.run(path, results_only=True, config=small_config())
        print(
            f"run: {time.perf_counter() - begin:.0f} s, peak {status('VmHWM:') / 1e9:.2f} GB (asked: below 8)"
        )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("axes", nargs="*", metavar="AXIS", help=f"of {', '.join(AXES)}; default: all")
    parser.add_argument("--large", action="store_true")
    parser.add_argument("--whole", action="store_true")
    parser.add_argument("--point", nargs=3, metavar=("AXIS", "SIZE", "PX"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.point:
        child(options.point[0], int(options.point[1]), int(options.point[2]))
    elif options.whole:
        whole()
    else:
        steep = []
        for axis in options.axes or AXES:
            for size_px in ((64, 256) if options.large else (64,)) if axis == "images" else (0,):
                if not grow(axis, AXES[axis][options.large], size_px):
                    steep.append(axis)
        if steep:
            raise SystemExit(f"steeper than {MOST_SLOPE:g}: {', '.join(steep)}")


if __name__ == "__main__":
    main()
