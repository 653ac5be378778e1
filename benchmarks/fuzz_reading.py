"""Read damaged NWB files: each must end in a clear error or a read, never in a traceback, a crash or a hang.

    python benchmarks/fuzz_reading.py --n 200 --seed 0

Half of the files are cut short, half have bits flipped. They are read one after another in a child process,
which is started anew after a crash or a hang. Exit code 1 if any file ended badly.
"""

from __future__ import annotations

import argparse
import queue
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

BAD = ("traceback", "crash", "hang")
RESTART = ("crash", "hang", "memory")
"""Endings after which the process that reads is started anew."""

START_S = 120.0
"""What its start may take, imports included."""


def damaged(whole: bytes, rng: np.random.Generator) -> bytes:
    """Return a file cut short, or with 1 to 20 bits flipped."""
    if rng.random() < 0.5:
        return whole[: rng.integers(0, len(whole))]
    data = bytearray(whole)
    for place in rng.integers(0, len(data), rng.integers(1, 21)):
        data[place] ^= 1 << int(rng.integers(0, 8))
    return bytes(data)


def make_files(folder: Path, n: int, seed: int) -> None:
    """Write damaged copies of two small sessions, with and without the schema in the file.

    The same seed gives the same bytes: object ids and the date of the file do not vary.
    """
    from layouts import SHOWN, index_series
    from pynwb import NWBHDF5IO

    ids = np.random.default_rng(seed)
    date = datetime(2026, 1, 1, tzinfo=UTC)
    with (
        mock.patch("hdmf.container.uuid4", lambda: UUID(bytes=ids.bytes(16))),
        mock.patch("pynwb.file._add_missing_timezone", lambda _: date),
    ):
        path = index_series(folder / "whole.nwb", trials={"kind": ["abba"[k] for k in SHOWN]}).path
    bare = folder / "bare.nwb"
    with NWBHDF5IO(path, "r") as source, NWBHDF5IO(bare, "w") as io:
        io.export(src_io=source, nwbfile=source.read(), cache_spec=False)
    wholes = [path.read_bytes(), bare.read_bytes()]
    for i in range(n):
        rng = np.random.default_rng([seed, i])
        (folder / f"{i}.nwb").write_bytes(damaged(wholes[i % 2], rng))


def read_all(folder: Path, first: int, n: int) -> None:
    """Read files from `first` on and print how each ended."""
    from nwb_migvis.errors import MigvisError
    from nwb_migvis.read import read_session

    for i in range(first, n):
        try:
            session = read_session(folder / f"{i}.nwb")
            session["image"].load()
            ending = "read"
        except MigvisError as error:
            ending = "traceback two lines" if "\n" in str(error) else f"error {error}"
        except Exception as error:
            ending = f"traceback {type(error).__name__}: {error}"
        print(f"{i} " + " ".join(ending.split()), flush=True)


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
            wait_s = START_S
            while len(found) < n:
                found.append(_next_ending(lines, wait_s + limit_s))
                wait_s = 0.0
                if found[-1].startswith(RESTART):
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
