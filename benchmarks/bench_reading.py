"""How fast sessions are read, beside what else there is; prints ratios.

    OMP_NUM_THREADS=1 python benchmarks/bench_reading.py [--scale 1.0] [--skip-session]

Counting: 172,800 presentations x 168 units x 6e7 spikes (times `--scale` in presentations and spikes) against
pynapple, where it is installed, and a loop over units with `searchsorted`; all three must agree. Memory: peak
of a process that counts from an HDF5 file, beyond its imports, against the output. Session: a file of 5,760
images of 256 px, read without touching pixels, against `NWBHDF5IO.read()` plus the counting.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

N_PRESENTATIONS, N_UNITS, N_SPIKES = 172_800, 168, 60_000_000
N_IMAGES, SIZE_PX = 5760, 256
WINDOW_S = (0.07, 0.17)
REPEATS = 3


def timed(function: Callable[[], Any], *, repeats: int = 1) -> tuple[float, Any]:
    """Return the least time of some calls, seconds, and what the function returns."""
    (wall_s, _), found = timed_twice(function, repeats=repeats)
    return wall_s, found


def timed_twice(function: Callable[[], Any], *, repeats: int = 1) -> tuple[np.ndarray, Any]:
    """Return the least wall time and the least CPU time of some calls, seconds, and what is returned."""
    times = []
    for _ in range(repeats):
        begin = np.array([time.perf_counter(), time.process_time()])
        found = function()
        times.append(np.array([time.perf_counter(), time.process_time()]) - begin)
    return np.min(times, axis=0), found


def make_spikes(
    n_presentations: int, n_units: int, n_spikes: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return sorted spike times of all units, where each train ends, and starts about 0.2 s apart."""
    rng = np.random.default_rng(0)
    start_time = 10 + np.cumsum(rng.uniform(0.19, 0.21, n_presentations))
    sizes = rng.multinomial(n_spikes, rng.dirichlet(np.full(n_units, 4.0)))
    ends = np.cumsum(sizes)
    times = rng.uniform(0, start_time[-1] + 10, n_spikes)
    for first, last in zip(ends - sizes, ends, strict=True):
        times[first:last].sort()
    return times, ends, start_time


def by_loop(times: np.ndarray, ends: np.ndarray, start_time: np.ndarray) -> np.ndarray:
    """Count with `searchsorted` of the window edges in each train."""
    counts = np.empty((len(start_time), len(ends)), np.uint16)
    for j, train in enumerate(np.split(times, ends[:-1])):
        last = np.searchsorted(train, start_time + WINDOW_S[1], "left")
        counts[:, j] = last - np.searchsorted(train, start_time + WINDOW_S[0], "left")
    return counts


def by_pynapple(
    times: np.ndarray, ends: np.ndarray, start_time: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return pynapple's wall and CPU times to build its objects and to count, seconds, and its counts."""
    import pynapple as nap

    support = nap.IntervalSet(times.min() - 1, times.max() + 1)

    def build(k: int, n: int) -> tuple[Any, Any]:
        trains = {i: nap.Ts(train) for i, train in enumerate(np.split(times, ends[:-1])[:k])}
        windows = nap.IntervalSet(start_time[:n] + WINDOW_S[0], start_time[:n] + WINDOW_S[1])
        return nap.TsGroup(trains, time_support=support), windows

    group, windows = build(2, 100)
    group.count(ep=windows)  # compiles
    build_s, (group, windows) = timed_twice(lambda: build(len(ends), len(start_time)), repeats=REPEATS)
    count_s, counts = timed_twice(lambda: group.count(ep=windows), repeats=REPEATS)
    return build_s, count_s, np.asarray(counts.values)


def bench_counting(scale: float) -> None:
    """Print the time of counting, ours and others'."""
    from nwb_migvis.read import count_spikes

    n_presentations, n_spikes = int(N_PRESENTATIONS * scale), int(N_SPIKES * scale)
    times, ends, start_time = make_spikes(n_presentations, N_UNITS, n_spikes)
    print(f"counting {n_presentations} presentations x {N_UNITS} units x {n_spikes} spikes")
    ours_s, ours = timed_twice(
        lambda: count_spikes(times, ends, start_time, window_s=WINDOW_S), repeats=REPEATS
    )
    print("                                   wall  ratio     CPU  ratio")
    say("count_spikes", ours_s, ours_s)
    loop_s, loop = timed_twice(lambda: by_loop(times, ends, start_time), repeats=REPEATS)
    assert np.array_equal(ours, loop)
    say("loop of searchsorted", loop_s, ours_s)
    try:
        build_s, count_s, theirs = by_pynapple(times, ends, start_time)
    except ImportError:
        print("  pynapple is not installed")
        return
    assert np.array_equal(ours, theirs)
    say("pynapple, objects and count", build_s + count_s, ours_s)
    say("pynapple, count alone", count_s, ours_s)


def say(what: str, times_s: np.ndarray, ours_s: np.ndarray) -> None:
    """Print wall and CPU time beside their ratios to ours."""
    (wall_s, cpu_s), (wall, cpu) = times_s, times_s / ours_s
    print(f"  {what:<29} {wall_s:6.2f} s {wall:6.1f} {cpu_s:6.2f} s {cpu:6.1f}", flush=True)


MEMORY_CHILD = """
import json, sys
from pathlib import Path
import h5py
from nwb_migvis.read import count_spikes
def kilobytes(name):
    return int(Path("/proc/self/status").read_text().split(name)[1].split()[0])
with h5py.File(sys.argv[1]) as file:
    ends, start_time = file["ends"][:], file["start_time"][:]
    before = kilobytes("VmRSS:")
    counts = count_spikes(file["times"], ends, start_time)
print(json.dumps([(kilobytes("VmHWM:") - before) * 1024, counts.nbytes]))
"""


def bench_memory(scale: float) -> None:
    """Print the peak memory of counting from a file, in a process of its own."""
    times, ends, start_time = make_spikes(int(N_PRESENTATIONS * scale), N_UNITS, int(N_SPIKES * scale))
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "spikes.h5"
        with h5py.File(path, "w") as file:
            file["times"], file["ends"], file["start_time"] = times, ends, start_time
        del times
        done = subprocess.run(
            [sys.executable, "-c", MEMORY_CHILD, path], capture_output=True, text=True, check=True
        )
    peak, output = json.loads(done.stdout)
    print(f"memory of counting from a file: peak {peak / 1e6:.0f} MB, output {output / 1e6:.0f} MB,", end=" ")
    print(f"beyond the output {(peak - output) / 1e6:.0f} MB")


def write_session(path: Path) -> None:
    """Write a session of 5,760 images, 172,800 presentations with labels, and 168 units of 6e6 spikes."""
    from hdmf.common import VectorData, VectorIndex
    from pynwb import NWBHDF5IO, NWBFile
    from pynwb.base import ImageReferences, Images
    from pynwb.epoch import TimeIntervals
    from pynwb.image import GrayscaleImage, IndexSeries
    from pynwb.misc import Units

    rng = np.random.default_rng(1)
    times, ends, start_time = make_spikes(N_PRESENTATIONS, N_UNITS, N_SPIKES // 10)
    spikes = VectorData(name="spike_times", description="s", data=times)
    index = VectorIndex(name="spike_times_index", data=ends, target=spikes)
    nwb = NWBFile("benchmark", "benchmark", datetime(2026, 1, 1, tzinfo=UTC))
    nwb.units = Units(name="units", description="units", columns=[spikes, index], id=list(range(N_UNITS)))
    pixels = rng.integers(0, 256, (SIZE_PX, SIZE_PX), dtype=np.uint8)
    items = [GrayscaleImage(name=f"image{k:04d}", data=np.roll(pixels, k)) for k in range(N_IMAGES)]
    order = ImageReferences(name="order_of_images", data=items)
    images = Images(name="images", images=items, order_of_images=order)
    nwb.add_stimulus_template(images)
    shown = rng.permutation(np.arange(N_PRESENTATIONS) % N_IMAGES)
    nwb.add_stimulus(
        IndexSeries(
            name="shown",
            data=shown.astype(np.uint32),
            indexed_images=images,
            unit="N/A",
            timestamps=start_time,
        )
    )
    columns = {
        "start_time": start_time,
        "stop_time": start_time + 0.1,
        "image_name": np.array([item.name for item in items], object)[shown],
        "category": np.array(list("abcdefgh"), object)[shown % 8],
        "rotation": rng.uniform(-90, 90, N_IMAGES)[shown],
    }
    vectors = [VectorData(name=name, description=name, data=data) for name, data in columns.items()]
    nwb.trials = TimeIntervals(
        name="trials", description="trials", columns=vectors, id=np.arange(N_PRESENTATIONS)
    )
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)


def bytes_read() -> int:
    """Return how many bytes this process has read from files, where the system tells (Linux)."""
    status = Path("/proc/self/io")
    if not status.is_file():
        return 0
    return int(status.read_text().split("rchar:")[1].split()[0])


def bench_session() -> None:
    """Print the time of reading a session without its pixels."""
    from pynwb import NWBHDF5IO

    from nwb_migvis.read import count_spikes, read_session

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.nwb"
        write_session(path)
        pixel_bytes = N_IMAGES * SIZE_PX**2

        def read_only() -> None:
            with NWBHDF5IO(path, "r") as io:
                io.read()

        def count_only() -> np.ndarray:
            with h5py.File(path, "r") as file:
                ends, start_time = file["units/spike_times_index"][:], file["intervals/trials/start_time"][:]
                return count_spikes(file["units/spike_times"], ends, start_time, window_s=WINDOW_S)

        read_session(path)  # imports, caches
        read_s, _ = timed(read_only, repeats=3)
        count_s, counts = timed(count_only, repeats=3)
        before = bytes_read()
        session_s, session = timed(lambda: read_session(path, window_s=WINDOW_S))
        n_bytes = bytes_read() - before
        session_s = min(session_s, timed(lambda: read_session(path, window_s=WINDOW_S), repeats=2)[0])
        assert np.array_equal(session["spike_count"], counts)
        print(f"session of {N_IMAGES} images of {SIZE_PX} px, {path.stat().st_size / 1e6:.0f} MB")
        print(f"  io.read() {read_s:.2f} s + counting {count_s:.2f} s = {read_s + count_s:.2f} s")
        print(f"  read_session {session_s:.2f} s   ratio {session_s / (read_s + count_s):.2f}")
        print(f"  bytes read {n_bytes / 1e6:.0f} MB; the pixels are {pixel_bytes / 1e6:.0f} MB")
        image_s, _ = timed(lambda: session["image"][:64].load())
        print(f"  then 64 images {image_s:.3f} s")


def main() -> None:
    """Run the benchmarks."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--scale", type=float, default=1.0)
    parser.add_argument("--skip-session", action="store_true")
    parser.add_argument("--only-session", action="store_true")
    asked = parser.parse_args()
    if not asked.only_session:
        bench_counting(asked.scale)
        bench_memory(asked.scale)
    if not asked.skip_session:
        bench_session()


if __name__ == "__main__":
    main()
