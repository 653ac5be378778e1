"""Read sessions of any lab's layout into one labelled dataset."""

from __future__ import annotations

from nwb_migvis.read.archive import archive_notes, text_at
from nwb_migvis.read.counting import count_spikes
from nwb_migvis.read.from_sorting import session_from_sorting
from nwb_migvis.read.inspection import describe, inspect_session, inspection
from nwb_migvis.read.session import read_session
from nwb_migvis.read.several import read_sessions, shared_stimuli

__all__ = [
    "archive_notes",
    "count_spikes",
    "describe",
    "inspect_session",
    "inspection",
    "read_session",
    "read_sessions",
    "session_from_sorting",
    "shared_stimuli",
    "text_at",
]
