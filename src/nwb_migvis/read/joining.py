"""Series and tables that give the same presentations are one reading."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import Contents
from nwb_migvis.read.layouts import LAYOUTS, find_all
from nwb_migvis.read.presentations import BLANK, Presentations, Problem, StimulusImage
from nwb_migvis.read.showings import showings
from nwb_migvis.read.table import ROUNDING_S, Table

NO_ROW = -1

CLOSE_S = 0.01
"""A presentation that begins this shortly (s) before a row begins may be of that row and not of another."""


def choose_reading(
    contents: Contents, *, layout: str | None, stimulus: str | None, merge_repeats: bool | None = None
) -> Presentations:
    """Return the one reading of a file's presentations.

    Layouts are tried in the order of `LAYOUTS`. The first that fits gives times, images and pixels; others
    that show the same images at the same times (within 0.1 ms and the rounding of the stored times, else by
    containment) add their columns.

    Parameters
    ----------
    contents : Contents
    layout : str, optional
        Layout, place, or LAYOUT:PLACE to read, where several disagree.
    stimulus : str, optional
        Column that identifies the image.
    merge_repeats : bool, optional
        See `showings`.

    Raises
    ------
    MigvisError
        If nothing fits, readings disagree, or the file does not say how its indices count.
    """
    if stimulus is not None:
        _check_column(contents, stimulus)
    items = find_all(contents, stimulus)
    for i, item in enumerate(items):
        if isinstance(item, Presentations):
            is_chosen = layout is None or item.is_called(layout)
            items[i] = showings(item, merge=merge_repeats if is_chosen else True)
    chosen = [item for item in items if layout is None or item.is_called(layout)]
    readings = [item for item in chosen if isinstance(item, Presentations)]
    for item in chosen:
        if isinstance(item, Problem) and (item.is_certain or not readings):
            raise MigvisError(item.message)
    if not readings:
        raise MigvisError(_nothing_fits(contents, items, layout))
    reading = readings[0]
    if not reading.unit_tables:
        others = [item for item in items if isinstance(item, Presentations) and item is not reading]
        reading = _joined(reading, others, readings)
        used = {item.place for item in others} | {reading.place}
        for name, table in contents.tables.items():
            if name not in used:
                reading = join_table(reading, table)
    if reading.index_question:
        raise MigvisError(reading.index_question)
    if merge_repeats and not reading.n_merged:
        raise MigvisError(
            f"{reading.place} does not sample the screen, so there is nothing to merge; omit merge_repeats "
            "(--merge-repeats)"
        )
    return reading


def _check_column(contents: Contents, stimulus: str) -> None:
    columns = sorted({column for table in contents.tables.values() for column in table.columns})
    if stimulus not in columns:
        state = f"their columns are {', '.join(columns)}" if columns else "there are none"
        raise MigvisError(
            f"no table of intervals has a column {stimulus!r} (stimulus=); {state}: choose one of those"
        )


def _joined(
    reading: Presentations, others: Sequence[Presentations], readings: Sequence[Presentations]
) -> Presentations:
    """Return a reading with what those that agree with it add; one of `readings` must agree."""
    for other in others:
        tolerance_s = ROUNDING_S + reading.precision_s + other.precision_s
        rows = match_rows(reading.start_time, other.start_time, other.stop_time, tolerance_s=tolerance_s)
        conflict = disagreement(reading, other, rows)
        if conflict is None:
            reading = join(reading, other, rows)
        elif other in readings:
            question = reading.index_question or other.index_question
            choice = f"choose one with layout={reading.full_name!r} or layout={other.full_name!r} (--layout)"
            raise MigvisError(
                f"{reading.full_name} and {other.full_name} give different presentations: {conflict}; "
                + (question or choice)
            )
    return reading


def _nothing_fits(contents: Contents, items: Sequence[Presentations | Problem], layout: str | None) -> str:
    if layout is not None and items:
        names = ", ".join(f"{item.layout}:{item.place}" for item in items)
        return f"layout {layout!r} is not in the file; expected one of {names}: choose one of these"
    state = f"tables: {', '.join(contents.tables)}" if contents.tables else "no tables of intervals"
    elsewhere = contents.elsewhere
    if elsewhere:
        state += f"; not looked at: {', '.join(elsewhere)}"
    return (
        f"no stimuli: no layout ({', '.join(LAYOUTS)}) fits what the file holds ({state}); expected an "
        "IndexSeries or a table that names images: say which column identifies the image with "
        "stimulus=COLUMN (--stimulus)"
    )


def match_rows(
    start_time: np.ndarray,
    table_start: np.ndarray,
    table_stop: np.ndarray | None,
    *,
    tolerance_s: float = ROUNDING_S,
) -> np.ndarray:
    """Return the row of a table that each presentation belongs to.

    The row that starts nearest, within the tolerance; else the row that contains the start, with the same
    tolerance (of several, the one that starts last), unless another row begins within 10 ms after it: the
    presentation may be of that one.

    Parameters
    ----------
    start_time : numpy.ndarray
        (presentation,) seconds.
    table_start, table_stop : numpy.ndarray
        (row,) seconds, in any order; NaN where unknown.
    tolerance_s : float

    Returns
    -------
    numpy.ndarray
        (presentation,) int64; -1 where there is none.
    """
    rows = np.full(len(start_time), NO_ROW, np.int64)
    order = np.argsort(table_start, kind="stable")
    order = order[np.isfinite(table_start[order])]
    timed = np.flatnonzero(np.isfinite(start_time))
    if not len(order) or not len(timed):
        return rows
    starts, times = table_start[order], start_time[timed]
    right = np.searchsorted(starts, times).clip(0, len(starts) - 1)
    left = (right - 1).clip(0)
    nearest = np.where(times - starts[left] <= starts[right] - times, left, right)
    is_near = np.abs(starts[nearest] - times) <= tolerance_s
    rows[timed[is_near]] = order[nearest[is_near]]
    if table_stop is None:
        return rows
    stops = np.where(np.isfinite(table_stop[order]), table_stop[order], -np.inf) + tolerance_s
    container = _latest_container(starts - tolerance_s, stops, times[~is_near])
    until_next = np.append(starts, np.inf)[np.searchsorted(starts, times[~is_near])] - times[~is_near]
    is_row = (container >= 0) & (until_next > CLOSE_S)
    rows[timed[~is_near]] = np.where(is_row, order[container], NO_ROW)
    return rows


def _latest_container(starts: np.ndarray, stops: np.ndarray, times: np.ndarray) -> np.ndarray:
    """Return the interval that starts last of those that contain each time, (time,) int64, -1 for none.

    Parameters
    ----------
    starts, stops : numpy.ndarray
        (interval,) seconds; starts ascend.
    times : numpy.ndarray
        (time,) seconds.
    """
    latest = np.searchsorted(starts, times, side="right") - 1
    is_short = (latest >= 0) & (stops[latest] < times)
    if not is_short.any():
        return latest
    earlier_and_longer = np.full(len(stops), -1)
    stack: list[int] = []
    for i, stop in enumerate(stops):
        while stack and stops[stack[-1]] <= stop:
            stack.pop()
        earlier_and_longer[i] = stack[-1] if stack else -1
        stack.append(i)
    while is_short.any():
        latest[is_short] = earlier_and_longer[latest[is_short]]
        is_short = (latest >= 0) & (stops[latest] < times)
    return latest


def disagreement(reading: Presentations, other: Presentations, rows: np.ndarray) -> str | None:
    """Return how two readings contradict each other, or None where they give the same presentations.

    Parameters
    ----------
    reading, other : Presentations
    rows : numpy.ndarray
        (presentation of `reading`,) its row in `other`, -1 where there is none.
    """
    is_timed = np.isfinite(reading.start_time)
    has_row = rows != NO_ROW
    alone = np.flatnonzero(is_timed & ~has_row & (reading.image_index != BLANK))
    if len(alone):
        return f"{len(alone)} of {reading.place} are not in {other.place}, first at {_at(reading, alone)}"
    mine, theirs = reading.image_index, np.where(has_row, other.image_index[rows], BLANK)
    odd = np.flatnonzero(has_row & ((mine == BLANK) != (theirs == BLANK)))
    if len(odd):
        blank, full = (reading, other) if mine[odd[0]] == BLANK else (other, reading)
        return (
            f"{len(odd)} are blank (no such image) in {blank.place} but not in {full.place}, first at "
            f"{_at(reading, odd)}"
        )
    expected = np.isfinite(other.start_time) & (other.image_index != BLANK)
    expected[rows[has_row]] = False
    if expected.any():
        first = np.flatnonzero(expected)
        return f"{len(first)} of {other.place} are not in {reading.place}, first at {_at(other, first)}"
    shown = np.flatnonzero(has_row & (mine != BLANK))
    return _different_images(reading, other, mine[shown], theirs[shown])


def _at(reading: Presentations, rows: np.ndarray) -> str:
    return f"{reading.start_time[rows][0]:.4f} s"


def _different_images(
    reading: Presentations, other: Presentations, mine: np.ndarray, theirs: np.ndarray
) -> str | None:
    codes = np.unique(mine * len(other.images) + theirs)
    pairs = np.stack(np.divmod(codes, len(other.images)), axis=1)
    doubled = [(pairs[:, 0], reading, other)]
    if not reading.merges_images:
        doubled.append((pairs[:, 1], other, reading))
    for values, one, many in doubled:
        image, count = np.unique(values, return_counts=True)
        if (count > 1).any():
            k = int(image[count > 1][0])
            called = one.images[k].name or f"number {k}"
            return f"image {called!r} of {one.place} is {count.max()} images in {many.place}"
    if not other.is_numbered and not reading.is_numbered:
        names = {image.name for image in reading.images if image.name}
        for a, b in pairs:
            one, two = reading.images[a].name, other.images[b].name
            if one and two and one != two and two in names:
                return f"image {one!r} of {reading.place} is {two!r} in {other.place}"
    return None


def join(reading: Presentations, other: Presentations, rows: np.ndarray) -> Presentations:
    """Return a reading with the columns of one that agrees with it, and its names for images without one."""
    images = list(reading.images)
    question = reading.index_question
    if not other.is_numbered:
        theirs = np.where(rows == NO_ROW, BLANK, other.image_index[rows])
        is_shown = (reading.image_index != BLANK) & (theirs != BLANK)
        shown, first = np.unique(reading.image_index[is_shown], return_index=True)
        for mine, yours in zip(shown, theirs[is_shown][first], strict=True):
            if images[mine].name and images[mine].name == other.images[yours].name:
                question = ""  # the names tell where the positions count from
            images[mine] = _completed(images[mine], other.images[yours])
    return replace(
        reading,
        images=images,
        index_question=question,
        columns=_with_columns(reading.columns, other.columns, other.place, rows),
        not_labels=reading.not_labels | other.not_labels,
        tables=reading.tables + other.tables,
    )


def _completed(image: StimulusImage, other: StimulusImage) -> StimulusImage:
    if image.name and image.pixels is not None:
        return image
    return replace(image, name=image.name or other.name, pixels=image.pixels or other.pixels)


def join_table(reading: Presentations, table: Table) -> Presentations:
    """Return a reading with the columns of a table that says nothing of images.

    Such a table is joined if every presentation lies in one of its rows.
    """
    tolerance_s = ROUNDING_S + reading.precision_s + table.precision_s
    rows = match_rows(reading.start_time, table.start_time, table.stop_time, tolerance_s=tolerance_s)
    is_alone = np.isfinite(reading.start_time) & (reading.image_index != BLANK) & (rows == NO_ROW)
    if is_alone.any() or (rows == NO_ROW).all():
        n_rowless = int(is_alone.sum())
        if not len(table.columns) or n_rowless > 0.5 * len(rows):
            return reading
        first = _at(reading, is_alone)
        why = f"{n_rowless} of {len(rows)} presentations lie in none of its rows, first at {first}"
        return replace(reading, not_joined={**reading.not_joined, table.name: why})
    return replace(
        reading,
        columns=_with_columns(reading.columns, table.columns, table.name, rows),
        not_labels=reading.not_labels
        | {"start_time", "stop_time"}
        | {n for n in table.columns if n.endswith("_time")},
        tables=(*reading.tables, table.name),
    )


def _with_columns(
    columns: Mapping[str, np.ndarray], more: Mapping[str, np.ndarray], place: str, rows: np.ndarray
) -> dict[str, np.ndarray]:
    """Return columns and those of another table; a name that has other values already is made longer."""
    joined = dict(columns)
    for name, values in more.items():
        values_of_rows = values[rows] if len(values) else np.full(len(rows), np.nan)
        if values.dtype == object:
            values_of_rows = np.where(rows == NO_ROW, "", values_of_rows)
        elif (rows == NO_ROW).any():
            values_of_rows = np.where(rows == NO_ROW, np.nan, values_of_rows)
        if name in joined and not _same(joined[name], values_of_rows):
            name = f"{place}_{name}"
        joined.setdefault(name, values_of_rows)
    return joined


def _same(one: np.ndarray, two: np.ndarray) -> bool:
    if one.dtype == object or two.dtype == object:
        return bool(one.dtype == two.dtype and (one == two).all())
    return bool(np.array_equal(one, two, equal_nan=True))
