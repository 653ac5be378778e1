"""Batches of one fixed size, so that a result does not depend on what else is computed."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch

from nwb_migvis.progress import progress


def in_batches(
    function: Callable[..., torch.Tensor], *tensors: torch.Tensor, size: int, what: str | None = None
) -> torch.Tensor:
    """Apply a function to rows, always `size` at a time.

    The arithmetic of a network depends, in the last bit, on the size of its batch: the last batch is filled
    up with copies of its first row. A row's result is then the same whatever it is computed with, so that an
    edit can be made again alone.

    Parameters
    ----------
    function : callable
        Takes as many tensors of `size` rows as there are `tensors`; returns one with a row for each.
    *tensors : torch.Tensor, shape (n, ...)
        With n > 0.
    size : int
    what : str, optional
        Name for the progress bar.
    """
    n = tensors[0].shape[0]
    firsts: Iterable[int] = range(0, n, size)
    parts = []
    for first in progress(firsts, what=what) if what else firsts:
        batch = [tensor[first : first + size] for tensor in tensors]
        n_lacking = size - batch[0].shape[0]
        filled = [torch.cat([part, part[:1].expand(n_lacking, *part.shape[1:])]) for part in batch]
        parts.append(function(*filled)[: size - n_lacking])
    return torch.cat(parts)
