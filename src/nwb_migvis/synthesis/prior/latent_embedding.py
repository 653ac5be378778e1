"""How latents condition a denoiser."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from nwb_migvis.groups import LatentScale


class LatentEmbedding(nn.Module):
    """How latents condition a denoiser: one network per group, summed; nothing for a dropped group.

    The last layers start at zero, so that conditioning begins as no conditioning.

    Parameters
    ----------
    sizes : sequence of int
        Latents in each group, in order.
    width : int
        Of the denoiser's time embedding.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, sizes: Sequence[int], width: int):
        super().__init__()
        self.sizes = tuple(sizes)
        self.groups = nn.ModuleList(
            nn.Sequential(nn.Linear(size, 128), nn.SiLU(), nn.Linear(128, width)) for size in sizes
        )
        for group in self.groups:
            for parameter in list(group.parameters())[-2:]:  # weight and bias of the last layer
                nn.init.zeros_(parameter)
        self.register_buffer("mean", torch.zeros(sum(sizes)))
        self.register_buffer("std", torch.ones(sum(sizes)))

    def set_scale(self, scale: LatentScale) -> None:
        """Take the scale by which latents are standardised."""
        self.mean.copy_(torch.as_tensor(scale.mean))
        self.std.copy_(torch.as_tensor(scale.std))

    def standardise(self, z: torch.Tensor) -> torch.Tensor:
        """Return latents (n, latent) in standard deviations of those that the denoiser was trained with."""
        return (z - self.mean) / self.std

    def forward(self, z: torch.Tensor, keep: torch.Tensor) -> torch.Tensor:
        """Embed standardised latents z (n, latent) of the groups to keep (n, group) as (n, width)."""
        parts = zip(z.split(list(self.sizes), dim=1), self.groups, keep.split(1, dim=1), strict=True)
        return torch.stack([group(part) * is_given for part, group, is_given in parts]).sum(0)
