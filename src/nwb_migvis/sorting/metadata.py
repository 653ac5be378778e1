"""What a new NWB session says about the recording, from a TOML file."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import nearest

_TEXT = {
    "session": (
        "identifier",
        "session_description",
        "session_id",
        "experiment_description",
        "institution",
        "lab",
        "notes",
        "protocol",
    ),
    "subject": ("subject_id", "species", "sex", "age", "description", "strain", "genotype", "weight"),
    "device": ("name", "description", "manufacturer"),
    "electrodes": ("location",),
}
_LISTS = {"session": ("experimenter", "keywords")}
_TIMES = {"session": ("session_start_time",)}


@dataclass(frozen=True)
class SessionMetadata:
    """Metadata of a session.

    Attributes
    ----------
    session : dict
        Keywords of `pynwb.NWBFile`; `session_start_time` with its offset from UTC,
        `session_description` and `identifier` are required.
    subject : dict
        Keywords of `pynwb.file.Subject`.
    device : dict
        Keywords of `NWBFile.create_device`.
    electrodes : dict
        `location`, the brain area of all electrodes.
    """

    session: Mapping[str, Any]
    subject: Mapping[str, Any] = field(default_factory=dict)
    device: Mapping[str, Any] = field(default_factory=dict)
    electrodes: Mapping[str, Any] = field(default_factory=dict)

    @classmethod
    def from_toml(cls, path: str | Path) -> SessionMetadata:
        """Read the tables `[session]`, `[subject]`, `[device]` and `[electrodes]` of a TOML file.

        Raises
        ------
        MigvisError
            If the file is absent, does not parse, has an unknown key or a value of another type, or lacks
            what is required.
        """
        try:
            values = tomllib.loads(Path(path).read_text(encoding="utf-8"))
        except OSError as error:
            raise MigvisError(f"metadata {path}: {error.strerror}; give the path of a TOML file") from None
        except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
            raise MigvisError(f"metadata {path} is not valid TOML: {error}") from None
        for table, entries in values.items():
            if table not in _TEXT or not isinstance(entries, dict):
                raise MigvisError(f"metadata {path}: {table} is unknown; expected tables {', '.join(_TEXT)}")
            for key, value in entries.items():
                _check(table, key, value, f"metadata {path}: {table}.{key}")
        session = values.get("session", {})
        for key in ("session_start_time", "session_description", "identifier"):
            if key not in session:
                raise MigvisError(f"metadata {path} lacks session.{key}; add it")
        if ("device" in values or "electrodes" in values) and "name" not in values.get("device", {}):
            raise MigvisError(f"metadata {path} lacks device.name; add it")
        return cls(**values)


def _check(table: str, key: str, value: Any, place: str) -> None:
    texts, lists, times = _TEXT[table], _LISTS.get(table, ()), _TIMES.get(table, ())
    if key in texts:
        expected, fits = "text", isinstance(value, str)
    elif key in lists:
        expected = "a list of texts"
        fits = isinstance(value, list) and all(isinstance(item, str) for item in value)
    elif key in times:
        expected = "a date and time with its offset from UTC, such as 2026-01-31T09:30:00+01:00"
        fits = isinstance(value, datetime) and value.tzinfo is not None
    else:
        keys = nearest(key, (*times, *texts, *lists), most=40)
        raise MigvisError(f"{place} is unknown; expected one of {keys}")
    if not fits:
        quoted = "; remove the quotes" if key in times and isinstance(value, str) else ""
        raise MigvisError(f"{place} is {value!r}; expected {expected}{quoted}")
