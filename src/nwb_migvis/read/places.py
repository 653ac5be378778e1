"""Where and of whom a session was recorded, in the file's own words."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nwb_migvis.errors import printable
from nwb_migvis.read.opening import open_session
from nwb_migvis.read.unit_query import unit_columns, unit_positions
from nwb_migvis.sources import Source

_MOST_CHARACTERS = 300


def _no_text() -> np.ndarray:
    return np.empty(0, dtype=object)


@dataclass(frozen=True, eq=False)
class Recording:
    """What a file says about its recording.

    Attributes
    ----------
    identifier, description, date, subject : str
        "" where the file says nothing.
    location : numpy.ndarray
        (unit,) str, of each row of the Units table: where its electrodes are; all "" where that is not said.
    electrode_group : numpy.ndarray
        (unit,) str, likewise.
    position : mapping of str to numpy.ndarray
        (unit,) float64 by the name of the coordinate, as `unit_positions` has them.
    """

    identifier: str = ""
    description: str = ""
    date: str = ""
    subject: str = ""
    location: np.ndarray = field(default_factory=_no_text)
    electrode_group: np.ndarray = field(default_factory=_no_text)
    position: Mapping[str, np.ndarray] = field(default_factory=dict)

    @property
    def areas(self) -> list[str]:
        """Locations without repetition, in the order of the units."""
        return [place for place in dict.fromkeys(self.location.tolist()) if place]


def read_recording(path: Source) -> Recording:
    """Read what a file says about its recording.

    Raises
    ------
    MigvisError
        If the file cannot be read.
    """
    with open_session(path) as nwb:
        columns = {} if nwb.units is None else unit_columns(nwb.units, nwb)
        n_units = 0 if nwb.units is None else len(nwb.units)
        names = ("electrode_group", "group_name", "electrodes_group_name")
        group = next((columns[name] for name in names if name in columns), None)
        return Recording(
            identifier=_short(nwb.identifier),
            description=_short(nwb.session_description),
            date=nwb.session_start_time.date().isoformat() if nwb.session_start_time else "",
            subject=_subject(nwb.subject),
            location=_texts(columns.get("location", columns.get("electrodes_location")), n_units),
            electrode_group=_texts(group, n_units),
            position={} if nwb.units is None else unit_positions(nwb.units, nwb),
        )


def _subject(subject: Any) -> str:
    if subject is None:
        return ""
    said = (getattr(subject, name, None) for name in ("subject_id", "species", "sex", "age"))
    return ", ".join(_short(word) for word in said if word)


def _texts(values: Any, n_units: int) -> np.ndarray:
    if values is None:
        return np.full(n_units, "", dtype=object)
    return np.array([_short(value) if isinstance(value, str) else "" for value in values], dtype=object)


def _short(text: Any) -> str:
    words = printable(str(text or ""))
    return words if len(words) <= _MOST_CHARACTERS else f"{words[: _MOST_CHARACTERS - 1]}…"
