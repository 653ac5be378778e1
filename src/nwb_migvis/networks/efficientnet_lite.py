"""Features of EfficientNet-Lite (Tan & Le 2019, arXiv 1905.11946; ReLU6, no squeeze-and-excitation)."""

from __future__ import annotations

import copy
import math

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.nn.utils.fusion import fuse_conv_bn_eval

from nwb_migvis.networks.pooling import grid_average

SIZES_PX = (224, 240, 260)
"""Side of the images that Lite0, Lite1 and Lite2 were trained on."""
MEAN, STD = 127 / 255, 128 / 255
"""Of pixels from 0 to 1, the same for each colour, as the network was trained."""

_STAGES = (
    (1, 3, 1, 1, 16),
    (2, 3, 2, 6, 24),
    (2, 5, 2, 6, 40),
    (3, 3, 2, 6, 80),
    (3, 5, 1, 6, 112),
    (4, 5, 2, 6, 192),
    (1, 3, 1, 6, 320),
)
"""Blocks, kernel, stride of the first block, expansion and channels of each stage of Lite0."""

_SCALES = ((1.0, 1.0), (1.0, 1.1), (1.1, 1.2))
"""Factors on the channels and on the blocks of Lite0's stages, in Lite0, Lite1 and Lite2."""


class _SameConv(nn.Conv2d):
    """A convolution that pads so that the output is input / stride, the odd pixel at the end."""

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        y, x_side = (max(kernel - (side % stride or stride), 0) for side in x.shape[-2:])
        if y % 2 or x_side % 2:
            x = F.pad(x, (x_side // 2, x_side - x_side // 2, y // 2, y - y // 2))
            y = x_side = 0
        return F.conv2d(x, self.weight, self.bias, self.stride, (y // 2, x_side // 2), groups=self.groups)


def _norm(width: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(width, eps=1e-3)


class _Block(nn.Module):
    def __init__(self, n_in: int, n_out: int, *, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = n_in * expansion
        self.expands = expansion > 1
        if self.expands:
            self.expand_conv = _SameConv(n_in, wide, 1, bias=False)
            self.bn0 = _norm(wide)
        self.depthwise_conv = _SameConv(wide, wide, kernel, stride, groups=wide, bias=False)
        self.bn1 = _norm(wide)
        self.project_conv = _SameConv(wide, n_out, 1, bias=False)
        self.bn2 = _norm(n_out)
        self.skips = stride == 1 and n_in == n_out

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        h = F.relu6(self.bn0(self.expand_conv(x)), inplace=True) if self.expands else x
        h = F.relu6(self.bn1(self.depthwise_conv(h)), inplace=True)
        h = self.bn2(self.project_conv(h))
        return h + x if self.skips else h


def _stages(number: int) -> list[tuple[int, int, int, int, int]]:
    """Return the stages of Lite`number`; the blocks of the first and last one are never multiplied."""
    widen, deepen = _SCALES[number]
    scaled = []
    for place, (n_blocks, kernel, stride, expansion, n_out) in enumerate(_STAGES):
        is_end = place in (0, len(_STAGES) - 1)
        scaled.append(
            (
                n_blocks if is_end else math.ceil(deepen * n_blocks),
                kernel,
                stride,
                expansion,
                _to_eight(widen * n_out),
            )
        )
    return scaled


def _to_eight(width: float) -> int:
    """Round to a multiple of 8, as long as no more than a tenth is lost."""
    rounded = max(8, int(width + 4) // 8 * 8)
    return rounded if rounded >= 0.9 * width else rounded + 8


def stage_centres(number: int, size_px: int) -> np.ndarray:
    """Return where the places of a stage look along a side of the image, (n_places,) from 0 to 1.

    They are the centres of the places' fields of view, which convolutions that halve the side displace.

    Parameters
    ----------
    number : int
        Of the stage, from 1.
    size_px : int
        Side at which the network sees images.
    """
    centre = (np.arange(size_px) + 0.5) / size_px
    for kernel in [3, *(kernel for _, kernel, stride, *_ in _STAGES[:number] if stride == 2)]:
        n = len(centre)
        before = max(kernel - (n % 2 or 2), 0) // 2
        at = 2 * np.arange(-(-n // 2)) - before + kernel // 2
        centre = centre[np.minimum(at, n - 1)]
    return centre


class EfficientNetLite(nn.Module):
    """The network up to its last block, averaged over a grid of 4 x 4 places: 5,120 features of Lite0 and 1.

    Modules are named as in the weights that `load_weights` takes.

    Parameters
    ----------
    number : {0, 1, 2}
        Of Lite0, Lite1, Lite2.
    """

    def __init__(self, number: int = 0) -> None:
        super().__init__()
        self.conv_stem = _SameConv(3, 32, 3, 2, bias=False)
        self.bn0 = _norm(32)
        stages = _stages(number)
        self._n_blocks = [stage[0] for stage in stages]
        blocks, n_in = [], 32
        for n_blocks, kernel, first_stride, expansion, n_out in stages:
            for i in range(n_blocks):
                stride = 1 if i else first_stride
                blocks.append(_Block(n_in, n_out, kernel=kernel, stride=stride, expansion=expansion))
                n_in = n_out
        self.blocks = nn.ModuleList(blocks)

    def load_weights(self, state: dict[str, torch.Tensor]) -> None:
        """Take the weights of the whole classifier, by the names of the package that brings them."""
        plain = {name.removeprefix("_").replace("._", "."): tensor for name, tensor in state.items()}
        left_out = ("conv_head.", "bn1.", "fc.")
        self.load_state_dict({n: tensor for n, tensor in plain.items() if not n.startswith(left_out)})

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return features (n, k) of images (n, 3, y, x)."""
        return self._features(x, len(self.blocks))

    def sixth_stage(self, x: torch.Tensor) -> torch.Tensor:
        """Return the same of the stage before the last, (n, 3072) of Lite0 and 1."""
        return self._features(x, sum(self._n_blocks[:-1]))

    def stages(self, x: torch.Tensor) -> list[torch.Tensor]:
        """Return the activations (n, channel, y, x) at the end of each of the seven stages."""
        ends = np.cumsum(self._n_blocks).tolist()
        h, ended = F.relu6(self.bn0(self.conv_stem(x))), []
        for i, block in enumerate(self.blocks, start=1):
            h = block(h)
            if i in ends:
                ended.append(h)
        return ended

    def stage(self, x: torch.Tensor, number: int) -> torch.Tensor:
        """Return the activations (n, channel, y, x) at the end of one stage, counted from 1."""
        h = F.relu6(self.bn0(self.conv_stem(x)))
        for block in self.blocks[: sum(self._n_blocks[:number])]:
            h = block(h)
        return h

    def _features(self, x: torch.Tensor, n_blocks: int) -> torch.Tensor:
        h = F.relu6(self.bn0(self.conv_stem(x)))
        for block in self.blocks[:n_blocks]:
            h = block(h)
        return grid_average(h)


def for_inference(network: EfficientNetLite) -> EfficientNetLite:
    """Return a copy that computes the same features some 1.7 times as fast, and is not to be trained.

    Each norm is folded into the convolution before it, and channels come last in memory.
    """
    network = copy.deepcopy(network).eval().requires_grad_(False)
    _fold(network, "conv_stem", "bn0")
    for block in network.blocks:
        if block.expands:
            _fold(block, "expand_conv", "bn0")
        _fold(block, "depthwise_conv", "bn1")
        _fold(block, "project_conv", "bn2")
    return network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _fold(module: nn.Module, conv: str, norm: str) -> None:
    """Replace a convolution by itself and its norm."""
    setattr(module, conv, fuse_conv_bn_eval(getattr(module, conv), getattr(module, norm)))
    setattr(module, norm, nn.Identity())
