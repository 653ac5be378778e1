"""A damage that the HDF5 library does not survive: global heaps with an entry of size zero.

HDF5 keeps text in global heap collections, lists of entries that each give their size. Reading one whose
damaged entry gives zero never ends, and nothing in this process can interrupt it, so small files are
looked through before they are opened. Layout: "Disk Format: Level 1E - Global Heap" of the HDF5 file
format specification.
"""

from __future__ import annotations

import struct
from pathlib import Path

LARGEST_FILE = 2**25
"""Files above this size, in bytes, are not looked through: that would cost more than the reading."""

_SIGNATURE = b"GCOL"
_HEADER_BYTES = 16


def has_endless_heap(path: Path) -> bool:
    """Return whether reading text of a small HDF5 file would never end."""
    if path.stat().st_size > LARGEST_FILE:
        return False
    data = path.read_bytes()
    place = data.find(_SIGNATURE)
    while place >= 0:
        if _is_endless(data, place):
            return True
        place = data.find(_SIGNATURE, place + len(_SIGNATURE))
    return False


def _is_endless(data: bytes, place: int) -> bool:
    """Return whether the collection at `place` has an entry from which the next cannot be reached."""
    if place + _HEADER_BYTES > len(data):
        return False
    _, version, size = struct.unpack_from("<4sB3xQ", data, place)
    if version != 1 or place + size > len(data):
        return False
    entry = place + _HEADER_BYTES
    while entry + _HEADER_BYTES <= place + size:
        index, n_bytes = struct.unpack_from("<H6xQ", data, entry)
        step = _HEADER_BYTES + -(-n_bytes // 8) * 8 if index else n_bytes
        if step == 0:
            return True
        entry += step
    return False
