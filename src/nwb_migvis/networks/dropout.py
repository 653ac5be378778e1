"""Dropout whose randomness is explicit, on every kind of device."""

from __future__ import annotations

import torch
from torch import Tensor, nn


class SeededDropout(nn.Module):
    """Dropout that draws from a generator of its own instead of the device's.

    Parameters
    ----------
    rate : float
        Fraction of the inputs that training sets to zero, in [0, 1).
    generator : torch.Generator, optional
        On the device of the inputs. A network that is never trained needs none.
    """

    def __init__(self, rate: float, generator: torch.Generator | None = None) -> None:
        super().__init__()
        self._rate, self._generator = rate, generator

    def forward(self, x: Tensor) -> Tensor:
        """Return x with inputs dropped and the rest scaled up, or x itself outside training."""
        if not self.training or not self._rate:
            return x
        mask = torch.rand(x.shape, generator=self._generator, device=x.device) >= self._rate
        return x * mask.to(x.dtype) / (1 - self._rate)
