"""Guidance whose shift is known, for tests."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nwb_migvis.synthesis.editing.critic_guidance import CriticGuidance


class Along(CriticGuidance):
    """Guidance by the critic's formula along a direction that is given, without a critic."""

    def __init__(self, direction: torch.Tensor, length: torch.Tensor):
        n = len(direction)
        super().__init__(None, torch.zeros(n, 1), torch.ones(n, 1), length, 1000)
        object.__setattr__(self, "direction", direction)

    def ascent(self, x_t: torch.Tensor, t: int) -> torch.Tensor:
        """Return the direction."""
        return self.direction


@dataclass(frozen=True)
class Adds:
    """Adds what a function makes of the image, the step and the predictions."""

    what: Callable[[torch.Tensor, int, torch.Tensor, torch.Tensor], torch.Tensor]

    def shift(self, x_t: torch.Tensor, t: int, eps: torch.Tensor, x0_hat: torch.Tensor) -> torch.Tensor:
        """Return what is added to the predicted noise."""
        return self.what(x_t, t, eps, x0_hat)
