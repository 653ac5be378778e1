"""Fixed points of functions of images, by Anderson's acceleration."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import pairwise

import torch

FEW = 8
"""Images that are iterated together once most have converged."""


@dataclass(frozen=True)
class Search:
    """How a fixed point is looked for.

    Attributes
    ----------
    n_most : int
        Most evaluations of the function.
    tolerance : float
        An image whose residual is smaller, relative to its norm, has converged. After the step that goes with
        it, it is not changed any more, so that it does not depend on the others.
    memory : int
        Steps of the past that a new one is combined with.
    keeps_best : bool
        An image that has not converged in the end is the one with the least residual, not the last one.
    n_together : int, optional
        Evaluations of all images in one batch. Those that have not converged by then are evaluated `FEW` at a
        time. A batch has one of two sizes, and which one depends on the number of evaluations alone: an image
        comes out the same whatever it is computed with. None: all evaluations.
    """

    n_most: int = 20
    tolerance: float = 1e-3
    memory: int = 2
    keeps_best: bool = False
    n_together: int | None = 2


THOROUGH = Search(n_most=30, tolerance=2e-5, memory=5, keeps_best=True, n_together=None)
"""For networks of which nothing is known."""


@torch.no_grad()
def fixed_point(
    function: Callable[..., torch.Tensor],
    start: torch.Tensor,
    *beside: torch.Tensor,
    search: Search,
) -> torch.Tensor:
    """Find x = function(x, *beside), image by image.

    Anderson 1965 (type II; Walker & Ni 2011, SIAM J. Numer. Anal. 49): each new x is the plain iterate less
    the combination of the last steps that best explains its residual. It converges where the plain iteration
    is slow, and where that diverges because the function's slope exceeds one in some direction.

    Parameters
    ----------
    function : callable
        Of images (n, ...), each on its own, and of what belongs to them; returns the shape of the images.
    start : torch.Tensor, shape (n, ...)
    *beside : torch.Tensor, shape (n, ...)
        What else the function takes, with a row for each image.
    search : Search
    """
    n_together = search.n_most if search.n_together is None else min(search.n_together, search.n_most)
    found = _Iterates.at(start)
    found.advance(function, beside, n_together, search)
    few, slow = min(FEW, len(start)), found.moving.nonzero()[:, 0]
    for rows in slow.split(few) if n_together < search.n_most and len(slow) else ():
        filled = torch.cat([rows, rows[:1].expand(few - len(rows))])
        part = found.of(filled)
        part.advance(function, [tensor[filled] for tensor in beside], search.n_most - n_together, search)
        found.take(part, rows)
    if not search.keeps_best:
        return found.x
    return torch.where(_like(found.moving, found.x), found.best, found.x)


@dataclass
class _Iterates:
    """Where the search is, a row for each image.

    Attributes
    ----------
    x : torch.Tensor, shape (n, ...)
    moving : torch.Tensor of bool, shape (n,)
        Those that have not converged.
    past : list of (torch.Tensor, torch.Tensor)
        The last x that followed each other, with their residuals, each (n, k).
    best : torch.Tensor, shape (n, ...)
        With the least residual so far.
    least : torch.Tensor, shape (n,)
        Its size.
    """

    x: torch.Tensor
    moving: torch.Tensor
    past: list[tuple[torch.Tensor, torch.Tensor]]
    best: torch.Tensor
    least: torch.Tensor

    @classmethod
    def at(cls, start: torch.Tensor) -> _Iterates:
        """Begin at a start."""
        moving = torch.ones(len(start), dtype=torch.bool, device=start.device)
        return cls(start, moving, [], start, torch.full((len(start),), torch.inf, device=start.device))

    def advance(
        self,
        function: Callable[..., torch.Tensor],
        beside: Sequence[torch.Tensor],
        n_most: int,
        search: Search,
    ) -> None:
        """Evaluate the function until all images have converged, at most `n_most` times."""
        for _ in range(n_most):
            x = self.x
            residual = (function(x, *beside) - x).flatten(1)
            self.past = [*self.past[-search.memory :], (x.flatten(1), residual)]
            size = residual.norm(dim=1)
            arrived = size < search.tolerance * x.flatten(1).norm(dim=1)
            if search.keeps_best:
                self.best = torch.where(_like(size < self.least, x), x, self.best)
                self.least = torch.minimum(size, self.least)
            step = _combined(self.past).view_as(x)
            self.x = torch.where(_like(self.moving, x), x + step, x)
            self.moving = self.moving & ~arrived
            if not self.moving.any():
                break

    def of(self, rows: torch.Tensor) -> _Iterates:
        """Return the search of some images."""
        past = [(x[rows], residual[rows]) for x, residual in self.past]
        return _Iterates(self.x[rows], self.moving[rows], past, self.best[rows], self.least[rows])

    def take(self, part: _Iterates, rows: torch.Tensor) -> None:
        """Take where the search of some images has come to."""
        n = len(rows)
        self.x, self.best = (
            whole.index_copy(0, rows, some[:n]) for whole, some in ((self.x, part.x), (self.best, part.best))
        )
        self.moving = self.moving.index_copy(0, rows, part.moving[:n])


def _like(flags: torch.Tensor, images: torch.Tensor) -> torch.Tensor:
    """Return flags (n,) as (n, 1, ...), to go with images."""
    return flags.view(-1, *[1] * (images.ndim - 1))


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
