"""What may be exchanged: rows that are independent in the design, or whole levels of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from nwb_migvis.evidence.significance import permutations
from nwb_migvis.labels import Label, text


@dataclass(frozen=True, eq=False)
class Exchange:
    """Levels of a design: rows of one level stay together in every null, resample, fold and split.

    Parameters
    ----------
    level : numpy.ndarray of int, shape (n_rows,)
        From 0, none left out.
    """

    level: np.ndarray

    @classmethod
    def singles(cls, n: int) -> Exchange:
        """Return the design whose rows are all independent."""
        return cls(np.arange(n))

    @classmethod
    def of(cls, values: Any) -> Exchange:
        """Return the levels of a column, (n_rows,); a row without a value is a level of its own."""
        names = [text(value) or f"\0{row}" for row, value in enumerate(values)]
        return cls(np.unique(np.array(names, dtype=object).astype(str), return_inverse=True)[1].ravel())

    def __len__(self) -> int:
        return len(self.level)

    def __getitem__(self, rows: np.ndarray) -> Exchange:
        """Return the design of some rows: indices or a mask."""
        return Exchange(np.unique(self.level[rows], return_inverse=True)[1].ravel())

    @cached_property
    def members(self) -> list[np.ndarray]:
        """Rows of each level."""
        order = np.argsort(self.level, kind="stable")
        return np.split(order, np.cumsum(np.bincount(self.level))[:-1])

    @property
    def n_levels(self) -> int:
        """Number of independent things."""
        return len(self.members) if len(self.level) else 0

    @property
    def is_single(self) -> bool:
        """Whether every row is a level of its own."""
        return self.n_levels == len(self)

    def holds(self, label: Label) -> bool:
        """Whether a label is constant within every level."""
        return all(len({text(value) for value in label.values[rows]}) < 2 for rows in self.members)

    def permutations(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw permutations of whole levels, (n, n_rows) int64 of rows.

        Every row of a level gets a row of the one level that takes its place. Rows within a level come in
        random order; a larger level goes through the rows of a smaller one again. A label that is constant
        within levels is thus permuted over levels.
        """
        if self.is_single:
            return permutations(len(self), n, rng=rng)
        drawn = np.empty((n, len(self)), dtype=np.int64)
        for order, row in zip(permutations(self.n_levels, n, rng=rng), drawn, strict=True):
            for rows, by in zip(self.members, order, strict=True):
                row[rows] = np.resize(rng.permutation(self.members[by]), len(rows))
        return drawn

    def permutations_within(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw permutations of the rows of each level among themselves, (n, n_rows) int64."""
        drawn = np.empty((n, len(self)), dtype=np.int64)
        for rows in self.members:
            drawn[:, rows] = rng.permuted(np.tile(rows, (n, 1)), axis=1)
        return drawn

    def bootstrap(self, n: int, rng: np.random.Generator) -> np.ndarray:
        """Draw levels with replacement: how often each row is in each resample, (n, n_rows) float64."""
        k = self.n_levels
        return rng.multinomial(k, np.full(k, 1 / k), size=n).astype(np.float64)[:, self.level]

    def folds(self, k: int, rng: np.random.Generator) -> np.ndarray:
        """Put whole levels into k folds, (n_rows,) int."""
        return rng.permutation(np.arange(self.n_levels) % k)[self.level]


def combined_values(labels: Mapping[str, Label]) -> Exchange:
    """Return the combinations of labels' values as levels."""
    columns = [[text(value) for value in label.values] for label in labels.values()]
    _, level = np.unique(np.array(columns, dtype=str), axis=1, return_inverse=True)
    return Exchange(level.ravel())


def label_exchanges(
    labels: Mapping[str, Label], *, by: Exchange | None = None
) -> tuple[dict[str, Exchange], str]:
    """Choose what is exchanged in the null of each label.

    With a column it is that column's levels. Without one it is the levels of another category that the label
    is constant in (every object has one kind). Else it is the combinations of all labels' values, where at
    least two images in each share them on average. The classes of a single category are not exchanged among
    themselves: no null would be left.

    Parameters
    ----------
    labels : mapping of str to Label (n_stimuli,)
    by : Exchange, optional
        Levels of the column that is named in `split.by`.

    Returns
    -------
    by_label : dict of str to Exchange
    note : str
        What was found and what to do, where images share all values and no column was named; else "".
    """
    if by is not None or not labels:
        return dict.fromkeys(labels, by) if by is not None else {}, ""
    n = len(next(iter(labels.values())))
    together = combined_values(labels)
    repeats = together.n_levels <= n / 2
    note = (
        f"{n} images have {together.n_levels} combinations of labels: images that show the same object, "
        "scene or film are not independent; name the column that says so in split.by"
        if repeats
        else ""
    )
    return {name: _exchange(name, labels, together if repeats else None) for name in labels}, note


def _exchange(name: str, labels: Mapping[str, Label], together: Exchange | None) -> Exchange:
    label = labels[name]
    n_values = len({text(value) for value in label.values})
    if together is not None and together.n_levels > (n_values if label.is_categorical else 0):
        return together
    finer = [
        levels
        for other, it in labels.items()
        if other != name and it.is_categorical and len(it.classes) > n_values
        for levels in [Exchange.of(it.values)]
        if levels.n_levels <= len(label) / 2 and levels.holds(label)
    ]
    return min(finer, key=lambda levels: levels.n_levels) if finer else Exchange.singles(len(label))


def determined_by(label: Label, others: Mapping[str, Label]) -> set[str]:
    """Return the names of the other categories within whose classes a label never varies."""
    return {
        name
        for name, other in others.items()
        if other.is_categorical and len(other.classes) > 1 and Exchange.of(other.values).holds(label)
    }
