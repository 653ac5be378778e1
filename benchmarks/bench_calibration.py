"""How often small fits call a group where there is nothing to call, and where there is.

    OMP_NUM_THREADS=1 python benchmarks/bench_calibration.py --n 100

Populations of 24 Poisson units, a third of which follow a number, a third a category, a third something
unlabelled; 240 stimuli, 4 repeats; groups "pose" and "kind" of two latents each, one free group of two.

    labels:  whole stimuli permuted against their labels, repeats kept (null ii), before the fit
    counts:  presentations shuffled across stimuli (null i), before the fit
    power:   nothing permuted
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
import xarray as xr
from scipy import stats

from nwb_migvis.analysis import Study
from nwb_migvis.config import Config, EvidenceConfig, GroupConfig, LatentsConfig

GROUPS = (
    GroupConfig(name="pose", size=2, labels=("x",)),
    GroupConfig(name="kind", size=2, labels=("kind",)),
    GroupConfig(name="free", size=2),
)
N_STIMULI, N_REPEATS = 240, 4


def config(seed: int) -> Config:
    return Config(
        seed=seed,
        n_threads=1,
        latents=LatentsConfig(groups=GROUPS, n_steps=200, n_hidden=16, n_layers=1, batch_size=64, patience=4),
        evidence=EvidenceConfig(n_permutations=199),
    )


def population(seed: int, *, null: str) -> xr.Dataset:
    rng = np.random.default_rng([11, seed])
    x, hidden = rng.uniform(-1.7, 1.7, (2, N_STIMULI))
    kind = rng.integers(0, 3, N_STIMULI)
    log_rate = np.concatenate(
        [
            x[:, None] * rng.choice([-0.7, 0.7], 8),
            rng.normal(0, 0.7, (3, 8))[kind],
            hidden[:, None] * rng.choice([-0.7, 0.7], 8),
        ],
        axis=1,
    )
    index = np.tile(np.arange(N_STIMULI), N_REPEATS)
    counts = rng.poisson(3 * np.exp(log_rate)[index]).astype(np.uint16)
    if null == "counts":
        counts = counts[rng.permutation(len(counts))]
    if null == "labels":
        order = rng.permutation(N_STIMULI)
        x, kind = x[order], kind[order]
    return xr.Dataset(
        {"spike_count": (("presentation", "unit"), counts), "stimulus_index": ("presentation", index)},
        coords={
            "unit": np.arange(counts.shape[1]),
            "stimulus": np.array([f"s{i}" for i in range(N_STIMULI)], dtype=object),
            "x": ("stimulus", x),
            "kind": ("stimulus", np.array(["a", "b", "c"], dtype=object)[kind]),
        },
    )


def describe(name: str, p: pd.Series, called: pd.Series, n: int) -> None:
    """Print how p-values compare with uniform ones, and in how many fits a group was called."""
    below = stats.kstest(p, "uniform", alternative="greater").pvalue
    fits = called.groupby("seed").any().sum()
    often = f"p < 0.05: {np.mean(p < 0.05):.3f}   one-sided KS p {below:.3f}"
    print(f"  {name:22s} {often}   fits that call a group {fits} of {n}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=100, help="fits of each kind")
    parser.add_argument("--kinds", nargs="+", default=["labels", "counts", "power"])
    options = parser.parse_args()
    torch.set_num_threads(1)
    for null in options.kinds:
        tables = {s: Study(population(s, null=null), config(s)).run().groups for s in range(options.n)}
        found = pd.concat(tables, names=["seed", "group"])
        print(f"{null}, {options.n} fits", flush=True)
        for name in ("decoding", "variance_explained", "variance_unique"):
            known = found[found[f"{name}_p"].notna()]
            describe(name, known[f"{name}_p"], known[f"{name}_q"] < 0.05, options.n)
        for group, verdicts in found["verdict"].groupby("group"):
            print(f"  {group}: established in {(verdicts == 'established').sum()} of {options.n}")


if __name__ == "__main__":
    main()
