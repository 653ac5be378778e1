"""Latents of another day: what augmentation gains where units have changed since the model was fitted.

    OMP_NUM_THREADS=1 python benchmarks/bench_other_day.py

A simulated population is fitted on day one. On day two the same units are shown other images, fewer times,
and the model encodes them as it is. Each unit's gain and baseline have changed, some units are lost (masked),
and a share of all spikes is not found. Each score is of images that the fit has not seen:

- latents: R2 of the latents beside those of the expected counts of day one, every unit observed;
- explained: share of the repeatable variance of half of the repeats that latents of the other half predict,
  by a map fitted to images of the same day;
- pose, category: R2 (mean of six labels) and accuracy of linear read-outs fitted to day one's training
  images.

"scaled" are the counts of day two multiplied by the ratio of each unit's mean on day one to that on day two.
Strengths are chosen on `--choose`, by the mean of latents, pose and category of day two; the table is of
`--seeds`. On day one validation images, which say when training stops, count for "explained" alone.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd
import torch

from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.config import LatentsConfig, SplitConfig
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.reliability import half_means
from nwb_migvis.evidence.ridge import Ridge, fit_ridge
from nwb_migvis.evidence.variance import group_variance
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels
from nwb_migvis.latents import LatentTask, Recording, resolve_groups, split_stimuli
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.protocol import LatentModel
from nwb_migvis.simulate import draw_counts, draw_factors, draw_population
from nwb_migvis.simulate.render import POSE

UNITS = {"pose": 30, "category": 25, "content": 20, "mixed": 25}
WINDOW_S = 0.1
GAIN_SD, BASELINE_SD, LOST, FOUND = 0.3, 0.2, 0.2, 0.7
"""Of the log gain; of the baseline over the mean rate; share of units lost; share of spikes still found."""

STRENGTHS = {"unit_dropout": (0.15, 0.4), "trial_swap": (0.3, 0.9), "count_thinning": (0.3, 0.7)}
SCORES = ("latents", "explained", "pose", "category")
DECIDING = [("day two", name) for name in ("latents", "pose", "category")]


@dataclass(frozen=True, eq=False)
class Day:
    """Counts (presentation, unit) of one day, NaN where a unit is lost, and what they are of.

    Attributes
    ----------
    expected : array (stimulus, unit)
        Expected counts of the images had they been shown on day one.
    train : array of bool (stimulus,)
        Images that maps may be fitted to; the others are scored.
    """

    counts: np.ndarray
    order: np.ndarray
    factors: pd.DataFrame
    expected: np.ndarray
    train: np.ndarray

    def averages(self) -> np.ndarray:
        return average_counts(self.counts, self.order, len(self.factors))


@dataclass(frozen=True, eq=False)
class Readouts:
    """Linear maps from latents to pose and to one column per category."""

    pose: Ridge
    category: Ridge
    categories: np.ndarray

    @classmethod
    def fit(cls, z: np.ndarray, factors: pd.DataFrame) -> Readouts:
        shown = factors["category"].to_numpy(str)
        categories = np.unique(shown)
        coded = (shown[:, None] == categories).astype(float)
        return cls(fit_ridge(z, factors[list(POSE)].to_numpy(float)), fit_ridge(z, coded), categories)

    def scores(self, z: np.ndarray, factors: pd.DataFrame) -> dict[str, float]:
        true = factors[list(POSE)].to_numpy(float)
        chosen = self.categories[self.category.predict(z).argmax(axis=1)]
        hits = chosen == factors["category"].to_numpy(str)
        return {"pose": r2(true, self.pose.predict(z)), "category": float(hits.mean())}


def r2(true: np.ndarray, found: np.ndarray, *, pooled: bool = False) -> float:
    """Return the R2 of columns: their mean, or that of all of them together."""
    error, variance = ((true - found) ** 2).sum(0), ((true - true.mean(0)) ** 2).sum(0)
    return float(1 - error.sum() / variance.sum()) if pooled else float((1 - error / variance).mean())


def simulate(
    seed: int, n_stimuli: tuple[int, int], n_repeats: tuple[int, int]
) -> tuple[tuple[Day, Day], np.ndarray]:
    """Draw both days, and the split of day one's images."""
    population, rng = draw_population(UNITS, seed=seed), np.random.default_rng([seed, 77])
    n_units = sum(UNITS.values())
    gain = np.exp(rng.normal(-0.5 * GAIN_SD**2, GAIN_SD, n_units))
    baseline = rng.normal(0, BASELINE_SD, n_units)
    is_lost = rng.permutation(n_units) < LOST * n_units
    split = split_stimuli(n_stimuli[0], SplitConfig(), rng=np.random.default_rng(seed))
    days = []
    for day in range(2):
        factors = draw_factors(n_stimuli[day], seed=1000 * day + seed)
        rate_hz = population.rate_hz(factors)
        order = np.tile(np.arange(n_stimuli[day]), n_repeats[day])
        if day == 0:
            counts, train = draw_counts(rate_hz, order, WINDOW_S, seed=seed), split == "train"
        else:
            changed = np.maximum(gain * (rate_hz + baseline * population.mean_hz), 0.1)
            counts = draw_counts(changed, order, FOUND * WINDOW_S, seed=1000 + seed).astype(float)
            counts[:, is_lost] = np.nan
            train = rng.random(n_stimuli[day]) < 0.7
        days.append(Day(counts, order, factors, rate_hz * WINDOW_S, train))
    return (days[0], days[1]), split


def explained(model: LatentModel, day: Day, scale: np.ndarray, *, seed: int) -> float:
    """Return the share of repeatable variance that latents of the other half predict."""
    rng = np.random.default_rng(seed + 1000)
    halves = half_means(day.counts, day.order, len(day.factors), rng=rng)[:2]
    latents = [model.encode(half * scale)[0] for half in halves]
    seen = np.isfinite(day.counts).all(axis=0)
    responses = [half[:, seen] for half in halves]
    whole = LatentGroups(("all",), (latents[0].shape[1],), ((),))
    given = Halves(*responses, *latents, day.train, ~day.train)
    return group_variance(given, whole, n_permutations=1, seed=seed).total


def measure(
    model: LatentModel, days: tuple[Day, Day], test: np.ndarray, *, seed: int
) -> dict[tuple[str, str], float]:
    """Return the scores of day one, and of day two as it is and scaled."""
    one, two = days
    z_one = model.encode(one.averages())[0]
    readouts = Readouts.fit(z_one[one.train], one.factors[one.train])
    ratio = np.nan_to_num(one.averages().mean(0) / two.averages().mean(0), nan=1.0)
    plain = np.ones_like(ratio)
    found = {}
    for name, day, scale, scored in (
        ("day one", one, plain, test),
        ("day two", two, plain, np.ones(len(two.factors), dtype=bool)),
        ("day two, scaled", two, ratio, np.ones(len(two.factors), dtype=bool)),
    ):
        z, expected = (model.encode(x)[0][scored] for x in (day.averages() * scale, day.expected))
        scores = {
            "latents": r2(expected, z, pooled=True),
            "explained": explained(model, day, scale, seed=seed),
            **readouts.scores(z, day.factors[scored]),
        }
        found |= {(name, score): value for score, value in scores.items()}
    return found


def settings() -> dict[str, dict[str, float]]:
    """Return what is compared: nothing, and each augmentation at two strengths."""
    single = {f"{name} {value:g}": {name: value} for name, values in STRENGTHS.items() for value in values}
    return {"none": {}, **single}


def fits(
    compared: dict[str, dict[str, float]], seeds: list[int], options: argparse.Namespace
) -> Iterator[dict[object, object]]:
    """Fit each setting on each seed, and yield its scores."""
    config = LatentsConfig(n_steps=options.n_steps)
    for seed in seeds:
        days, split = simulate(seed, tuple(options.n_stimuli), tuple(options.n_repeats))
        labels = as_labels(
            {name: days[0].factors[name].to_numpy(float) for name in POSE}
            | {"category": days[0].factors["category"].to_numpy(object)}
        )
        task = LatentTask(labels, resolve_groups(labels, config), split)
        recording = Recording.alone(days[0].counts, days[0].order, split.size)
        for name, changes in compared.items():
            start = time.process_time()
            (model,) = fit_latents([recording], task, config=replace(config, **changes), seed=seed)
            seconds = time.process_time() - start
            scores = measure(model, days, split == "test", seed=seed)
            print(f"seed {seed}  {name}  {seconds:.0f} s  " + as_text(scores), flush=True)
            yield {"seed": seed, "setting": name, "seconds": seconds, **scores}


def as_text(scores: dict[tuple[str, str], float]) -> str:
    days = dict.fromkeys(day for day, _ in scores)
    return "  ".join(f"{day}: " + " ".join(f"{scores[day, name]:.3f}" for name in SCORES) for day in days)


def all_three(rows: pd.DataFrame) -> dict[str, float]:
    """Return the better strength of each augmentation on the seeds that choose."""
    score = rows.groupby("setting")[DECIDING].mean().mean(axis=1)
    print("chosen by", {name: round(float(value), 4) for name, value in score.items()})
    return {
        name: max(values, key=lambda value: score[f"{name} {value:g}"]) for name, values in STRENGTHS.items()
    }


def print_table(rows: pd.DataFrame, compared: list[str]) -> None:
    columns = [(day, name) for day in ("day one", "day two", "day two, scaled") for name in SCORES]
    print("\n| setting | " + " | ".join(f"{day}: {name}" for day, name in columns) + " | CPU s |")
    print("|---" * (len(columns) + 2) + "|")
    mean = rows.groupby("setting")[[*columns, "seconds"]].mean()
    for name in compared:
        cells = [f"{mean.loc[name, [column]].item():.3f}" for column in columns]
        print(f"| {name} | " + " | ".join(cells) + f" | {mean.loc[name, 'seconds']:.0f} |")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--choose", type=int, nargs="+", default=[100, 101])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n-stimuli", type=int, nargs=2, default=[1500, 600], help="of both days")
    parser.add_argument("--n-repeats", type=int, nargs=2, default=[10, 4], help="of both days")
    parser.add_argument("--n-steps", type=int, default=LatentsConfig().n_steps)
    options = parser.parse_args()
    torch.set_num_threads(1)
    compared = settings()
    chosen = all_three(pd.DataFrame(list(fits(compared, options.choose, options))))
    compared["all three"] = chosen
    print("all three:", chosen)
    rows = pd.DataFrame(list(fits(compared, options.seeds, options)))
    print_table(rows, list(compared))


if __name__ == "__main__":
    main()
