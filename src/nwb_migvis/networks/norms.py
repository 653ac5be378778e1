"""Group normalisation that is fast in bfloat16 on the CPU."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

_VECTOR, _MANY_PLACES = 16, 1024
"""Torch's kernel for channels last in bfloat16 is fast for groups of a multiple of so many channels, and for
tensors of so many places or more, whatever the groups."""


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`, by the kernel of the other memory format where that of channels last is slow.

    That is so in bfloat16 on the CPU, for groups of 8 channels, say, and fewer than 32 x 32 places, where it
    takes two to four times as long. The results differ by rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised tensor, shape and memory format of x (n, channel, y, x)."""
        is_slow = (
            x.dtype == torch.bfloat16
            and x.device.type == "cpu"
            and not x.is_contiguous()
            and (self.num_channels // self.num_groups) % _VECTOR
            and x[0, 0].numel() < _MANY_PLACES
        )
        if not is_slow:
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def with_fast_norms(network: Network) -> Network:
    """Let a network's group normalisations be `GroupNorm`, in place; its weights stay what they are."""
    for module in network.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = GroupNorm
    return network
