"""What the critic sees of an image: features trained with it, or those of a network that stays as it is."""

from __future__ import annotations

import math
from collections.abc import Sequence
from contextlib import nullcontext
from itertools import pairwise
from typing import Protocol

import torch
from torch import nn
from torch.nn import functional as F

from nwb_migvis.config import CriticConfig
from nwb_migvis.config.critic import AUTO, FEATURES
from nwb_migvis.errors import MigvisError
from nwb_migvis.networks.describing import normalised
from nwb_migvis.networks.image_networks import ImageNetwork, open_image_network
from nwb_migvis.networks.norms import GroupNorm
from nwb_migvis.networks.pooling import N_PLACES, grid_average
from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.model import Prior, n_channels_of
from nwb_migvis.synthesis.prior.others import activations_of

N_CODE = 128
"""Width of the code of the noise level that goes with every image's features."""

TRAINED = "trained"
ESTIMATE = "estimate"
_N_ADAPTED = 256
_AT_ONCE = 64


class Features(Protocol):
    """phi of the critic: what it sees of an image at a noise level.

    An `nn.Module`; its trainable parameters have `requires_grad`. Parameters under `body` belong to another
    file than the critic's own weights.

    Attributes
    ----------
    n_features : int
    """

    n_features: int

    def __call__(self, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features (n, n_features) and a code of the noise level (n, N_CODE).

        Parameters
        ----------
        x_t : torch.Tensor, shape (n, channel, y, x)
            Noisy images on the prior's pixel scale.
        t : torch.Tensor, shape (n,)
            Step / T, in [0, 1].
        """
        ...

    def record(self) -> Json:
        """Return what is needed to build the same features again, as JSON can hold it."""
        ...


class ConvolutionalFeatures(nn.Module):
    """Features of convolutions that are trained with the critic, modulated by the noise level.

    Convolutions train in bfloat16; once trained, everything is computed in single precision, unless the
    critic's `precision` says otherwise.

    Parameters
    ----------
    n_channels : int
        Of the images.
    channels : sequence of int
        Width of each convolution; every second one halves the resolution.
    shrink : int
        Images are averaged over squares of this side first.
    """

    def __init__(self, n_channels: int, *, channels: Sequence[int], shrink: int = 1):
        super().__init__()
        self.shrink = shrink
        widths = [n_channels, *channels]
        self.convolutions = nn.ModuleList(
            nn.Conv2d(a, b, 3, stride=1 + i % 2, padding=1) for i, (a, b) in enumerate(pairwise(widths))
        )
        self.norms = nn.ModuleList(GroupNorm(8, width) for width in channels)
        self.embedding = _embedding()
        self.films = nn.ModuleList(nn.Linear(N_CODE, 2 * width) for width in channels)
        self.n_features = channels[-1] * N_PLACES**2
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # not in torch's overloads

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features and the code of the noise level (see `Features`)."""
        code = self.embedding(_waves(t))
        h = F.avg_pool2d(x_t, self.shrink) if self.shrink > 1 else x_t
        h = h.contiguous(memory_format=torch.channels_last)
        with torch.autocast(h.device.type, torch.bfloat16) if self.training else nullcontext():
            for convolution, norm, film in zip(self.convolutions, self.norms, self.films, strict=True):
                scale, shift = film(code)[:, :, None, None].chunk(2, dim=1)
                h = F.silu(norm(convolution(h)) * (1 + scale) + shift)
            h = grid_average(h)
        return h.float(), code

    def record(self) -> Json:
        """Return the numbers of channels, and the shrinking where there is some."""
        record = {
            "n_channels": self.convolutions[0].in_channels,
            "channels": [convolution.out_channels for convolution in self.convolutions],
        }
        return record | ({"shrink": self.shrink} if self.shrink > 1 else {})


class FrozenFeatures(nn.Module):
    """Features of a network that stays as it is, projected and modulated by the noise level.

    Projection and modulation are trained with the critic. The network itself is not stored with it.

    Parameters
    ----------
    body : torch.nn.Module
        (x_t, t) as for `Features` -> (n, k).
    record : dict
        What `open_features` needs to open the same body again.
    like : torch.Tensor, shape (1, channel, y, x)
        An image, for its size.
    """

    def __init__(self, body: nn.Module, record: Json, *, like: torch.Tensor):
        super().__init__()
        self.body = body.eval().requires_grad_(False)
        with torch.no_grad():
            n_body = self.body(like, like.new_zeros(1)).shape[1]
        self.embedding = _embedding()
        self.project = nn.Linear(n_body, _N_ADAPTED)
        self.film = nn.Linear(N_CODE, 2 * _N_ADAPTED)
        self.n_features = _N_ADAPTED
        self._record = record

    def train(self, mode: bool = True) -> FrozenFeatures:
        """Set the mode of what is trained; the body stays in evaluation."""
        super().train(mode)
        self.body.eval()
        return self

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return features and the code of the noise level (see `Features`).

        The body takes some images at a time, which bounds its memory.
        """
        parts = zip(x_t.split(_AT_ONCE), t.split(_AT_ONCE), strict=True)
        activation = torch.cat([self.body(part, when).float() for part, when in parts])
        code = self.embedding(_waves(t))
        scale, shift = self.film(code).chunk(2, dim=1)
        h = self.project(F.layer_norm(activation, activation.shape[1:]))
        return F.silu(F.layer_norm(h, h.shape[1:]) * (1 + scale) + shift), code

    def record(self) -> Json:
        """Return what the body is."""
        return self._record


class PriorBody(nn.Module):
    """Activations of the prior's UNet at x_t, conditioned on nothing: its blocks on the way down and middle.

    Each is averaged over a grid of 4 x 4 places.

    Parameters
    ----------
    prior : Prior
    """

    def __init__(self, prior: Prior):
        super().__init__()
        self.denoiser = prior.denoiser
        self.n_timesteps = prior.n_timesteps

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return activations (n, k) of images (n, channel, y, x) at steps / T (n,)."""
        steps = (t * self.n_timesteps).round().long().clamp_max(self.n_timesteps - 1)
        activations = activations_of(self.denoiser, x_t, steps)
        return torch.cat([grid_average(h.float()) for h in activations], dim=1)


class ImageBody(nn.Module):
    """Features of a network for photographs, at x_t itself.

    x_t goes back to the range of pixels with its noise in it. It is neither clipped nor divided by the signal
    fraction, which would let noise grow without bound. Gray is repeated as red, green and blue. The whole
    image is resized to the network's size (bilinear, whatever its proportions) and normalised as the network
    was trained.

    Parameters
    ----------
    network : ImageNetwork
    prior : Prior
        Its pixel scale.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: ImageNetwork, prior: Prior):
        super().__init__()
        self.network = network.module
        self.size_px = network.size_px
        self.scale, self.to_pixels = prior.scale, prior.to_pixels
        self.register_buffer("mean", torch.tensor(network.mean)[:, None, None])
        self.register_buffer("std", torch.tensor(network.std)[:, None, None])

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return features (n, k) of images (n, channel, y, x), whatever their noise level."""
        pixels = (self.to_pixels(x_t) * self.scale.std + self.scale.mean) / 255
        return self.network(normalised(pixels, self.size_px, mean=self.mean, std=self.std))


def open_features(record: Json, *, prior: Prior | None) -> Features:
    """Build features from what `Features.record` returned; those of a frozen network as it is on the disk.

    Raises
    ------
    MigvisError
        If there is no prior to take features or the pixel scale from, or the network cannot be opened.
    """
    if "channels" in record:
        return ConvolutionalFeatures(
            record["n_channels"], channels=record["channels"], shrink=record.get("shrink", 1)
        )
    kind = record["features"]
    if prior is None:
        raise MigvisError(f"the critic has features of kind {kind!r}; expected the prior that it goes with")
    if kind == "prior":
        body: nn.Module = PriorBody(prior)
    else:
        body = ImageBody(open_network(record), prior).to(prior.device)
    like = prior.alpha_bar.new_zeros(1, *prior.x_shape)
    return FrozenFeatures(body, record, like=like)


def features_record(config: CriticConfig, shape: tuple[int, ...]) -> Json:
    """Return the record of the features that the settings ask for, for images (y, x (, channel)).

    "auto" is left to those who know the images and the judges; here it stands for "trained".
    """
    if config.features in (TRAINED, AUTO):
        record = {"n_channels": n_channels_of(shape), "channels": list(config.channels)}
        shrink = max(shape[:2]) // config.size_px
        return record | ({"shrink": shrink} if shrink > 1 else {})
    record = {"features": config.features}
    if config.sees == ESTIMATE:
        record["sees"] = ESTIMATE
    about = {
        "model": config.features_model,
        "path": config.features_path,
        "sha256": config.features_sha256,
    }
    return record | about if any(about.values()) else record


def check_features(config: CriticConfig) -> None:
    """Refuse a network for photographs that cannot be opened, before any work is done."""
    if config.features not in FEATURES:
        open_network(features_record(config, (1, 1, 3)))


def open_network(record: Json) -> ImageNetwork:
    """Open the network for photographs that a record of features names.

    Raises
    ------
    MigvisError
        If it cannot be opened.
    """
    about = {key: record.get(key, "") for key in ("model", "path", "sha256")}
    return open_image_network(record["features"], **about)


def _embedding() -> nn.Sequential:
    return nn.Sequential(nn.Linear(64, 128), nn.SiLU(), nn.Linear(128, N_CODE), nn.SiLU())


def _waves(t: torch.Tensor) -> torch.Tensor:
    """Return sines and cosines of the noise level, (n, 64)."""
    frequency = torch.exp(torch.arange(32, device=t.device) * (math.log(1000.0) / 31))
    angle = t[:, None] * frequency
    return torch.cat([angle.sin(), angle.cos()], dim=-1)
