"""Read damaged NWB files: each must end in a clear error or a read.

    python benchmarks/fuzz_reading.py --n 500 --seed 0

A quarter of the files are cut short, a quarter have bits flipped; in the others one to three types,
attributes, datasets, sizes or places are changed (`changed_files.py`). They are read one after another in a
child process, which is started anew after a file that ended badly: with a traceback, a crash, a hang, or more
than 2 GB of memory. Exit code 1 if any did.
"""

from __future__ import annotations

import argparse
import queue
import resource
import subprocess
import sys
import tempfile
import threading
from collections import Counter
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from unittest import mock
from uuid import UUID

import numpy as np

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).parent))

from changed_files import change

BAD = ("traceback", "crash", "hang", "memory")
MOST_BYTES = 2 * 2**30


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """Return a file cut short, or with 1 to 20 bits flipped."""
    if rng.random() < 0.5:
        return whole[: rng.integers(0, len(whole))]
    data = bytearray(whole)
    for place in rng.integers(0, len(data), rng.integers(1, 21)):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def make_files(folder: Path, n: int, seed: int) -> None:
    """Write damaged and changed copies of small sessions: two layouts, without the schema, with a run.

    The same seed gives the same bytes: object ids and the date of the file do not vary.
    """
    from nwb_migvis.testing.results import MOCK_WEIGHTS

    ids = np.random.default_rng(seed)
    date = datetime(2026, 1, 1, tzinfo=UTC)
    with (
        mock.patch("hdmf.container.uuid4", lambda: UUID(bytes=ids.bytes(16))),
        mock.patch("pynwb.file._add_missing_timezone", lambda _: date),
    ):
        paths = whole_files(folder, dict(MOCK_WEIGHTS))
    wholes = [path.read_bytes() for path in paths]
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        path, whole = folder / f"{i}.nwb", wholes[i // 2 % len(wholes)]
        path.write_bytes(damaged(whole, rng) if i % 2 else whole)
        if i % 2 == 0:
            change(path, rng)


def whole_files(folder: Path, weights: dict[str, bytes]) -> list[Path]:
    """Write the sessions that are then damaged."""
    from layouts import SHOWN, add_intervals, index_series, new_file, spike_trains, start_times, write
    from pynwb import NWBHDF5IO

    from nwb_migvis.store import write_results
    from nwb_migvis.testing.results import mock_results

    series = index_series(folder / "whole.nwb", trials={"kind": ["abba"[k] for k in SHOWN]}).path
    bare = folder / "bare.nwb"
    with NWBHDF5IO(series, "r") as source, NWBHDF5IO(bare, "w") as io:
        io.export(src_io=source, nwbfile=source.read(), cache_spec=False)
    nwb = new_file([])
    nwb.units = None
    for train in spike_trains():
        nwb.add_unit(spike_times=np.sort(train), obs_intervals=np.array([[0.0, 2.0], [2.5, 9.0]]))
    nwb.add_invalid_time_interval(1.5, 1.6)
    names = [f"im{k}" for k in SHOWN]
    add_intervals(nwb, "shows", start_times(), image_name=names, size=[float(k) for k in SHOWN])
    table = write(nwb, folder / "table.nwb")
    results = mock_results(units=np.arange(3))
    run = write_results(results, source=table, out=folder / "run.nwb", weights=weights)
    return [series, bare, table, run]


def read_all(folder: Path, first: int, n: int) -> None:
    """Read files from `first` on and print how each ended."""
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    for i in range(first, n):
        print(f"{i} " + " ".join(ending_of(folder / f"{i}.nwb").split()), flush=True)


def ending_of(path: Path) -> str:
    """Read a file by its series, and by a column of its table; say how it ended."""
    from nwb_migvis.errors import MigvisError
    from nwb_migvis.read import inspect_session, read_session

    endings = []
    for read in (
        lambda: read_session(path)["image"].load(),
        lambda: inspect_session(path, stimulus="image_name"),
    ):
        try:
            read()
            endings.append("read")
        except MigvisError as error:
            endings.append("traceback two lines" if "\n" in str(error) else f"error {error}")
            if "allocate" in str(error) or "MemoryError" in str(error):
                endings.append(f"memory {error}")
        except Exception as error:
            endings.append(f"traceback {type(error).__name__}: {error}")
    peak = 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    if peak > MOST_BYTES:
        endings.append(f"memory {peak} bytes")
    bad = [ending for ending in endings if ending.startswith(BAD)]
    return bad[0] if bad else "read" if "read" in endings else endings[0]


def endings(folder: Path, n: int, *, limit_s: float, script: str = __file__) -> list[str]:
    """Return how reading each file ended: `read`, `error ...`, `traceback ...`, `crash` or `hang`."""
    found: list[str] = []
    while len(found) < n:
        command = [sys.executable, script, "--child", str(folder)]
        command += ["--first", str(len(found)), "--n", str(n)]
        with subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True, errors="replace"
        ) as child:
            lines: queue.Queue[str | None] = queue.Queue()
            threading.Thread(target=_pass_on, args=(child.stdout, lines), daemon=True).start()
            while len(found) < n:
                found.append(_next_ending(lines, limit_s))
                if found[-1] in ("crash", "hang") or found[-1].startswith("memory"):
                    child.kill()
                    break
    return found


def _pass_on(stream: Iterable[str], lines: queue.Queue[str | None]) -> None:
    for line in stream:
        lines.put(line)
    lines.put(None)


def _next_ending(lines: queue.Queue[str | None], limit_s: float) -> str:
    try:
        line = lines.get(timeout=limit_s)
    except queue.Empty:
        return "hang"
    return "crash" if line is None else line.split(" ", 1)[1].rstrip("\n")


def main() -> int:
    """Run the fuzzer and print how many files ended how."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--n", type=int, default=200)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--limit", type=float, default=60.0, help="seconds a file may take")
    parser.add_argument("--verbose", action="store_true", help="print how each file ended")
    parser.add_argument("--child", type=Path, help=argparse.SUPPRESS)
    parser.add_argument("--first", type=int, default=0, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.child is not None:
        read_all(asked.child, asked.first, asked.n)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), asked.n, asked.seed)
        found = endings(Path(folder), asked.n, limit_s=asked.limit)
    kinds = Counter(ending.split(" ", 1)[0] for ending in found)
    print(", ".join(f"{kind}: {count}" for kind, count in sorted(kinds.items())))
    for i, ending in enumerate(found):
        if asked.verbose or ending.startswith(BAD):
            print(f"file {i} of seed {asked.seed}: {ending}")
    return int(any(kinds[kind] for kind in BAD))


if __name__ == "__main__":
    sys.exit(main())
