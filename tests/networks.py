"""Networks of other makers, untrained ones of our own, and what networks are conditioned on, for tests."""

from pathlib import Path

import numpy as np
import torch
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from nwb_migvis.config import PriorConfig
from nwb_migvis.groups import LatentGroups, LatentScale
from nwb_migvis.synthesis.conditions import Conditions
from nwb_migvis.synthesis.critic.model import Critic, LatentRegressor
from nwb_migvis.synthesis.prior.model import PixelScale, Prior, cosine_alpha_bar, new_denoiser


def unit_scale(n_latents: int) -> LatentScale:
    """Return the scale of latents that are standardised already."""
    return LatentScale(np.zeros(n_latents, np.float32), np.ones(n_latents, np.float32))


def conditions_of(z: np.ndarray, sizes: tuple[int, ...], *, n_train: int | None = None) -> Conditions:
    """Return latents in free groups of these sizes, on the scale of the first rows."""
    names = tuple(f"free_{i}" for i in range(len(sizes)))
    return Conditions(z, LatentGroups(names, sizes, ((),) * len(sizes)), LatentScale.of(z[:n_train]))


def save_other_pipeline(folder: Path, *, size_px: int) -> DDPMPipeline:
    """Write, and return, an untrained unconditional pipeline of diffusers for colour images."""
    unet = UNet2DModel(
        sample_size=size_px,
        in_channels=3,
        out_channels=3,
        block_out_channels=(8, 8),
        down_block_types=("DownBlock2D",) * 2,
        up_block_types=("UpBlock2D",) * 2,
        norm_num_groups=8,
    )
    pipeline = DDPMPipeline(unet, DDPMScheduler(100))
    pipeline.save_pretrained(folder)
    return pipeline


def untrained_networks(shape: tuple[int, ...], *, conditional: bool = False) -> tuple[Prior, Critic]:
    """Return an untrained prior and critic for images of a shape, with two groups of one latent each."""
    n_channels = 1 if len(shape) == 2 else 3
    torch.manual_seed(0)
    config = PriorConfig(size_px=max(shape[:2]), channels=(8, 8))
    denoiser = new_denoiser(n_channels, config, sizes=(1, 1) if conditional else None)
    prior = Prior(
        denoiser.eval().requires_grad_(False), PixelScale(120.0, 60.0), shape, cosine_alpha_bar(1000)
    )
    network = LatentRegressor(n_channels, 2, channels=(8, 8), dropout=0.0).eval().requires_grad_(False)
    bank = torch.randn(8, 2, generator=torch.Generator().manual_seed(0))
    return prior, Critic(network, (1, 1), unit_scale(2), bank)
