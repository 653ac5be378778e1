"""The demo's edits beside those of every control method, on simulated sessions with known answers.

    python benchmarks/bench_controls.py FOLDER --seeds 0 1 2 [--threads N]
    python benchmarks/bench_controls.py FOLDER --seeds 0 1 2 --train-prior [--methods pmi published ...]
    python benchmarks/bench_controls.py FOLDER --seeds 7 --blind

Each seed simulates a session and runs all stages on it with the demo's settings and all methods, on pairs
alone, into FOLDER/SEED; what is there already is read, so that seeds can run side by side and be tabulated
together.
With --train-prior the prior is trained on the session's own images, as the preset `quick` does, instead of
starting from the one that comes with the package. With --blind the population is tuned to category and shape
only, though pose is a label all the same.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch

from nwb_migvis import Results, read_results, simulate_session
from nwb_migvis.config import METHODS
from nwb_migvis.demo import POSE, demo_config
from nwb_migvis.report import group_table
from nwb_migvis.runs import run_files
from nwb_migvis.store import Destination

BLIND = {"category": 60, "content": 60}
COLUMNS = ("pose transfer", "category kept", "category transfer", "pose kept", "SI_t", "SI_strict")


def results_of(folder: Path, seed: int, *, methods: Sequence[str], blind: bool, train_prior: bool) -> Results:
    """Read a seed's results, or make them."""
    session, out = folder / "session.nwb", folder / "session_migvis.nwb"
    if out.exists():
        return read_results(out)
    folder.mkdir(parents=True, exist_ok=True)
    if not session.exists():
        simulate_session(session, seed=seed, **({"units": BLIND} if blind else {}))
    config = demo_config(seed, train_prior=train_prior)
    only_pairs = {"methods": tuple(methods), "n_dose": 0, "n_traversal": 0, "n_samples": 0}
    config = replace(
        config,
        synthesis=replace(config.synthesis, **only_pairs),
        evidence=replace(config.evidence, information_draws=0),
    )
    ((_, results),) = run_files([session], Destination(out=out), config=config)
    print(group_table(results))
    return results


def scores(results: Results, method: str, reader: str) -> list[float]:
    """Return the values of `COLUMNS`."""
    of = results.selectivity.sel({"method": method, "reader": reader})
    pose, category = of.sel(group="pose"), of.sel(group="category")
    found = (
        pose["transfer"].sel(label=list(POSE)).mean(),
        pose["retention"].sel(label="category"),
        category["transfer"].sel(label="category"),
        category["retention"].sel(label=list(POSE)).mean(),
        of["si_transfer"],
        of["si_strict"],
    )
    return [float(value) for value in found]


def print_table(runs: dict[int, Results]) -> None:
    """Print the method proper for each seed and every method's mean over them, readers side by side."""
    readers = next(iter(runs.values())).selectivity["reader"].values.tolist()
    print("| method | " + " | ".join(COLUMNS) + " |\n" + "|---" * (len(COLUMNS) + 1) + "|")

    def line(name: str, values: np.ndarray) -> None:
        cells = (" / ".join(f"{value:.2f}" for value in column) for column in values.T)
        print(f"| {name} | " + " | ".join(cells) + " |")

    by_method = {}
    for method in METHODS:
        having = [run for run in runs.values() if method in run.selectivity["method"].values]
        if having:
            by_method[method] = np.array([[scores(run, method, r) for r in readers] for run in having])
    for seed, values in zip(runs, by_method["pmi"], strict=True):
        line(f"`pmi`, seed {seed}", values)
    for method, values in by_method.items():
        line(f"`{method}`, mean", values.mean(0))


def print_realism(runs: dict[int, Results]) -> None:
    """Print Frechet distances from real images relative to those between halves of real images."""
    print("\nFrechet distance of edits, times that between real images")
    for seed, run in runs.items():
        for reader, found in run.provenance["appearance"]["frechet"].items():
            cells = (f"{what} {its['distance'] / its['real']:.2f}" for what, its in found.items())
            print(f"seed {seed}, {reader}: " + ", ".join(cells))


def print_tests(runs: dict[int, Results]) -> None:
    """Print the tests of pose edits (method proper) and the verdict on the group."""
    for seed, run in runs.items():
        of = run.selectivity.sel({"method": "pmi", "group": "pose", "label": list(POSE)})
        verdict = str(run.groups.loc["pose", "verdict"])
        print(f"\nseed {seed}: pose is {verdict}; its edits' smallest p {float(of['p_value'].min()):.3f}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--train-prior", action="store_true")
    parser.add_argument("--methods", nargs="+", choices=METHODS, default=METHODS)
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    how = {"methods": given.methods, "blind": given.blind, "train_prior": given.train_prior}
    runs = {seed: results_of(given.folder / str(seed), seed, **how) for seed in given.seeds}
    print_table(runs)
    print_realism(runs)
    print_tests(runs)


if __name__ == "__main__":
    main()
