"""What a layout finds in a file: which image was shown when, and where its pixels are."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np

from nwb_migvis.read.pixels import Pixels

BLANK = -1
"""Value of `Presentations.image_index` where no image was shown."""


@dataclass(frozen=True)
class StimulusImage:
    """One image of a session.

    Attributes
    ----------
    name : str
        Its name in the file; "" where it has none.
    pixels : Pixels, optional
        Where its pixels are, where that is known.
    attributes : mapping of str to scalar
        What the file says about the image itself.
    """

    name: str
    pixels: Pixels | None = None
    attributes: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Presentations:
    """One way to read the presentations of a file.

    Attributes
    ----------
    layout : str
        Name of the layout.
    place : str
        Name of the series or table that gives the presentations.
    start_time : numpy.ndarray
        (presentation,) float64, seconds; NaN where unknown.
    image_index : numpy.ndarray
        (presentation,) int64 position in `images`; -1 for a blank.
    images : sequence of StimulusImage
    stop_time : numpy.ndarray, optional
        (presentation,) float64, seconds.
    columns : mapping of str to numpy.ndarray
        (presentation,) what the file says about each presentation.
    not_labels : frozenset of str
        Columns that can never be labels of the images.
    merges_images : bool
        Several entries of `images` may be one and the same image.
    is_numbered : bool
        The names of `images` are numbers that the layout counts with, not names of the images.
    tables : tuple of str
        Tables whose columns were joined.
    unit_tables : tuple of pynwb.misc.Units
        Tables of units that stand for the file's own, where presentations have different clocks.
    unit_table_index : numpy.ndarray, optional
        (presentation,) int64, which of `unit_tables` counts.
    precision_s : float
        How far the type that the times are stored in rounds them, seconds.
    index_question : str
        Why the file does not say whether positions count from 0 or 1; "" where it does.
    n_merged : int
        Samples of showings that began with an earlier sample and were merged with it.
    not_joined : mapping of str to str
        Tables whose columns were omitted although they cover the presentations, and why.
    table_path : str
        Where the table is whose rows are the presentations; "" where they are those of a series, or of
        several tables.
    table_row : numpy.ndarray, optional
        (presentation,) int64, their rows there.
    """

    layout: str
    place: str
    start_time: np.ndarray
    image_index: np.ndarray
    images: Sequence[StimulusImage]
    stop_time: np.ndarray | None = None
    columns: Mapping[str, np.ndarray] = field(default_factory=dict)
    not_labels: frozenset[str] = frozenset()
    merges_images: bool = False
    is_numbered: bool = False
    tables: tuple[str, ...] = ()
    unit_tables: tuple[Any, ...] = ()
    unit_table_index: np.ndarray | None = None
    precision_s: float = 0.0
    index_question: str = ""
    n_merged: int = 0
    not_joined: Mapping[str, str] = field(default_factory=dict)
    table_path: str = ""
    table_row: np.ndarray | None = None

    def taken(self, keep: np.ndarray) -> Presentations:
        """Return only the presentations for which `keep`, (presentation,) bool, is true."""
        return replace(
            self,
            start_time=self.start_time[keep],
            stop_time=None if self.stop_time is None else self.stop_time[keep],
            image_index=self.image_index[keep],
            table_row=None if self.table_row is None else self.table_row[keep],
            unit_table_index=None if self.unit_table_index is None else self.unit_table_index[keep],
            columns={name: values[keep] for name, values in self.columns.items()},
        )

    def with_not_joined(self, reasons: Mapping[str, str]) -> Presentations:
        """Return the same presentations with further places that are not joined, and why."""
        return replace(self, not_joined={**self.not_joined, **reasons}) if reasons else self

    def is_called(self, layout: str) -> bool:
        """Return whether a `layout` asked for means this reading: its layout, its place, or LAYOUT:PLACE."""
        return layout in (self.layout, self.place, self.full_name)

    @property
    def full_name(self) -> str:
        """The name that tells this reading from any other of the file."""
        return f"{self.layout}:{self.place}"


@dataclass(frozen=True)
class Problem:
    """Something that looks like a layout but cannot be read, and why.

    Attributes
    ----------
    layout, place, message : str
    is_certain : bool
        Whether it can be nothing but presentations; else it matters only where nothing can be read.
    """

    layout: str
    place: str
    message: str
    is_certain: bool = True

    def is_called(self, layout: str) -> bool:
        """Return whether a `layout` asked for means this reading."""
        return layout in (self.layout, self.place, f"{self.layout}:{self.place}")
