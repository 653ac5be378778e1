"""The prior of a run: trained from scratch, or from one that is trained already."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.config import Config, PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.pipeline.shown import small_images

if TYPE_CHECKING:
    from nwb_migvis.synthesis.prior import Prior


def obtain_prior(
    image: xr.DataArray,
    latents: np.ndarray,
    *,
    sizes: tuple[int, ...],
    train: np.ndarray,
    config: Config,
    seed: int,
) -> tuple[np.ndarray, Prior]:
    """Train the prior that the settings ask for, on the training stimuli.

    Parameters
    ----------
    image : xarray.DataArray (stimulus, y, x (, channel))
        uint8, read a few hundred at a time.
    latents : numpy.ndarray, shape (n_stimuli, n_latents)
    sizes : tuple of int
        Latents in each group, in order.
    train : numpy.ndarray of bool, shape (n_stimuli,)
    config : Config
    seed : int

    Returns
    -------
    images : numpy.ndarray of uint8
        All stimuli at the prior's size.
    prior : Prior

    Raises
    ------
    MigvisError
        If the prior to start from cannot be opened, or is of images of another shape.
    """
    from nwb_migvis.synthesis.prior_folder import open_prior
    from nwb_migvis.synthesis.prior_training import Conditions, train_prior

    settings = config.prior
    start = open_prior(settings.start) if settings.start else None
    size_px = settings.size_px if start is None else max(start.shape[:2])
    images = small_images(image, size_px)
    if start is not None and start.shape != images.shape[1:]:
        raise MigvisError(
            f"prior {settings.start}: it makes images of {_shape(start.shape)}; the session's are "
            f"{_shape(images.shape[1:])} at that size; start from another prior, or from none"
        )
    conditions = Conditions(latents[train], sizes) if settings.conditional else None
    prior = train_prior(
        images[train], config=settings, seed=seed, device=config.device, start=start, conditions=conditions
    )
    return images, prior


def really_used(settings: PriorConfig, prior: Prior) -> PriorConfig:
    """Return the settings with what a prior to start from brought along."""
    unet = prior.denoiser.unet.config
    return replace(
        settings,
        size_px=max(prior.shape[:2]),
        patch_px=prior.denoiser.patch_px,
        channels=tuple(unet["block_out_channels"]),
        layers_per_block=unet["layers_per_block"],
        n_timesteps=prior.n_timesteps,
        precision=prior.denoiser.precision,
    )


def _shape(shape: tuple[int, ...]) -> str:
    colour = "grayscale" if len(shape) == 2 else f"{shape[2]} channels"
    return f"{shape[0]} x {shape[1]} px, {colour}"
