"""Write results on disks that fill up, under kills, and two at a time: nothing is lost.

    python benchmarks/fault_sweeps.py --disks 50 --kills 50 --pairs 20
    python benchmarks/fault_sweeps.py --backend zarr        # in an environment with hdmf-zarr

`nwb-migvis recover` writes small results into a session, beside it and in place, or a Zarr folder beside it:

- on file systems of ever more bytes (a tmpfs where one can be mounted, else a limit on the size of files);
- in a process that is killed at ever later moments;
- in two processes, of which one starts ever later after the other.

Each time the source has to be whole, the output whole or absent, nothing else left, and whoever fails has to
say so in one line and end with 1. What a killed process left may be there until the next one that writes to
the folder. Exit code 1 if anything is otherwise.
"""

from __future__ import annotations

import argparse
import contextlib
import io
import os
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))

SIDECAR = "results.safetensors"
SESSION = "session.nwb"
OUTPUTS = {"hdf5": "session_migvis.nwb", "zarr": "session_migvis.nwb.zarr"}


@dataclass(frozen=True)
class Case:
    """One small session with results to write into it, in a folder of its own.

    Attributes
    ----------
    folder : Path
    in_place : bool
    backend : str
    """

    folder: Path
    in_place: bool
    backend: str

    @property
    def command(self) -> list[str]:
        """Arguments of the command that writes."""
        end = ["--in-place"] if self.in_place else ["--backend", self.backend]
        return ["recover", str(self.folder / SIDECAR), "--source", str(self.folder / SESSION), *end]

    @property
    def output(self) -> Path:
        """What is written."""
        return self.folder / (SESSION if self.in_place else OUTPUTS[self.backend])


@dataclass(frozen=True)
class Originals:
    """What every case starts from: a session, a sidecar of results for it, and what writing takes.

    `n_bytes` is what is on the disk at most while the output is made.
    `ends` counts the exit codes of all processes, negative for signals.
    """

    session: Path
    sidecar: Path
    n_bytes: int
    seconds: float
    backend: str
    ends: Counter[int] = field(default_factory=Counter)

    def case(self, folder: Path, *, in_place: bool) -> Case:
        """Put copies into an empty folder; a Zarr folder is never written in place."""
        folder.mkdir(exist_ok=True)
        shutil.copyfile(self.session, folder / SESSION)
        shutil.copyfile(self.sidecar, folder / SIDECAR)
        return Case(folder, in_place and self.backend == "hdf5", self.backend)


def make_originals(folder: Path, backend: str) -> Originals:
    """Write session and sidecar; write the output once, to know its size and how long that takes."""
    from examples import WEIGHTS, example_results, write_session

    from nwb_migvis.store import write_sidecar

    session = write_session(folder / "original.nwb")
    sidecar = write_sidecar(
        example_results(maps=True), WEIGHTS, source=session, beside=folder / "original_out"
    )
    assert sidecar is not None
    originals = Originals(session, sidecar, 0, 0.0, backend)
    case = originals.case(folder / "whole", in_place=False)
    start = time.monotonic()
    code, line = finish(begin(case))
    assert code == 0, line
    n_bytes = _bytes_of(case.output)
    if backend == "zarr":  # beside it are the HDF5 file that it is made of, and the copy that checks it
        n_bytes += 2 * _bytes_of(_as_hdf5(case.output))
    return replace(originals, n_bytes=n_bytes, seconds=time.monotonic() - start)


def _bytes_of(path: Path) -> int:
    """Return the bytes of a file or folder on a disk whose blocks have 4 KiB."""
    files = [path] if path.is_file() else list(path.rglob("*"))
    return sum(-(-file.stat().st_size // 4096) * 4096 if file.is_file() else 4096 for file in files)


def _as_hdf5(folder: Path) -> Path:
    from nwb_migvis.sources import as_source
    from nwb_migvis.sources.folder import hdf5_of

    return hdf5_of(as_source(folder, what="folder"))  # type: ignore[arg-type]


@dataclass(frozen=True)
class Writer:
    """A process that writes, and where its messages go."""

    pid: int
    messages: Path


def begin(case: Case, *, before: Callable[[], None] = lambda: None) -> Writer:
    """Start the command in a process forked from this one, which has everything imported."""
    from nwb_migvis.cli import main

    descriptor, name = tempfile.mkstemp(prefix="migvis-sweep-")
    pid = os.fork()
    if pid == 0:
        code = 70
        try:
            os.setpgid(0, 0)
            os.dup2(descriptor, 2)
            os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
            sys.stderr = io.TextIOWrapper(io.FileIO(2, "w", closefd=False), write_through=True)
            before()
            main(case.command)
        except SystemExit as error:
            code = error.code if isinstance(error.code, int) else 0
        except BaseException:
            import traceback

            traceback.print_exc()
        finally:
            os._exit(code)
    os.close(descriptor)
    return Writer(pid, Path(name))


def finish(writer: Writer) -> tuple[int, str]:
    """Wait for a process; return its exit code, negative for a signal, and what it said."""
    _, status = os.waitpid(writer.pid, 0)
    said = writer.messages.read_text(errors="replace").strip()
    writer.messages.unlink()
    return os.waitstatus_to_exitcode(status), said


def faults_of(case: Case, originals: Originals, ends: list[tuple[int, str]]) -> list[str]:
    """Return what is wrong after processes have ended in a case."""
    faults = []
    originals.ends.update(code for code, _ in ends)
    for code, said in ends:
        is_line = said.startswith("nwb-migvis: ") and "\n" not in said
        if code not in (0, 1, -signal.SIGKILL) or (code == 1 and not is_line):
            faults.append(f"exit {code}: {said[-300:]!r}")
    done = any(code == 0 for code, _ in ends)
    killed = any(code == -signal.SIGKILL for code, _ in ends)
    source, output = case.folder / SESSION, case.output
    backup = case.folder / f"{SESSION}.bak"
    is_old = source.read_bytes() == originals.session.read_bytes()
    has_new = _is_whole(output)
    if case.in_place:
        kept = backup.exists() and backup.read_bytes() == originals.session.read_bytes()
        if not (is_old or (has_new and kept)):
            faults.append("the source is neither the old one nor the new one with a backup of the old")
    elif not is_old:
        faults.append("the source was changed")
    elif output.exists() and not has_new:
        faults.append("the output is not whole")
    if done and not has_new:
        faults.append("written, and no results are there")
    if not (case.folder / SIDECAR).exists():
        faults.append("the sidecar is gone")
    left = {path.name for path in case.folder.iterdir()} - {SESSION, SIDECAR, case.output.name, backup.name}
    if left and not killed:
        faults.append(f"left: {sorted(left)}")
    return faults


def _is_whole(path: Path) -> bool:
    from examples import WEIGHTS, example_results

    from nwb_migvis import MigvisError, read_results
    from nwb_migvis.store import read_weights
    from nwb_migvis.store.canonical import canonical, differences

    with contextlib.suppress(MigvisError):
        return read_weights(path) == WEIGHTS and not differences(
            canonical(example_results(maps=True)), read_results(path)
        )
    return False


def sweep_disks(folder: Path, originals: Originals, n: int) -> list[list[str]]:
    """Write on disks from too small for anything to large enough."""
    return [_on_disk(folder, originals, i, n) for i in range(n)]


def _on_disk(folder: Path, originals: Originals, i: int, n: int) -> list[str]:
    source_bytes = originals.session.stat().st_size + originals.sidecar.stat().st_size
    room = int(1.2 * originals.n_bytes * (i + 1) / n)
    in_place = bool(i % 2)
    with _small_disk(folder / f"disk{i}", source_bytes + room + 2**15) as disk:
        case = originals.case(disk, in_place=in_place)
        is_limited = not os.path.ismount(disk)
        ends = [finish(begin(case, before=lambda: _fill(room if is_limited else None)))]
        return [f"disk with {room} bytes to spare: {fault}" for fault in faults_of(case, originals, ends)]


@contextmanager
def _small_disk(place: Path, n_bytes: int) -> Iterator[Path]:
    """Give a folder on a file system of so many bytes, or a plain one where none can be mounted."""
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", f"size={n_bytes}", "tmpfs", str(place)]
    is_mounted = shutil.which("mount") and subprocess.run(mount, capture_output=True).returncode == 0
    try:
        yield place
    finally:
        if is_mounted:
            subprocess.run(["umount", str(place)], check=True)


def _fill(limit: int | None) -> None:
    """Let the check of free space pass, and where no disk is small, let files be no larger."""
    from nwb_migvis.store import destination

    destination._check_space = lambda *_: None
    if limit is not None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))


def sweep_kills(folder: Path, originals: Originals, n: int) -> list[list[str]]:
    """Kill a process that writes, at ever later moments; then write once more, which has to clean up."""
    found = []
    for i in range(n):
        moment = 1.1 * originals.seconds * i / n
        case = originals.case(folder / f"kill{i}", in_place=bool(i % 2))
        writer = begin(case)
        time.sleep(moment)
        with contextlib.suppress(ProcessLookupError):
            os.kill(writer.pid, signal.SIGKILL)
        ends = [finish(writer)]
        time.sleep(0.05)  # its own writing process ends with it
        faults = faults_of(case, originals, ends)
        again = finish(begin(case))
        was_done = _is_whole(case.output) and again[0] == 1
        if again[0] != 0 and not was_done:
            faults.append(f"not written afterwards: {again}")
        faults += [] if was_done else faults_of(case, originals, [again])
        found.append([f"killed after {moment:.2f} s: {fault}" for fault in faults])
    return found


def sweep_pairs(folder: Path, originals: Originals, n: int) -> list[list[str]]:
    """Start a second process ever later after a first one: one writes, the other refuses."""
    found = []
    for i in range(n):
        delay = 1.1 * originals.seconds * i / n
        case = originals.case(folder / f"pair{i}", in_place=bool(i % 2))
        writers = [begin(case)]
        time.sleep(delay)
        writers.append(begin(case))
        ends = [finish(writer) for writer in writers]
        faults = faults_of(case, originals, ends)
        if sorted(code for code, _ in ends) != [0, 1]:
            faults.append(f"ended as {ends}; expected one to write and one to refuse")
        found.append([f"second {delay:.2f} s later: {fault}" for fault in faults])
    return found


SWEEPS = {"disks": sweep_disks, "kills": sweep_kills, "pairs": sweep_pairs}


def main() -> int:
    """Run the sweeps and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--disks", type=int, default=50)
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--pairs", type=int, default=20)
    parser.add_argument("--backend", choices=sorted(OUTPUTS), default="hdf5")
    options = parser.parse_args()
    counts: Counter[str] = Counter()
    with tempfile.TemporaryDirectory() as name:
        originals = make_originals(Path(name), options.backend)
        for what, sweep in SWEEPS.items():
            found = sweep(Path(name), originals, getattr(options, what))
            counts[what] = sum(map(bool, found))
            codes = ", ".join(f"{code}: {n}" for code, n in sorted(originals.ends.items()))
            originals.ends.clear()
            print(f"{what}: {len(found)} tried, {counts[what]} with a fault; exit codes {codes}")
            print("".join(f"  {fault}\n" for faults in found for fault in faults), end="")
    return int(any(counts.values()))


if __name__ == "__main__":
    sys.exit(main())
