"""Sessions of designs that labs have, in which something is not encoded, or is: for `bench_calibration.py`.

Populations of Poisson units, without pixels unless a kind needs them. Each kind says what must not be called.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import xarray as xr

STEP_S = 0.3
KINDS = np.array(["a", "b", "c"], dtype=object)


@dataclass(frozen=True)
class Kind:
    """One design.

    Attributes
    ----------
    make : callable
        (generator, size) -> session; size 0 is the smaller of two.
    not_encoded : tuple of str
        Groups that must not be established.
    encoded : tuple of str
        Groups that should be.
    by : str
        `split.by`.
    folds : int
        `split.folds`.
    """

    make: Callable[[np.random.Generator, int], xr.Dataset]
    not_encoded: tuple[str, ...] = ()
    encoded: tuple[str, ...] = ()
    by: str = ""
    folds: int = 1


def tuned(rng: np.random.Generator, *columns: np.ndarray, n_units: int = 8, gain: float = 0.7) -> np.ndarray:
    """Log rates (stimulus, unit) of units that follow each column of numbers or categories."""
    parts = []
    for column in columns:
        if column.dtype.kind in "iu":
            parts.append(rng.normal(0, gain, (int(column.max()) + 1, n_units))[column])
        else:
            parts.append(column[:, None] * rng.choice([-gain, gain], n_units))
    return np.concatenate(parts, axis=1)


def session(
    rng: np.random.Generator,
    log_rate: np.ndarray,
    order: np.ndarray,
    *,
    gain: np.ndarray | None = None,
    **labels: np.ndarray,
) -> xr.Dataset:
    """A session that shows stimuli in this order; `gain` (presentation, unit) multiplies rates."""
    rate = 3 * np.exp(log_rate[order]) * (1.0 if gain is None else gain)
    n = len(log_rate)
    coords = {
        name: ("stimulus", KINDS[values] if values.dtype.kind in "iu" and name == "kind" else values)
        for name, values in labels.items()
    }
    return xr.Dataset(
        {
            "spike_count": (("presentation", "unit"), rng.poisson(rate).astype(np.uint16)),
            "stimulus_index": ("presentation", order.astype(np.int64)),
            "start_time": ("presentation", 10 + STEP_S * np.arange(len(order))),
        },
        coords={
            "unit": np.arange(log_rate.shape[1]),
            "stimulus": np.array([f"s{i:03d}" for i in range(n)], dtype=object),
            **coords,
        },
    )


def cycles(rng: np.random.Generator, n: int, n_repeats: int) -> np.ndarray:
    """Every stimulus once per cycle, in random order."""
    return np.concatenate([rng.permutation(n) for _ in range(n_repeats)])


def drift(
    rng: np.random.Generator, n_presentations: int, n_units: int, *, strength: float = 0.35
) -> np.ndarray:
    """Slow gain of each unit: a random walk through few knots, (presentation, unit)."""
    knots = rng.normal(0, strength, (9, n_units))
    place = np.linspace(0, 8, n_presentations)
    return np.exp(np.column_stack([np.interp(place, np.arange(9), column) for column in knots.T]))


def _sizes(size: int) -> tuple[int, int]:
    return ((240, 4), (480, 4))[size]


def objects(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Labels belong to objects; units know each object by itself, and nothing of its labels."""
    n_objects, n_views = ((24, 10), (48, 5))[size]
    which = np.repeat(np.arange(n_objects), n_views)
    log_rate = tuned(rng, which, n_units=24)
    x, kind = rng.uniform(-1.7, 1.7, n_objects)[which], rng.integers(0, 3, n_objects)[which]
    return session(rng, log_rate, cycles(rng, len(which), 4), x=x, kind=kind)


def objects_named(rng: np.random.Generator, size: int) -> xr.Dataset:
    """The same with the column that says which object it is."""
    made = objects(rng, size)
    n_views = (10, 5)[size]
    names = np.array([f"object {i // n_views:02d}" for i in range(made.sizes["stimulus"])], dtype=object)
    return made.assign_coords(object=("stimulus", names))


def film(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Neighbouring frames are alike; labels are drawn per scene of 10 frames; in the film's order."""
    n, n_repeats = _sizes(size)
    walk = np.cumsum(rng.normal(size=(n, 6)), axis=0)
    walk = (walk - walk.mean(axis=0)) / walk.std(axis=0)
    log_rate = walk @ rng.normal(0, 0.3, (6, 24))
    scene = np.arange(n) // 10
    x, kind = rng.uniform(-1.7, 1.7, n // 10)[scene], rng.integers(0, 3, n // 10)[scene]
    return session(rng, log_rate, np.tile(np.arange(n), n_repeats), x=x, kind=kind)


def film_shuffled(rng: np.random.Generator, size: int) -> xr.Dataset:
    """The frames of a film in random order."""
    made = film(rng, size)
    n, n_repeats = _sizes(size)
    order = cycles(rng, n, n_repeats)
    first = {int(s): np.flatnonzero(made["stimulus_index"].values == s) for s in range(n)}
    rows = np.empty(len(order), dtype=np.int64)
    seen = np.zeros(n, dtype=np.int64)
    for i, s in enumerate(order):
        rows[i] = first[int(s)][seen[s]]
        seen[s] += 1
    counts = made["spike_count"].values[rows]
    return made.assign(spike_count=(("presentation", "unit"), counts), stimulus_index=("presentation", order))


def _untuned(
    rng: np.random.Generator, order: np.ndarray, kind: np.ndarray, *, strength: float = 0.35
) -> xr.Dataset:
    n = len(kind)
    x = rng.uniform(-1.7, 1.7, n)
    return session(
        rng, np.zeros((n, 24)), order, gain=drift(rng, len(order), 24, strength=strength), x=x, kind=kind
    )


def blocked(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Untuned units with slow gain drift; all repeats of a category come in one block."""
    n, n_repeats = _sizes(size)
    kind = np.arange(n) % 3
    order = np.concatenate(
        [rng.permutation(np.repeat(np.flatnonzero(kind == k), n_repeats)) for k in rng.permutation(3)]
    )
    return _untuned(rng, order, kind)


def blocks_of_20(rng: np.random.Generator, size: int) -> xr.Dataset:
    """The same in blocks of 20 images of one category, with all of their repeats, in random order."""
    n, n_repeats = _sizes(size)
    kind = np.arange(n) // 20 % 3
    order = np.concatenate(
        [rng.permutation(np.tile(20 * b + np.arange(20), n_repeats)) for b in rng.permutation(n // 20)]
    )
    return _untuned(rng, order, kind)


def fixed_cycle(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Untuned units; categories in one fixed order within every cycle, along which the gain falls."""
    n, n_repeats = _sizes(size)
    kind = np.arange(n) % 3
    one = [
        np.concatenate([rng.permutation(np.flatnonzero(kind == k)) for k in range(3)])
        for _ in range(n_repeats)
    ]
    order = np.concatenate(one)
    made_gain = drift(rng, len(order), 24) * np.exp(
        -0.3 * np.tile(np.linspace(0, 1, n), n_repeats)[:, None] * rng.uniform(0, 2, 24)
    )
    return session(rng, np.zeros((n, 24)), order, gain=made_gain, x=rng.uniform(-1.7, 1.7, n), kind=kind)


def once_in_blocks(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Every image once, in blocks of a category."""
    n = (240, 480)[size]
    kind = np.arange(n) // 20 % 3
    return _untuned(
        rng, np.concatenate([20 * b + rng.permutation(20) for b in rng.permutation(n // 20)]), kind
    )


def suppression(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Repetition suppression with unequal repeats: untuned units, fewer spikes at every repeat."""
    n = (240, 480)[size]
    repeats = rng.integers(2, 9, n)
    order = rng.permutation(np.repeat(np.arange(n), repeats))
    rank, seen = np.empty(len(order)), np.zeros(n)
    for i, s in enumerate(order):
        rank[i] = seen[s]
        seen[s] += 1
    gain = np.exp(-0.25 * rank[:, None] * rng.uniform(0.5, 1.5, 24))
    kind = rng.integers(0, 3, n)
    return session(rng, np.zeros((n, 24)), order, gain=gain, x=rng.uniform(-1.7, 1.7, n), kind=kind)


def correlated(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Units know the category alone; the number follows the category."""
    n, n_repeats = _sizes(size)
    kind = rng.integers(0, 3, n)
    x = 0.9 * (kind - 1.0) + 0.6 * rng.normal(size=n)
    log_rate = np.concatenate([tuned(rng, kind, n_units=16), np.zeros((n, 8))], axis=1)
    return session(rng, log_rate, cycles(rng, n, n_repeats), x=x, kind=kind)


def correlated_planted(rng: np.random.Generator, size: int) -> xr.Dataset:
    """The same with units that follow the number."""
    n, n_repeats = _sizes(size)
    kind = rng.integers(0, 3, n)
    x = 0.9 * (kind - 1.0) + 0.6 * rng.normal(size=n)
    return session(rng, tuned(rng, kind, x, n_units=12), cycles(rng, n, n_repeats), x=x, kind=kind)


def with_pixels(made: xr.Dataset, level: np.ndarray, rng: np.random.Generator) -> xr.Dataset:
    """Return a session with images whose luminance is this level, on a scale of its own."""
    texture = rng.normal(0, 20, (len(level), 12, 12))
    pixels = 128 + 30 * level[:, None, None] + texture - texture.mean(axis=(1, 2), keepdims=True)
    return made.assign(image=(("stimulus", "y", "x"), np.clip(pixels, 0, 255).round().astype(np.uint8)))


def luminance(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Units know luminance alone; categories differ in it, and the pixels show it."""
    n, n_repeats = _sizes(size)
    kind = rng.integers(0, 3, n)
    level = 0.8 * (kind - 1.0) + 0.6 * rng.normal(size=n)
    log_rate = np.concatenate([tuned(rng, level, n_units=16), np.zeros((n, 8))], axis=1)
    made = session(rng, log_rate, cycles(rng, n, n_repeats), x=rng.uniform(-1.7, 1.7, n), kind=kind)
    return with_pixels(made, level, rng)


def with_luminance_views(rng: np.random.Generator, size: int) -> xr.Dataset:
    """The same with 8 views of each object, whose luminance is the object's and the view's."""
    n_objects = (60, 90)[size]
    which = np.repeat(np.arange(n_objects), 8)
    kind = rng.integers(0, 3, n_objects)[which]
    level = 0.8 * (kind - 1.0) + 0.4 * rng.normal(size=n_objects)[which] + 0.4 * rng.normal(size=len(which))
    log_rate = np.concatenate([tuned(rng, level, n_units=16), np.zeros((len(which), 8))], axis=1)
    x = rng.uniform(-1.7, 1.7, len(which))
    made = session(rng, log_rate, cycles(rng, len(which), 4), x=x, kind=kind)
    names = np.array([f"object {i:02d}" for i in which], dtype=object)
    return with_pixels(made.assign_coords(object=("stimulus", names)), level, rng)


def with_luminance_correlated(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Units know category and luminance; a number follows both."""
    n, n_repeats = _sizes(size)
    kind = rng.integers(0, 3, n)
    level = 0.5 * (kind - 1.0) + 0.8 * rng.normal(size=n)
    x = 0.6 * (kind - 1.0) + 0.6 * level + 0.5 * rng.normal(size=n)
    log_rate = tuned(rng, kind, level, n_units=12)
    return with_pixels(session(rng, log_rate, cycles(rng, n, n_repeats), x=x, kind=kind), level, rng)


def with_luminance_blocked(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Untuned units with drift, blocked by category; categories differ in luminance."""
    made = blocked(rng, size)
    which = np.searchsorted(KINDS.astype(str), made["kind"].values.astype(str))
    return with_pixels(made, 0.8 * (which - 1.0) + 0.6 * rng.normal(size=len(which)), rng)


def plain(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Independent images in random order; units follow the number, the category and something unlabelled."""
    n, n_repeats = _sizes(size)
    x, hidden = rng.uniform(-1.7, 1.7, (2, n))
    kind = rng.integers(0, 3, n)
    return session(rng, tuned(rng, x, kind, hidden), cycles(rng, n, n_repeats), x=x, kind=kind)


def plain_drift(rng: np.random.Generator, size: int) -> xr.Dataset:
    """The same with slow drift, shared noise and unequal repeats."""
    n = (240, 480)[size]
    x, hidden = rng.uniform(-1.7, 1.7, (2, n))
    kind = rng.integers(0, 3, n)
    order = rng.permutation(np.repeat(np.arange(n), rng.integers(3, 6, n)))
    shared = np.exp(rng.normal(0, 0.2, (len(order), 1)) * rng.uniform(0, 1, 24))
    gain = drift(rng, len(order), 24) * shared
    return session(rng, tuned(rng, x, kind, hidden), order, gain=gain, x=x, kind=kind)


def labels_permuted(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Independent images, whose labels have nothing to do with the tuning."""
    n, n_repeats = _sizes(size)
    x, hidden = rng.uniform(-1.7, 1.7, (2, n))
    log_rate = tuned(rng, x, rng.integers(0, 3, n), hidden)
    return session(
        rng, log_rate, cycles(rng, n, n_repeats), x=rng.uniform(-1.7, 1.7, n), kind=rng.integers(0, 3, n)
    )


def objects_planted(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Objects of three categories, shown in 8 views; units know the category, the object and the view."""
    n_objects = (60, 90)[size]
    which = np.repeat(np.arange(n_objects), 8)
    kind = (np.arange(n_objects) % 3)[which]
    x = rng.uniform(-1.7, 1.7, len(which))
    log_rate = np.concatenate(
        [
            tuned(rng, kind, n_units=8, gain=0.6),
            tuned(rng, which, n_units=8, gain=0.5),
            tuned(rng, x, n_units=8),
        ],
        axis=1,
    )
    names = np.array([f"object {i:02d}" for i in which], dtype=object)
    made = session(rng, log_rate, cycles(rng, len(which), 4), x=x, kind=kind)
    return made.assign_coords(object=("stimulus", names))


def small(rng: np.random.Generator, size: int) -> xr.Dataset:
    """Few images with many repeats."""
    n, n_repeats = ((80, 20), (80, 40))[size]
    x, hidden = rng.uniform(-1.7, 1.7, (2, n))
    kind = rng.integers(0, 3, n)
    return session(rng, tuned(rng, x, kind, hidden), cycles(rng, n, n_repeats), x=x, kind=kind)


def small_labels(rng: np.random.Generator, size: int) -> xr.Dataset:
    """The same with labels that have nothing to do with the tuning."""
    made = small(rng, size)
    n = made.sizes["stimulus"]
    x, kind = rng.uniform(-1.7, 1.7, n), KINDS[rng.integers(0, 3, n)]
    return made.assign_coords(x=("stimulus", x), kind=("stimulus", kind))


BOTH = ("pose", "kind")
ALL_KINDS = {
    "objects": Kind(objects, BOTH),
    "objects-by": Kind(objects_named, BOTH, by="object"),
    "film": Kind(film, BOTH),
    "film-shuffled": Kind(film_shuffled, BOTH),
    "blocked": Kind(blocked, ("kind", "free", "pose")),
    "blocks-of-20": Kind(blocks_of_20, ("kind", "free", "pose")),
    "fixed-cycle": Kind(fixed_cycle, ("kind", "free", "pose")),
    "once-in-blocks": Kind(once_in_blocks, ("kind", "free", "pose")),
    "suppression": Kind(suppression, ("kind", "free", "pose")),
    "correlated": Kind(correlated, ("pose",), ("kind",)),
    "luminance": Kind(luminance, ("kind", "pose")),
    "with-luminance-views": Kind(with_luminance_views, ("kind", "pose"), by="object"),
    "with-luminance-correlated": Kind(with_luminance_correlated, ("pose",)),
    "with-luminance-blocked": Kind(with_luminance_blocked, ("kind", "free", "pose")),
    "labels": Kind(labels_permuted, BOTH),
    "plain": Kind(plain, (), BOTH),
    "plain-drift": Kind(plain_drift, (), BOTH),
    "correlated-planted": Kind(correlated_planted, (), BOTH),
    "objects-planted": Kind(objects_planted, (), ("kind",), by="object"),
    "small": Kind(small, (), BOTH, folds=4),
    "small-labels": Kind(small_labels, BOTH, folds=4),
}
