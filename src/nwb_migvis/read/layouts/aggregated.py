"""Aggregated files of the DiCarlo lab: several sessions in one file, each with its own clock and units.

Session X has its trials in the intervals `trials_table_X` and its spikes in a `Units` table
`spike_times_X` of a processing module. Units are the same where their `unit_name` is.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import Contents
from nwb_migvis.read.layouts.tables import natural_key, table_reading
from nwb_migvis.read.presentations import BLANK, Presentations, Problem, StimulusImage

NAME = "dicarlo_aggregated"
IDENTITY = "stimulus_filename"


def find(contents: Contents, stimulus: str | None) -> Iterator[Presentations | Problem]:
    """Yield one reading of all sessions of the file, in the order of their names."""
    if not contents.aggregated:
        return
    try:
        readings = [_session_reading(contents, name, stimulus or IDENTITY) for name in contents.aggregated]
        yield _concatenated(readings, tuple(contents.aggregated.values()), image_columns(contents))
    except MigvisError as error:
        yield Problem(NAME, "trials_table", str(error))


def _session_reading(contents: Contents, session: str, column: str) -> Presentations:
    table = contents.tables[f"trials_table_{session}"]
    if column not in table.columns:
        columns = ", ".join(table.columns)
        raise MigvisError(f"table {table.name!r} has no column {column!r}; expected one of {columns}")
    return table_reading(table, column, contents, layout=NAME)


def _concatenated(
    readings: list[Presentations], units: tuple[Any, ...], attributes: dict[str, dict]
) -> Presentations:
    names = sorted({image.name for reading in readings for image in reading.images}, key=natural_key)
    place = {name: i for i, name in enumerate(names)}
    pixels = {image.name: image.pixels for reading in readings for image in reading.images}
    images = [StimulusImage(name, pixels[name], attributes.get(name, {})) for name in names]
    index = []
    for reading in readings:
        own = np.array([place[image.name] for image in reading.images] + [BLANK], np.int64)
        index.append(own[reading.image_index])
    shared = [name for name in readings[0].columns if all(name in reading.columns for reading in readings)]
    return Presentations(
        layout=NAME,
        place="session_spike_times",
        start_time=np.concatenate([reading.start_time for reading in readings]),
        image_index=np.concatenate(index),
        images=images,
        columns={name: np.concatenate([reading.columns[name] for reading in readings]) for name in shared},
        not_labels=readings[0].not_labels,
        is_numbered=readings[0].is_numbered,
        tables=tuple(reading.place for reading in readings),
        unit_tables=units,
        precision_s=max(reading.precision_s for reading in readings),
        index_question=next((r.index_question for r in readings if r.index_question), ""),
        unit_table_index=np.repeat(np.arange(len(readings)), [len(r.start_time) for r in readings]),
    )


def image_columns(contents: Contents) -> dict[str, dict[str, str | float]]:
    """Return what the table `stimulus_meta` says about each image besides its names, by file name."""
    from hdmf.common import DynamicTable

    from nwb_migvis.read.table import scalar_columns

    table = next((item for item in contents.stimuli if item.name == "stimulus_meta"), None)
    if not isinstance(table, DynamicTable):
        return {}
    columns = scalar_columns(table)
    names = columns.pop("stimuli_filename", None)
    if names is None:
        return {}
    for name in ("stimuli_presentation_id", "stimuli_hash"):
        columns.pop(name, None)
    return {name: {key: values[i] for key, values in columns.items()} for i, name in enumerate(names)}
