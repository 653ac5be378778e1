"""The Poisson likelihood of spike counts given the drive of each unit."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional as F

SOFTPLUS_OF_1 = math.log(1 + math.e)
LEAST_RATE = 1e-6


def rate_of(drive: torch.Tensor, mean_rate: torch.Tensor) -> torch.Tensor:
    """Return the expected spike count of a presentation, (stimulus, unit); the mean at a drive of 0.

    Parameters
    ----------
    drive : torch.Tensor, shape (stimulus, unit)
    mean_rate : torch.Tensor, shape (unit,)
        Mean count of a presentation.
    """
    return (mean_rate * F.softplus(drive + 1) / SOFTPLUS_OF_1).clamp_min(LEAST_RATE)


def poisson_error(drive: torch.Tensor, mean_rate: torch.Tensor, average: torch.Tensor) -> torch.Tensor:
    """Return the negative log likelihood of a presentation, up to a constant, (stimulus, unit), in nats.

    With the rate r of `rate_of` and an average of n counts it is r - average * log r; n times that is the
    negative log likelihood of the n counts, up to a constant.

    Parameters
    ----------
    drive : torch.Tensor, shape (stimulus, unit)
    mean_rate : torch.Tensor, shape (unit,)
    average : torch.Tensor, shape (stimulus, unit)
        Mean count of some presentations. It is no variable: there is no derivative by it.
    """
    error: torch.Tensor = _PoissonError.apply(drive, mean_rate, average)  # type: ignore[no-untyped-call]
    return error


class _PoissonError(torch.autograd.Function):
    """The error with its derivative, (1 - average / r) * dr / d drive, in one piece."""

    @staticmethod
    def forward(
        ctx: Any, drive: torch.Tensor, mean_rate: torch.Tensor, average: torch.Tensor
    ) -> torch.Tensor:
        """Return the error."""
        rate = rate_of(drive, mean_rate)
        slope = torch.sigmoid(drive + 1).mul_(mean_rate / SOFTPLUS_OF_1).mul_(1 - average / rate)
        ctx.save_for_backward(slope.mul_(rate > LEAST_RATE))
        return rate - average * rate.log()

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the derivative by the drive."""
        (slope,) = ctx.saved_tensors
        return gradient[0] * slope, None, None
