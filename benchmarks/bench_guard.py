"""Ratios of the time of small pieces of work to that of a stored commit, measured alternately in one run.

    python benchmarks/bench_guard.py [--commit ID] [--repeats 3] [--most 1.5]

Each commit does the same pieces in processes of its own, by turns: importing, reading a session, fitting
latents, training and editing with small networks, writing results and opening them. Of every piece the
least CPU time of its repeats counts, children included: other work on the machine changes that by much
less than the time on the clock. What is above `--most` is measured again, once, with twice the repeats.
The exit code is 1 if it stays above.

`benchmarks/guard_commit.txt` holds the commit. Write a newer one there when a piece has become slower
for a good reason.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

WORK = """
import json, os, sys, warnings
from pathlib import Path

warnings.simplefilter("ignore")
spent = {}


def seconds():
    return sum(os.times()[:4])


def timed(name, work, repeats=1):
    for _ in range(repeats):
        begin = seconds()
        value = work()
        spent[name] = min(spent.get(name, 1e9), seconds() - begin)
    return value


def load():
    import nwb_migvis, nwb_migvis.cli


timed("import", load)
import torch
from nwb_migvis import Study, read_results, read_session
from nwb_migvis.testing import tiny_config

torch.set_num_threads(1)
folder = Path(sys.argv[1])
config = tiny_config(
    latents={"n_steps": 300},
    prior={"n_steps": 40},
    critic={"n_steps": 40},
    synthesis={"n_pairs": 12, "n_dose": 0, "n_traversal": 0, "methods": ["pmi"]},
)
timed("reading", lambda: read_session(folder / "session.nwb")["image"].values, 3)
study = Study(read_session(folder / "session.nwb"), config)
timed("latents", study.fit_latents, 2)
timed("prior and critic", lambda: (study.train_prior(), study.train_critic()))
timed("edits", study.edit)
study.measure()
out = folder / f"out-{os.getpid()}.nwb"
timed("writing", lambda: study.write(out))
timed("opening", lambda: read_results(out).table(), 3)
out.unlink()
print(json.dumps(spent))
"""


@contextmanager
def checkout(commit: str, folder: Path) -> Iterator[Path]:
    """Lay a commit out in a folder for the length of the block; yield where its packages are."""
    place = folder / "stored"
    git("worktree", "add", "--detach", "--force", str(place), commit)
    try:
        yield place / "src"
    finally:
        git("worktree", "remove", "--force", str(place))


def git(*arguments: str) -> None:
    subprocess.run(["git", "-C", str(ROOT), *arguments], check=True, capture_output=True)


def measure(source: Path, folder: Path) -> dict[str, float]:
    """Return the CPU seconds of each piece with the packages in a folder."""
    threads = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS"), "1")
    environment = {**os.environ, **threads, "PYTHONPATH": str(source)}
    done = subprocess.run(
        [sys.executable, "-c", WORK, str(folder)], env=environment, capture_output=True, text=True, cwd=folder
    )
    if done.returncode:
        raise SystemExit(f"{source}: {done.stderr}")
    measured: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return measured


def by_turns(sources: Mapping[str, Path], folder: Path, repeats: int) -> dict[str, dict[str, float]]:
    """Return the least seconds of each piece, by source; sources take turns."""
    least: dict[str, dict[str, float]] = {name: {} for name in sources}
    for _ in range(repeats):
        for name, source in sources.items():
            for piece, seconds in measure(source, folder).items():
                least[name][piece] = min(least[name].get(piece, seconds), seconds)
    return least


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    stored = (ROOT / "benchmarks" / "guard_commit.txt").read_text(encoding="ascii").split()[0]
    parser.add_argument("--commit", default=stored)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--most", type=float, default=1.5)
    options = parser.parse_args()
    is_here = subprocess.run(
        ["git", "-C", str(ROOT), "cat-file", "-e", f"{options.commit}^{{commit}}"], capture_output=True
    )
    if is_here.returncode:
        print(f"not measured: the commit {options.commit} is not in this clone (is it shallow?)")
        return
    with tempfile.TemporaryDirectory() as name, checkout(options.commit, Path(name)) as before:
        folder = Path(name)
        make = "from nwb_migvis.testing import write_tiny_session as w; w('session.nwb', n_stimuli=200)"
        environment = {**os.environ, "PYTHONPATH": str(ROOT / "src")}
        subprocess.run([sys.executable, "-W", "ignore", "-c", make], check=True, cwd=folder, env=environment)
        sources = {"before": before, "now": ROOT / "src"}
        least = by_turns(sources, folder, options.repeats)
        if max(ratios(least).values()) > options.most:
            again = by_turns(sources, folder, 2 * options.repeats)
            least = {
                name: {piece: min(s, again[name][piece]) for piece, s in pieces.items()}
                for name, pieces in least.items()
            }
    print(f"CPU seconds, and ratios to {options.commit[:7]}")
    for piece, ratio in ratios(least).items():
        print(f"  {piece:<18} {least['before'][piece]:7.3f} {least['now'][piece]:7.3f}  {ratio:5.2f}")
    slow = [piece for piece, ratio in ratios(least).items() if ratio > options.most]
    if slow:
        raise SystemExit(f"above {options.most:g}: {', '.join(slow)}")


def ratios(least: Mapping[str, Mapping[str, float]]) -> dict[str, float]:
    """Return the ratio of each piece that takes 20 ms or more; shorter ones are noise."""
    return {
        piece: max(seconds, 0.02) / max(least["before"][piece], 0.02)
        for piece, seconds in least["now"].items()
    }


if __name__ == "__main__":
    main()
