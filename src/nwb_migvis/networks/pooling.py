"""Averages over a coarse grid of places."""

from __future__ import annotations

import math

import torch

N_PLACES = 4


def grid_average(h: torch.Tensor) -> torch.Tensor:
    """Return activations (n, channel, y, x) averaged over a grid of 4 x 4 places, (n, channel * 16).

    The windows are those of torch's adaptive average pooling, whose gradient on a GPU is not repeatable; two
    matrix products are.
    """
    down, across = (_windows(n, h) for n in h.shape[-2:])
    return (down @ h.contiguous() @ across.T).flatten(1)


def _windows(n: int, like: torch.Tensor) -> torch.Tensor:
    """Return the weight of each of n places in each window, (window, n)."""
    weight = torch.zeros(N_PLACES, n, dtype=like.dtype, device=like.device)
    for i in range(N_PLACES):
        first, last = i * n // N_PLACES, math.ceil((i + 1) * n / N_PLACES)
        weight[i, first:last] = 1 / (last - first)
    return weight
