"""Stimulus labels: values with their kind, and their code in numbers."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import xarray as xr

Kind = Literal["numeric", "circular", "categorical"]


@dataclass(frozen=True, eq=False)
class Label:
    """One label of stimuli.

    Parameters
    ----------
    name : str
    values : numpy.ndarray, shape (n_stimuli,)
        float64 with NaN where missing; for a category, object array of str with "" where missing.
    kind : {"numeric", "circular", "categorical"}
    period : float
        Of a circular label, in its own unit; 0 for the others.
    """

    name: str
    values: np.ndarray
    kind: Kind
    period: float = 0.0

    @classmethod
    def of(cls, name: str, values: Any, *, period: float = 0.0) -> Label:
        """Make a label from values as they come.

        Parameters
        ----------
        name : str
        values : array_like, shape (n_stimuli,)
            Numbers make a numeric label, circular with a period; anything else, truth values too, a
            categorical one. NaN, None and "" are missing.
        period : float
            0 for a label that does not wrap.
        """
        array = np.asarray(values)
        if is_numeric(array):
            kind: Kind = "circular" if period else "numeric"
            return cls(name, array.astype(np.float64), kind, float(period))
        return cls(name, np.array([text(value) for value in array], dtype=object), "categorical")

    def __len__(self) -> int:
        return len(self.values)

    def __getitem__(self, stimuli: Any) -> Label:
        """Return the label of some stimuli: indices, a mask or a slice."""
        return Label(self.name, self.values[stimuli], self.kind, self.period)

    @property
    def is_categorical(self) -> bool:
        """Whether its values are names of categories."""
        return self.kind == "categorical"

    @property
    def present(self) -> np.ndarray:
        """Where it has a value, (n_stimuli,) bool."""
        return self.values != "" if self.is_categorical else np.isfinite(self.values)

    @property
    def classes(self) -> tuple[str, ...]:
        """Categories among the present values, sorted; none for numbers."""
        return tuple(sorted(set(self.values[self.present]))) if self.is_categorical else ()

    def code(self) -> LabelCode | None:
        """Return the code that these values call for; None where they do not vary."""
        if self.is_categorical:
            return LabelCode(self.name, classes=self.classes) if len(self.classes) > 1 else None
        numbers = self.values[self.present]
        if len(np.unique(numbers)) < 2:
            return None
        if self.period:
            return LabelCode(self.name, period=self.period)
        return LabelCode(self.name, mean=float(numbers.mean()), scale=float(numbers.std()))

    def __repr__(self) -> str:
        what = f"{len(self.classes)} classes" if self.is_categorical else self.kind
        wraps = f", period {self.period:g}" if self.period else ""
        return f"Label {self.name!r}: {what}{wraps}, {int(self.present.sum())} of {len(self)} stimuli"


def as_labels(values: Mapping[str, Any], *, circular: Mapping[str, float] | None = None) -> dict[str, Label]:
    """Make labels from arrays by name.

    Parameters
    ----------
    values : mapping of str to array_like, shape (n_stimuli,)
    circular : mapping of str to float, optional
        Period of numeric labels that wrap; 0 for one that does not.
    """
    circular = circular or {}
    return {name: Label.of(name, array, period=circular.get(name, 0.0)) for name, array in values.items()}


def select(labels: Mapping[str, Label], stimuli: Any) -> dict[str, Label]:
    """Return all labels of some stimuli: indices, a mask or a slice."""
    return {name: label[stimuli] for name, label in labels.items()}


def labels_dataset(labels: Mapping[str, Label], stimulus: np.ndarray) -> xr.Dataset:
    """Return labels as `Results.labels`: a variable per label along `stimulus`.

    Parameters
    ----------
    labels : mapping of str to Label
    stimulus : numpy.ndarray of str, shape (n_stimuli,)
    """
    data = {
        name: ("stimulus", label.values, {"period": label.period} if label.period else {})
        for name, label in labels.items()
    }
    return xr.Dataset(data, coords={"stimulus": stimulus.astype(object)} if data else None)


def labels_in(dataset: xr.Dataset) -> dict[str, Label]:
    """Return the labels that a dataset of `labels_dataset` holds."""
    return {
        str(name): Label.of(str(name), values.values, period=values.attrs.get("period", 0.0))
        for name, values in dataset.data_vars.items()
    }


def code_labels(labels: Mapping[str, Label]) -> tuple[LabelCode, ...]:
    """Return the code of each label from its (training) values; none for labels that do not vary."""
    codes = (label.code() for label in labels.values())
    return tuple(code for code in codes if code is not None)


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


def is_numeric(values: np.ndarray) -> bool:
    """Whether a label's values are numbers (truth values are categories)."""
    return np.issubdtype(np.asarray(values).dtype, np.number)


def text(value: object) -> str:
    """Return a categorical value as text, "" where it is missing."""
    return "" if value is None or (isinstance(value, float) and np.isnan(value)) else str(value)
