"""Pixels that are read when they are asked for, and only those.

Everything becomes uint8 by these rules, decided once per session over all images shown, so that images
stay comparable with each other:

- uint8 stays as it is, booleans become 0 and 255;
- floats within [0, 1] are multiplied by 255 and rounded, floats within [0, 255] are rounded;
- integers within [0, 255] stay; else unsigned 16-bit integers are divided by 257 and rounded;
- anything else is refused.

An alpha channel is composited over mid gray (128). Where no image of a session has colour (its three channels
are equal everywhere), all become grayscale; where grayscale and colour images meet, grayscale is repeated
over the channels.
"""

from __future__ import annotations

import hashlib
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import h5py
import numpy as np
from xarray.backends import BackendArray
from xarray.core import indexing

from nwb_migvis.errors import MigvisError
from nwb_migvis.pixels import resize_image
from nwb_migvis.read.diagnosis import why_not_readable
from nwb_migvis.read.sizes import check_stored
from nwb_migvis.sources import Source, open_hdf5

BACKGROUND = 128
"""Gray value that shows through transparent pixels."""

FORMATS = ("PNG", "JPEG", "GIF", "BMP", "TIFF")
"""Formats of image files that are read, by Pillow's names."""

_CHUNK_CACHE_BYTES = 2**26
_BLOCK_VALUES = 2**20


class Pixels(Protocol):
    """Where the pixels of one image are: an HDF5 dataset or an image file."""

    @property
    def shape(self) -> tuple[int, ...]:
        """(y, x) or (y, x, channel) as stored."""

    @property
    def dtype(self) -> np.dtype:
        """Type of the values that `read` returns."""

    @property
    def sort_key(self) -> tuple[str, str, int]:
        """Images are read in this order, which is their order on disk."""

    def read(self, files: OpenFiles) -> np.ndarray:
        """Return the pixels as stored."""


class OpenFiles:
    """HDF5 files opened once each for one access and closed after it."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._files: dict[str | Source, h5py.File] = {}

    def __enter__(self) -> OpenFiles:
        return self

    def __exit__(self, *args: object) -> None:
        self._stack.close()

    def __getitem__(self, path: str | Source) -> h5py.File:
        if path not in self._files:
            try:
                opened = open_hdf5(path, rdcc_nbytes=_CHUNK_CACHE_BYTES)
                self._files[path] = self._stack.enter_context(opened)
            except OSError as error:
                raise MigvisError(
                    f"{path} can no longer be opened for its pixels ({type(error).__name__}); "
                    "it must stay where it was read from"
                ) from error
        return self._files[path]


@dataclass(frozen=True)
class DatasetPixels:
    """An image in an HDF5 dataset: the whole dataset, or one frame of it."""

    file: str | Source
    dataset: str
    shape: tuple[int, ...]
    dtype: np.dtype
    frame: int | None = None

    @property
    def sort_key(self) -> tuple[str, str, int]:
        """File, dataset and frame."""
        return (str(self.file), self.dataset, self.frame or 0)

    def read(self, files: OpenFiles) -> np.ndarray:
        """Return the pixels as stored."""
        try:
            dataset = files[self.file][self.dataset]
            check_stored(dataset, dataset.dtype.itemsize * math.prod(self.shape))
            return dataset[()] if self.frame is None else dataset[self.frame]
        except (OSError, KeyError) as error:
            cause = why_not_readable(self.file)
            if cause is not None:
                raise MigvisError(f"{self.file}: the pixels cannot be read: {cause}") from error
            raise MigvisError(
                f"{self.file}: the pixels of {self.dataset} cannot be read; the file may be damaged"
            ) from error


@dataclass(frozen=True)
class FilePixels:
    """An image in a PNG, JPEG, GIF, BMP or TIFF file."""

    path: str
    shape: tuple[int, ...]

    @classmethod
    def from_file(cls, path: Path) -> FilePixels:
        """Read the header of an image file.

        Raises
        ------
        MigvisError
            If the file is not an image of a known format.
        """
        from PIL import Image

        try:
            with Image.open(path, formats=FORMATS) as image:
                width, height = image.size
                mode = _mode_read_as(image)
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MigvisError(
                f"{path} is not an image that can be read; expected one of {', '.join(FORMATS)}"
            ) from error
        n_channels = len(mode)
        return cls(str(path), (height, width) if n_channels == 1 else (height, width, n_channels))

    @property
    def dtype(self) -> np.dtype:
        """Files are converted to uint8 as they are read."""
        return np.dtype(np.uint8)

    @property
    def sort_key(self) -> tuple[str, str, int]:
        """Path of the file."""
        return (self.path, "", 0)

    def read(self, files: OpenFiles) -> np.ndarray:
        """Return the pixels as uint8; 16-bit gray is divided by 257 and rounded."""
        from PIL import Image

        try:
            with Image.open(self.path, formats=FORMATS) as image:
                if image.mode.startswith("I"):
                    return scaled(np.asarray(image), 255 / 65535)
                return np.asarray(image.convert(_mode_read_as(image)))
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise MigvisError(f"{self.path}: the image is damaged or gone; get a whole copy of it") from error


def _mode_read_as(image: Any) -> str:
    """Return L, LA, RGB or RGBA, whichever holds what a Pillow image holds."""
    colour = "L" if image.mode in ("1", "L", "LA") or image.mode.startswith("I") else "RGB"
    return colour + "A" if image.has_transparency_data else colour


def scaled(values: np.ndarray, factor: float) -> np.ndarray:
    """Return values times a factor as uint8, rounded to nearest."""
    out = np.empty(values.shape, np.uint8)
    for rows in _row_blocks(values):
        out[rows] = np.rint(values[rows].astype(np.float64) * factor).clip(0, 255)
    return out


def _row_blocks(image: np.ndarray) -> Iterator[slice]:
    """Yield the rows of an image in blocks that take little memory as float64."""
    step = max(1, _BLOCK_VALUES * len(image) // max(image.size, 1))
    for first in range(0, len(image), step):
        yield slice(first, first + step)


def _on_gray(pixels: np.ndarray) -> np.ndarray:
    """Composite an image (y, x, channel), alpha last, over mid gray."""
    out = np.empty((*pixels.shape[:2], pixels.shape[2] - 1), np.uint8)
    for rows in _row_blocks(pixels):
        alpha = pixels[rows, :, -1:].astype(np.float64) / 255
        out[rows] = scaled(pixels[rows, :, :-1] * alpha + BACKGROUND * (1 - alpha), 1.0)
    return out


def _factor(dtype: np.dtype, low: float, high: float) -> float:
    """Return what values of a stored type, from `low` to `high` over all images, are multiplied by."""
    if low >= 0 and high <= 1 and dtype.kind == "f":
        return 255.0
    if low >= 0 and high <= 255 and dtype.kind in "fiu":
        return 1.0
    if dtype == np.uint16:
        return 255 / 65535
    raise MigvisError(
        f"images of type {dtype} hold values from {low:g} to {high:g}; expected uint8, uint16, or values "
        "within [0, 1] (float) or [0, 255]: store the images as uint8"
    )


class Decoder:
    """Turns stored pixels into uint8 by one rule for all images of a session.

    Parameters
    ----------
    images : sequence of Pixels
        All images shown; those of types other than uint8 and bool are read to find the range of values.
    channel_order : {"rgb", "bgr"}
        Order of the colour channels in HDF5 datasets.

    Raises
    ------
    MigvisError
        For values that no rule covers.
    """

    def __init__(self, images: Sequence[Pixels], *, channel_order: str = "rgb") -> None:
        self.channel_order = channel_order
        extremes: dict[np.dtype, tuple[float, float]] = {}
        with OpenFiles() as files:
            for image in sorted(images, key=lambda image: image.sort_key):
                if image.dtype.kind == "b" or image.dtype == np.uint8:
                    continue
                values = image.read(files)
                low, high = extremes.get(image.dtype, (np.inf, -np.inf))
                extremes[image.dtype] = (np.minimum(low, values.min()), np.maximum(high, values.max()))
        self._factors = {dtype: _factor(dtype, low, high) for dtype, (low, high) in extremes.items()}

    def read(self, image: Pixels, files: OpenFiles) -> np.ndarray:
        """Return an image as uint8, (y, x) or (y, x, 3)."""
        pixels = image.read(files)
        if image.dtype.kind == "b":
            pixels = pixels.astype(np.uint8) * np.uint8(255)
        elif image.dtype != np.uint8:
            pixels = scaled(pixels, self._factors[image.dtype])
        if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
            pixels = _on_gray(pixels)
        if pixels.ndim == 3 and pixels.shape[2] == 1:
            return pixels[..., 0]
        is_reversed = self.channel_order == "bgr" and isinstance(image, DatasetPixels) and pixels.ndim == 3
        return pixels[..., ::-1] if is_reversed else pixels

    def has_colour(self, image: Pixels, files: OpenFiles) -> bool:
        """Return whether any pixel of an image has channels that differ; grayscale images are not read."""
        if len(image.shape) < 3 or image.shape[2] < 3:
            return False
        pixels = self.read(image, files)
        return bool((pixels != pixels[..., :1]).any())

    def digest(self, image: Pixels, files: OpenFiles) -> str:
        """Return a hash (16 hexadecimal digits) of an image's uint8 pixels and its size.

        A colour image without colour has the digest of the grayscale image.
        """
        pixels = self.read(image, files)
        if pixels.ndim == 3 and (pixels == pixels[..., :1]).all():
            pixels = pixels[..., 0]
        head = ",".join(str(n) for n in pixels.shape).encode()
        return hashlib.sha256(head + b":" + np.ascontiguousarray(pixels).tobytes()).hexdigest()[:16]


class LazyImages(BackendArray, ABC):
    """Images as one array (stimulus, y, x[, channel]) of uint8 that reads the rows it is indexed with."""

    shape: tuple[int, ...]
    dtype: np.dtype

    @abstractmethod
    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the images of some rows, (row, y, x[, channel])."""

    def __getitem__(self, key: indexing.ExplicitIndexer) -> Any:
        return indexing.explicit_indexing_adapter(key, self.shape, indexing.IndexingSupport.OUTER, self._read)

    def _read(self, key: tuple[Any, ...]) -> np.ndarray:
        stack = self.read_rows(np.atleast_1d(np.arange(self.shape[0])[key[0]]))
        for axis in range(stack.ndim - 1, 0, -1):
            stack = stack[(slice(None),) * axis + (key[axis],)]
        return stack[0] if not isinstance(key[0], slice) and np.ndim(key[0]) == 0 else stack


class ImageStack(LazyImages):
    """All images of a session.

    Images are read here, one after another, until one has colour: for colour images usually the first, for
    images of three equal channels all, for grayscale images none.

    Parameters
    ----------
    images : sequence of Pixels
    names : sequence of str
        For messages.
    decoder : Decoder
    resize_px : (height, width), optional
        Size that every image is resized to; needed where they differ.

    Raises
    ------
    MigvisError
        If the sizes differ and no size is given, or a shape or type is not that of an image.
    """

    def __init__(
        self,
        images: Sequence[Pixels],
        *,
        names: Sequence[str],
        decoder: Decoder,
        resize_px: tuple[int, int] | None = None,
    ) -> None:
        self.images = tuple(images)
        self.names = tuple(names)
        self._decoder = decoder
        for image, name in zip(images, names, strict=True):
            if len(image.shape) not in (2, 3) or (len(image.shape) == 3 and image.shape[2] > 4):
                raise MigvisError(
                    f"image {name!r} has shape {image.shape}; expected (y, x) or (y, x, channel) with 1 to 4"
                    " channels"
                )
        size = resize_px or _common_size(images, names)
        with OpenFiles() as files:
            is_colour = any(decoder.has_colour(image, files) for image in images)
        self.shape = (len(images), *size, 3) if is_colour else (len(images), *size)
        self.dtype = np.dtype(np.uint8)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the images of some rows, (row, y, x[, channel])."""
        stack = np.empty((len(rows), *self.shape[1:]), np.uint8)
        with OpenFiles() as files:
            for i in sorted(range(len(rows)), key=lambda i: self.images[rows[i]].sort_key):
                stack[i] = self._image(rows[i], files)
        return stack

    def _image(self, row: int, files: OpenFiles) -> np.ndarray:
        pixels = self._decoder.read(self.images[row], files)
        if pixels.ndim == 3 and len(self.shape) == 3:
            pixels = np.ascontiguousarray(pixels[..., 0])
        if pixels.shape[:2] != self.shape[1:3]:
            pixels = resize_image(pixels, self.shape[1:3])
        is_gray_among_colour = len(self.shape) == 4 and pixels.ndim == 2
        return np.repeat(pixels[..., None], 3, axis=2) if is_gray_among_colour else pixels

    def digests(self) -> dict[str, str]:
        """Return a hash of each image's own pixels, before any resizing, by name."""
        with OpenFiles() as files:
            digests = [self._decoder.digest(image, files) for image in self.images]
        return dict(zip(self.names, digests, strict=True))


def _common_size(images: Sequence[Pixels], names: Sequence[str]) -> tuple[int, int]:
    sizes: dict[tuple[int, int], list[str]] = {}
    for image, name in zip(images, names, strict=True):
        sizes.setdefault((image.shape[0], image.shape[1]), []).append(name)
    if len(sizes) > 1:
        listing = ", ".join(
            f"{h} x {w} ({len(who)}, first {who[0]!r})" for (h, w), who in list(sizes.items())[:3]
        )
        raise MigvisError(
            f"the images have {len(sizes)} sizes (height x width in px): {listing}; expected one: "
            "say which with resize_px=(height, width) (--resize HEIGHT WIDTH)"
        )
    return next(iter(sizes))
