"""A small file that holds results without the recording: subject, session and devices of the source alone."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import uuid4

from pynwb import NWBFile
from pynwb.device import Device
from pynwb.file import Subject

_SESSION = (
    "session_description",
    "session_start_time",
    "timestamps_reference_time",
    "session_id",
    "experimenter",
    "experiment_description",
    "institution",
    "lab",
    "keywords",
    "related_publications",
    "protocol",
)
"""Fields of a session that describe it, and hold no data."""

_SUBJECT = (
    "subject_id",
    "age",
    "age__reference",
    "date_of_birth",
    "description",
    "genotype",
    "sex",
    "species",
    "strain",
    "weight",
)

_DEVICE = ("name", "description", "manufacturer", "serial_number")


def file_apart(source: NWBFile, *, results_of: str) -> NWBFile:
    """Return a new file with the session's description, subject and devices, and none of its data.

    Parameters
    ----------
    source : pynwb.NWBFile
        The session.
    results_of : str
        Name of the session's file, or its address, for the notes.
    """
    about = _fields(source, _SESSION)
    nwbfile = NWBFile(
        identifier=str(uuid4()),
        notes=(
            f"Results of nwb-migvis without the recording, which is in {results_of}: identifier "
            f"{source.identifier}, object id {source.object_id}."
        ),
        **about,
    )
    if source.subject is not None:
        nwbfile.subject = Subject(**_fields(source.subject, _SUBJECT))
    for device in source.devices.values():
        nwbfile.add_device(Device(**_fields(device, _DEVICE)))
    return nwbfile


def _fields(item: Any, names: tuple[str, ...]) -> dict[str, Any]:
    """Return those fields of an object that it has, text from the file as text."""
    values = {name: getattr(item, name, None) for name in names}
    return {name: _plain(value) for name, value in values.items() if value is not None}


def _plain(value: Any) -> Any:
    if isinstance(value, (str, float, datetime)):
        return value
    return [text.decode() if isinstance(text, bytes) else text for text in value[:]]
