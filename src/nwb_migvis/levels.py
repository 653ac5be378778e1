"""What may be exchanged: rows that are independent in the design, or whole levels of them."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.labels import Label, text

EACH_STIMULUS = "stimulus"
"""Value of `split.by` that says that every image is independent of the others."""
MIN_LEVELS = 10
"""Fewer combinations of labels than this are not split: no test of five of them could tell anything."""


def permutations(n: int, n_permutations: int, *, rng: np.random.Generator) -> np.ndarray:
    """Draw random permutations of n rows, (permutation, n) int64."""
    return rng.permuted(np.tile(np.arange(n), (n_permutations, 1)), axis=1)


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
    """Return the combinations of labels' values as levels; a row that lacks a value is a level of its own."""
    columns = [[text(value) for value in label.values] for label in labels.values()]
    is_whole = np.all([label.present for label in labels.values()], axis=0)
    columns.append(["" if whole else str(row) for row, whole in enumerate(is_whole)])
    _, level = np.unique(np.array(columns, dtype=str), axis=1, return_inverse=True)
    return Exchange(level.ravel())


@dataclass(frozen=True, kw_only=True)
class Design:
    """What is independent in a set of stimuli: how they are split, and what is exchanged in each null.

    Attributes
    ----------
    split : Exchange
        Levels that a split keeps whole.
    by_label : mapping of str to Exchange
        What is exchanged in the null of each label.
    unmeasured : mapping of str to str
        Labels that this split cannot test, with why and what to do.
    notes : tuple of str
        What was noticed.
    """

    split: Exchange
    by_label: Mapping[str, Exchange] = field(default_factory=dict)
    unmeasured: Mapping[str, str] = field(default_factory=dict)
    notes: tuple[str, ...] = ()

    def __getitem__(self, rows: np.ndarray) -> Design:
        """Return the design of some stimuli: indices or a mask."""
        by_label = {name: levels[rows] for name, levels in self.by_label.items()}
        return replace(self, split=self.split[rows], by_label=by_label)


def choose_design(
    labels: Mapping[str, Label], *, n: int, supervising: Collection[str] = (), by: str = ""
) -> Design:
    """Choose what stays together in splits, folds, permutations and resamples.

    With a column it is that column's levels. Without one:

    - Where two or more images share all their labels' values on average, numbers among them, these
      combinations: images of one object, scene or film are rarely independent. Categories alone say nothing
      of the kind: many independent images are of one kind.
    - Else, where a category determines a supervising label (every object has one kind), its classes. If that
      category supervises a group of its own, its classes must be in every part of the split. Then the label
      that it determines cannot be tested.
    - Else every image is on its own.

    Parameters
    ----------
    labels : mapping of str to Label (n_stimuli,)
    n : int
        Number of stimuli.
    supervising : collection of str
        Labels that supervise a group.
    by : str
        `split.by`: a label, or `"stimulus"` for images that are independent whatever their labels.

    Raises
    ------
    MigvisError
        If the column is not a label of the session, or lacks a value.
    """
    singles = Exchange.singles(n)
    if by == EACH_STIMULUS:
        return Design(split=singles, by_label=dict.fromkeys(labels, singles))
    if by:
        return _named_design(by, labels, supervising)
    together = combined_values(labels) if labels else singles
    if together.n_levels <= n / 2 and any(not label.is_categorical for label in labels.values()):
        return _combined_design(together, labels)
    nested = {
        name: finer for name in supervising if name in labels and (finer := _finest(labels[name], labels))
    }
    free = [finer for finer in nested.values() if finer not in supervising]
    if free:
        finer = max(free, key=lambda name: len(labels[name].classes))
        levels = Exchange.of(labels[finer].values)
        constant = [name for name in nested if levels.holds(labels[name])]
        note = (
            f"{', '.join(constant)} {'is' if len(constant) == 1 else 'are'} the same for all images of one "
            f"{finer}: they were kept together, as with split.by = {finer!r}"
        )
        return Design(split=levels, by_label=dict.fromkeys(labels, levels), notes=(note,))
    by_label = {
        name: Exchange.of(labels[nested[name]].values) if name in nested else singles for name in labels
    }
    unmeasured = {
        name: f"every {finer} has one {name}, and images of each were trained on; set split.by = {finer!r}"
        for name, finer in nested.items()
    }
    return Design(split=singles, by_label=by_label, unmeasured=unmeasured)


def _combined_design(together: Exchange, labels: Mapping[str, Label]) -> Design:
    n = len(together)
    finding = f"{n} images have {together.n_levels} combinations of labels"
    way_out = (
        "name the column that says what belongs together in split.by, or set split.by = "
        f"{EACH_STIMULUS!r} if nothing does"
    )
    if together.n_levels < MIN_LEVELS:
        why = f"{finding}, too few to exchange; {way_out}"
        singles = Exchange.singles(n)
        unmeasured = dict.fromkeys(labels, why)
        return Design(
            split=singles, by_label=dict.fromkeys(labels, singles), unmeasured=unmeasured, notes=(why,)
        )
    note = (
        f"{finding}: images of one object, scene or film are not independent, so that combinations were kept "
        f"together and exchanged; {way_out}"
    )
    why = "images that share all their labels are kept together, so that none that is tested was learned"
    unmeasured = {
        name: f"{why}; {way_out}"
        for name, label in labels.items()
        if label.is_categorical and len(label.classes) >= together.n_levels
    }
    by_label = dict.fromkeys(labels, together)
    return Design(split=together, by_label=by_label, unmeasured=unmeasured, notes=(note,))


def _named_design(by: str, labels: Mapping[str, Label], supervising: Collection[str]) -> Design:
    if by not in labels:
        raise MigvisError(
            f"split.by: found {by!r}; expected a label of the images ({', '.join(labels) or 'none here'}) or "
            f"{EACH_STIMULUS!r}; give a CSV with that column, or another name"
        )
    absent = int((~labels[by].present).sum())
    if absent:
        raise MigvisError(
            f"split.by: label {by!r} has no value for {absent} of {len(labels[by])} images; expected one for "
            "each; fill them in, or name another column"
        )
    levels = Exchange.of(labels[by].values)
    why = f"images of a {by} are kept together, so that none that is tested was learned; omit split.by"
    unmeasured = {by: why} if by in supervising and labels[by].is_categorical else {}
    return Design(split=levels, by_label=dict.fromkeys(labels, levels), unmeasured=unmeasured)


def _finest(label: Label, labels: Mapping[str, Label]) -> str:
    """Return the category with the most classes that determines a label, "" where there is none."""
    finer = {
        name: len(other.classes)
        for name, other in labels.items()
        if name != label.name
        and other.is_categorical
        and other.present.all()
        and len({text(value) for value in label.values}) < len(other.classes) <= len(label) / 2
        and Exchange.of(other.values).holds(label)
    }
    return max(finer, key=lambda name: finer[name]) if finer else ""


def determined_by(label: Label, others: Mapping[str, Label]) -> set[str]:
    """Return the names of the other categories within whose classes a label never varies."""
    return {
        name
        for name, other in others.items()
        if other.is_categorical and len(other.classes) > 1 and Exchange.of(other.values).holds(label)
    }
