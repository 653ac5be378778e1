"""The diffusion prior over a session's images."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import nn
from torch.nn import functional as F

from nwb_migvis.config import PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.packing import pack, unpack
from nwb_migvis.progress import progress

KIND = "prior"
MIN_IMAGES = 20


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
        self.unet.to(memory_format=torch.channels_last)  # loaded weights then compute as trained ones do

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
    denoiser = Denoiser(_n_channels(shape), config)
    denoiser.load_state_dict(state)
    scale = PixelScale(**head["scale"])
    return Prior(denoiser.eval(), config, scale, shape, cosine_alpha_bar(config.n_timesteps))


def cosine_alpha_bar(n_timesteps: int) -> torch.Tensor:
    """Return the cumulative signal fraction of the cosine schedule (Nichol & Dhariwal 2021), shape (T,)."""
    return DDPMScheduler(n_timesteps, beta_schedule="squaredcos_cap_v2").alphas_cumprod.clone()


def _n_channels(shape: tuple[int, ...]) -> int:
    return 1 if len(shape) == 2 else shape[2]


def train_prior(images: np.ndarray, *, config: PriorConfig, seed: int, device: str = "cpu") -> Prior:
    """Train the prior on images (Ho et al. 2020; v-prediction: Salimans & Ho 2022).

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n, y, x) or (n, y, x, channel)
        Training images at the size that the prior works with.
    config : PriorConfig
    seed : int
    device : str

    Returns
    -------
    Prior
        With the exponential moving average of the weights.

    Raises
    ------
    MigvisError
        If there are too few images, or they are all of one value.
    """
    if len(images) < MIN_IMAGES:
        raise MigvisError(f"{len(images)} training images; a prior needs at least {MIN_IMAGES}")
    scale = PixelScale(float(images.mean()), float(images.std()))
    if scale.std == 0:
        raise MigvisError(
            f"every pixel of the {len(images)} training images is {scale.mean:g}; expected pictures"
        )
    shape = images.shape[1:]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = Denoiser(_n_channels(shape), config).to(device)
    denoiser.unet.to(memory_format=torch.channels_last)
    alpha_bar = cosine_alpha_bar(config.n_timesteps).to(device)
    x = scale.to_x(images).to(device)
    generator = torch.Generator(device=device).manual_seed(seed)
    average = {name: tensor.clone() for name, tensor in denoiser.state_dict().items()}
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=config.learning_rate, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warm_cosine(step, config.n_steps))
    for step in progress(range(1, config.n_steps + 1), what="prior"):
        batch = x[torch.randint(len(x), (config.batch_size,), generator=generator, device=device)]
        optimiser.zero_grad(set_to_none=True)
        _denoising_loss(denoiser, batch, alpha_bar, generator).backward()
        torch.nn.utils.clip_grad_norm_(denoiser.parameters(), 1.0)
        optimiser.step()
        schedule.step()
        decay = min(config.ema_decay, (1 + step) / (10 + step))
        with torch.no_grad():
            for name, tensor in denoiser.state_dict().items():
                average[name].lerp_(tensor, 1 - decay)
    denoiser.load_state_dict(average)
    denoiser.eval().requires_grad_(False)
    return Prior(denoiser, config, scale, shape, alpha_bar)


def _warm_cosine(step: int, n_steps: int) -> float:
    """Return the learning rate's factor: linear warm-up (200 steps or a tenth), then a cosine to zero."""
    n_warm = min(200, max(1, n_steps // 10))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))


def _denoising_loss(
    denoiser: Denoiser, x: torch.Tensor, alpha_bar: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the squared error of v at time steps stratified over the batch."""
    n, n_timesteps = x.shape[0], alpha_bar.numel()
    u = (torch.arange(n, device=x.device) + torch.rand(n, generator=generator, device=x.device)) / n
    t = (u * n_timesteps).long().clamp_max(n_timesteps - 1)
    a = alpha_bar[t].sqrt()[:, None, None, None]
    s = (1 - alpha_bar[t]).sqrt()[:, None, None, None]
    eps = torch.randn(x.shape, generator=generator, device=x.device)
    v = denoiser(a * x + s * eps, t)
    return (v - (a * eps - s * x)).square().mean()
