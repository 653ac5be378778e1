"""Group normalisation that is fast in bfloat16 on the CPU."""

from __future__ import annotations

from typing import TypeVar

import torch
from torch import nn

Network = TypeVar("Network", bound=nn.Module)

_VECTOR = 16
"""Channels that torch's channels-last kernel normalises at a time in bfloat16."""


class GroupNorm(nn.GroupNorm):
    """`torch.nn.GroupNorm`, by the kernel of the other memory format where that of channels last is slow.

    It is for bfloat16 on the CPU where a group is no multiple of 16 channels: 8 channels take four times as
    long. The results differ by rounding.
    """

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return the normalised tensor, shape and memory format of x (n, channel, y, x)."""
        is_slow = x.dtype == torch.bfloat16 and (self.num_channels // self.num_groups) % _VECTOR
        if not is_slow or x.device.type != "cpu" or x.is_contiguous():
            return super().forward(x)
        return super().forward(x.contiguous()).contiguous(memory_format=torch.channels_last)


def with_fast_norms(network: Network) -> Network:
    """Let a network's group normalisations be `GroupNorm`, in place; its weights stay what they are."""
    for module in network.modules():
        if type(module) is nn.GroupNorm:
            module.__class__ = GroupNorm
    return network
