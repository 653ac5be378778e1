"""Fixed points of functions of images, by Anderson's acceleration."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import torch

MEMORY = 2
"""Steps of the past that a new one is combined with."""


@torch.no_grad()
def fixed_point(
    function: Callable[[torch.Tensor], torch.Tensor], start: torch.Tensor, *, n_most: int, tolerance: float
) -> torch.Tensor:
    """Find x = function(x), image by image.

    Anderson 1965 (type II; Walker & Ni 2011, SIAM J. Numer. Anal. 49): each new x is the plain iterate less
    the combination of the last steps that best explains its residual. It converges where the plain iteration
    is slow, and where that diverges because the function's slope exceeds one in some direction.

    Parameters
    ----------
    function : callable
        Of images (n, ...), each on its own; returns the same shape.
    start : torch.Tensor, shape (n, ...)
    n_most : int
        Most evaluations of the function.
    tolerance : float
        An image whose residual is smaller, relative to its norm, has converged. It is not changed any more,
        so that it does not depend on the others.
    """
    x, moving = start, torch.ones(len(start), dtype=torch.bool, device=start.device)
    past: list[tuple[torch.Tensor, torch.Tensor]] = []
    for _ in range(n_most):
        there = function(x)
        residual = (there - x).flatten(1)
        past = [*past[-MEMORY:], (x.flatten(1), residual)]
        arrived = residual.norm(dim=1) < tolerance * x.flatten(1).norm(dim=1)
        step = torch.where(arrived[:, None], residual, _combined(past))
        x = torch.where(moving.view(-1, *[1] * (x.ndim - 1)), x + step.view_as(x), x)
        moving = moving & ~arrived
        if not moving.any():
            break
    return x


def _combined(past: list[tuple[torch.Tensor, torch.Tensor]]) -> torch.Tensor:
    """Return the step from the last x, given (x, residual) of some that followed each other, each (n, k)."""
    residual = past[-1][1]
    if len(past) < 2:
        return residual
    moved = torch.stack([new[0] - old[0] for old, new in pairwise(past)], dim=2)
    changed = torch.stack([new[1] - old[1] for old, new in pairwise(past)], dim=2)
    gram = (changed.mT @ changed).double()
    scale = gram.diagonal(dim1=1, dim2=2).mean(1)[:, None, None]
    ridge = (1e-10 * scale + 1e-30) * torch.eye(gram.shape[1]).to(gram)
    weight = torch.linalg.solve(gram + ridge, (changed.mT @ residual[:, :, None]).double())
    return residual - ((moved + changed) @ weight.to(moved))[:, :, 0]
