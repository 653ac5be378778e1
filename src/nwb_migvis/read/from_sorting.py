"""Sessions from spike-sorted units in memory, before any NWB file exists."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import plain
from nwb_migvis.read.assembly import (
    Counted,
    Excluded,
    Need,
    session_dataset,
    session_stimuli,
    shown_presentations,
    with_labels,
    with_pixels,
)
from nwb_migvis.read.contents import Collection
from nwb_migvis.read.counting import check_window
from nwb_migvis.read.layouts.tables import table_reading
from nwb_migvis.read.presentations import StimulusImage
from nwb_migvis.read.table import Table, plain_column
from nwb_migvis.read.times import check_starts
from nwb_migvis.read.unit_query import selected_units
from nwb_migvis.read.units import SpikeTable
from nwb_migvis.sorting.units import SortedUnits

if TYPE_CHECKING:
    from spikeinterface import BaseSorting, SortingAnalyzer

NAME = "sorting"
PLACE = "presentations"


@dataclass(frozen=True, kw_only=True)
class SortedReading:
    """How presentations of sorted units are read: see `session_from_sorting`."""

    labels: str | Path | None = None
    where: str | None = None
    resize_px: tuple[int, int] | None = None
    t_start: float | None = None
    allow_long_window: bool = False


def session_from_sorting(
    sorting: BaseSorting | SortingAnalyzer,
    presentations: pd.DataFrame,
    images: str | Path | Mapping[str, str | Path] | None = None,
    *,
    window_s: tuple[float, float] = (0.07, 0.17),
    unit_query: str | None = None,
    **reading: Any,
) -> xr.Dataset:
    """Make a session dataset of SpikeInterface units and a table of presentations.

    Parameters
    ----------
    sorting : spikeinterface.BaseSorting or spikeinterface.SortingAnalyzer
        One segment. Times are those of its recording where it has one.
    presentations : pandas.DataFrame
        `start_time` (seconds, on the sorting's clock) and `stimulus` (name of the image; missing, "" or -1
        for a blank). Other columns are labels or presentation columns, as in a file.
    images : path or mapping of str to path, optional
        A folder of image files, or stimulus id -> file; without it the session has no pixels.
    window_s : (float, float)
        Spikes are counted in [start + window_s[0], start + window_s[1]), seconds.
    unit_query : str, optional
        pandas query on the units' properties and, of an analyzer, its quality and template metrics, e.g.
        `"snr > 5 and isi_violations_ratio < 0.5"`.
    **reading
        `t_start` : float, when the recording of an analyzer began on the clock of the presentations, seconds;
        needed where the recording is out of reach. `labels`, `where`, `resize_px` and `allow_long_window` as
        for `read_session`.

    Returns
    -------
    xarray.Dataset
        As from `read_session`; `unit` holds the sorting's unit ids.

    Raises
    ------
    MigvisError
        If the presentations, images, or query do not fit.
    """
    asked = SortedReading(**reading)
    window_s = check_window(window_s, allow_long=asked.allow_long_window)
    units = SortedUnits.of(sorting, t_start=asked.t_start)
    unit_ids = units.ids
    if unit_query is not None:
        columns = {"id": unit_ids, **units.columns()}
        unit_ids = unit_ids[selected_units(columns, unit_query, place="the sorting")]
    trains = [units.spike_times(unit_id) for unit_id in unit_ids]
    if not any(len(train) for train in trains):
        raise MigvisError(
            f"the sorting has {len(trains)} units and no spike; expected spikes of at least one unit"
        )
    shows = table_reading(presentation_table(presentations), "stimulus", NoImages(), layout=NAME)
    shown = shown_presentations(shows, Excluded(asked.where))
    check_starts(shown.reading, window_s=window_s, allow_long_window=asked.allow_long_window)
    shows = with_pixels(shown.reading, images, need=Need.ALL if images is not None else Need.NOTHING)
    stimuli = session_stimuli(shows, resize_px=asked.resize_px, channel_order="rgb")
    ends = np.cumsum([len(train) for train in trains])
    rows = np.arange(len(trains))
    table = SpikeTable("the sorting", unit_ids, rows, np.concatenate(trains), ends)
    counts = table.count(shows, window_s=window_s, max_bytes=2**27)
    counted = Counted(counts, unit_ids, np.flatnonzero(np.isin(units.ids, unit_ids)))
    attrs = {
        "source": type(units.analyzer or units.sorting).__name__,
        "identifier": str(units.sorting.name or ""),
        "layout": NAME,
        "found_in": PLACE,
        "window_s": window_s,
        "n_blank": shown.n_blank,
        "n_merged": 0,
        "n_dropped": sum(shown.dropped.values()),
        "dropped": shown.dropped,
        "not_joined": {},
        "recalled": {},
        "reading": {
            "window_s": list(window_s),
            **{
                key: plain(value)
                for key, value in (
                    ("unit_query", unit_query),
                    ("where", asked.where),
                    ("t_start", asked.t_start),
                )
                if value is not None
            },
        },
    }
    session = session_dataset(shows, stimuli, counted, attrs=attrs)
    return session if asked.labels is None else with_labels(session, asked.labels)


@dataclass(frozen=True)
class NoImages:
    """Stands for a file that holds no images."""

    named_images: dict[str, list[StimulusImage]] = field(default_factory=dict)
    collections: list[Collection] = field(default_factory=list)
    index_base: int | None = None


def presentation_table(presentations: pd.DataFrame) -> Table:
    """Return a DataFrame of presentations as a table, missing text as "".

    Raises
    ------
    MigvisError
        If `start_time` or `stimulus` is absent, or `start_time` is not in numbers.
    """
    absent = [name for name in ("start_time", "stimulus") if name not in presentations.columns]
    if absent:
        names = ", ".join(map(str, presentations.columns))
        raise MigvisError(
            f"presentations has no column {absent[0]!r} (its columns: {names}); expected "
            "start_time (s) and stimulus"
        )
    columns = {}
    for name in presentations.columns:
        values = presentations[name]
        if not pd.api.types.is_numeric_dtype(values):  # booleans are numeric to pandas
            plain = plain_column(values.astype(object).where(values.notna(), "").to_numpy(object))
        elif values.hasnans:
            plain = values.to_numpy(np.float64, na_value=np.nan)
        else:
            plain = values.to_numpy(
                values.dtype.numpy_dtype if hasattr(values.dtype, "numpy_dtype") else None
            )
        if plain is not None:
            columns[str(name)] = plain
    start_time = columns.pop("start_time", None)
    if start_time is None or start_time.dtype == object or "stimulus" not in columns:
        raise MigvisError(
            "presentations: start_time must be numbers (s) and stimulus names or numbers; convert them"
        )
    stop_time = np.full(len(start_time), np.nan)
    return Table(PLACE, columns, start_time.astype(np.float64), stop_time)
