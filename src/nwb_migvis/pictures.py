"""Images as text that a page can hold: data addresses of PNG or JPEG."""

from __future__ import annotations

import base64
from io import BytesIO

import numpy as np
from PIL import Image

MOST_LOSSLESS_PX = 64
"""Longest side of images that are stored as they are; larger ones are stored as JPEG."""


def picture_uri(image: np.ndarray, *, most_px: int = 128) -> str:
    """Return an image as a `data:` address.

    Parameters
    ----------
    image : numpy.ndarray of uint8, shape (y, x) or (y, x, 3)
    most_px : int
        Longest side; larger images are made smaller.

    Returns
    -------
    str
        PNG with every pixel as it is up to 64 px, else JPEG.
    """
    picture = Image.fromarray(np.ascontiguousarray(image, np.uint8))
    picture.thumbnail((most_px, most_px), Image.Resampling.LANCZOS)
    stored = BytesIO()
    if max(picture.size) <= MOST_LOSSLESS_PX:
        picture.save(stored, "PNG", optimize=True)
        return data_uri(stored.getvalue(), "image/png")
    picture.save(stored, "JPEG", quality=88)
    return data_uri(stored.getvalue(), "image/jpeg")


def data_uri(data: bytes, kind: str) -> str:
    """Return bytes of a media type as a `data:` address."""
    return f"data:{kind};base64,{base64.b64encode(data).decode()}"
