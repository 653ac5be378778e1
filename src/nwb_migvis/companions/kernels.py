"""Centred kernel alignment of latents, without the bias that few images bring."""

from __future__ import annotations

import numpy as np


def unbiased_cka(a: np.ndarray, b: np.ndarray, order: np.ndarray) -> tuple[float, np.ndarray]:
    """Linear CKA with unbiased dependence (Song et al. 2012), and under permutations of the images of b.

    Independent groups have 0 on average, however few the images.

    Parameters
    ----------
    a, b : array (image, latent), array (image, other latent)
    order : array of int (permutation, image)
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    every = np.arange(len(a))[None]
    norm = np.sqrt(max(_dependence(a, a, every)[0], 0) * max(_dependence(b, b, every)[0], 0))
    if norm <= 0:
        return float("nan"), np.full(len(order), np.nan)
    return float(_dependence(a, b, every)[0] / norm), _dependence(a, b, order) / norm


def _dependence(a: np.ndarray, b: np.ndarray, order: np.ndarray) -> np.ndarray:
    """Sum of the product of two U-centred linear kernels (Szekely and Rizzo 2014), (permutation,).

    Without their diagonals the kernels of centred columns have row sums -|a_i|^2 and -|b_i|^2, so that the
    kernels themselves, (image, image), are not needed.

    Parameters
    ----------
    a, b : array (image, latent), array (image, other latent)
        Centred.
    order : array of int (permutation, image)
        Of the images of b.
    """
    n = len(a)
    k, m = (a**2).sum(axis=1), (b**2).sum(axis=1)
    along = m[order] @ k
    squares = np.array([((a.T @ b[own]) ** 2).sum() for own in order])
    return squares - along * (1 + 2 / (n - 2)) + k.sum() * m.sum() / ((n - 1) * (n - 2))
