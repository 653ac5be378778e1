"""Fixed points of functions of images, by Anderson's acceleration."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch


@dataclass(frozen=True)
class Search:
    """How a fixed point is looked for: parameters of `fixed_point`."""

    n_most: int = 8
    tolerance: float = 3e-4
    memory: int = 2
    keeps_best: bool = False


THOROUGH = Search(n_most=30, tolerance=2e-5, memory=5, keeps_best=True)
"""For networks of which nothing is known."""


@torch.no_grad()
def fixed_point(
    function: Callable[[torch.Tensor], torch.Tensor],
    start: torch.Tensor,
    *,
    n_most: int,
    tolerance: float,
    memory: int = 2,
    keeps_best: bool = False,
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
    memory : int
        Steps of the past that a new one is combined with.
    keeps_best : bool
        An image that has not converged in the end is the one with the least residual, not the last one.
    """
    x, moving = start, torch.ones(len(start), dtype=torch.bool, device=start.device)
    past: list[tuple[torch.Tensor, torch.Tensor]] = []
    best, least = x, torch.full((len(x),), torch.inf, device=x.device)
    shape = (-1, *[1] * (x.ndim - 1))
    for _ in range(n_most):
        there = function(x)
        residual = (there - x).flatten(1)
        past = [*past[-memory:], (x.flatten(1), residual)]
        size = residual.norm(dim=1)
        arrived = size < tolerance * x.flatten(1).norm(dim=1)
        if keeps_best:
            best = torch.where((size < least).view(shape), x, best)
            least = torch.minimum(size, least)
        step = torch.where(arrived[:, None], residual, _combined(past))
        x = torch.where(moving.view(shape), x + step.view_as(x), x)
        moving = moving & ~arrived
        if not moving.any():
            break
    return torch.where(moving.view(shape), best, x) if keeps_best else x


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
