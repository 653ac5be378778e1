"""How often small fits call a group where there is nothing to call, and where there is.

    OMP_NUM_THREADS=1 python benchmarks/bench_calibration.py --n 100 --kinds objects film plain

Groups "pose" (the number x) and "kind" (the category) of two latents each, one free group of two; 24 units;
`calibration_kinds.py` says what each kind is. Each is made in two sizes. Printed per group: how often it was
established, confounded and not measured; for groups that are not encoded, those established beyond .05 (by
more than the binomial error of so many fits) are marked "!". A free group can only be named where it is
stable: a second fit is made for the kinds that say whether it should be.
"""

from __future__ import annotations

import argparse
import time
from functools import partial

import numpy as np
import pandas as pd
from calibration_kinds import ALL_KINDS
from scipy import stats

from nwb_migvis.engines import work_through

GROUPS = ("pose", "kind", "free")
N_STEPS = 60


def fit(seed: int, n_threads: int, *, kind: str, size: int) -> tuple[pd.DataFrame, float]:
    """Fit one session; return its groups, with the number of its notes, and seconds of CPU."""
    from nwb_migvis.analysis import Study
    from nwb_migvis.config import Config, EvidenceConfig, GroupConfig, LatentsConfig, SplitConfig

    begun = time.process_time()
    what = ALL_KINDS[kind]
    config = Config(
        seed=seed,
        n_threads=n_threads,
        split=SplitConfig(by=what.by, folds=what.folds),
        latents=LatentsConfig(
            groups=(
                GroupConfig(name="pose", size=2, labels=("x",)),
                GroupConfig(name="kind", size=2, labels=("kind",)),
                GroupConfig(name="free", size=2),
            ),
            n_steps=N_STEPS,
            n_hidden=16,
            batch_size=64,
            patience=4,
        ),
        evidence=EvidenceConfig(
            n_permutations=99,
            n_bootstrap=100,
            stability_seeds=int("free" in (*what.not_encoded, *what.encoded)),
        ),
    )
    rng = np.random.default_rng([2026, sorted(ALL_KINDS).index(kind), size, seed])
    study = Study(what.make(rng, size), config)
    study.fit_latents()
    study.measure()
    results = study.results
    notes = [note for note in results.provenance["notes"] if "combinations of labels" in note]
    return results.groups.assign(n_notes=len(notes)), time.process_time() - begun


def report(kind: str, size: int, tables: dict[int, pd.DataFrame]) -> None:
    """Print how often each group was called."""
    n, what = len(tables), ALL_KINDS[kind]
    table = pd.concat(tables, names=["seed", "group"])
    most = stats.binom.ppf(0.975, n, 0.05)
    line = []
    for group in GROUPS:
        own = table.xs(group, level="group")["verdict"]
        counts = [
            int(own.str.startswith(word).sum()) for word in ("established", "confounded", "not measured")
        ]
        wrong = group in what.not_encoded and counts[0] > most
        marked = "!" if wrong else ("+" if group in what.encoded else "")
        line.append(f"{group}{marked} {counts[0]}/{counts[1]}/{counts[2]}")
    notes = int((table["n_notes"].groupby("seed").first() > 0).sum())
    print(f"  {kind:20s} size {size}: {'   '.join(line)}   notes {notes}", flush=True)
    for name in ("repeatable", "decoded", "beyond_labels", "stable"):
        cells = [
            f"{group} {(own[f'{name}_p'] < 0.05).mean():.2f} ({own[name].mean():.2f})"
            for group in GROUPS
            if (own := table.xs(group, level="group"))[name].notna().any()
        ]
        print(f"      {name:14s} p < .05 (mean): {'   '.join(cells)}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=100, help="fits of each kind and size")
    parser.add_argument("--kinds", nargs="+", default=list(ALL_KINDS), choices=list(ALL_KINDS))
    parser.add_argument("--sizes", nargs="+", type=int, default=[0, 1])
    parser.add_argument("--first-seed", type=int, default=0)
    parser.add_argument("--processes", type=int, default=2)
    options = parser.parse_args()
    print("group established/confounded/not measured; + encoded, ! too often", flush=True)
    begun, spent = time.perf_counter(), 0.0
    seeds = range(options.first_seed, options.first_seed + options.n)
    by = {"engine": "joblib", "engine_kwargs": {"n_jobs": options.processes}, "n_threads": 1}
    for kind in options.kinds:
        for size in options.sizes:
            started = time.perf_counter()
            done = dict(work_through(partial(fit, kind=kind, size=size), seeds, **by))
            report(kind, size, {seed: done[i][0] for i, seed in enumerate(seeds)})
            spent += sum(seconds for _, seconds in done.values())
            print(f"      {time.perf_counter() - started:.0f} s", flush=True)
    print(f"{time.perf_counter() - begun:.0f} s; {spent / options.processes:.0f} s of CPU per process")


if __name__ == "__main__":
    main()
