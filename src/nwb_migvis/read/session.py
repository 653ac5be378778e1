"""Read one session: spike counts, presentations, images and labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import as_path
from nwb_migvis.memory import check_memory
from nwb_migvis.read.assembly import (
    Counted,
    Excluded,
    Need,
    Shown,
    session_dataset,
    session_stimuli,
    shown_presentations,
    with_labels,
    with_pixels,
)
from nwb_migvis.read.contents import Contents
from nwb_migvis.read.counting import check_window
from nwb_migvis.read.joining import choose_reading
from nwb_migvis.read.opening import one_line, open_session
from nwb_migvis.read.pixels import ImageStack
from nwb_migvis.read.times import check_starts
from nwb_migvis.read.units import SpikeTable, count_by_table, observed_by_table, same_units, spike_table

_COUNT_BYTES = 8
"""A count and what is computed of it, in bytes."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a session is to be read; the keywords of `read_session` but for the labels."""

    window_s: tuple[float, float] = (0.07, 0.17)
    images: str | Path | Mapping[str, str | Path] | None = None
    where: str | None = None
    units: str | None = None
    layout: str | None = None
    stimulus: str | None = None
    allow_outside: bool = False
    resize_px: tuple[int, int] | None = None
    channel_order: str = "rgb"
    max_bytes: int = 2**27
    index_base: int | None = None
    merge_repeats: bool | None = None
    allow_long_window: bool = False

    def __post_init__(self) -> None:
        window_s = check_window(self.window_s, allow_long=self.allow_long_window)
        object.__setattr__(self, "window_s", window_s)
        if self.index_base not in (None, 0, 1):
            raise MigvisError(f"index_base is {self.index_base!r}; expected 0 or 1")
        if self.channel_order not in ("rgb", "bgr"):
            raise MigvisError(f"channel_order {self.channel_order!r} is unknown; expected 'rgb' or 'bgr'")


@dataclass(frozen=True)
class Loaded:
    """A session dataset, its images, and the names of all images in its file."""

    session: xr.Dataset
    stack: ImageStack | None
    names: Collection[str]


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
    max_bytes: int = 2**27,
    index_base: int | None = None,
    merge_repeats: bool | None = None,
    allow_long_window: bool = False,
) -> xr.Dataset:
    """Read an NWB session: how often each unit fired after each image.

    Parameters
    ----------
    path : path
        An NWB file in HDF5 format. Nothing of it stays open; pixels are read when asked for.
    window_s : (float, float)
        Spikes are counted in [start + window_s[0], start + window_s[1]), seconds.
    images : path or mapping of str to path, optional
        For images that have no pixels in the file: a folder of image files, a CSV with columns `stimulus`
        and `file`, or stimulus id -> file.
    labels : path, optional
        CSV with a `stimulus` column; its other columns are labels, which must agree with the file's own.
    where : str, optional
        Boolean presentation column that must be true.
    units : str, optional
        pandas query on what the file says of units, e.g. `"quality == 'good' and location == 'IT'"`.
    layout : str, optional
        Where readings of the file disagree: the layout, its series or table, or LAYOUT:PLACE.
    stimulus : str, optional
        Presentation column whose value identifies the image; with it, a session without pixels is read.
    allow_outside : bool
        Whether image paths in the file may leave its folder.
    resize_px : (height, width), optional
        Size that images are resized to, pixels; needed where their sizes differ.
    channel_order : {"rgb", "bgr"}
        Order of colour channels in the file.
    max_bytes : int
        Spike times read at a time while counting, in bytes; see `count_spikes`.
    index_base : {0, 1}, optional
        What the first image has where positions are counted; asked for where 0 never occurs.
    merge_repeats : bool, optional
        Whether samples of a series that repeat the image before them are one presentation with it; asked for
        where a series looks so.
    allow_long_window : bool
        Whether the window may reach over 2 s from the onset, or be longer than the median interval of
        presentations.

    Returns
    -------
    xarray.Dataset
        `spike_count` (presentation, unit) unsigned integer; `observed` (presentation, unit) bool, present
        only where some unit was not observed in some window, and there the count is 0 and says nothing;
        `stimulus_index` (presentation,) int64;
        `start_time` (presentation,) float64, seconds; `image` (stimulus, y, x[, channel]) uint8, read
        lazily, absent where there are no pixels. Coordinates `unit`, `unit_row` (rows of the units table),
        `stimulus` and one per label along `stimulus` (float64 or str); columns that vary within an image
        along `presentation`; `electrode_group` along `unit` where ids of units repeat. Attributes `source`,
        `identifier`, `layout`, `found_in`, `window_s`, `n_blank`, `n_merged`, `n_dropped`, `dropped`,
        `not_joined`, `not_labels` (column -> why it is neither).

    Raises
    ------
    MigvisError
        For anything in the file or the arguments that does not fit, in one line.
    """
    asked = Asked(
        window_s=window_s,
        images=images,
        where=where,
        units=units,
        layout=layout,
        stimulus=stimulus,
        allow_outside=allow_outside,
        resize_px=resize_px,
        channel_order=channel_order,
        max_bytes=max_bytes,
        index_base=index_base,
        merge_repeats=merge_repeats,
        allow_long_window=allow_long_window,
    )
    loaded = load(as_path(path, what="path"), asked)
    return (
        loaded.session if labels is None else with_labels(loaded.session, labels, more_stimuli=loaded.names)
    )


def load(path: Path, asked: Asked, *, need: Need | None = None) -> Loaded:
    """Read a session without a CSV of labels.

    Parameters
    ----------
    path : Path
    asked : Asked
    need : Need, optional
        By default every image needs pixels unless a column that identifies images was named.
    """
    if need is None:
        need = Need.ALL if asked.stimulus is None else Need.ALL_OR_NONE
    with open_session(path) as nwb:
        try:
            contents = Contents(
                nwb, path.parent, allow_outside=asked.allow_outside, index_base=asked.index_base
            )
            aggregated = tuple(contents.aggregated.values())
            if aggregated:
                tables = same_units(aggregated, nwb, query=asked.units)
            else:
                tables = [spike_table(nwb.units, nwb, query=asked.units)]
            reading = choose_reading(
                contents, layout=asked.layout, stimulus=asked.stimulus, merge_repeats=asked.merge_repeats
            )
            excluded = Excluded(asked.where, contents.invalid_times, asked.window_s)
            shown = shown_presentations(reading, excluded)
            _check_counts(len(shown.reading.start_time), tables, path)
            shown, observed = _observed(shown, tables, asked.window_s)
            check_starts(shown.reading, window_s=asked.window_s, allow_long_window=asked.allow_long_window)
            reading = with_pixels(shown.reading, asked.images, need=need)
            stimuli = session_stimuli(reading, resize_px=asked.resize_px, channel_order=asked.channel_order)
            counts = count_by_table(tables, reading, window_s=asked.window_s, max_bytes=asked.max_bytes)
            names = set(contents.named_images)
            identifier = nwb.identifier
        except MigvisError as error:
            raise MigvisError(one_line(f"{path}: {error}", limit=2000)) from error
    attrs = {
        "source": str(path),
        "identifier": identifier,
        "layout": reading.layout,
        "found_in": ", ".join([reading.place, *(name for name in reading.tables if name != reading.place)]),
        "window_s": asked.window_s,
        "n_blank": shown.n_blank,
        "n_merged": reading.n_merged,
        "n_dropped": sum(shown.dropped.values()),
        "dropped": shown.dropped,
        "not_joined": dict(reading.not_joined),
    }
    table = tables[0]
    counted = Counted(counts, table.ids, table.rows, observed, table.electrode_group)
    return Loaded(session_dataset(reading, stimuli, counted, attrs=attrs), stimuli.stack, names)


def _check_counts(n_presentations: int, tables: Sequence[SpikeTable], path: Path) -> None:
    """Refuse counts, one per presentation and unit, that need far more memory than the file has bytes."""
    n_units = max(len(table.rows) for table in tables)
    what = f"counting {n_units} units in {n_presentations} presentations"
    check_memory(what, n_presentations * n_units * _COUNT_BYTES, file_bytes=path.stat().st_size)


def _observed(
    shown: Shown, tables: Sequence[SpikeTable], window_s: tuple[float, float]
) -> tuple[Shown, np.ndarray | None]:
    """Drop the presentations in which no unit was observed; return which units were in the others."""
    observed = observed_by_table(tables, shown.reading, window_s=window_s)
    if observed is None:
        return shown, None
    is_any: np.ndarray = np.any(observed, axis=1)
    if not is_any.any():
        raise MigvisError(
            f"{tables[0].place}: no presentation of {shown.reading.place} lies within the "
            f"obs_intervals of any "
            "unit; expected both in seconds on one clock: correct the file, or choose other units"
        )
    observed = observed[is_any]
    return shown.taken(is_any, "no unit was observed"), None if observed.all() else observed
