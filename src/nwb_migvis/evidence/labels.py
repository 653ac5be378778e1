"""Stimulus labels as numbers: what a reader or decoder is trained to give, and how well it does."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class LabelCode:
    """How one label is turned into columns of numbers.

    Attributes
    ----------
    name : str
    classes : tuple of str
        Values of a categorical label in sorted order; empty for a numeric one.
    period : float
        Period of a numeric label that wraps, coded as cosine and sine; 0 for one that does not.
    mean, scale : float
        Of the numeric training values that do not wrap.
    """

    name: str
    classes: tuple[str, ...] = ()
    period: float = 0.0
    mean: float = 0.0
    scale: float = 1.0

    @property
    def n_columns(self) -> int:
        """Number of columns that the label is coded in."""
        return len(self.classes) or (2 if self.period else 1)

    def encode(self, values: np.ndarray) -> np.ndarray:
        """Code values as (n, n_columns): one-hot, standardised, or (cosine, sine).

        Rows of missing values (NaN, "", None, a class that is not in `classes`) are NaN.
        """
        if self.classes:
            index = self.class_index(values)
            return np.where(index[:, None] < 0, np.nan, index[:, None] == np.arange(len(self.classes)))
        numbers = np.asarray(values, dtype=np.float64)
        if self.period:
            angle = 2 * np.pi * numbers / self.period
            return np.stack([np.cos(angle), np.sin(angle)], axis=1)
        return ((numbers - self.mean) / self.scale)[:, None]

    def class_index(self, values: np.ndarray) -> np.ndarray:
        """Position of each value in `classes`, (n,) int64; -1 where missing."""
        place = {value: i for i, value in enumerate(self.classes)}
        return np.array([place.get(text(value), -1) for value in np.asarray(values)], dtype=np.int64)

    def decode(self, columns: np.ndarray) -> np.ndarray:
        """Turn predicted columns into readings.

        Parameters
        ----------
        columns : array (n, n_columns)
            For a category the probabilities of its classes.

        Returns
        -------
        array
            (n,) in the label's own unit, (n, 2) cosine and sine for a label that wraps, or the
            (n, n_classes) probabilities.
        """
        if self.classes or self.period:
            return columns
        return columns[:, 0] * self.scale + self.mean

    def readings(self, values: np.ndarray) -> np.ndarray:
        """True values in the form of `decode`'s result."""
        return self.decode(self.encode(values))


def code_labels(
    labels: Mapping[str, np.ndarray], *, circular: Mapping[str, float] | None = None
) -> tuple[LabelCode, ...]:
    """Choose a code for each label from its training values.

    Parameters
    ----------
    labels : mapping of str to array (n,)
        Numbers make a numeric label, anything else a categorical one; NaN, "" and None are missing.
    circular : mapping of str to float, optional
        Period of numeric labels that wrap; 0 for one that does not.

    Returns
    -------
    tuple of LabelCode
        Labels that do not vary among their present values are left out: nothing can be learned.
    """
    circular = circular or {}
    codes = (_code(name, np.asarray(values), circular.get(name, 0.0)) for name, values in labels.items())
    return tuple(code for code in codes if code is not None)


def by_presence(encoded: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, list[str]]]:
    """Put labels together that are present in the same rows.

    Parameters
    ----------
    encoded : mapping of str to array (n, n_columns)
        As `LabelCode.encode` gives them.

    Returns
    -------
    list of (mask, names)
        The rows, (n,) bool, and the labels that have a value in exactly those.
    """
    together: dict[bytes, tuple[np.ndarray, list[str]]] = {}
    for name, columns in encoded.items():
        present = np.isfinite(columns).all(axis=1)
        together.setdefault(present.tobytes(), (present, []))[1].append(name)
    return list(together.values())


def is_numeric(values: np.ndarray) -> bool:
    """Whether a label's values are numbers (truth values are categories)."""
    return np.issubdtype(np.asarray(values).dtype, np.number)


def text(value: object) -> str:
    """Return a categorical value as text, "" where it is missing."""
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)


def label_score(code: LabelCode, readings: np.ndarray, values: np.ndarray) -> float:
    """Score readings against true values: 1 for perfect, 0 for no better than a guess.

    Parameters
    ----------
    code : LabelCode
    readings : array
        As `LabelCode.decode` gives them.
    values : array (n,)
        True values; missing ones are left out.

    Returns
    -------
    float
        R2 for a numeric label (over cosine and sine together for one that wraps). For a categorical one
        balanced accuracy above chance, (accuracy - 1 / K) / (1 - 1 / K) with K the classes present. NaN
        where the values present do not vary.
    """
    if code.classes:
        return _balanced_accuracy(code.class_index(values), readings.argmax(axis=1))
    truth = code.readings(values).reshape(len(readings), -1)
    present = np.isfinite(truth).all(axis=1)
    truth, read = truth[present], readings.reshape(len(readings), -1)[present]
    if len(truth) < 2:
        return float("nan")
    variance = ((truth - truth.mean(axis=0)) ** 2).sum()
    return float(1 - ((truth - read) ** 2).sum() / variance) if variance > 0 else float("nan")


def _balanced_accuracy(truth: np.ndarray, read: np.ndarray) -> float:
    classes = np.unique(truth[truth >= 0])
    if len(classes) < 2:
        return float("nan")
    accuracy = np.mean([(read[truth == c] == c).mean() for c in classes])
    chance = 1 / len(classes)
    return float((accuracy - chance) / (1 - chance))


def _code(name: str, values: np.ndarray, period: float) -> LabelCode | None:
    if not is_numeric(values):
        classes = tuple(sorted({text(value) for value in values} - {""}))
        return LabelCode(name, classes=classes) if len(classes) > 1 else None
    numbers = np.asarray(values, dtype=np.float64)
    numbers = numbers[np.isfinite(numbers)]
    if len(np.unique(numbers)) < 2:
        return None
    if period:
        return LabelCode(name, period=period)
    return LabelCode(name, mean=float(numbers.mean()), scale=float(numbers.std()))
