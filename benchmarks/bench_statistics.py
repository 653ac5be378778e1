"""Sizes, power and coverage of the statistics of a run, on numbers whose truth is known.

    OMP_NUM_THREADS=1 python benchmarks/bench_statistics.py --n 200 [--kinds variance unique ...]

Kinds:

- variance: a population of one factor, read out by one noisy latent. Variance explained (should be 1), and
  how often its interval holds the value on 2000 further stimuli.
- unique: two noisy read-outs of one factor. How often p of the unique part is at most 0.05.
- drift_taken_out: the same population in random order, with slow drift of units' gain, corrected or not;
  the change from what is explained without either.
- category: edits that depend on their source alone. How often p of transfer is at most 0.05, with 2, 3 and 8
  categories; with two, targets are drawn from both, since otherwise nothing can be permuted.
- coverage: 95 % intervals of transfer, retention and the selectivity indices, of the gap and of MIG.
- independence: groups that are independent, and that correlate by 0.3. How often p is at most 0.05.
- shuffled: how often the guide of `shuffled` has the category of the nominal target.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from calibration_kinds import cycles, drift

from nwb_migvis.config import SynthesisConfig
from nwb_migvis.evidence.decoding import Reading
from nwb_migvis.evidence.gaps import LabelReadings, gap_intervals, mig_interval
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.independence import group_dependence
from nwb_migvis.evidence.order import Order, without_drift
from nwb_migvis.evidence.selectivity import kinked_interval, selectivity_index
from nwb_migvis.evidence.transfer import Confusion, Draws, Transfer, category_transfer, numeric_transfer
from nwb_migvis.evidence.variance import group_variance
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels
from nwb_migvis.levels import Exchange
from nwb_migvis.synthesis.editing.plan import plan_edits

TWO = LatentGroups(("first", "second"), (1, 1), ((), ()))
ONE = LatentGroups(("first",), (1,), ((),))


def one_factor(
    rng: np.random.Generator, *, n_units: int, n_repeats: int, n_read: int, n: int = 240
) -> Halves:
    """Poisson units that follow one number, and linear read-outs of it, each of a part of the units."""
    factor = rng.uniform(-1.7, 1.7, n)
    log_rate = factor[:, None] * rng.choice([-0.7, 0.7], n_units) * rng.uniform(0.5, 1.0, n_units)
    each = n_repeats // 2
    halves = [rng.poisson(3 * np.exp(log_rate) * each) / each for _ in range(2)]
    train = np.arange(n) < 170
    latents = []
    for i in range(n_read):
        units = np.arange(n_units)[i::n_read]
        x = np.sqrt(np.concatenate([half[train][:, units] for half in halves]))
        centred, goal = x - x.mean(axis=0), np.tile(factor[train], 2)
        weight = np.linalg.solve(centred.T @ centred + 5 * np.eye(len(units)), centred.T @ goal)
        latents.append([(np.sqrt(half[:, units]) - x.mean(axis=0)) @ weight for half in halves])
    a, b = (np.stack([own[i] for own in latents], axis=1) for i in range(2))
    return Halves(*halves, a, b, train=train, test=~train & (np.arange(n) < 240))


def variance(n: int) -> None:
    for n_units in (10, 40):
        for n_repeats in (2, 4, 8, 50):
            values, covered = [], []
            for seed in range(n):
                sizes = {"n_units": n_units, "n_repeats": n_repeats, "n_read": 1, "n": 2240}
                halves = one_factor(np.random.default_rng([1, seed]), **sizes)
                found = group_variance(halves, ONE, n_permutations=19, n_bootstrap=300, seed=seed)
                further = replace(halves, test=np.arange(2240) >= 240)
                truth = group_variance(further, ONE, n_permutations=1, n_bootstrap=1, seed=seed)
                low, high = found.explained_interval["first"]
                values.append(found.explained["first"])
                covered.append(low <= truth.explained["first"] <= high)
            print(
                f"variance, {n_units} units, {n_repeats} repeats: {np.mean(values):.3f} "
                f"(sd {np.std(values):.3f}), interval covers {np.mean(covered):.3f}",
                flush=True,
            )


def unique(n: int) -> None:
    for n_units in (10, 40):
        for n_repeats in (4, 8, 50):
            found = [
                group_variance(
                    one_factor(
                        np.random.default_rng([2, seed]), n_units=n_units, n_repeats=n_repeats, n_read=2
                    ),
                    TWO,
                    n_permutations=99,
                    n_bootstrap=1,
                    seed=seed,
                )
                for seed in range(n)
            ]
            p = np.array([list(each.unique_p.values()) for each in found])
            values = np.array([list(each.unique.values()) for each in found])
            explained = np.mean([each.explained["first"] for each in found])
            print(
                f"unique, {n_units} units, {n_repeats} repeats: {values.mean():.3f} "
                f"(each explains {explained:.2f}), p <= .05 in {np.mean(p <= 0.05):.3f}",
                flush=True,
            )


class LinearReadout:
    """One latent: a factor read from roots of responses."""

    def __init__(self, responses: np.ndarray, factor: np.ndarray) -> None:
        x = np.sqrt(responses)
        self._mean = x.mean(axis=0)
        centred = x - self._mean
        self._weight = np.linalg.solve(centred.T @ centred + 5 * np.eye(x.shape[1]), centred.T @ factor)

    def encode(self, responses: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        z = ((np.sqrt(responses) - self._mean) @ self._weight)[:, None]
        return z, np.zeros_like(z)


def drifting(seed: int, *, n_units: int, n_repeats: int, strength: float, is_corrected: bool) -> float:
    """Variance that a factor explains; the same seed has the same tuning and order."""
    rng, noise = np.random.default_rng([8, seed]), np.random.default_rng([9, seed])
    n = 240
    factor = rng.uniform(-1.7, 1.7, n)
    log_rate = factor[:, None] * rng.choice([-0.7, 0.7], n_units) * rng.uniform(0.5, 1.0, n_units)
    shown = cycles(rng, n, n_repeats)
    gain = drift(rng, len(shown), n_units, strength=strength)
    counts = noise.poisson(3 * np.exp(log_rate[shown]) * gain).astype(np.float64)
    order = Order(shown, 0.3 * np.arange(len(shown)), n)
    counts = without_drift(counts, order) if is_corrected else counts
    split = np.where(np.arange(n) < 170, "train", "test")
    readout = LinearReadout(order.mean_of(counts)[split == "train"], factor[split == "train"])
    halves = Halves.of(
        readout, counts, stimulus_index=shown, split=split, seed=seed, in_first=order.in_first_half
    )
    return group_variance(halves, ONE, n_permutations=1, n_bootstrap=1, seed=seed).explained["first"]


def drift_taken_out(n: int) -> None:
    for n_units, n_repeats in ((10, 4), (40, 8)):
        sizes = {"n_units": n_units, "n_repeats": n_repeats}
        plain = [drifting(i, **sizes, strength=0.0, is_corrected=False) for i in range(n)]
        cases = {"no drift, corrected": (0.0, True), "drift, left in": (0.35, False), "drift": (0.35, True)}
        for what, (strength, is_corrected) in cases.items():
            values = [drifting(i, **sizes, strength=strength, is_corrected=is_corrected) for i in range(n)]
            change = np.subtract(values, plain)
            print(
                f"{what}, {n_units} units, {n_repeats} repeats: variance explained {np.mean(values):.3f}, "
                f"{change.mean():+.3f} (se {change.std() / np.sqrt(n):.3f}) from {np.mean(plain):.3f}",
                flush=True,
            )


def category(n: int) -> None:
    for k in (2, 3, 8):
        p = []
        for seed in range(4 * n):
            rng = np.random.default_rng([3, k, seed])
            kind, source = rng.integers(0, k, 150), rng.permutation(150)[:64]
            target = np.array(
                [rng.choice(np.flatnonzero(kind != kind[s]) if k > 2 else np.arange(150)) for s in source]
            )
            favourite = rng.random((k, k)) ** 3
            chance = favourite[kind[source]] + 0.5 * np.eye(k)[kind[source]] + 0.1 * rng.random((64, k))
            edit = chance / chance.sum(axis=1, keepdims=True)
            found = category_transfer(edit, kind[target], source=kind[source], draws=Draws(seed, 2, 199))
            p.append(found.p_value)
        print(f"category, {k} classes: p <= .05 in {np.mean(np.array(p) <= 0.05):.3f}", flush=True)


K, LABELS = 4, ("x", "y", "z")
SUPERVISED = {"pose": LABELS, "category": ("kind",)}


def edited(seed: int, *, transfer: float, retention: float, n_pairs: int) -> dict[tuple[str, str], Transfer]:
    """Edits of pose and category with planted transfer and retention, read by a reader that errs."""
    rng = np.random.default_rng([4, seed])
    n = 150
    value, kind = rng.normal(size=(n, len(LABELS))), rng.integers(0, K, n)
    rates = 0.7 * np.eye(K) + 0.1 * (1 - np.eye(K))

    def read(classes: np.ndarray) -> np.ndarray:
        return np.array([rng.choice(K, p=rates[c]) for c in classes])

    reading = value + 0.5 * rng.normal(size=value.shape)
    confusion = Confusion(kind, read(kind), K)
    source = rng.permutation(n)[:n_pairs]
    target = np.array([rng.choice(np.flatnonzero(kind != kind[s])) for s in source])
    draws, ends, cells = Draws(seed, 300, 19), (source, target), {}
    for group in SUPERVISED:
        a, b = (transfer, retention) if group == "pose" else (0.1, retention)
        for i, label in enumerate(LABELS):
            shown = a * value[target, i] + b * value[source, i] + 0.3 * rng.normal(size=n_pairs)
            cells[group, label] = numeric_transfer(
                shown + 0.5 * rng.normal(size=n_pairs),
                reading[target, i],
                source=reading[source, i],
                draws=draws,
                truth=(value[target, i], value[source, i]),
                ends=ends,
            )
        shares = (0.05, 0.9) if group == "pose" else (transfer, max(0.0, 0.98 - transfer))
        drawn = rng.random(n_pairs)
        rest = rng.integers(0, K, n_pairs)
        shown = np.where(drawn < shares[0], kind[target], np.where(drawn < sum(shares), kind[source], rest))
        cells[group, "kind"] = category_transfer(
            read(shown), kind[target], source=kind[source], draws=draws, confusion=confusion, ends=ends
        )
    return cells


def planted(transfer: float, retention: float) -> tuple[dict, dict]:
    """Return what `edited` plants: transfer and retention of every cell."""
    shares = {"pose": (0.05, 0.9), "category": (transfer, max(0.0, 0.98 - transfer))}
    truth: tuple[dict, dict] = ({}, {})
    for group in SUPERVISED:
        numeric = (transfer if group == "pose" else 0.1, retention)
        chance = (1 - sum(shares[group])) / K
        for i in range(2):
            truth[i].update(dict.fromkeys(((group, label) for label in LABELS), numeric[i]))
            truth[i][group, "kind"] = shares[group][i] + chance
    return truth


def coverage(n: int) -> None:
    for transfer, retention, n_pairs in ((0.8, 0.8, 64), (0.5, 0.6, 64), (0.98, 0.9, 64), (0.8, 0.8, 128)):
        truth = planted(transfer, retention)
        index = [float(value) for value in selectivity_index(*truth, supervised_by=SUPERVISED)]
        hits: dict[str, list[bool]] = {}
        for seed in range(n):
            cells = edited(seed, transfer=transfer, retention=retention, n_pairs=n_pairs)
            for name, key in (("numeric", ("pose", "x")), ("category", ("category", "kind"))):
                for i, what in enumerate(("transfer", "retention")):
                    low, high = getattr(cells[key], f"{what}_interval")
                    hits.setdefault(f"{name} {what}", []).append(low <= truth[i][key] <= high)
            points = ({k: c.transfer for k, c in cells.items()}, {k: c.retention for k, c in cells.items()})
            drawn = [{k: c.resampled[:, i] for k, c in cells.items()} for i in range(2)]
            pairs = zip(
                selectivity_index(*points, supervised_by=SUPERVISED),
                selectivity_index(*drawn, supervised_by=SUPERVISED),
                index,
                strict=True,
            )
            for name, (estimate, resampled, value) in zip(("si_transfer", "si_strict"), pairs, strict=True):
                low, high = kinked_interval(float(estimate), resampled)
                hits.setdefault(name, []).append(low <= value <= high)
        shares = ", ".join(f"{name} {np.mean(values):.3f}" for name, values in hits.items())
        print(f"coverage, {n_pairs} pairs, transfer {transfer}, retention {retention}: {shares}", flush=True)
    for k, n_stimuli, right in (
        (3, 50, (0.9, 0.4)),
        (8, 100, (0.9, 0.2)),
        (8, 100, (0.7, 0.6)),
        (2, 100, (0.9, 0.1)),
    ):
        found = [gaps_covered(np.random.default_rng([5, seed]), k, n_stimuli, right) for seed in range(n)]
        mig, gap = np.mean(found, axis=0)
        print(
            f"coverage, {k} classes, {n_stimuli} stimuli, read {right}: MIG {mig:.3f}, gap {gap:.3f}",
            flush=True,
        )


def gaps_covered(rng: np.random.Generator, k: int, n: int, right: tuple[float, float]) -> tuple[bool, bool]:
    """Whether the intervals of MIG and gap hold the truth, for two groups that read a share rightly."""
    truth = rng.integers(0, k, n)
    reads = {
        name: np.where(rng.random(n) < share, truth, rng.integers(0, k, n))
        for name, share in zip(TWO, right, strict=True)
    }
    label = LabelReadings(
        np.eye(k)[truth], {name: np.eye(k)[read] for name, read in reads.items()}, True, truth, reads
    )
    weight = Exchange.singles(n).bootstrap(500, rng)
    tables = [(share * np.eye(k) + (1 - share) / k) / k for share in right]
    information = [float((table * np.log(table * k**2)).sum()) for table in tables]
    low, high = mig_interval(label, weight, rng)
    gap = gap_intervals({"kind": label}, weight, supervised_by={"first": ("kind",)})["first"]
    mig = (information[0] - information[1]) / np.log(k)
    return low <= mig <= high, gap[0] <= right[0] - right[1] <= gap[1]


def independence(n: int) -> None:
    groups = LatentGroups(("first", "second"), (3, 3), ((), ()))
    for correlation, widths in ((0.0, (0.1, 0.3, 0.7)), (0.3, (0.3,))):
        for width in widths:
            p = []
            for seed in range(n):
                rng = np.random.default_rng([6, seed])
                z = rng.normal(size=(192, 6))
                z[:, 3:] = correlation * z[:, :3] + np.sqrt(1 - correlation**2) * z[:, 3:]
                z = np.sqrt(1 - width**2) * z if correlation else z + width * rng.normal(size=z.shape)
                reading = Reading(exchange=Exchange.singles(192), seed=seed, n_permutations=99)
                p.append(float(group_dependence(z, groups, reading)["p_value"].item()))
            print(
                f"independence, correlation {correlation}, width {width}: "
                f"p <= .05 in {np.mean(np.array(p) <= 0.05):.3f}",
                flush=True,
            )


def shuffled(n: int) -> None:
    for k in (2, 3, 8):
        shares = []
        for seed in range(n):
            kind = np.array([f"k{i % k}" for i in range(200)], dtype=object)
            plan = plan_edits(
                np.arange(100, 196),
                ONE,
                labels=as_labels({"kind": kind}),
                config=SynthesisConfig(n_pairs=64),
                rng=np.random.default_rng([7, seed]),
            )
            rows = plan[(plan["role"] == "main") & (plan["method"] == "shuffled")]
            shares.append(np.mean(kind[rows["guiding_stimulus"]] == kind[rows["target"]]))
        print(
            f"shuffled, {k} classes: coincides in {np.mean(shares):.3f} (1 / (K - 1) = {1 / (k - 1):.3f})",
            flush=True,
        )


KINDS: dict[str, Callable[[int], None]] = {
    each.__name__: each
    for each in (variance, unique, drift_taken_out, category, coverage, independence, shuffled)
}


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n", type=int, default=200, help="draws of each kind")
    parser.add_argument("--kinds", nargs="+", choices=KINDS, default=list(KINDS))
    asked = parser.parse_args()
    for kind in asked.kinds:
        KINDS[kind](asked.n)


if __name__ == "__main__":
    main()
