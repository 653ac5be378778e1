"""Between uint8 images and what the networks see."""

from __future__ import annotations

import numpy as np
from PIL import Image


def target_shape(height: int, width: int, size_px: int) -> tuple[int, int]:
    """Return (height, width) scaled down so that the longest side is `size_px`; never scaled up."""
    scale = min(1.0, size_px / max(height, width))
    return max(1, round(height * scale)), max(1, round(width * scale))


def resize_images(images: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Resize a stack of images with an antialiasing (Lanczos) filter.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n, y, x) or (n, y, x, channel)
    shape : (int, int)
        Height and width to return.

    Returns
    -------
    numpy.ndarray of uint8, shape (n, *shape) or (n, *shape, channel)
    """
    if images.shape[1:3] == tuple(shape):
        return images
    return np.stack([resize_image(image, shape, resample=Image.Resampling.LANCZOS) for image in images])


def resize_image(
    image: np.ndarray, shape: tuple[int, ...], *, resample: Image.Resampling = Image.Resampling.BILINEAR
) -> np.ndarray:
    """Resize one image (y, x) or (y, x, channel) of uint8 to a height and width, with antialiasing."""
    height, width = shape[:2]
    return np.asarray(Image.fromarray(image).resize((width, height), resample))
