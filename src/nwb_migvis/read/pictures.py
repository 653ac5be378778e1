"""Pictures in a folder, all at one size: what a prior trains on beside the images of a session."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import check_regular
from nwb_migvis.progress import progress
from nwb_migvis.read.folder import SUFFIXES
from nwb_migvis.read.pixels import Decoder, FilePixels, OpenFiles

_GRAY = np.array([299, 587, 114])
"""Thousandths of red, green and blue in gray (ITU-R 601, as Pillow has it)."""


def picture_files(folder: str | Path, *, what: str) -> list[Path]:
    """Return the image files in a folder and in the folders in it, in the order of their paths.

    Raises
    ------
    MigvisError
        If it is no folder, or holds no image files.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise MigvisError(f"{what} {folder}: found no such folder; expected one with image files")
    files = sorted(path for path in folder.rglob("*") if path.suffix.lower() in SUFFIXES and path.is_file())
    if not files:
        raise MigvisError(
            f"{what} {folder}: found no image files ({', '.join(SUFFIXES)}); give a folder that holds some"
        )
    return files


def read_pictures(files: list[Path], shape: tuple[int, ...], *, what: str) -> np.ndarray:
    """Read image files at one size.

    Of each, the largest part in the middle that has the proportions of `shape` is resized to it (Lanczos).
    Transparent pixels show mid gray. Colours become gray where `shape` has no channels; gray is repeated
    where it has.

    Parameters
    ----------
    files : list of Path
    shape : (y, x) or (y, x, 3)
    what : str
        What they are, for messages and the progress.

    Returns
    -------
    numpy.ndarray of uint8, shape (file, *shape)

    Raises
    ------
    MigvisError
        If a file is not an image of a known format.
    """
    out = np.empty((len(files), *shape), np.uint8)
    decoder = Decoder(())
    with OpenFiles() as opened:
        for i, file in enumerate(progress(files, what=what)):
            check_regular(file, what=what)
            picture = decoder.read(FilePixels.from_file(file), opened)
            out[i] = _with_channels(_cut(picture, shape), shape)
    return out


def has_colour(files: list[Path]) -> bool:
    """Tell whether any picture has a pixel whose channels differ; files are read until one has."""
    decoder = Decoder(())
    with OpenFiles() as opened:
        return any(decoder.has_colour(FilePixels.from_file(file), opened) for file in files)


def _cut(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return the middle of a picture, with the proportions of a shape, at its size."""
    from PIL import Image

    from nwb_migvis.pixels import resize_image

    height, width = picture.shape[:2]
    scale = min(height / shape[0], width / shape[1])
    tall, wide = max(1, round(scale * shape[0])), max(1, round(scale * shape[1]))
    top, left = (height - tall) // 2, (width - wide) // 2
    cut = np.ascontiguousarray(picture[top : top + tall, left : left + wide])
    return cut if cut.shape[:2] == shape[:2] else resize_image(cut, shape, resample=Image.Resampling.LANCZOS)


def _with_channels(picture: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Return a picture with the channels of a shape; three that are equal are gray as they are."""
    if picture.ndim == len(shape):
        return picture
    if picture.ndim == 2:
        return np.repeat(picture[..., None], 3, axis=2)
    return ((picture.astype(np.int64) @ _GRAY + 500) // 1000).astype(np.uint8)
