"""The prior of a run: trained from scratch, or from one that is trained already."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.config import Config, PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.read.recorded import small_images

if TYPE_CHECKING:
    from nwb_migvis.synthesis.conditions import Conditions
    from nwb_migvis.synthesis.prior.model import Prior


def check_prior(config: Config) -> None:
    """Refuse a prior to start from or a cache that cannot be used, before any work is done."""
    from nwb_migvis.synthesis.prior.cache import check_cache
    from nwb_migvis.synthesis.prior.folder import open_prior

    if config.prior.start:
        open_prior(config.prior.start)
    if config.checkpoints:
        check_cache(config.checkpoints)


def images_for_prior(image: xr.DataArray, settings: PriorConfig) -> tuple[np.ndarray, Prior | None]:
    """Read images at the size that the prior works with.

    Parameters
    ----------
    image : xarray.DataArray (stimulus, y, x (, channel))
        uint8, read a few hundred at a time.
    settings : PriorConfig

    Returns
    -------
    images : numpy.ndarray of uint8
        All of them, at that size.
    start : Prior or None
        The prior that the settings start from.

    Raises
    ------
    MigvisError
        If the prior to start from cannot be opened, or is of images of another shape.
    """
    from nwb_migvis.synthesis.prior.folder import open_prior

    start = open_prior(settings.start) if settings.start else None
    images = small_images(image, settings.size_px if start is None else max(start.shape[:2]))
    if start is not None and start.shape != images.shape[1:]:
        raise MigvisError(
            f"prior {settings.start}: it makes images of {_shape(start.shape)}; the session's are "
            f"{_shape(images.shape[1:])} at that size; start from another prior, or from none"
        )
    return images, start


def obtain_prior(
    images: np.ndarray,
    conditions: Conditions,
    *,
    start: Prior | None,
    shown: np.ndarray,
    train: np.ndarray,
    config: Config,
    seed: int,
) -> Prior:
    """Train the prior that the settings ask for on the training images, or take it from their cache.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n_images, y, x (, channel))
        At the prior's size.
    conditions : Conditions
        Latents of n rows.
    start : Prior or None
        The one to start from, as `images_for_prior` returned it.
    shown : numpy.ndarray of int, shape (n,)
        The image that each row of latents is of. A conditional prior learns from every row, any other from
        every image once.
    train : numpy.ndarray of bool, shape (n_images,)
    config : Config
    seed : int
    """
    from nwb_migvis.synthesis.prior.cache import cached_prior
    from nwb_migvis.synthesis.prior.training import train_prior

    used = np.flatnonzero(train)
    if config.prior.conditional:
        used = shown[train[shown]]
    training: dict[str, Any] = {
        "config": config.prior,
        "seed": seed,
        "device": config.device,
        "start": start,
        "conditions": conditions[train[shown]] if config.prior.conditional else None,
    }
    if config.checkpoints and config.prior.n_steps:
        return cached_prior(config.checkpoints, images[used], **training)
    return train_prior(images[used], **training)


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
