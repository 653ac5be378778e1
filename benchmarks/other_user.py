"""Run every command as another user: no home, no temporary files, LC_ALL=C, one folder to write to.

    python benchmarks/other_user.py --commands simulate inspect run report validate synthesize recover

Needs root on Linux, with `unshare` and `setpriv`: the whole file system is mounted read-only but for a folder
of the user `nobody`, who may read everything. Each command has to work, or to end with 1 and one line. Exit
code 1 if one does neither.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

NOBODY = 65534
CONFIG = """n_threads = 1
[latents]
n_steps = 20
n_hidden = 16
[prior]
size_px = 16
n_steps = 3
channels = [8, 8]
[critic]
n_steps = 3
channels = [8, 8]
batch_size = 16
[synthesis]
n_steps = 3
n_pairs = 8
n_dose = 2
n_traversal = 1
n_samples = 4
[evidence]
n_permutations = 19
n_bootstrap = 19
reader_steps = 3
information_draws = 1
"""
COMMANDS = {
    "simulate": ["simulate", "simulated.nwb", "--n-stimuli", "120", "--n-repeats", "4", "--size", "16"],
    "inspect": ["inspect", "simulated.nwb"],
    "run": ["run", "simulated.nwb", "--out", "run.nwb", "--config", "config.toml", "--quiet"],
    "report": ["report", "run.nwb"],
    "validate": ["validate", "run.nwb"],
    "synthesize": [
        "synthesize",
        "run.nwb",
        "--group",
        "category",
        "--n",
        "1",
        "--out",
        "more.nwb",
        "--quiet",
    ],
    "recover": ["recover", "results.safetensors", "--source", "session.nwb"],
}
"""Each uses what those before it wrote."""

_READ_ONLY = """
set -e
mount --make-rprivate /
mount --bind "$1" "$1"
mount --bind "$1/shm" /dev/shm
mount -o remount,bind,ro /
cd "$1"
shift
exec "$@"
"""


def is_possible() -> bool:
    """Tell whether this process may do all that, by trying."""
    if sys.platform != "linux" or os.geteuid() != 0 or not all(map(shutil.which, ("unshare", "setpriv"))):
        return False
    with tempfile.TemporaryDirectory() as name:
        (Path(name) / "shm").mkdir()
        return subprocess.run([*_apart(Path(name)), "true"], capture_output=True).returncode == 0


def _apart(folder: Path) -> list[str]:
    """Return the command that runs another in a folder as `nobody`, everything else read-only."""
    mounts = ["unshare", "--mount", "bash", "-c", _READ_ONLY, "bash", str(folder)]
    reads = ["--inh-caps", "-all,+dac_read_search", "--ambient-caps", "-all,+dac_read_search"]
    bounds = ["--bounding-set", "-all,+dac_read_search", "--no-new-privs"]
    return [*mounts, "setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups", *reads, *bounds]


def prepare(folder: Path) -> None:
    """Put a session, results for it, and settings into a folder that belongs to `nobody`."""
    sys.path.insert(0, str(Path(__file__).parents[1] / "tests"))
    from examples import WEIGHTS, example_results, write_session

    from nwb_migvis.store import write_sidecar

    session = write_session(folder / "session.nwb")
    written = write_sidecar(example_results(), WEIGHTS, source=session, beside=folder / "results")
    assert written is not None
    written.rename(folder / "results.safetensors")
    (folder / "config.toml").write_text(CONFIG)
    (folder / "shm").mkdir()
    for path in (folder, *folder.iterdir()):
        os.chown(path, NOBODY, NOBODY)
        path.chmod(0o700)


def run(folder: Path, arguments: list[str], *, timeout_s: float = 580.0) -> subprocess.CompletedProcess[str]:
    """Run a command of nwb-migvis in the folder."""
    environment = {
        "PATH": os.defpath,
        "PYTHONPATH": os.pathsep.join(path for path in sys.path if path),
        "PYTHONDONTWRITEBYTECODE": "1",
        "LC_ALL": "C",
        "HOME": "/nonexistent",
        "TMPDIR": "/nonexistent",
        "OMP_NUM_THREADS": "1",
    }
    code = "from nwb_migvis.cli import main; main()"
    command = [*_apart(folder), sys.executable, "-c", code, *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, timeout=timeout_s)


def is_well(done: subprocess.CompletedProcess[str]) -> bool:
    """Tell whether a command worked, or ended with 1 and one line."""
    is_line = done.stderr.startswith("nwb-migvis: ") and done.stderr.strip().count("\n") == 0
    return (done.returncode == 0 and not done.stderr) or (done.returncode == 1 and is_line)


def main() -> int:
    """Run the commands and print how each ended."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=list(COMMANDS))
    options = parser.parse_args()
    if not is_possible():
        print("needs root on Linux, with unshare and setpriv, and the right to mount")
        return 1
    all_well = True
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        prepare(folder)
        for command in options.commands:
            done = run(folder, COMMANDS[command])
            all_well &= is_well(done)
            last = (done.stderr or done.stdout).strip().splitlines()[-1:]
            print(
                f"{'well' if is_well(done) else 'BAD'}: {command}: exit {done.returncode}: {last}", flush=True
            )
            if not is_well(done):
                print(done.stderr[-2000:])
        left = {path.name for path in folder.iterdir()}
        print(f"in the folder: {', '.join(sorted(left))}")
    return int(not all_well)


if __name__ == "__main__":
    sys.exit(main())
