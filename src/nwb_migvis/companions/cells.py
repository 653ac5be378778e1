"""Cells of images: overlapping places that maps are made of."""

from __future__ import annotations

import numpy as np

N_CELLS = 7
"""Cells along each side."""
WIDTH = 0.1
"""Standard deviation of a cell's Gaussian window, sides of the image."""


def centres(side: int) -> np.ndarray:
    """Return where the centres of places are along a side, pixels."""
    return (np.arange(N_CELLS) + 0.5) * side / N_CELLS


def windows(shape: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian window per place, (place, y, x), 1 at its centre."""
    along = [
        np.exp(-((np.arange(n) + 0.5 - centres(n)[:, None]) ** 2) / (2 * (WIDTH * n) ** 2)) for n in shape
    ]
    return np.einsum("iy,jx->ijyx", *along).reshape(-1, *shape)


def peak_is_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Say of each map whether its largest place is centred on the object: the pointing game, (n,) bool.

    Parameters
    ----------
    maps : array (n, row, column)
    masks : array of bool (n, y, x)
    """
    row, column = np.divmod(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[2])
    y, x = (centres(n).astype(np.int64) for n in masks.shape[1:])
    return masks[np.arange(len(maps)), y[row], x[column]]


def edge_map(images: np.ndarray) -> np.ndarray:
    """Return the energy of edges at each place, (n, row, column)."""
    gray = images.mean(axis=3) if images.ndim == 4 else images.astype(np.float64)
    energy = sum(np.gradient(gray, axis=axis) ** 2 for axis in (1, 2))
    window = windows(images.shape[1:3])
    return np.einsum("nyx,kyx->nk", energy, window).reshape(-1, N_CELLS, N_CELLS)


def full_size(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Spread maps (n, row, column) over pixels, (n, y, x), by the windows of their places."""
    window = windows(shape)
    return np.einsum("nk,kyx->nyx", maps.reshape(len(maps), -1), window) / window.sum(axis=0)
