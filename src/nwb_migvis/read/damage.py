"""Damage that the HDF5 library does not survive.

Reading some damaged files never ends inside the library, or ends the process, and nothing in this process
can prevent that once it has begun; so small files are looked through before they are opened:

- a global heap (where HDF5 keeps text) with an entry of size zero, from which the next is never reached;
- a datatype of variable length that is neither a sequence nor text.

Both are described in the HDF5 file format specification ("Global Heap"; "Datatype Message", class 9).
"""

from __future__ import annotations

import re
import struct

import h5py

from nwb_migvis.sources import Source, bytes_of, open_hdf5, size_of

LARGEST_FILE = 2**25
"""Files above this size, in bytes, are not looked through: that would cost more than the reading."""

_HEAP = b"GCOL"
_HEADER_BYTES = 16
_UNKNOWN_VARIABLE_LENGTH = re.compile(
    rb"[\x19\x29\x39\x49]"  # class 9, versions 1 to 4
    rb"[\x02-\x0f\x12-\x1f\x22-\x2f]"  # neither sequence (0) nor text (1), under the three paddings
    rb"[\x00\x01]\x00\x10\x00\x00\x00"  # character set; 16 bytes, as all such types have
)


def fatal_damage(path: Source) -> str | None:
    """Return what in a small HDF5 file would hang or crash the library, or None.

    Raises
    ------
    OSError
        If the library does not open it.
    """
    data = None if size_of(path) > LARGEST_FILE else bytes_of(path)
    if data is None:
        return None
    if _UNKNOWN_VARIABLE_LENGTH.search(data) and _has_unknown_type(path):  # the bytes may be of an array
        return "a variable-length datatype is neither a sequence nor text"
    place = data.find(_HEAP)
    while place >= 0:
        if _is_endless(data, place):
            return "a global heap has an entry of no size"
        place = data.find(_HEAP, place + len(_HEAP))
    return None


def _has_unknown_type(path: Source) -> bool:
    """Return whether a dataset or attribute of the file is of an unknown variable-length datatype.

    Only the types are looked at, which the library survives; a file whose types cannot be listed has one.
    """
    is_unknown = False

    def look(_name: str, item: h5py.Group | h5py.Dataset | h5py.Datatype) -> bool | None:
        nonlocal is_unknown
        types = [h5py.h5a.open(item.id, index=i).get_type() for i in range(h5py.h5a.get_num_attrs(item.id))]
        if isinstance(item, h5py.Dataset):
            types.append(item.id.get_type())
        is_unknown = any(_UNKNOWN_VARIABLE_LENGTH.search(kind.encode()) for kind in types)
        return True if is_unknown else None  # anything but None ends the walk

    with open_hdf5(path) as file:
        try:
            look("/", file)
            if not is_unknown:
                file.visititems(look)
        except (OSError, RuntimeError, KeyError, ValueError, TypeError):
            return True
    return is_unknown


def _is_endless(data: bytes, place: int) -> bool:
    """Return whether the heap at `place` has an entry from which the next cannot be reached."""
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
