"""What two sessions at once take, by two processes, beside the same two one after the other.

    OMP_NUM_THREADS=1 python benchmarks/bench_batch.py [--repeats 3] [--steps 1000] [--tiny]

Two simulated sessions of one size, of which everything is run, with one thread each: by the engine `loop`,
and by `joblib` with two processes, in turns. Printed for each turn: the seconds of both sessions in the loop,
the seconds of both at once from the call to the return (processes that start, tables), and their ratio to the
slower session of the loop; at the end the median of the ratios. On a machine that others use a ratio says
nothing.
"""

from __future__ import annotations

import argparse
import os
import tempfile
import time
from pathlib import Path

import numpy as np

from nwb_migvis import job_list, run_batch, simulate_session
from nwb_migvis.testing import tiny_config

UNITS = {"pose": 30, "category": 30, "content": 20}


def turn(sessions: Path, out: Path, config, **engine) -> tuple[list[float], float]:
    """Run both sessions; return the seconds of each, and of the call."""
    jobs = job_list(str(sessions / "s?.nwb"), out, config=config, results_only=True)
    begun = time.perf_counter()
    batch = run_batch(jobs, n_threads=1, report=False, **engine)
    spent = time.perf_counter() - begun
    if len(batch.failed):
        raise SystemExit(batch.failed["error"].iloc[0])
    return batch.sessions["seconds"].tolist(), spent


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--steps", type=int, default=1000, help="of training the prior")
    parser.add_argument("--tiny", action="store_true", help="a short run that shows that all of it works")
    given = parser.parse_args()
    config, n_stimuli = tiny_config(), 120
    if not given.tiny:
        n_stimuli = 300
        config = tiny_config(
            latents={"n_steps": 1000},
            prior={"n_steps": given.steps, "channels": [32, 64]},
            evidence={"n_permutations": 199, "n_bootstrap": 199},
        )
    ratios = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        for seed in range(2):
            simulate_session(
                folder / f"s{seed}.nwb", seed=seed, n_stimuli=n_stimuli, n_repeats=6, units=UNITS
            )
        print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f}", flush=True)
        for i in range(given.repeats):
            apart, _ = turn(folder, folder / f"loop{i}", config, engine="loop")
            both = {"engine": "joblib", "engine_kwargs": {"n_jobs": 2}}
            each, spent = turn(folder, folder / f"both{i}", config, **both)
            ratios.append(spent / max(apart))
            print(
                f"loop {apart[0]:.1f} and {apart[1]:.1f} s; at once {spent:.1f} s (in workers {each[0]:.1f} "
                f"and {each[1]:.1f} s): {ratios[-1]:.2f} times the slower, load {os.getloadavg()[0]:.1f}",
                flush=True,
            )
    print(f"median {np.median(ratios):.2f} (asked: at most 1.15)")


if __name__ == "__main__":
    main()
