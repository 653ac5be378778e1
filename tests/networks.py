"""Networks of other makers, for tests."""

from pathlib import Path

from diffusers import DDPMPipeline, DDPMScheduler, UNet2DModel


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
