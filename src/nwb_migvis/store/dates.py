"""Dates in a copy, in the spelling of their source.

pynwb writes dates as Python spells them. MatNWB writes six digits of a second always, and `Z` for UTC: the
same time, in other characters.
"""

from __future__ import annotations

import re
from datetime import datetime
from pathlib import Path
from typing import Any

import h5py
import numpy as np

_DATES = (
    "session_start_time",
    "timestamps_reference_time",
    "file_create_date",
    "general/subject/date_of_birth",
)
_FRACTION = re.compile(r"\.\d{6}(\d*)")


def keep_spelling(source: Path, copy: h5py.File) -> None:
    """Give every date in an open copy the spelling that it has in the source, where it is the same time."""
    with h5py.File(source, "r") as file:
        for name in _DATES:
            before, after = file.get(name), copy.get(name)
            if not _is_text(before) or not _is_text(after):
                continue
            texts = np.ravel(before.asstr()[()])
            written = np.ravel(after.asstr()[()])
            if len(texts) == len(written) and not np.array_equal(texts, written):
                pairs = zip(texts, written, strict=True)
                if all(is_same_time(str(a), str(b)) for a, b in pairs):
                    after[()] = texts.tolist() if after.shape else str(texts[0])


def is_same_time(a: str, b: str) -> bool:
    """Return whether two ISO 8601 dates are one moment, in one offset from UTC.

    Python keeps microseconds: digits beyond them, unless zero, make a date no other's equal.
    """
    if any(digits.strip("0") for text in (a, b) for digits in _FRACTION.findall(text)):
        return False
    try:
        first, second = (datetime.fromisoformat(text.strip().replace(" ", "T")) for text in (a, b))
        return first == second and first.utcoffset() == second.utcoffset()
    except (ValueError, TypeError):
        return False


def _is_text(item: Any) -> bool:
    return isinstance(item, h5py.Dataset) and h5py.check_string_dtype(item.dtype) is not None
