"""Read one session: spike counts, presentations, images and labels."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from xarray.core import indexing

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import Contents
from nwb_migvis.read.counting import check_window
from nwb_migvis.read.folder import supplied_images
from nwb_migvis.read.joining import choose_reading
from nwb_migvis.read.labels import labels_from_csv, labels_of_images, labels_of_presentations
from nwb_migvis.read.opening import open_session
from nwb_migvis.read.pixels import ImageStack, OpenFiles, digest, uint8_factors
from nwb_migvis.read.reading import BLANK, Reading, StimulusImage
from nwb_migvis.read.units import count_by_table, same_units, spike_table

OWN_NAMES = (
    "spike_count",
    "stimulus_index",
    "start_time",
    "image",
    "unit",
    "stimulus",
    "presentation",
    "y",
    "x",
    "channel",
)
"""Names of a session dataset that no label or column can take."""


def read_session(
    path: str | Path,
    *,
    window_s: tuple[float, float] = (0.07, 0.17),
    images: str | Path | Mapping[str, str | Path] | None = None,
    labels: str | Path | None = None,
    where: str | None = None,
    units: str | None = None,
    layout: str | None = None,
    stimulus: str | None = None,
    allow_outside: bool = False,
    resize_px: tuple[int, int] | None = None,
    channel_order: str = "rgb",
    max_bytes: int = 2**28,
) -> xr.Dataset:
    """Read an NWB session: how often each unit fired after each image.

    Parameters
    ----------
    path : path
        An NWB file in HDF5 format. Nothing of it stays open; pixels are read when asked for.
    window_s : (float, float)
        Spikes are counted in [start + window_s[0], start + window_s[1]), seconds.
    images : path or mapping of str to path, optional
        For images that have no pixels in the file: a folder of image files, or stimulus id -> file.
    labels : path, optional
        CSV with a `stimulus` column; its other columns are labels and stand before the file's own.
    where : str, optional
        Boolean presentation column that must be true.
    units : str, optional
        pandas query on the columns of the Units table, e.g. `"quality == 'good'"`.
    layout : str, optional
        Where readings of the file disagree: the layout, its series or table, or LAYOUT:PLACE.
    stimulus : str, optional
        Presentation column whose value identifies the image; with it, a session without pixels is read.
    allow_outside : bool
        Whether image paths in the file may leave its folder.
    resize_px : (height, width), optional
        Size that images of different sizes are resized to, pixels.
    channel_order : {"rgb", "bgr"}
        Order of colour channels in the file.
    max_bytes : int
        Most bytes of spike times held at a time while counting.

    Returns
    -------
    xarray.Dataset
        `spike_count` (presentation, unit) unsigned integer; `stimulus_index` (presentation,) int64;
        `start_time` (presentation,) float64, seconds; `image` (stimulus, y, x[, channel]) uint8, read
        lazily, absent where there are no pixels. Coordinates `unit`, `stimulus` and one per label along
        `stimulus` (float64 or str); columns that vary within an image along `presentation`. Attributes
        `source`, `identifier`, `layout`, `found_in`, `window_s`, `n_blank`, `n_dropped`, `dropped`.

    Raises
    ------
    MigvisError
        For anything in the file or the arguments that does not fit, in one line.
    """
    path = Path(path)
    window_s = check_window(window_s)
    if channel_order not in ("rgb", "bgr"):
        raise MigvisError(f"channel_order {channel_order!r} is unknown; expected 'rgb' or 'bgr'")
    with open_session(path) as nwb:
        try:
            contents = Contents(nwb, path.parent, allow_outside=allow_outside)
            aggregated = tuple(contents.aggregated.values())
            tables = (
                same_units(aggregated, nwb, query=units)
                if aggregated
                else [spike_table(nwb.units, nwb, query=units)]
            )
            reading = choose_reading(contents, layout=layout, stimulus=stimulus)
            shown = shown_presentations(reading, where=where)
            reading = with_pixels(shown.reading, images, needed=stimulus is None)
            stimuli = session_stimuli(reading, resize_px=resize_px, channel_order=channel_order)
            counts = count_by_table(tables, reading, window_s=window_s, max_bytes=max_bytes)
            known = contents.named_images.keys() if labels is not None else ()
            identifier = nwb.identifier
        except MigvisError as error:
            raise MigvisError(f"{path}: {error}") from error
    given = {} if labels is None else labels_from_csv(labels, stimuli.names, known=known)
    return session_dataset(
        reading,
        stimuli,
        counts,
        units=tables[0].ids,
        labels=given,
        attrs={
            "source": str(path),
            "identifier": identifier,
            "layout": reading.layout,
            "found_in": ", ".join(
                [reading.place, *(name for name in reading.tables if name != reading.place)]
            ),
            "window_s": window_s,
            "n_blank": shown.n_blank,
            "n_dropped": sum(shown.dropped.values()),
            "dropped": shown.dropped,
        },
    )


@dataclass(frozen=True)
class Shown:
    """The presentations that become rows, and how many did not and why."""

    reading: Reading
    n_blank: int
    dropped: dict[str, int]


def shown_presentations(reading: Reading, *, where: str | None) -> Shown:
    """Leave out blanks, presentations without a start, and those for which `where` is not true.

    Raises
    ------
    MigvisError
        If none is left, or `where` is no boolean column.
    """
    is_blank = reading.image_index == BLANK
    is_nan = ~np.isfinite(reading.start_time) & ~is_blank
    if is_blank.all():
        raise MigvisError(
            f"no stimuli: {reading.place} has {len(is_blank)} presentations and no image among them"
        )
    if (is_nan | is_blank).all():
        raise MigvisError(
            f"{reading.place}: every presentation has a NaN start time; expected seconds: mend the file"
        )
    dropped = {}
    keep = ~is_blank & ~is_nan
    if is_nan.any():
        dropped["start_time is NaN"] = int(is_nan.sum())
    if where is not None:
        is_true = _true_where(reading, where)
        if (keep & ~is_true).any():
            dropped[f"{where} is not true"] = int((keep & ~is_true).sum())
        keep &= is_true
        if not keep.any():
            raise MigvisError(
                f"column {where!r} (where=) is true for no presentation of {reading.place}; choose another"
            )
    columns = {name: values[keep] for name, values in reading.columns.items()}
    kept = replace(
        reading,
        start_time=reading.start_time[keep],
        stop_time=None if reading.stop_time is None else reading.stop_time[keep],
        image_index=reading.image_index[keep],
        unit_table_index=None if reading.unit_table_index is None else reading.unit_table_index[keep],
        columns=columns,
    )
    return Shown(kept, int(is_blank.sum()), dropped)


def _true_where(reading: Reading, where: str) -> np.ndarray:
    if where not in reading.columns:
        held = ", ".join(sorted(reading.columns)) or "none"
        raise MigvisError(f"no presentation column {where!r} (where=); expected one of: {held}")
    values = reading.columns[where]
    known = values[~np.isnan(values)] if values.dtype.kind == "f" else values
    if values.dtype.kind not in "biuf" or not np.isin(known, (0, 1)).all():
        raise MigvisError(
            f"presentation column {where!r} (where=) is not true or false; choose a boolean column"
        )
    return values == 1


def with_pixels(
    reading: Reading, images: str | Path | Mapping[str, str | Path] | None, *, needed: bool
) -> Reading:
    """Return a reading of the images that were shown, with the user's files where the session has no pixels.

    Raises
    ------
    MigvisError
        If pixels are needed and absent, or only some images have them.
    """
    positions, image_index = np.unique(reading.image_index, return_inverse=True)
    shown = [reading.images[i] for i in positions]
    bare = [i for i, image in enumerate(shown) if image.pixels is None]
    if bare and images is not None:
        files = supplied_images([shown[i].name for i in bare], images)
        for i, file in zip(bare, files, strict=True):
            shown[i] = replace(shown[i], pixels=file)
    elif bare and (needed or len(bare) < len(shown)):
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


def session_stimuli(reading: Reading, *, resize_px: tuple[int, int] | None, channel_order: str) -> Stimuli:
    """Name the images that were shown, by their pixels where nameless, and merge those of one name."""
    names = _named_by_pixels(reading.images)
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        first.setdefault(name, i)
    kept = [reading.images[i] for i in first.values()]
    place = {name: k for k, name in enumerate(first)}
    row_of = np.array([place[name] for name in names], np.int64)
    sources = [image.pixels for image in kept if image.pixels is not None]
    stack = None
    if sources:
        stack = ImageStack(sources, names=list(first), resize_px=resize_px, channel_order=channel_order)
    return Stimuli(list(first), row_of[reading.image_index], [image.attributes for image in kept], stack)


def _named_by_pixels(images: Sequence[StimulusImage]) -> list[str]:
    unnamed = [image.pixels for image in images if not image.name and image.pixels is not None]
    if not unnamed:
        return [image.name for image in images]
    factors = uint8_factors([image.pixels for image in images if image.pixels is not None])
    with OpenFiles() as files:
        return [
            image.name if image.name or image.pixels is None else digest(image.pixels, files, factors)
            for image in images
        ]


def session_dataset(
    reading: Reading,
    stimuli: Stimuli,
    counts: np.ndarray,
    *,
    units: np.ndarray,
    labels: Mapping[str, np.ndarray],
    attrs: Mapping[str, Any],
) -> xr.Dataset:
    """Assemble the session dataset; labels given stand before those of presentations, then of images."""
    found, varying = labels_of_presentations(
        reading.columns, stimuli.index, len(stimuli.names), not_labels=reading.not_labels
    )
    found = {**labels_of_images(stimuli.attributes), **found, **labels}
    coords: dict[str, Any] = {"unit": units, "stimulus": np.array(stimuli.names, dtype=str)}
    for name, values in found.items():
        coords[_free_name(name, coords)] = ("stimulus", _as_str(values))
    for name, values in varying.items():
        coords[_free_name(name, coords)] = ("presentation", _as_str(values))
    data: dict[str, Any] = {
        "spike_count": (("presentation", "unit"), counts),
        "stimulus_index": ("presentation", stimuli.index),
        "start_time": ("presentation", reading.start_time, {"unit": "s"}),
    }
    if stimuli.stack is not None:
        dims = ("stimulus", "y", "x", "channel")[: len(stimuli.stack.shape)]
        data["image"] = xr.Variable(dims, indexing.LazilyIndexedArray(stimuli.stack))
    return xr.Dataset(data, coords=coords, attrs=dict(attrs))


def _as_str(values: np.ndarray) -> np.ndarray:
    return values.astype(str) if values.dtype == object else values


def _free_name(name: str, taken: Mapping[str, Any]) -> str:
    while name in taken or name in OWN_NAMES:
        name += "_"
    return name
