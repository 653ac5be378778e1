"""Sizes that a file says its datasets have, against the bytes that it holds and the memory allowed."""

from __future__ import annotations

import math
import zlib
from typing import Any

import h5py
import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.memory import check_memory

MOST_EXPANSION = 2**11
"""Most that compression makes of a byte; deflate, the most common, reaches 1,032."""

SMALL_BYTES = 2**24
"""Datasets up to this size are read whatever the file holds of them, for chunks may never be written."""

PIECE_BYTES = 2**27
"""What is read at a time of data that are not needed at once."""

FRAME_BYTES = 512
"""What is noted of an image before its pixels are read."""

_TEXT_ITEM_BYTES = 16
"""A text of variable length in a dataset: its length (4 bytes), and where it is."""


def check_size(dataset: h5py.Dataset, n_bytes: int | None = None) -> None:
    """Raise `MigvisError` where a dataset claims more bytes than its file can hold, or the memory may.

    Parameters
    ----------
    dataset : h5py.Dataset
    n_bytes : int, optional
        What is about to be read of it; all by default.
    """
    n_bytes = dataset.nbytes if n_bytes is None else n_bytes
    if dataset.chunks is not None:  # a chunk is read whole
        n_bytes = max(n_bytes, math.prod(dataset.chunks) * dataset.dtype.itemsize)
    check_stored(dataset, n_bytes)
    if n_bytes > SMALL_BYTES:
        check_memory(dataset.name, n_bytes, file_bytes=dataset.file.id.get_filesize())


def check_stored(dataset: h5py.Dataset, n_bytes: int) -> None:
    """Raise `MigvisError` where `n_bytes` are not few and a dataset claims more than its file can hold."""
    if n_bytes <= SMALL_BYTES or dataset.is_virtual or dataset.external:  # these have bytes in other files
        return
    if dataset.nbytes > MOST_EXPANSION * dataset.id.get_storage_size():
        raise MigvisError(
            f"{dataset.name} is said to hold {dataset.nbytes} bytes, and the file has "
            f"{dataset.id.get_storage_size()} of them; the file is damaged: get a whole copy of it"
        )


def check_pieces(data: Any) -> None:
    """Do as `check_size` for a dataset that is read piece by piece; for arrays there is nothing to check."""
    if isinstance(data, h5py.Dataset):
        is_elsewhere = data.is_virtual or data.external
        check_size(data, None if is_elsewhere else min(data.nbytes, PIECE_BYTES))


def check_frames(data: h5py.Dataset) -> None:
    """Do as `check_size` for frames (frame, y, x[, channel]) that are read one by one."""
    n_frames = len(data)
    check_stored(data, data.nbytes)
    check_size(data, data.nbytes // max(n_frames, 1))
    check_memory(
        f"{data.name} of {n_frames} frames", n_frames * FRAME_BYTES, file_bytes=data.file.id.get_filesize()
    )


def whole(data: Any) -> np.ndarray:
    """Return all values of a dataset or array in memory, checked against the size of the file.

    Raises
    ------
    MigvisError
        See `check_size`.
    """
    if isinstance(data, h5py.Dataset):
        check_whole(data)
    return np.asarray(data[:])


def check_whole(dataset: h5py.Dataset) -> None:
    """Do as `check_size`, and count the text that a dataset refers to: many rows may be one long text."""
    check_size(dataset)
    file_bytes = dataset.file.id.get_filesize()
    is_text = h5py.check_string_dtype(dataset.dtype) is not None and dataset.dtype.kind == "O"
    if is_text and dataset.size * file_bytes > SMALL_BYTES:
        check_memory(dataset.name, _text_bytes(dataset, file_bytes), file_bytes=file_bytes)


def _text_bytes(dataset: h5py.Dataset, file_bytes: int) -> int:
    """Return how many bytes of text a dataset refers to, without reading the text where that is possible."""
    codes = _filters(dataset)
    if dataset.chunks is None or not set(codes) <= _UNDO.keys():
        rows = max(16, SMALL_BYTES // file_bytes)
        starts = range(0, len(dataset), rows)
        return sum(sum(len(text) for text in np.ravel(dataset[i : i + rows])) for i in starts)
    total, n_bytes = 0, math.prod(dataset.chunks) * _TEXT_ITEM_BYTES
    for i in range(dataset.id.get_num_chunks()):
        skipped, data = dataset.id.read_direct_chunk(dataset.id.get_chunk_info(i).chunk_offset)
        for place in reversed(range(len(codes))):
            if not skipped >> place & 1:
                data = _UNDO[codes[place]](data, n_bytes)
        total += int(np.frombuffer(data, "<u4")[:: _TEXT_ITEM_BYTES // 4].sum(dtype=np.int64))
    return total


def _filters(dataset: h5py.Dataset) -> list[int]:
    settings = dataset.id.get_create_plist()
    return [settings.get_filter(i)[0] for i in range(settings.get_nfilters())]


_UNDO = {
    h5py.h5z.FILTER_DEFLATE: lambda data, n: zlib.decompressobj().decompress(data, n + 4),
    h5py.h5z.FILTER_SHUFFLE: lambda data, n: data,
}
"""What undoes the filters that text of variable length can have; HDF5 does not really shuffle it."""
