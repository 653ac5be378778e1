"""What a linear read-out takes from the features at each place of an image, over several views of it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from nwb_migvis.companions.cells import N_CELLS, WIDTH
from nwb_migvis.config.evidence import EDGES
from nwb_migvis.evidence.encoding import Describe
from nwb_migvis.evidence.readers.kernel import CELL_PX, N_ORIENTATIONS
from nwb_migvis.evidence.readers.resolution import reduced
from nwb_migvis.evidence.ridge import Ridge
from nwb_migvis.pixels import resize_images

SHIFTS = (-0.1, 0.0, 0.1)
"""Of views up or down and to the sides, in sides of the image: a third of the distance between places."""
CROPS = (0.8,)
"""Sides of views of the middle of the image, seen at full size."""


@dataclass(frozen=True, eq=False)
class Layout:
    """How the features of an image are laid out: (outer, place down, place across, inner).

    Attributes
    ----------
    shape : (int, int, int, int)
    down, across : numpy.ndarray
        Where the centres of places are, in sides of the image.
    """

    shape: tuple[int, int, int, int]
    down: np.ndarray
    across: np.ndarray

    @classmethod
    def of(cls, network: str, images: np.ndarray, n_features: int) -> Layout | None:
        """Return the layout of a network's features of images; None where they have no places."""
        if network == EDGES:
            _, y, x, n_colours = reduced(images[:1]).shape
            down, across = ((np.arange(CELL_PX // 2, n, CELL_PX) + 0.5) / n for n in (y, x))
            return cls((N_ORIENTATIONS, len(down), len(across), n_colours), down, across)
        if network.startswith("efficientnet-lite"):
            from nwb_migvis.networks.describing import EFFICIENTNET_PX, SMALL_PX
            from nwb_migvis.networks.efficientnet_lite import sixth_stage_centres

            along = sixth_stage_centres(EFFICIENTNET_PX)
            if (
                max(images.shape[1:3]) <= SMALL_PX
            ):  # larger images are averaged over fewer places than there are
                return cls((n_features // len(along) ** 2, len(along), len(along), 1), along, along)
        return None

    def contributions(self, ridge: Ridge, features: np.ndarray) -> np.ndarray:
        """Return what the features at each place add to a reading, (image, down, across, output).

        The sum over places is the reading without its intercept.

        Parameters
        ----------
        ridge : Ridge
        features : array (image, feature)
        """
        x = ((features - ridge.mean) / ridge.scale).reshape(-1, *self.shape)
        return np.einsum("iarcb,arcbo->irco", x, ridge.weight.reshape(*self.shape, -1), optimize=True)


def read_places(images: np.ndarray, ridge: Ridge, describe: Describe, layout: Layout) -> np.ndarray:
    """Return what the features at each cell add to a reading, (image, row, column, output).

    Each view of an image is described and read as the image is; its features are held to the range that those
    of the images have, since a place where these hardly vary would else be read from far outside it. What
    places add goes to the cells near them, by Gaussian windows, and is averaged over views. That takes out
    what is tied to the network's few places and not to the image (Luo et al. 2024, BrainSAIL, arXiv
    2410.05266). Cells add up to about the reading.

    Parameters
    ----------
    images : array of uint8 (image, y, x (, channel))
    ridge : Ridge
        Of features of whole images.
    describe : callable
        Images -> features.
    layout : Layout
    """
    total, weight = 0.0, 0.0
    features = describe(images)
    low, high = features.min(axis=0), features.max(axis=0)
    for view, start, side in views(images):
        own = layout.contributions(ridge, np.clip(describe(view), low, high))
        near = [_near(start[i] + side[i] * along) for i, along in enumerate((layout.down, layout.across))]
        total = total + np.einsum("yr,xc,irco->iyxo", *near, own, optimize=True)
        weight = weight + np.outer(*(one.sum(axis=1) for one in near))
    share = len(layout.down) * len(layout.across) / N_CELLS**2
    return share * total / np.maximum(weight, 1e-300)[:, :, None]


def views(images: np.ndarray) -> Iterator[tuple[np.ndarray, list[float], list[float]]]:
    """Yield shifted and cropped views of images at their own size, with where each starts and its sides.

    Both are (down, across) in sides of the image. Beyond its edges an image goes on as it ends.
    """
    shape = images.shape[1:3]
    pad = [round(max(SHIFTS) * n) for n in shape]
    wide = np.pad(images, [(0, 0), *((n, n) for n in pad), *[(0, 0)] * (images.ndim - 3)], mode="edge")
    for up in SHIFTS:
        for left in SHIFTS:
            first = [round(by * n) for by, n in zip((up, left), shape, strict=True)]
            y, x = (slice(p + f, p + f + n) for p, f, n in zip(pad, first, shape, strict=True))
            yield wide[:, y, x], [f / n for f, n in zip(first, shape, strict=True)], [1.0, 1.0]
    for side in CROPS:
        first = [round((1 - side) / 2 * n) for n in shape]
        part = images[:, first[0] : shape[0] - first[0], first[1] : shape[1] - first[1]]
        start = [f / n for f, n in zip(first, shape, strict=True)]
        yield resize_images(np.ascontiguousarray(part), shape), start, [1 - 2 * at for at in start]


def _near(along: np.ndarray) -> np.ndarray:
    """Return how near places are to cells along a side, (cell, place)."""
    cell = (np.arange(N_CELLS)[:, None] + 0.5) / N_CELLS
    return np.exp(-((cell - along) ** 2) / (2 * WIDTH**2))
