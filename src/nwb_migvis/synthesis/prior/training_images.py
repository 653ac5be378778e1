"""Images that a prior trains on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.config import PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.prior.model import PixelScale

MIN_IMAGES = 20


@dataclass(frozen=True, eq=False)
class TrainingImages:
    """What a prior trains on: images of a session, and further ones that come without latents.

    Attributes
    ----------
    own : numpy.ndarray of uint8, shape (n, y, x) or (n, y, x, channel)
        At the size that the prior works with.
    further : numpy.ndarray of uint8, shape (m, y, x) or (m, y, x, channel), optional
        Drawn for `images_share` of each batch, with all groups dropped.
    """

    own: np.ndarray
    further: np.ndarray | None = None

    def n_further(self, config: PriorConfig) -> int:
        """Return how many images of each batch are further ones."""
        if self.further is None:
            return 0
        return min(max(1, round(config.images_share * config.batch_size)), config.batch_size - 1)


def checked_images(images: np.ndarray | TrainingImages) -> TrainingImages:
    """Return images to train on, or refuse too few."""
    images = images if isinstance(images, TrainingImages) else TrainingImages(images)
    if len(images.own) < MIN_IMAGES:
        raise MigvisError(f"{len(images.own)} training images; a prior needs at least {MIN_IMAGES}")
    return images


def scale_of(images: np.ndarray) -> PixelScale:
    """Return the pixel scale of images, or refuse those without any contrast."""
    scale = PixelScale(float(images.mean()), float(images.std()))
    if scale.std == 0:
        raise MigvisError(
            f"every pixel of the {len(images)} training images is {scale.mean:g}; expected pictures"
        )
    return scale
