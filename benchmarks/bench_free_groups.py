"""Which free groups are named: in simulated populations with units of unlabelled content, and without.

    OMP_NUM_THREADS=1 python benchmarks/bench_free_groups.py --seeds 0 1 2 3

Populations of 160 units: pose and category alone, or with 40 units that follow the shape of the object, of
which no label tells. Latents alone: no image is made. Printed: the verdict on each group, with its
parts.
"""

from __future__ import annotations

import argparse
import tempfile
from functools import partial
from itertools import product
from pathlib import Path

import pandas as pd

from nwb_migvis.engines import work_through

UNITS = {
    "labels": {"pose": 80, "category": 80},
    "content": {"pose": 60, "category": 60, "content": 40},
}


def fit(case: tuple[str, int], n_threads: int, *, n_stimuli: int, n_repeats: int) -> pd.DataFrame:
    """Return the groups of one fit."""
    from nwb_migvis import Config, read_session, simulate_session
    from nwb_migvis.analysis import Study
    from nwb_migvis.config import EvidenceConfig

    units, seed = case
    with tempfile.TemporaryDirectory() as folder:
        path = simulate_session(
            Path(folder) / "s.nwb", seed=seed, n_stimuli=n_stimuli, n_repeats=n_repeats, units=UNITS[units]
        )
        session = read_session(path).drop_vars("image")
        study = Study(
            session, Config(seed=seed, n_threads=n_threads, evidence=EvidenceConfig(stability_seeds=2))
        )
        study.fit_latents()
        study.measure()
        return study.results.groups


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=list(range(20)))
    parser.add_argument("--units", nargs="+", default=list(UNITS), choices=list(UNITS))
    parser.add_argument("--n-stimuli", type=int, default=1200)
    parser.add_argument("--n-repeats", type=int, default=10)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    cases = list(product(options.units, options.seeds))
    named: dict[str, list[bool]] = {units: [] for units in options.units}
    run = partial(fit, n_stimuli=options.n_stimuli, n_repeats=options.n_repeats)
    by = {"engine": "joblib", "engine_kwargs": {"n_jobs": options.processes}, "n_threads": 1}
    done = dict(work_through(run, cases, **by))
    for i, (units, seed) in enumerate(cases):
        groups = done[i]
        free = groups[groups["supervised_by"] == ""]
        named[units].append(bool(free["verdict"].str.startswith("established").any()))
        for name, row in groups.iterrows():
            parts = "  ".join(
                f"{part} {row[part]:.3f} (p {row[f'{part}_p']:.3f})"
                for part in ("repeatable", "decoded", "beyond_labels", "stable")
            )
            print(f"{units} {seed} {name}: {row['verdict']}\n    {parts}", flush=True)
    for units, fits in named.items():
        print(f"{units}: a free group was named in {sum(fits)} of {len(fits)}")


if __name__ == "__main__":
    main()
