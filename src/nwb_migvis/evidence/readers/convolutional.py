"""A reader of labels that is a small convolutional network with one head for all labels."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from nwb_migvis.evidence.readers.protocol import Examples
from nwb_migvis.evidence.readers.resolution import reduced
from nwb_migvis.labels import LabelCode
from nwb_migvis.networks.checkpoints import checkpoint_in
from nwb_migvis.networks.dropout import SeededDropout
from nwb_migvis.networks.training import Descent, Selection
from nwb_migvis.networks.training import train as train_network

BATCH_SIZE = 96
VALIDATE_EVERY = 100
WIDTHS = (24, 48, 96, 192)
_AT_ONCE = 64
"""Images per pass once it is trained: small passes stay in the processor's memory."""


class ConvReader:
    """A trained network; see `nwb_migvis.evidence.readers.protocol.Reader`."""

    kind = "conv"

    def __init__(
        self, net: nn.Sequential, codes: tuple[LabelCode, ...], *, mean: float, scale: float
    ) -> None:
        self.codes = codes
        self._net, self._mean, self._scale = net, mean, scale

    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Read every label from uint8 images (n, y, x) or (n, y, x, channel)."""
        outputs = self._apply(self._net, images)
        columns = outputs.split([code.n_columns for code in self.codes], dim=1)
        readings = {}
        for code, part in zip(self.codes, columns, strict=True):
            values = part.softmax(dim=1) if code.classes else part
            readings[code.name] = code.decode(values.double().numpy())
        return readings

    def features(self, images: np.ndarray) -> np.ndarray:
        """Activity of the last hidden layer, (n, feature)."""
        return self._apply(self._net[:-1], images).double().numpy()

    @torch.no_grad()
    def _apply(self, layers: nn.Module, images: np.ndarray) -> Tensor:
        layers.eval()
        parts = (images[i : i + _AT_ONCE] for i in range(0, len(images), _AT_ONCE))
        return torch.cat([layers((as_tensor(part) - self._mean) / self._scale) for part in parts])


def as_tensor(images: np.ndarray) -> Tensor:
    """Turn uint8 images into float (n, channel, y, x) at the resolution of `reduced`."""
    x = torch.from_numpy(reduced(images)).permute(0, 3, 1, 2)
    return x.contiguous(memory_format=torch.channels_last)


def fit_conv_reader(
    train: Examples,
    validation: Examples,
    *,
    codes: tuple[LabelCode, ...],
    seed: int,
    n_steps: int,
    checkpoints: Path | None = None,
) -> ConvReader:
    """Train the network; parameters as in `nwb_migvis.evidence.readers.protocol.fit_readers`.

    AdamW with a cosine schedule. Illumination and pixel noise are varied; place and direction never are,
    since labels may depend on them. The weights are those with the smallest validation loss (measured every
    100 steps).
    """
    x, y = as_tensor(train.images), _stack(train.encode(codes), codes)
    x_validation = as_tensor(validation.images)
    y_validation = _stack(validation.encode(codes), codes)
    mean, scale = float(x.mean()), float(x.std().clamp(min=1e-6))
    x, x_validation = (x - mean) / scale, (x_validation - mean) / scale
    generator = torch.Generator().manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        net = _network(x.shape[1], sum(code.n_columns for code in codes), generator=generator)
    decisive = (codes, seed, n_steps, x, y, x_validation, y_validation)
    train_network(
        _ReaderTraining(net, x, y, codes=codes, n_steps=n_steps, generator=generator),
        n_steps,
        what="reader",
        selection=Selection(lambda: _validate(net, x_validation, y_validation, codes), VALIDATE_EVERY),
        checkpoint=checkpoint_in(checkpoints, "reader", *decisive, every=VALIDATE_EVERY),
    )
    return ConvReader(net, codes, mean=mean, scale=scale)


class _ReaderTraining(Descent):
    """The network in training, of which every step draws a batch of images and varies it."""

    def __init__(
        self,
        net: nn.Sequential,
        x: Tensor,
        y: Tensor,
        *,
        codes: tuple[LabelCode, ...],
        n_steps: int,
        generator: torch.Generator,
    ):
        optimiser = torch.optim.AdamW(net.parameters(), lr=3e-3, weight_decay=0.05)
        schedule = torch.optim.lr_scheduler.OneCycleLR(
            optimiser, max_lr=3e-3, total_steps=n_steps, pct_start=0.15, cycle_momentum=False
        )
        super().__init__(net, optimiser, schedule, generator)
        self._x, self._y, self._codes = x, y, codes

    def step(self) -> None:
        """Take one step."""
        self.network.train()
        rows = torch.randint(len(self._x), (BATCH_SIZE,), generator=self.generator)
        with torch.autocast("cpu", torch.bfloat16):
            outputs = self.network(_vary(self._x[rows], self.generator))
        self.descend(lambda: _loss(outputs.float(), self._y[rows], self._codes))


def _network(n_channels: int, n_columns: int, *, generator: torch.Generator) -> nn.Sequential:
    """Three halvings down to a grid of 4 x 4 that is not averaged: labels may depend on place."""

    def block(n_in: int, n_out: int, *, stride: int = 1, side: int = 3) -> list[nn.Module]:
        conv = nn.Conv2d(n_in, n_out, side, stride=stride, padding=side // 2, bias=False)
        return [conv, nn.BatchNorm2d(n_out), nn.ReLU()]

    a, b, c, d = WIDTHS
    layers = [
        *block(n_channels, a),
        *block(a, b, stride=2),
        *block(b, b),
        *block(b, c, stride=2),
        *block(c, c),
        *block(c, d, stride=2),
        *block(d, b, side=1),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        SeededDropout(0.5, generator),
        nn.Linear(b * 16, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        SeededDropout(0.3, generator),
        nn.Linear(256, n_columns),
    ]
    net = nn.Sequential(*layers)
    return net.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def _stack(targets: Mapping[str, np.ndarray], codes: tuple[LabelCode, ...]) -> Tensor:
    return torch.from_numpy(np.concatenate([targets[code.name] for code in codes], axis=1)).float()


def _vary(x: Tensor, generator: torch.Generator) -> Tensor:
    """Vary contrast, brightness, smooth illumination and pixel noise of standardised images."""

    def draw(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator)

    n, channels, height, width = x.shape
    light = functional.interpolate(draw(n, channels, 4, 4), size=(height, width), mode="bicubic")
    amount = torch.rand(2, n, 1, 1, 1, generator=generator)
    plain = x * (1 + 0.15 * draw(n, 1, 1, 1)) + 0.15 * draw(n, 1, 1, 1)
    return plain + 0.4 * amount[0] * light + 0.25 * amount[1] * draw(*x.shape)


def _loss(outputs: Tensor, targets: Tensor, codes: tuple[LabelCode, ...]) -> Tensor:
    """Mean over labels of the squared error or cross-entropy, each about 1 for a blind guess."""
    sizes = [code.n_columns for code in codes]
    losses = []
    for code, out, goal in zip(codes, outputs.split(sizes, dim=1), targets.split(sizes, dim=1), strict=True):
        present = torch.isfinite(goal).all(dim=1)
        if not present.any():
            continue
        if code.classes:
            losses.append(functional.cross_entropy(out[present], goal[present]) / np.log(len(code.classes)))
        else:
            losses.append(functional.mse_loss(out[present], goal[present]))
    return torch.stack(losses).mean() if losses else (outputs * 0).sum()


@torch.no_grad()
def _validate(net: nn.Module, x: Tensor, y: Tensor, codes: tuple[LabelCode, ...]) -> float:
    net.eval()
    return float(_loss(torch.cat([net(part) for part in x.split(_AT_ONCE)]), y, codes))
