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
from nwb_migvis.read.sizes import whole
from nwb_migvis.read.table import precision_of

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
    values, place = whole(series.data), f"IndexSeries {series.name!r}"
    n_images, base = len(collection.images), contents.index_base
    return Presentations(
        layout=NAME,
        place=series.name,
        start_time=series_times(series, len(values)),
        image_index=positions(values, n_images, place=place, index_base=base or 0),
        images=collection.images,
        precision_s=0.0 if series.timestamps is None else precision_of(whole(series.timestamps)),
        index_question=index_question(values, n_images, place=place) if base is None else "",
    )


def index_question(values: np.ndarray, n_images: int, *, place: str) -> str:
    """Return why indices may count from 1 although NWB counts from 0, or "" where 0 occurs among them."""
    in_range = values[(values >= 0) & (values <= n_images)]
    if not len(in_range) or in_range.min() < 1:
        return ""
    is_past_last = in_range == n_images
    other = "the first image was never shown"
    if is_past_last.any():
        other += f" and the {int(is_past_last.sum())} with {n_images} are blanks"
    return (
        f"{place} holds {in_range.min():g} to {in_range.max():g} and never 0, for {n_images} images; it "
        f"counts from 1, or it counts from 0 and {other}: say which with index_base=1 or "
        "index_base=0 (--index-base)"
    )


def positions(values: np.ndarray, n_images: int | None, *, place: str, index_base: int = 0) -> np.ndarray:
    """Return indices as int64 positions from 0; -1 for blanks.

    Blanks are -1, NaN, numbers below `index_base`, and where `n_images` is given, beyond the images.

    Raises
    ------
    MigvisError
        For a fraction or a number below -1.
    """
    if values.ndim != 1:
        raise MigvisError(
            f"{place} has shape {values.shape}; expected one index per presentation: correct it"
        )
    if values.dtype.kind == "f":
        is_bad = np.isfinite(values) & (values != np.floor(values))
        if is_bad.any():
            raise MigvisError(
                f"{place} holds {values[is_bad][0]:g}; expected whole numbers: correct the file"
            )
        values = np.where(np.isfinite(values), values, BLANK)
    elif values.dtype.kind not in "iu":
        raise MigvisError(
            f"{place} holds values of type {values.dtype}; expected whole numbers: correct the file"
        )
    if values.dtype.kind != "u" and (values < BLANK).any():
        raise MigvisError(
            f"{place} holds {values.min():g}, which is neither the position of an image nor a blank (-1); "
            "correct the file"
        )
    index = np.full(len(values), BLANK, np.int64)
    is_image = values < (2**62 if n_images is None else n_images + index_base)
    index[is_image] = values[is_image]
    return np.where(index == BLANK, BLANK, np.maximum(index - index_base, BLANK))


def series_times(series: Any, n: int) -> np.ndarray:
    """Return the times of a time series' `n` samples, (n,) float64 in seconds.

    Raises
    ------
    MigvisError
        If it has no times, or their number differs.
    """
    if series.timestamps is not None:
        times = whole(series.timestamps)
        if times.dtype.kind not in "iuf":
            raise MigvisError(f"{series.name}: timestamps are of type {times.dtype}; expected seconds")
        times = times.astype(np.float64)
    elif series.rate is not None:
        if not (np.isfinite(series.rate) and series.rate > 0):
            raise MigvisError(
                f"{series.name}: rate is {series.rate:g}; expected samples per second, above 0: correct it"
            )
        times = (series.starting_time or 0.0) + np.arange(n) / series.rate
    else:
        raise MigvisError(
            f"{series.name} has neither timestamps nor a rate; expected when each image was shown"
        )
    if times.shape != (n,):
        raise MigvisError(
            f"{series.name} has {n} values and {len(times)} timestamps; expected as many: correct the file"
        )
    return times
