"""Read one session: spike counts, presentations, images and labels."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.memory import check_memory
from nwb_migvis.plain import Json, plain
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
from nwb_migvis.read.blocks import checked_chunks, in_blocks
from nwb_migvis.read.contents import Contents
from nwb_migvis.read.counting import check_window
from nwb_migvis.read.diagnosis import broken_links
from nwb_migvis.read.earlier_runs import EarlierRun, earlier_runs, recalled, with_recalled_labels
from nwb_migvis.read.joining import choose_reading
from nwb_migvis.read.opening import one_line, open_session
from nwb_migvis.read.pixels import ImageStack
from nwb_migvis.read.times import check_starts
from nwb_migvis.read.units import (
    SpikeTable,
    count_by_table,
    counts_in_blocks,
    observed_by_table,
    same_units,
    spike_table,
)
from nwb_migvis.sources import Source, as_source, size_of

_COUNT_BYTES = 8
"""A count and what is computed of it, in bytes."""

_ASIDE = ("max_bytes", "chunks")
"""Keywords that say how, not what, is read."""


@dataclass(frozen=True, kw_only=True)
class Asked:
    """How a session is to be read; the keywords of `read_session` but for the labels."""

    window_s: tuple[float, float] | None = None
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
    chunks: str | Mapping[str, int | str] | None = None

    def __post_init__(self) -> None:
        if self.chunks is not None:
            object.__setattr__(self, "chunks", checked_chunks(self.chunks))
        if self.window_s is not None:
            window_s = check_window(self.window_s, allow_long=self.allow_long_window)
            object.__setattr__(self, "window_s", window_s)
        if self.index_base not in (None, 0, 1):
            raise MigvisError(f"index_base is {self.index_base!r}; expected 0 or 1")
        if self.channel_order not in ("rgb", "bgr"):
            raise MigvisError(f"channel_order {self.channel_order!r} is unknown; expected 'rgb' or 'bgr'")

    def given(self) -> Json:
        """Return what differs from the defaults, as plain values."""
        values = {each.name: getattr(self, each.name) for each in fields(self) if each.name not in _ASIDE}
        default = {each.name: each.default for each in fields(self)}
        return {name: plain(value) for name, value in values.items() if value != default[name]}


@dataclass(frozen=True)
class Loaded:
    """A session dataset without labels of a CSV, its images, and what else its file holds.

    Attributes
    ----------
    session : xarray.Dataset
    stack : ImageStack, optional
    names : collection of str
        Of all images in the file.
    runs : sequence of EarlierRun
        In the file.
    """

    session: xr.Dataset
    stack: ImageStack | None
    names: Collection[str]
    runs: Sequence[EarlierRun] = ()

    def labelled(self, labels: str | Path | None, *, more_stimuli: Collection[str] = ()) -> xr.Dataset:
        """Return the session with the labels of a CSV; without one, with those that earlier runs were told.

        `more_stimuli` are further images that the CSV may name.
        """
        if labels is None:
            return with_recalled_labels(self.session, self.runs)
        return with_labels(self.session, labels, more_stimuli={*self.names, *more_stimuli})


def read_session(
    path: str | Source | h5py.File,
    *,
    window_s: tuple[float, float] | None = None,
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
    chunks: str | Mapping[str, int | str] | None = None,
) -> xr.Dataset:
    """Read an NWB session: how often each unit fired after each image.

    Parameters
    ----------
    path : path, str or h5py.File
        An NWB file in HDF5 format: its path, its address (`dandi://dandi/000004@0.220126.1852/sub-1/x.nwb`,
        `000004:sub-1/x.nwb`, `https://...`, `s3://...`), or an open file, which stays open. Pixels are read
        when asked for.
    window_s : (float, float), optional
        Spikes are counted in [start + window_s[0], start + window_s[1]), seconds; (0.07, 0.17) by default,
        or in a file that holds runs the window of these, if they have one in common.
    images : path or mapping of str to path, optional
        For images that have no pixels in the file: a folder of image files, a CSV with columns `stimulus`
        and `file`, or stimulus id -> file.
    labels : path, optional
        CSV with a `stimulus` column; its other columns are labels, which must agree with the file's own.
        Without one, labels that runs in the file were told are used.
    where : str, optional
        Boolean presentation column that must be true.
    units : str, optional
        pandas query on what the file says about units, e.g. `"quality == 'good' and location == 'IT'"`.
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
    chunks : "auto", or mapping of str to int, optional
        For counts and images larger than memory: `spike_count`, `observed` and `image` become dask arrays of
        blocks that are counted, or read, when they are asked for; their values are the same. How many rows a
        block has along `presentation` and `stimulus`; "auto" is what dask holds for a good size (128 MiB),
        also of a dimension that is not named. All spikes are looked at once meanwhile. Needs the extra
        `cluster`.

    Returns
    -------
    xarray.Dataset
        `spike_count` (presentation, unit) unsigned integer; `observed` (presentation, unit) bool, present
        only where some unit was not observed in some window, and there the count is 0 and says nothing;
        `stimulus_index` (presentation,) int64; `start_time` (presentation,) float64, seconds; `table_row`
        (presentation,) int64, rows of the table of presentations whose path is its attribute `table`, absent
        where a series says what was shown or the table holds nothing but numbers; `image`
        (stimulus, y, x[, channel]) uint8, read lazily, absent where there are no pixels. Coordinates `unit`,
        `unit_row` (rows of the file's Units table; absent where the units are in other tables), `stimulus`
        and one per label along `stimulus` (float64 or str); columns that vary within an image along
        `presentation`; `electrode_group` along `unit` where ids of units repeat. Attributes `source`,
        `identifier`, `layout`, `found_in`, `window_s`, `n_blank`, `n_merged`, `n_dropped`, `dropped`,
        `not_joined`, `not_labels` (column -> why it is neither), `recalled` (what runs in the file were
        told, and whether it is used), `reading` (what was given here).

    Raises
    ------
    MigvisError
        For anything in the file or the arguments that does not fit, in one line.

    Notes
    -----
    A block of counts reads the spikes of its presentations' time alone, some thousands per unit at least.
    What fits and measures (`Study`, `run`) loads all counts. Images are read a few hundred at a time anyway.
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
        chunks=chunks,
    )
    loaded = load(as_source(path, what="path"), asked)
    return loaded.labelled(labels)


def load(path: Source, asked: Asked, *, need: Need | None = None) -> Loaded:
    """Read a session without a CSV of labels.

    Parameters
    ----------
    path : path, or another source
    asked : Asked
    need : Need, optional
        By default every image needs pixels unless a column that identifies images was named.
    """
    if need is None:
        need = Need.ALL if asked.stimulus is None else Need.ALL_OR_NONE
    with open_session(path) as nwb:
        runs = earlier_runs(path)
        recall = recalled(runs, vars(asked))
        broken = _broken_links(path)
        window_s, may_be_long = recall.window_s, asked.allow_long_window or recall.allow_long_window
        try:
            contents = Contents(nwb, path, allow_outside=asked.allow_outside, index_base=asked.index_base)
            aggregated = tuple(contents.aggregated.values())
            if aggregated:
                tables = same_units(aggregated, nwb, query=asked.units)
            else:
                tables = [spike_table(nwb.units, nwb, query=asked.units)]
            reading = choose_reading(
                contents, layout=asked.layout, stimulus=asked.stimulus, merge_repeats=asked.merge_repeats
            )
            excluded = Excluded(asked.where, contents.invalid_times, window_s)
            shown = shown_presentations(reading, excluded)
            if asked.chunks is None:
                _check_counts(len(shown.reading.start_time), tables, path)
            shown, observed = _observed(shown, tables, window_s)
            check_starts(shown.reading, window_s=window_s, allow_long_window=may_be_long)
            shown = replace(shown, reading=shown.reading.with_not_joined(broken))
            reading = with_pixels(shown.reading, asked.images, need=need)
            stimuli = session_stimuli(reading, resize_px=asked.resize_px, channel_order=asked.channel_order)
            how: dict[str, Any] = {"window_s": window_s, "max_bytes": asked.max_bytes}
            counts = (
                count_by_table(tables, reading, **how)
                if asked.chunks is None
                else counts_in_blocks(tables, reading, home=contents.spikes_at, **how)
            )
            names = set(contents.named_images)
            identifier = nwb.identifier
        except MigvisError as error:
            raise MigvisError(one_line(f"{path}: {error}", limit=2000)) from error
    attrs = {
        "source": str(path),
        "identifier": identifier,
        **_attrs(replace(shown, reading=reading), window_s),
        "recalled": recall.notes,
        "reading": {**asked.given(), "window_s": list(window_s)},
    }
    table, rows = tables[0], None if aggregated else tables[0].rows
    counted = Counted(counts, table.ids, rows, observed, table.electrode_group)
    session = session_dataset(reading, stimuli, counted, attrs=attrs)
    if isinstance(asked.chunks, Mapping):
        session = in_blocks(session, asked.chunks)
    return Loaded(session, stimuli.stack, names, runs)


def _broken_links(path: Source) -> dict[str, str]:
    """Return why what is behind links that lead nowhere is not read, by place.

    Raises
    ------
    MigvisError
        If it belongs to the units or intervals: then counts and labels would be others.
    """
    reasons = {}
    for name, target in broken_links(path).items():
        if name.startswith(("intervals/", "units/")) or name == "units":
            raise MigvisError(
                f"{path}: the link /{name} leads to {target}, which does not exist; expected what it stands "
                "for, without which units, presentations or labels would be others; restore it, or remove "
                "the link"
            )
        if name.startswith(("stimulus/", "processing/", "events/", "acquisition/")):
            reasons[name] = f"its link leads to {target}, which does not exist"
    return reasons


def _attrs(shown: Shown, window_s: tuple[float, float]) -> Json:
    """Return what the attributes of a session say of its presentations."""
    reading = shown.reading
    return {
        "layout": reading.layout,
        "found_in": ", ".join([reading.place, *(name for name in reading.tables if name != reading.place)]),
        "window_s": window_s,
        "n_blank": shown.n_blank,
        "n_merged": reading.n_merged,
        "n_dropped": sum(shown.dropped.values()),
        "dropped": shown.dropped,
        "not_joined": dict(reading.not_joined),
    }


def _check_counts(n_presentations: int, tables: Sequence[SpikeTable], path: Source) -> None:
    """Refuse counts, one per presentation and unit, that need far more memory than the file has bytes."""
    n_units = max(len(table.rows) for table in tables)
    what = f"counting {n_units} units in {n_presentations} presentations"
    check_memory(what, n_presentations * n_units * _COUNT_BYTES, file_bytes=size_of(path))


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
