"""Networks of other makers, and latents that networks are conditioned on, for tests."""

from pathlib import Path

import numpy as np
from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel

from nwb_migvis.groups import LatentGroups, LatentScale
from nwb_migvis.synthesis.conditions import Conditions


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
