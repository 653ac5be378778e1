"""Tables of intervals or events with one row per presentation and a column that says which image.

Three layouts share this reading: the trials of a DiCarlo lab session (`stimulus_filename`), the
`*_presentations` tables of the Allen Institute, and any other table.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any, Protocol

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import Collection, Contents
from nwb_migvis.read.layouts.index_series import index_question, positions
from nwb_migvis.read.presentations import BLANK, Presentations, Problem, StimulusImage
from nwb_migvis.read.table import Table

NAME_COLUMNS = ("stimulus_filename", "image_name", "image_filename", "image_file", "external_image_file")
"""Columns that name the image, in the order in which they are looked for."""

POSITION_COLUMNS = ("image_index", "frame")
"""Columns that count positions in a collection of images, from 0."""

NUMBER_COLUMNS = (*POSITION_COLUMNS, "image_id", "stimulus_presented")
"""Columns that identify the image by a number; looked for after the names."""

NOT_LABELS = frozenset(
    {
        *NAME_COLUMNS,
        *NUMBER_COLUMNS,
        *(
            "start_time",
            "stop_time",
            "image_hash",
            "trial_index",
            "stimulus_order_in_trial",
            "fixation_correct",
        ),
        *("stimuli_presentation_time_ms", "inter_stimuli_interval_ms", "stim_on_time", "stim_off_time"),
        *(
            "start_frame",
            "end_frame",
            "duration",
            "stimulus_block",
            "stimulus_index",
            "stimulus_name",
            "image_set",
        ),
        *("trials_id", "flashes_since_change", "omitted", "is_change", "active"),
    }
)
"""Columns of the known layouts that say nothing about the image: ids, names, hashes and times."""

OMITTED = ("", "nan", "omitted")
"""Values of a text column where no image was shown."""


class KnownImages(Protocol):
    """The images that a column of a table may mean."""

    @property
    def index_base(self) -> int | None:
        """What the first image has where a column counts positions; None where the user does not say."""

    @property
    def named_images(self) -> dict[str, list[StimulusImage]]:
        """Images by name."""

    @property
    def collections(self) -> list[Collection]:
        """Images that positions may count."""


def find_dicarlo(contents: Contents, stimulus: str | None) -> Iterator[Presentations | Problem]:
    """Yield readings of tables with `stimulus_filename`."""
    return _find(contents, stimulus, "dicarlo")


def find_allen(contents: Contents, stimulus: str | None) -> Iterator[Presentations | Problem]:
    """Yield readings of `*_presentations` tables."""
    return _find(contents, stimulus, "allen")


def find_intervals(contents: Contents, stimulus: str | None) -> Iterator[Presentations | Problem]:
    """Yield readings of any other table of intervals."""
    return _find(contents, stimulus, "intervals")


def _layout_of(table: Table, contents: Contents) -> str:
    if table.name.removeprefix("trials_table_") in contents.aggregated:
        return "dicarlo_aggregated"
    if "stimulus_filename" in table.columns:
        return "dicarlo"
    return "allen" if table.name.endswith("_presentations") else "intervals"


def _find(contents: Contents, stimulus: str | None, layout: str) -> Iterator[Presentations | Problem]:
    for table in contents.tables.values():
        if _layout_of(table, contents) != layout:
            continue
        column = identity_column(table, contents) if stimulus is None else stimulus
        if column is None or column not in table.columns:
            continue
        try:
            yield table_reading(table, column, contents, layout=layout)
        except MigvisError as error:
            yield Problem(layout, table.name, str(error))


def identity_column(table: Table, contents: Contents) -> str | None:
    """Return the column that says which image a row shows.

    A known name of a text column, else a text column whose every value names an image of the file, else a
    known name of a number column.
    """
    texts = [name for name, values in table.columns.items() if values.dtype == object]
    for name in NAME_COLUMNS:
        if name in texts:
            return name
    for name in texts:
        shown = {value for value in table.columns[name] if value not in OMITTED}
        if shown and shown <= contents.named_images.keys():
            return name
    return next((name for name in NUMBER_COLUMNS if name in table.columns), None)


def table_reading(table: Table, column: str, contents: KnownImages, *, layout: str) -> Presentations:
    """Read the presentations of a table whose `column` identifies the image.

    Their rows are given only where the table has a column of text: nwbinspector (0.7) fails on regions of
    tables that hold nothing but numbers, and the archive with it.
    """
    if table.problem:
        raise MigvisError(table.problem)
    values, is_omitted = table.columns[column], _is_omitted(table)
    collection = _counted_images(column, table, contents)
    question = ""
    if values.dtype == object:
        images, image_index = _by_name(values, contents)
    elif collection is None:
        images, image_index = _by_number(column, table, contents)
    else:
        place, n_images = f"column {column!r} of table {table.name!r}", len(collection.images)
        base = contents.index_base
        images = list(collection.images)
        image_index = positions(values, n_images, place=place, index_base=base or 0)
        if base is None:
            question = index_question(values[~is_omitted], n_images, place=place)
    image_index = np.where(is_omitted, BLANK, image_index)
    is_pointed_to = bool(table.path) and any(column.dtype == object for column in table.columns.values())
    return Presentations(
        layout=layout,
        place=table.name,
        start_time=table.start_time,
        stop_time=table.stop_time,
        image_index=image_index,
        images=images,
        columns=table.columns,
        not_labels=NOT_LABELS | {column} | _times(table),
        is_numbered=values.dtype != object,
        tables=(table.name,),
        precision_s=table.precision_s,
        index_question=question,
        table_path=table.path,
        table_row=np.arange(len(table.start_time)) if is_pointed_to else None,
    )


def _is_omitted(table: Table) -> np.ndarray:
    omitted = table.columns.get("omitted")
    if omitted is None or omitted.dtype.kind not in "biuf":
        return np.zeros(len(table.start_time), bool)
    return omitted == 1


def _times(table: Table) -> set[str]:
    return {name for name in table.columns if name.endswith("_time")}


def _by_name(values: np.ndarray, contents: KnownImages) -> tuple[list[StimulusImage], np.ndarray]:
    names = sorted({value for value in values if value not in OMITTED}, key=natural_key)
    place = {name: i for i, name in enumerate(names)}
    images = [_named(name, contents) for name in names]
    return images, np.array([place.get(value, BLANK) for value in values], np.int64)


def _named(name: str, contents: KnownImages) -> StimulusImage:
    namesakes = contents.named_images.get(name, [])
    if len(namesakes) > 1:
        raise MigvisError(
            f"{len(namesakes)} images of the file are named {name!r}; expected one: rename the others"
        )
    return namesakes[0] if namesakes else StimulusImage(name)


def _by_number(column: str, table: Table, contents: KnownImages) -> tuple[list[StimulusImage], np.ndarray]:
    values, place = table.columns[column], f"column {column!r} of table {table.name!r}"
    if values.dtype == bool:
        raise MigvisError(
            f"{place} is true or false; expected a name or number of an image: choose another column"
        )
    numbers = positions(values, None, place=place)
    shown = np.unique(numbers[numbers != BLANK])
    images = [_named(str(number), contents) for number in shown]
    return images, np.where(numbers == BLANK, BLANK, np.searchsorted(shown, numbers))


def _counted_images(column: str, table: Table, contents: KnownImages) -> Collection | None:
    """Return the images that a column counts positions in: those that its table is named after, else all."""
    if column not in POSITION_COLUMNS or table.columns[column].dtype.kind not in "biuf":
        return None
    collections = [
        c for c in contents.collections if f"{c.name}_presentations" == table.name
    ] or contents.collections
    if not collections:
        return None
    if len(collections) > 1:
        names = ", ".join(c.name for c in collections)
        raise MigvisError(
            f"table {table.name!r} counts positions in one of {len(collections)} collections of images "
            f"({names}); expected one, or one that the table is named after"
        )
    if not collections[0].is_ordered:
        raise MigvisError(
            f"table {table.name!r} counts positions in Images {collections[0].name!r}, which has no "
            "order_of_images; expected one, or names that end in 0 .. n - 1: add order_of_images"
        )
    return collections[0]


def natural_key(name: str) -> list[Any]:
    """Return a sort key that puts im2 before im10."""
    parts = re.split(r"(\d+)", name)
    return [(int(part), part) if i % 2 else part for i, part in enumerate(parts)]
