"""`IndexSeries` whose values are positions among images: the layout that NWB recommends.

The images are an `Images` container with `order_of_images`, or (deprecated) the frames of an
`ImageSeries`, in the manner of Allen Visual Behavior files, where the frames' names are in the template's
`control_description`. An index that names no image is a blank.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import Contents
from nwb_migvis.read.presentations import BLANK, Presentations, Problem

NAME = "index_series"


def find(contents: Contents, stimulus: str | None) -> Iterator[Presentations | Problem]:
    """Yield a reading for each `IndexSeries` of the file."""
    from pynwb.image import IndexSeries

    for series in contents.series:
        if not isinstance(series, IndexSeries):
            continue
        try:
            yield _read(contents, series)
        except MigvisError as error:
            yield Problem(NAME, series.name, str(error))


def _read(contents: Contents, series: Any) -> Presentations:
    if series.indexed_images is not None:
        collection = contents.images_collection(series.indexed_images)
    else:
        collection = contents.frames_collection(series.indexed_timeseries)
    if not collection.is_ordered:
        raise MigvisError(
            f"IndexSeries {series.name!r} counts positions in Images {collection.name!r}, which has no "
            "order_of_images; expected one, or names that end in 0 .. n - 1: add order_of_images"
        )
    values = np.asarray(series.data[:])
    return Presentations(
        layout=NAME,
        place=series.name,
        start_time=series_times(series, len(values)),
        image_index=positions(values, len(collection.images), place=f"IndexSeries {series.name!r}"),
        images=collection.images,
    )


def positions(values: np.ndarray, n_images: int | None, *, place: str) -> np.ndarray:
    """Return indices as int64 positions; -1 for blanks: -1, NaN, and where `n_images` is known, beyond it.

    Raises
    ------
    MigvisError
        For a fraction or a number below -1.
    """
    if values.dtype.kind == "f":
        is_bad = np.isfinite(values) & (values != np.floor(values))
        if is_bad.any():
            raise MigvisError(f"{place} holds {values[is_bad][0]:g}; expected whole numbers: mend the file")
        values = np.where(np.isfinite(values), values, BLANK)
    elif values.dtype.kind not in "iu":
        raise MigvisError(
            f"{place} holds values of type {values.dtype}; expected whole numbers: mend the file"
        )
    if values.dtype.kind != "u" and (values < BLANK).any():
        raise MigvisError(
            f"{place} holds {values.min():g}, which is neither the position of an image nor a blank (-1); "
            "mend the file"
        )
    found = np.full(len(values), BLANK, np.int64)
    is_image = values < (2**62 if n_images is None else n_images)
    found[is_image] = values[is_image]
    return found


def series_times(series: Any, n: int) -> np.ndarray:
    """Return the times of a time series' `n` samples, (n,) float64 in seconds.

    Raises
    ------
    MigvisError
        If it has no times, or their number differs.
    """
    if series.timestamps is not None:
        times = np.asarray(series.timestamps[:], np.float64)
    elif series.rate:
        times = (series.starting_time or 0.0) + np.arange(n) / series.rate
    else:
        raise MigvisError(
            f"{series.name} has neither timestamps nor a rate; expected when each image was shown"
        )
    if times.shape != (n,):
        raise MigvisError(
            f"{series.name} has {n} values and {len(times)} timestamps; expected as many: mend the file"
        )
    return times
