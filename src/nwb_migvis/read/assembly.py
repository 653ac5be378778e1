"""From a reading of presentations to a session dataset."""

from __future__ import annotations

from collections.abc import Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from enum import Enum
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import free_name, nearest
from nwb_migvis.read.blocks import LazyCounts
from nwb_migvis.read.folder import images_by_stimulus, supplied_images
from nwb_migvis.read.labels import (
    MOST_TEXT,
    agreed_labels,
    labels_from_csv,
    labels_of_images,
    labels_of_presentations,
    longest_text,
)
from nwb_migvis.read.pixels import Decoder, ImageStack, OpenFiles
from nwb_migvis.read.presentations import BLANK, Presentations, StimulusImage
from nwb_migvis.read.times import overlaps

OWN_NAMES = (
    "spike_count",
    "stimulus_index",
    "start_time",
    "image",
    "table_row",
    "observed",
    "unit",
    "unit_row",
    "electrode_group",
    "stimulus",
    "presentation",
    "y",
    "x",
    "channel",
)
"""Names of a session dataset that no label or column can take."""


@dataclass(frozen=True)
class Shown:
    """The presentations that become rows, and how many did not and why."""

    reading: Presentations
    n_blank: int
    dropped: dict[str, int]

    def taken(self, keep: np.ndarray, reason: str) -> Shown:
        """Drop the presentations for which `keep`, (presentation,) bool, is false, counted under a reason."""
        if keep.all():
            return self
        dropped = {**self.dropped, reason: int((~keep).sum())}
        return Shown(self.reading.taken(keep), self.n_blank, dropped)


@dataclass(frozen=True)
class Excluded:
    """What says that presentations are not to be used.

    Attributes
    ----------
    where : str, optional
        Boolean column that must be true.
    invalid_times : numpy.ndarray
        (interval, 2) seconds.
    window_s : (float, float)
        Counting window; a presentation is invalid where its onset or this lies in an invalid interval.
    """

    where: str | None = None
    invalid_times: np.ndarray = field(default_factory=lambda: np.empty((0, 2)))
    window_s: tuple[float, float] = (0.0, 0.0)


def shown_presentations(reading: Presentations, excluded: Excluded) -> Shown:
    """Omit blanks, presentations without a start or in invalid times, and those where `where` is not true.

    Raises
    ------
    MigvisError
        If none is left, or `where` is not a boolean column.
    """
    is_blank = reading.image_index == BLANK
    is_nan = ~np.isfinite(reading.start_time) & ~is_blank
    if is_blank.all():
        raise MigvisError(
            f"no stimuli: {reading.place} has {len(is_blank)} presentations and no image among them"
        )
    if (is_nan | is_blank).all():
        raise MigvisError(
            f"{reading.place}: every presentation has a NaN start time; expected seconds: correct the file"
        )
    dropped: dict[str, int] = {}
    keep = ~is_blank & ~is_nan
    if is_nan.any():
        dropped["start_time is NaN"] = int(is_nan.sum())
    is_invalid = keep & overlaps(reading.start_time, excluded.window_s, excluded.invalid_times)
    if is_invalid.any():
        dropped["in invalid_times"] = int(is_invalid.sum())
        keep &= ~is_invalid
    if not keep.any():
        raise MigvisError(
            f"{reading.place}: all presentations lie in invalid_times, which says that nothing then is to be "
            "analysed; give a session with others"
        )
    if excluded.where is not None:
        is_true = _true_where(reading, excluded.where)
        if (keep & ~is_true).any():
            dropped[f"{excluded.where} is not true"] = int((keep & ~is_true).sum())
        keep &= is_true
        if not keep.any():
            raise MigvisError(
                f"column {excluded.where!r} (where=) is true for no presentation of {reading.place}; choose "
                "another"
            )
    return Shown(reading.taken(keep), int(is_blank.sum()), dropped)


def _true_where(reading: Presentations, where: str) -> np.ndarray:
    if where not in reading.columns:
        columns = nearest(where, sorted(reading.columns), most=40) or "none"
        raise MigvisError(f"no presentation column {where!r} (where=); expected one of: {columns}")
    values = reading.columns[where]
    numbers = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if values.dtype.kind not in "biuf" or not np.isin(numbers, (0, 1)).all():
        raise MigvisError(
            f"presentation column {where!r} (where=) is not true or false; choose a boolean column"
        )
    return values == 1


class Need(Enum):
    """What to do about images without pixels."""

    ALL = "every image must have pixels"
    ALL_OR_NONE = "either every image has pixels or none"
    NOTHING = "unless every image has pixels, go on without"


def with_pixels(
    reading: Presentations, images: str | Path | Mapping[str, str | Path] | None, *, need: Need
) -> Presentations:
    """Return a reading of the images that were shown, with the user's files where the session has no pixels.

    Raises
    ------
    MigvisError
        If images lack pixels that are needed.
    """
    images = images_by_stimulus(images)
    positions, image_index = np.unique(reading.image_index, return_inverse=True)
    shown = [reading.images[i] for i in positions]
    bare = [i for i, image in enumerate(shown) if image.pixels is None]
    if bare and images is not None:
        files = supplied_images([shown[i].name for i in bare], images)
        for i, file in zip(bare, files, strict=True):
            shown[i] = replace(shown[i], pixels=file)
    elif bare and need is Need.NOTHING:
        shown = [replace(image, pixels=None) for image in shown]
    elif bare and (need is Need.ALL or len(bare) < len(shown)):
        raise MigvisError(
            f"{reading.place}: {len(bare)} of {len(shown)} images have no pixels in the file, first "
            f"{shown[bare[0]].name!r}; give a folder with images=FOLDER (--images DIR), or go on without "
            "pixels with stimulus=COLUMN (--stimulus)"
        )
    return replace(reading, images=shown, image_index=image_index.astype(np.int64))


@dataclass(frozen=True)
class Stimuli:
    """The images of a session: ids, pixels, attributes, and which one each presentation showed."""

    names: list[str]
    index: np.ndarray
    attributes: list[Mapping[str, Any]]
    stack: ImageStack | None


def session_stimuli(
    reading: Presentations, *, resize_px: tuple[int, int] | None, channel_order: str
) -> Stimuli:
    """Name the images that were shown, by their pixels where nameless, and merge those of one name."""
    sources = [image.pixels for image in reading.images if image.pixels is not None]
    decoder = Decoder(sources, channel_order=channel_order)
    names = _named_by_pixels(reading.images, decoder)
    if (longest := longest_text(names)) > MOST_TEXT:
        raise MigvisError(
            f"{reading.place}: an image has a name of {longest} characters; expected at most {MOST_TEXT}: "
            "correct the file"
        )
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        first.setdefault(name, i)
    unique = [reading.images[i] for i in first.values()]
    place = {name: k for k, name in enumerate(first)}
    row_of = np.array([place[name] for name in names], np.int64)
    stack = None
    if sources:
        pixels = [image.pixels for image in unique if image.pixels is not None]
        stack = ImageStack(pixels, names=list(first), decoder=decoder, resize_px=resize_px)
    return Stimuli(list(first), row_of[reading.image_index], [image.attributes for image in unique], stack)


def _named_by_pixels(images: Sequence[StimulusImage], decoder: Decoder) -> list[str]:
    if all(image.name for image in images):
        return [image.name for image in images]
    with OpenFiles() as files:
        return [
            image.name if image.name or image.pixels is None else decoder.digest(image.pixels, files)
            for image in images
        ]


@dataclass(frozen=True)
class Counted:
    """Units and their responses.

    Attributes
    ----------
    spike_count : numpy.ndarray or LazyCounts
        (presentation, unit) unsigned integer.
    units : numpy.ndarray
        (unit,) ids.
    rows : numpy.ndarray, optional
        (unit,) int64, their rows in the table or sorting that they come from; None where several tables are
        joined.
    observed : numpy.ndarray, optional
        (presentation, unit) bool; None where every unit always was.
    electrode_group : numpy.ndarray, optional
        (unit,) str.
    """

    spike_count: np.ndarray | LazyCounts
    units: np.ndarray
    rows: np.ndarray | None = None
    observed: np.ndarray | None = None
    electrode_group: np.ndarray | None = None


def session_dataset(
    reading: Presentations, stimuli: Stimuli, counted: Counted, *, attrs: Mapping[str, Any]
) -> xr.Dataset:
    """Assemble the session dataset; a label of presentations stands before one of images.

    Where ids of units repeat, their electrode groups become a coordinate too.
    """
    labels, varying, not_labels = labels_of_presentations(
        reading.columns, stimuli.index, len(stimuli.names), not_labels=reading.not_labels
    )
    labels = {**labels_of_images(stimuli.attributes), **labels}
    coords: dict[str, Any] = {"unit": counted.units, "stimulus": np.array(stimuli.names, dtype=str)}
    if counted.rows is not None:
        coords["unit_row"] = ("unit", counted.rows)
    if counted.electrode_group is not None and len(set(counted.units.tolist())) < len(counted.units):
        coords["electrode_group"] = ("unit", counted.electrode_group.astype(str))
    for name, values in labels.items():
        coords[_coordinate_name(name, coords)] = ("stimulus", _as_str(values))
    for name, values in varying.items():
        coords[_coordinate_name(name, coords)] = ("presentation", _as_str(values))
    data: dict[str, Any] = {
        "spike_count": _spike_count(counted),
        "stimulus_index": ("presentation", stimuli.index),
        "start_time": ("presentation", reading.start_time, {"unit": "s"}),
    }
    if reading.table_row is not None:
        data["table_row"] = ("presentation", reading.table_row, {"table": reading.table_path})
    if counted.observed is not None:
        data["observed"] = (("presentation", "unit"), counted.observed)
    if stimuli.stack is not None:
        dims = ("stimulus", "y", "x", "channel")[: len(stimuli.stack.shape)]
        data["image"] = xr.Variable(dims, indexing.LazilyIndexedArray(stimuli.stack))
    return xr.Dataset(data, coords=coords, attrs={**attrs, "not_labels": not_labels})


def _spike_count(counted: Counted) -> xr.Variable:
    """Return the counts, 0 where a unit was not observed."""
    counts, observed = counted.spike_count, counted.observed
    if isinstance(counts, LazyCounts):
        lazy = counts if observed is None else counts.where(observed)
        return xr.Variable(("presentation", "unit"), indexing.LazilyIndexedArray(lazy))
    if observed is not None:
        counts[~observed] = 0
    return xr.Variable(("presentation", "unit"), counts)


def _as_str(values: np.ndarray) -> np.ndarray:
    return values.astype(str) if values.dtype == object else values


def _coordinate_name(name: str, coords: Iterable[Hashable]) -> str:
    return free_name(name, {*map(str, coords), *OWN_NAMES})


def with_labels(session: xr.Dataset, labels: str | Path, *, more_stimuli: Iterable[str] = ()) -> xr.Dataset:
    """Return a session with the labels of a CSV besides its own.

    Where both have a label of one name, they must agree, and each fills in what the other does not know.

    Parameters
    ----------
    session : xarray.Dataset
    labels : path
        See `labels_from_csv`.
    more_stimuli : iterable of str
        Further images that the CSV may name.

    Raises
    ------
    MigvisError
        As `labels_from_csv`, and if an image has one label in the CSV and another in the session.
    """
    stimuli = session["stimulus"].values.tolist()
    from_csv, not_labels = labels_from_csv(labels, stimuli, more_stimuli=set(more_stimuli))
    coords = {}
    for name, values in from_csv.items():
        if name in session.coords and session[name].dims == ("presentation",):
            session = session.rename({name: _coordinate_name(name, session.coords)})
        is_shared = name in session.coords and session[name].dims == ("stimulus",) and name != "stimulus"
        if is_shared:
            place = f"column {name!r} of labels {labels}"
            values = agreed_labels(session[name].values, _as_str(values), stimuli, place=place)
        coords[name if is_shared else _coordinate_name(name, session.coords)] = ("stimulus", _as_str(values))
    not_labels = {**session.attrs["not_labels"], **not_labels}
    return session.assign_coords(coords).assign_attrs(not_labels=not_labels)
