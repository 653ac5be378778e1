"""Images that several threads compress while the rest of a file is written."""

from __future__ import annotations

import os
import sys
import zlib
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import h5py
import numpy as np
from hdmf.backends.hdf5.h5_utils import H5DataIO
from hdmf.data_utils import AbstractDataChunkIterator, DataChunk

LEVEL = 4
_MOST_THREADS = 8
_AHEAD_BYTES = 2**28
"""Images are compressed so far ahead of what is written."""
_SWITCH_S = 1e-4
"""How long a thread that has compressed an image waits for Python: by default longer than an image takes."""


def one_by_one(images: Any) -> H5DataIO:
    """Return images (image, ...) to be stored in chunks of one, so that any of them is read alone."""
    chunks = (1, *images.shape[1:])
    return H5DataIO(images, chunks=chunks, compression="gzip", compression_opts=LEVEL, shuffle=True)


class _Empty(AbstractDataChunkIterator):
    """Data of which a writer makes the dataset, and writes nothing; `chunks` are what belongs into it."""

    def __init__(self, images: np.ndarray, chunks: Iterator[bytes]):
        self.images, self.chunks = images, chunks

    def __iter__(self) -> Iterator[DataChunk]:
        return self

    def __next__(self) -> DataChunk:
        raise StopIteration

    @property
    def shape(self) -> tuple[int, ...]:
        return self.images.shape

    def recommended_chunk_shape(self) -> tuple[int, ...]:
        return (1, *self.images.shape[1:])

    def recommended_data_shape(self) -> tuple[int, ...]:
        return self.images.shape

    @property
    def dtype(self) -> np.dtype:
        return self.images.dtype

    @property
    def maxshape(self) -> tuple[int, ...]:
        return self.images.shape


class ImagesToCome:
    """Arrays of images, each image a chunk of its own: compressed at once, and written when the rest is.

    HDF5 filters one chunk at a time. Here several threads do, and HDF5 stores chunks as they are. Use as
    a context: its end waits for the threads.
    """

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(min(_cores(), _MOST_THREADS))

    def __enter__(self) -> ImagesToCome:
        self._interval = sys.getswitchinterval()
        sys.setswitchinterval(_SWITCH_S)
        return self

    def __exit__(self, *_: object) -> None:
        self._threads.shutdown(cancel_futures=True)
        sys.setswitchinterval(self._interval)

    def __call__(self, images: np.ndarray) -> H5DataIO:
        """Begin to compress images.

        Parameters
        ----------
        images : numpy.ndarray, shape (image, ...)

        Returns
        -------
        H5DataIO
            What pynwb writes as an empty dataset of their shape and dtype; `write_chunks` fills it.
        """
        images = np.ascontiguousarray(images)
        return one_by_one(_Empty(images, self._compressed(images)))

    def _compressed(self, images: np.ndarray) -> Iterator[bytes]:
        n_ahead = max(1, _AHEAD_BYTES // max(1, images[:1].nbytes))
        ahead: deque[Future[bytes]] = deque(self._threads.submit(_filtered, i) for i in images[:n_ahead])
        return _in_turn(self._threads, images[n_ahead:], ahead)


def write_chunks(data: H5DataIO, dataset: h5py.Dataset) -> None:
    """Write images into their dataset.

    Parameters
    ----------
    data : H5DataIO
        What `ImagesToCome` returned for them.
    dataset : h5py.Dataset
        What pynwb made of it.

    Raises
    ------
    RuntimeError
        If it is of another type: the bytes would say other numbers.
    """
    if dataset.dtype != data.data.dtype:
        raise RuntimeError(f"{dataset.name} is of {dataset.dtype}; its images are of {data.data.dtype}")
    for i, chunk in enumerate(data.data.chunks):
        dataset.id.write_direct_chunk((i, *(0,) * (dataset.ndim - 1)), chunk)


def _in_turn(threads: ThreadPoolExecutor, rest: np.ndarray, ahead: deque[Future[bytes]]) -> Iterator[bytes]:
    """Yield what is compressed in order, and for each hand in one of the rest."""
    for image in rest:
        yield ahead.popleft().result()
        ahead.append(threads.submit(_filtered, image))
    while ahead:
        yield ahead.popleft().result()


def _filtered(image: np.ndarray) -> bytes:
    """Return an image as HDF5 stores it: its bytes by their place in a number, then deflated."""
    by_place = image.reshape(-1).view(np.uint8).reshape(-1, image.itemsize).T
    return zlib.compress(by_place.tobytes(), LEVEL)


def _cores() -> int:
    """Return how many cores this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
