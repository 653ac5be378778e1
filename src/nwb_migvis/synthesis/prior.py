"""The diffusion prior over a session's images."""

from __future__ import annotations

from dataclasses import asdict, dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import nn
from torch.nn import functional as F

from nwb_migvis.config import PriorConfig
from nwb_migvis.packing import pack, unpack

KIND = "prior"


@dataclass(frozen=True)
class PixelScale:
    """How uint8 pixels become the network's x: (pixel - mean) / std of the training images."""

    mean: float
    std: float

    def to_x(self, images: np.ndarray) -> torch.Tensor:
        """Return (n, channel, y, x) float32 for uint8 images (n, y, x (, channel))."""
        x = torch.as_tensor(images).to(torch.float32)
        x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
        return (x - self.mean) / self.std

    def to_images(self, x: torch.Tensor, *, grayscale: bool) -> np.ndarray:
        """Return uint8 images (n, y, x (, channel)) for x (n, channel, y, x)."""
        pixels = (x * self.std + self.mean).round().clamp(0, 255).to(torch.uint8).cpu()
        return pixels[:, 0].numpy() if grayscale else pixels.permute(0, 2, 3, 1).numpy()


class Denoiser(nn.Module):
    """A diffusers UNet that predicts v of images of any size, folded into patches.

    Parameters
    ----------
    n_channels : int
        Of the images.
    config : PriorConfig
    """

    def __init__(self, n_channels: int, config: PriorConfig):
        super().__init__()
        depth = len(config.channels)
        folded = n_channels * config.patch_px**2
        self.patch_px = config.patch_px
        self.multiple = config.patch_px * 2 ** (depth - 1)
        self.precision = torch.bfloat16 if config.precision == "bfloat16" else torch.float32
        self.unet = UNet2DModel(
            in_channels=folded,
            out_channels=folded,
            block_out_channels=config.channels,
            layers_per_block=config.layers_per_block,
            down_block_types=("DownBlock2D",) * depth,
            up_block_types=("UpBlock2D",) * depth,
            norm_num_groups=8,
            add_attention=False,
        )

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return v, shape as x_t (n, channel, y, x), at integer time steps t (n,)."""
        height, width = x_t.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        x = F.pad(x_t, pad, mode="replicate") if any(pad) else x_t
        x = F.pixel_unshuffle(x, self.patch_px).contiguous(memory_format=torch.channels_last)
        with torch.autocast(x.device.type, self.precision, enabled=self.precision != torch.float32):
            v = self.unet(x, t).sample
        return F.pixel_shuffle(v.float(), self.patch_px)[..., :height, :width]


@dataclass(frozen=True)
class Prior:
    """A trained prior: network, noise schedule and pixel scale.

    Attributes
    ----------
    denoiser : Denoiser
    config : PriorConfig
    scale : PixelScale
    shape : tuple of int
        (y, x) or (y, x, channel) of its images.
    alpha_bar : torch.Tensor, shape (T,)
        Cumulative signal fraction at each step.
    """

    denoiser: Denoiser
    config: PriorConfig
    scale: PixelScale
    shape: tuple[int, ...]
    alpha_bar: torch.Tensor

    def eps_and_x0_hat(self, x_t: torch.Tensor, t: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the predicted noise and the predicted clean image at one time step for a batch."""
        steps = torch.full((x_t.shape[0],), t, device=x_t.device, dtype=torch.long)
        v = self.denoiser(x_t, steps)
        a, s = self.alpha_bar[t].sqrt(), (1 - self.alpha_bar[t]).sqrt()
        return a * v + s * x_t, a * x_t - s * v

    def to_bytes(self) -> bytes:
        """Return weights, settings and pixel scale as safetensors bytes."""
        head = {"config": asdict(self.config), "scale": asdict(self.scale), "shape": list(self.shape)}
        return pack(KIND, self.denoiser.state_dict(), head)


def load_prior(weights: bytes) -> Prior:
    """Rebuild a prior from the bytes that `Prior.to_bytes` returned."""
    head, state = unpack(KIND, weights)
    values = {name: tuple(v) if isinstance(v, list) else v for name, v in head["config"].items()}
    config, shape = PriorConfig(**values), tuple(head["shape"])
    denoiser = Denoiser(n_channels_of(shape), config)
    denoiser.load_state_dict(state)
    scale = PixelScale(**head["scale"])
    return Prior(denoiser.eval(), config, scale, shape, cosine_alpha_bar(config.n_timesteps))


def cosine_alpha_bar(n_timesteps: int) -> torch.Tensor:
    """Return the cumulative signal fraction of the cosine schedule (Nichol & Dhariwal 2021), shape (T,)."""
    return DDPMScheduler(n_timesteps, beta_schedule="squaredcos_cap_v2").alphas_cumprod.clone()


def n_channels_of(shape: tuple[int, ...]) -> int:
    """Return the number of channels of images of a shape (y, x (, channel))."""
    return 1 if len(shape) == 2 else shape[2]
