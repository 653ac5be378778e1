"""What a linear read-out takes from the features at each place of an image, over several views of it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nwb_migvis.companions.cells import N_CELLS, WIDTH
from nwb_migvis.config.evidence import EDGES
from nwb_migvis.evidence.readers.kernel import CELL_PX, N_ORIENTATIONS, edge_features
from nwb_migvis.evidence.readers.resolution import reduced
from nwb_migvis.evidence.ridge import PENALTIES, RidgeBasis
from nwb_migvis.pixels import resize_images

STAGE = 4
"""Of EfficientNet-Lite, the first with 7 x 7 places: a place of later stages sees most of the image."""
POOLED = 2
"""Averages along a side that a read-out can be from, instead of all places of the layer."""
SHIFTS = (-0.1, 0.0, 0.1)
"""Of views up or down and to the sides, in sides of the image."""
CROPS = (0.8,)
"""Sides of views of the middle of the image, seen at full size."""
_AT_ONCE = 32

Activations = Callable[[np.ndarray], np.ndarray]


@dataclass(frozen=True, eq=False)
class Layer:
    """A layer of a network that has places.

    Attributes
    ----------
    activations : callable
        uint8 images (n, y, x (, channel)) -> float64 (n, feature, down, across).
    down, across : numpy.ndarray
        Where the centres of places are, in sides of the image.
    """

    activations: Activations
    down: np.ndarray
    across: np.ndarray

    @classmethod
    def of(cls, network: str, images: np.ndarray, *, device: str = "cpu") -> Layer | None:
        """Return the layer of a network for images of a shape; None where nothing is known of its places."""
        if network == EDGES:
            shape = reduced(images[:1]).shape
            down, across = ((np.arange(CELL_PX // 2, n, CELL_PX) + 0.5) / n for n in shape[1:3])
            return cls(_edges(len(down), len(across), shape[3]), down, across)
        if network.startswith("efficientnet-lite"):
            return cls(*_efficientnet(network, device))
        return None


def _edges(down: int, across: int, n_colours: int) -> Activations:
    def activations(images: np.ndarray) -> np.ndarray:
        energy = edge_features(images).reshape(len(images), N_ORIENTATIONS, down, across, n_colours)
        return energy.transpose(0, 1, 4, 2, 3).reshape(len(images), -1, down, across)

    return activations


def _efficientnet(network: str, device: str) -> tuple[Activations, np.ndarray, np.ndarray]:
    import torch

    from nwb_migvis.networks.describing import EFFICIENTNET_PX, as_input
    from nwb_migvis.networks.efficientnet_lite import for_inference, stage_centres
    from nwb_migvis.networks.image_networks import open_image_network

    opened = open_image_network(network, model="", path="", sha256="")
    module = for_inference(opened.module).to(device)  # type: ignore[arg-type]

    @torch.no_grad()
    def activations(images: np.ndarray) -> np.ndarray:
        parts = []
        for first in range(0, len(images), _AT_ONCE):
            batch = images[first : first + _AT_ONCE]
            x = as_input(batch, EFFICIENTNET_PX, mean=opened.mean, std=opened.std).to(device)
            parts.append(module.stage(x, STAGE).cpu().numpy())
        return np.concatenate(parts).astype(np.float64)

    along = stage_centres(STAGE, EFFICIENTNET_PX)
    return activations, along, along


@dataclass(frozen=True, eq=False)
class PlaceReader:
    """A linear map from a layer's activations to outputs: a sum over places.

    Attributes
    ----------
    layer : Layer
    weight : numpy.ndarray, shape (feature, down, across, output)
    offset : numpy.ndarray, shape (output,)
    """

    layer: Layer
    weight: np.ndarray
    offset: np.ndarray

    @classmethod
    def fit(
        cls,
        layer: Layer,
        train: tuple[np.ndarray, np.ndarray],
        validation: tuple[np.ndarray, np.ndarray] | None = None,
    ) -> PlaceReader:
        """Fit it by ridge regression, from activations at all places or their averages over four quarters.

        Parameters
        ----------
        layer : Layer
        train, validation : (images, array (image, output))
            Whether activations are averaged, and the penalty, have the least error on validation images.
            Without these they are not averaged, and generalised cross-validation chooses the penalty.
        """
        h, goal = layer.activations(train[0]), train[1]
        shape = h.shape[2:]
        sizes = [shape] if validation is None or min(shape) < POOLED else [(POOLED, POOLED), shape]
        best, least = None, np.inf
        new = None if validation is None else layer.activations(validation[0])
        for size in sizes:
            windows = [_windows(k, n) for k, n in zip(size, shape, strict=True)]
            basis, penalty, error = RidgeBasis(_pooled(h, windows)), None, 0.0
            if validation is not None and new is not None:
                errors = basis.errors(goal, x_new=_pooled(new, windows), y_new=validation[1])
                penalty, error = float(PENALTIES[int(np.argmin(errors))]), float(errors.min())
            if best is None or error < least:
                best, least = (basis.fit(goal, penalty=penalty), windows), error
        assert best is not None
        ridge, windows = best
        weight = ridge.weight / ridge.scale[:, None]
        offset = ridge.intercept - ridge.mean @ weight
        pooled = weight.reshape(h.shape[1], len(windows[0]), len(windows[1]), -1)
        return cls(layer, np.einsum("iy,jx,aijo->ayxo", *windows, pooled, optimize=True), offset)

    def contributions(self, images: np.ndarray, without: np.ndarray) -> np.ndarray:
        """Return what places add to the reading of images beyond others, (image, down, across, output).

        The sum over places is the reading of `images` minus that of `without`.
        """
        change = self.layer.activations(images) - self.layer.activations(without)
        return np.einsum("nayx,ayxo->nyxo", change, self.weight, optimize=True)

    def read(self, images: np.ndarray) -> np.ndarray:
        """Read the outputs (image, output) of images."""
        return np.einsum("nayx,ayxo->no", self.layer.activations(images), self.weight, optimize=True) + (
            self.offset
        )


def _windows(k: int, n: int) -> np.ndarray:
    """Return the weight of each of n places in each of k averages, (average, place)."""
    weight = np.zeros((k, n))
    for i in range(k):
        first, last = i * n // k, -(-(i + 1) * n // k)
        weight[i, first:last] = 1 / (last - first)
    return weight


def _pooled(h: np.ndarray, windows: list[np.ndarray]) -> np.ndarray:
    return np.einsum("iy,jx,nayx->naij", *windows, h, optimize=True).reshape(len(h), -1)


def read_places(images: np.ndarray, without: np.ndarray, reader: PlaceReader) -> np.ndarray:
    """Return what the features at each cell add to a reading, (image, row, column, output).

    Each view of an image is read as the image is, beside the same view of the image without detail: what is
    the same in both adds nothing. What places add goes to the cells near them, by Gaussian windows, and is
    averaged over views. That takes out what is tied to the network's few places and not to the image (Luo et
    al. 2024, BrainSAIL, arXiv 2410.05266). Cells add up to about the difference between both readings.

    Parameters
    ----------
    images, without : array of uint8 (image, y, x (, channel))
    reader : PlaceReader
    """
    total, weight = 0.0, 0.0
    for (view, start, side), (bare, *_) in zip(views(images), views(without), strict=True):
        own = reader.contributions(view, bare)
        along = (reader.layer.down, reader.layer.across)
        near = [_near(start[i] + side[i] * centre) for i, centre in enumerate(along)]
        total = total + np.einsum("yr,xc,irco->iyxo", *near, own, optimize=True)
        weight = weight + np.outer(*(one.sum(axis=1) for one in near))
    share = len(reader.layer.down) * len(reader.layer.across) / N_CELLS**2
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
