"""What is behind the objects: smooth noise, one gray, or photographs, with a light of their own."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageOps

from nwb_migvis.errors import MigvisError

Floats = NDArray[np.float32]

BACKGROUNDS = ("textured", "plain")
MEAN, SD = 0.27, 0.07
"""Of the gray levels of a textured background, where the light does not say otherwise."""

SUFFIXES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".webp")
_LEAST_SHARE = 0.5
"""Least side of a square that is cut from a photograph, of its shorter side."""
_STORED_PX = 256


@dataclass(frozen=True, eq=False)
class Light:
    """Gray levels of n images, (n,) each; see `nwb_migvis.simulate.Scene`."""

    object_level: Floats
    object_contrast: Floats
    background_level: Floats
    background_contrast: Floats


@dataclass(frozen=True, eq=False)
class Photographs:
    """Photographs in a folder, read when they are needed.

    Attributes
    ----------
    files : tuple of Path
    """

    files: tuple[Path, ...]

    @classmethod
    def open(cls, folder: Path) -> Photographs:
        """Find the photographs of a folder.

        Raises
        ------
        MigvisError
            If it is no folder, or has no images.
        """
        return cls(image_files(folder, what="photographs"))

    def squares(self, rows: NDArray[np.int64], size_px: int, *, seed: int) -> Floats:
        """Cut a random square for each row, (row, y, x), each with mean 0 and standard deviation 1."""
        out = np.empty((len(rows), size_px, size_px), np.float32)
        for i, row in enumerate(rows):
            rng = np.random.default_rng([seed, 8, int(row)])
            photograph = _gray(self.files[rng.integers(len(self.files))])
            side = round(min(photograph.size) * rng.uniform(_LEAST_SHARE, 1))
            left, top = (int(rng.integers(0, whole - side + 1)) for whole in photograph.size)
            cut = photograph.crop((left, top, left + side, top + side))
            values = np.asarray(cut.resize((size_px, size_px), Image.Resampling.LANCZOS), np.float32)
            out[i] = (values - values.mean()) / max(float(values.std()), 1.0)
        return out


@dataclass(frozen=True, eq=False)
class Backdrop:
    """What is behind each image.

    Attributes
    ----------
    background : str
        "textured" or "plain"; of no use with photographs.
    photographs : Photographs, optional
    light : Light, optional
        Of all images; the default gray levels where it is None.
    """

    background: str = "textured"
    photographs: Photographs | None = None
    light: Light | None = None

    def __post_init__(self) -> None:
        if self.background not in BACKGROUNDS:
            raise MigvisError(
                f"background {self.background!r} is unknown; expected one of {', '.join(BACKGROUNDS)}"
            )

    def behind(self, rows: NDArray[np.int64], size_px: int, *, seed: int) -> Floats:
        """Return gray levels (row, y, x)."""
        if self.photographs is None:
            smooth = smooth_noise(rows, size_px, seed=seed, textured=self.background == "textured")
            if self.light is None:
                return smooth
            scaled = (smooth - np.float32(MEAN)) / np.float32(SD)
        else:
            scaled = self.photographs.squares(rows, size_px, seed=seed)
        if self.light is None:
            return np.float32(MEAN) + np.float32(SD) * scaled
        level, contrast = (
            value[rows][:, None, None]
            for value in (self.light.background_level, self.light.background_contrast)
        )
        return level + contrast * scaled

    def lit(self, gray: Floats, rows: NDArray[np.int64]) -> Floats:
        """Return gray levels of objects (row, y, x) in the light of their images."""
        if self.light is None:
            return gray
        level, contrast = (
            value[rows][:, None, None] for value in (self.light.object_level, self.light.object_contrast)
        )
        return (gray - np.float32(0.5)) * contrast + level


def image_files(folder: Path, *, what: str) -> tuple[Path, ...]:
    """Return the image files of a folder in the order of their names.

    Raises
    ------
    MigvisError
        If it is no folder, or has none.
    """
    if not folder.is_dir():
        raise MigvisError(f"{what} {folder}: found no such folder; give one with image files")
    files = tuple(sorted(file for file in folder.iterdir() if file.suffix.lower() in SUFFIXES))
    if not files:
        raise MigvisError(
            f"{what} {folder}: found no image files ({', '.join(SUFFIXES)}); give another folder"
        )
    return files


@lru_cache(maxsize=1024)
def _gray(file: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            return ImageOps.contain(picture.convert("L"), (_STORED_PX, _STORED_PX))
    except (OSError, ValueError) as error:
        raise MigvisError(f"photograph {file} cannot be read ({error}); remove it, or replace it") from None


def smooth_noise(rows: NDArray[np.int64], size_px: int, *, seed: int, textured: bool) -> Floats:
    """Return (rows, y, x) gray levels: a sum of plane waves whose power falls as 1/f**3.2, or one gray."""
    plain = np.full((len(rows), size_px, size_px), MEAN, np.float32)
    if not textured:
        return plain
    most = 6
    fy, fx = np.arange(-most, most + 1), np.arange(0, most + 1)
    radius = np.hypot(fy[:, None], fx[None, :])
    amplitude = np.where((radius > 0) & (radius <= most), np.maximum(radius, 1) ** -1.6, 0.0)
    amplitude *= SD / np.sqrt((amplitude**2).sum())
    draws = np.stack([np.random.default_rng([seed, 2, int(i)]).normal(size=(2, *radius.shape)) for i in rows])
    coefficients = (draws[:, 0] + 1j * draws[:, 1]) * amplitude
    at = np.pi * 0.8 * ((2 * np.arange(size_px) + 1) / size_px - 1)
    waves = np.exp(1j * np.outer(at, fy)) @ coefficients @ np.exp(1j * np.outer(fx, at))
    return plain + waves.real.astype(np.float32)
