"""Images composed of pictures with transparency: turned, scaled and moved before a background."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import read_csv
from nwb_migvis.simulate.backgrounds import Backdrop, Floats

_SUPERSAMPLING = 2
_LIST = "labels.csv"


@dataclass(frozen=True, eq=False)
class PictureSet:
    """Pictures in a folder with their categories.

    Attributes
    ----------
    files : tuple of Path
    category : numpy.ndarray of str, shape (n_pictures,)
    shapes : numpy.ndarray, shape (n_pictures, 2)
        What tells pictures of a category apart, for tuned units: two numbers from -1 to 1 per picture.
    """

    files: tuple[Path, ...]
    category: NDArray[np.str_]
    shapes: NDArray[np.float64]

    @classmethod
    def open(cls, folder: Path) -> PictureSet:
        """Read the list of a folder's pictures.

        Raises
        ------
        MigvisError
            If the folder has no `labels.csv` with the columns `file` and `category`, a file is absent, or
            there are fewer than two categories.
        """
        table = read_csv(
            folder / _LIST, what="pictures", needs=("file", "category"), dtype=str, keep_default_na=False
        )
        files = tuple(folder / name for name in table["file"])
        absent = [file for file in files if not file.is_file()]
        if absent:
            raise MigvisError(
                f"pictures {folder / _LIST}: {len(absent)} of {len(files)} files do not exist, the first "
                f"{absent[0]}; expected them beside the list"
            )
        category = table["category"].to_numpy(dtype=str)
        if len(set(category)) < 2:
            raise MigvisError(
                f"pictures {folder / _LIST}: found {len(set(category))} categories; expected 2 or more"
            )
        return cls(files, category, np.random.default_rng(9).uniform(-1, 1, (len(files), 2)))

    @property
    def categories(self) -> tuple[str, ...]:
        """Names of the categories, sorted."""
        return tuple(sorted(set(self.category.tolist())))

    def draw(self, category: NDArray[np.str_], *, seed: int) -> NDArray[np.int64]:
        """Draw a picture of each category that is given, (n,)."""
        rng = np.random.default_rng([seed, 9])
        chosen = np.empty(len(category), np.int64)
        for name in self.categories:
            rows = category == name
            chosen[rows] = rng.choice(np.flatnonzero(self.category == name), int(rows.sum()))
        return chosen


def compose(
    factors: pd.DataFrame, pictures: PictureSet, backdrop: Backdrop, *, size_px: int, seed: int
) -> NDArray[np.uint8]:
    """Compose one gray image per row of factors, uint8 (n, y, x).

    Parameters
    ----------
    factors : pandas.DataFrame
        `rotation_z` (degrees, counterclockwise), `position_x`, `position_y`, `size` (image half-widths; half
        of the picture's longer side), and `picture`, the row in the set.
    pictures : PictureSet
    backdrop : Backdrop
    size_px, seed : int
        As `render_stimuli` takes them.
    """
    rows = np.arange(len(factors))
    gray, cover = picture_layers(factors, pictures, size_px=size_px)
    gray = (gray / np.maximum(cover, 1e-6)).astype(np.float32)
    behind = backdrop.behind(rows, size_px, seed=seed)
    levels = cover * backdrop.lit(gray, rows) + (1 - cover) * behind
    return np.clip(np.rint(levels * 255), 0, 255).astype(np.uint8)


def picture_layers(factors: pd.DataFrame, pictures: PictureSet, *, size_px: int) -> tuple[Floats, Floats]:
    """Return the pictures' gray levels times their cover, and their cover, (n, y, x) each from 0 to 1."""
    n_fine = size_px * _SUPERSAMPLING
    columns = ("picture", "rotation_z", "position_x", "position_y", "size")
    layers = [
        _placed(pictures.files[int(picture)], n_fine, tuple(map(float, how)))
        for picture, *how in zip(*(factors[name] for name in columns), strict=True)
    ]
    fine = (len(factors), size_px, _SUPERSAMPLING, size_px, _SUPERSAMPLING)
    gray, cover = (np.stack(each).reshape(fine).mean((2, 4)) for each in zip(*layers, strict=True))
    return gray.astype(np.float32), cover.astype(np.float32)


def _placed(file: Path, n_px: int, how: tuple[float, ...]) -> tuple[Floats, Floats]:
    """Return a picture's gray times its cover, and its cover, (y, x) each from 0 to 1."""
    angle, right, up, size = how
    picture = _opened(file)
    scale = size * n_px / max(picture.size)
    small = picture.resize(
        (max(1, round(picture.width * scale)), max(1, round(picture.height * scale))),
        Image.Resampling.LANCZOS,
    ).rotate(angle, Image.Resampling.BICUBIC, expand=True)
    canvas = Image.new("LA", (n_px, n_px))
    centre = (n_px / 2 * (1 + right), n_px / 2 * (1 - up))
    canvas.paste(small, (round(centre[0] - small.width / 2), round(centre[1] - small.height / 2)))
    values: Floats = np.asarray(canvas, np.float32) / np.float32(255)
    return values[..., 0] * values[..., 1], values[..., 1]


@lru_cache(maxsize=1024)
def _opened(file: Path) -> Image.Image:
    try:
        with Image.open(file) as picture:
            return picture.convert("LA")
    except (OSError, ValueError) as error:
        raise MigvisError(f"picture {file} cannot be read ({error}); remove it from the list") from None
