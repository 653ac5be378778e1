"""A guidance method: every step is pulled towards gray."""

from dataclasses import dataclass

import torch

from nwb_migvis.synthesis.editing.methods import Method


@dataclass(frozen=True)
class TowardsGray:
    """Takes the clean image that is predicted to (1 - share) times itself; `share` has one value per edit."""

    alpha_bar: torch.Tensor
    share: torch.Tensor

    def shift(self, x_t, t, eps, x0_hat):
        """Return what is added to the predicted noise."""
        a = self.alpha_bar[t]
        return self.share[:, None, None, None] * (a / (1 - a)).sqrt() * x0_hat


def edit(batch):
    """Make a batch of edits."""
    return batch.denoise(TowardsGray(batch.networks.prior.alpha_bar, batch.length))


towards_gray = Method(edit)
