"""Sizes that a file says its datasets have, against the bytes that it holds."""

from __future__ import annotations

from typing import Any

import h5py
import numpy as np

from nwb_migvis.errors import MigvisError

MOST_EXPANSION = 2**11
"""Most that compression makes of a byte; deflate, the most common, reaches 1,032."""

SMALL_BYTES = 2**24
"""Datasets up to this size are read whatever the file holds of them, for chunks may never be written."""


def check_size(dataset: h5py.Dataset, n_bytes: int | None = None) -> None:
    """Raise `MigvisError` where a dataset claims more bytes than its file can hold of it.

    Parameters
    ----------
    dataset : h5py.Dataset
    n_bytes : int, optional
        What is about to be read of it; all by default.
    """
    if dataset.is_virtual or dataset.external:  # the bytes are in other files
        return
    n_bytes = dataset.nbytes if n_bytes is None else n_bytes
    if n_bytes > SMALL_BYTES and dataset.nbytes > MOST_EXPANSION * dataset.id.get_storage_size():
        raise MigvisError(
            f"{dataset.name} is said to hold {dataset.nbytes} bytes, and the file has "
            f"{dataset.id.get_storage_size()} of them; the file is damaged: get a whole copy of it"
        )


def whole(data: Any) -> np.ndarray:
    """Return all values of a dataset or array in memory, checked against the size of the file.

    Raises
    ------
    MigvisError
        See `check_size`.
    """
    if isinstance(data, h5py.Dataset):
        check_size(data)
    return np.asarray(data[:])
