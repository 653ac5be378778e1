"""Images at the resolution that readers work with."""

from __future__ import annotations

import numpy as np

SIZE_PX = 32
"""Longest side that readers see: their fields of view are made for it."""


def reduced(images: np.ndarray) -> np.ndarray:
    """Return images as fractions of the range of pixels, with a longest side of at most `SIZE_PX`.

    Larger images are reduced by averaging over areas that cover them evenly and overlap by at most a pixel.

    Parameters
    ----------
    images : array of uint8 (n, y, x) or (n, y, x, channel)

    Returns
    -------
    array of float32 (n, y, x, channel)
    """
    x = np.asarray(images, dtype=np.float32) / 255
    x = x[..., None] if x.ndim == 3 else x
    longest = max(x.shape[1:3])
    if longest <= SIZE_PX:
        return x
    rows, columns = (_areas(side, max(1, round(side * SIZE_PX / longest))) for side in x.shape[1:3])
    return np.einsum("iy,nyxc,jx->nijc", rows, x, columns, optimize=True)


def _areas(side: int, n: int) -> np.ndarray:
    """Return the weights of a side's pixels in each of n areas, (area, pixel)."""
    index = np.arange(n)
    first, stop = index * side // n, -((index + 1) * -side // n)
    pixel = np.arange(side)
    inside = (pixel >= first[:, None]) & (pixel < stop[:, None])
    return (inside / inside.sum(axis=1, keepdims=True)).astype(np.float32)
