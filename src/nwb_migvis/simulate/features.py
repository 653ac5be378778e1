"""Frozen features of images that simulated units read: Gabor energies, and a network for photographs."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nwb_migvis.errors import MigvisError
from nwb_migvis.pixels import resize_images

Array = NDArray[np.float64]
Describe = Callable[[NDArray[np.uint8]], Array]

FEATURES = ("random", "efficientnet-lite0", "both")
"""What units can read."""

_WORKING_PX = 32
_WAVELENGTHS_PX = (4.0, 8.0, 16.0)
_N_ORIENTATIONS = 6
_POOLED = 8
_N_RANDOM = 512
_CHUNK = 256


def feature_maps(name: str) -> Describe:
    """Return the function that describes images, uint8 (n, y, x (, channel)) -> (n, feature).

    Parameters
    ----------
    name : str
        One of `FEATURES`. "random": energies of Gabor filters in three scales and six orientations and the
        gray levels, averaged over 8 x 8 places of the image at 32 px, and 512 random rectified sums of these.
        "efficientnet-lite0": features of that network, which is part of the extra `models`.

    Raises
    ------
    MigvisError
        For another name, or where the network is not installed.
    """
    if name not in FEATURES:
        raise MigvisError(f"features {name!r} are unknown; expected one of {', '.join(FEATURES)}")
    if name == "random":
        return _random_features
    from nwb_migvis.extras import MODELS, require

    require(MODELS, what="a population that reads a network")
    from nwb_migvis.networks.describing import open_describer

    network = open_describer("efficientnet-lite0")
    if name == "efficientnet-lite0":
        return network
    return lambda images: np.concatenate([_random_features(images), network(images)], axis=1)


def gray_levels(images: NDArray[np.uint8]) -> NDArray[np.uint8]:
    """Return images (n, y, x) of the mean of the channels, where there are any."""
    return images if images.ndim == 3 else np.rint(images.mean(axis=-1)).astype(np.uint8)


def _random_features(images: NDArray[np.uint8]) -> Array:
    gray = resize_images(gray_levels(images), (_WORKING_PX, _WORKING_PX))
    bank = _gabor_bank()
    rows = [_energies(gray[i : i + _CHUNK] / 255.0, bank) for i in range(0, len(gray), _CHUNK)]
    local = np.concatenate(rows) if rows else np.zeros((0, (len(bank) + 1) * _POOLED**2))
    rng = np.random.default_rng(20)
    weight = rng.normal(size=(local.shape[1], _N_RANDOM)) / np.sqrt(local.shape[1])
    mixed = np.maximum(3 * local @ weight + 0.3 * rng.normal(size=_N_RANDOM), 0)
    return np.concatenate([local, mixed], axis=1)


def _gabor_bank() -> NDArray[np.complex128]:
    """Return transfer functions (filter, y, x): Gaussians around one side of the spectrum."""
    frequency = np.fft.fftfreq(_WORKING_PX)
    fy, fx = np.meshgrid(frequency, frequency, indexing="ij")
    bank = []
    for wavelength in _WAVELENGTHS_PX:
        for k in range(_N_ORIENTATIONS):
            angle = np.pi * k / _N_ORIENTATIONS
            along = fx * np.cos(angle) + fy * np.sin(angle) - 1 / wavelength
            across = fy * np.cos(angle) - fx * np.sin(angle)
            bank.append(np.exp(-0.5 * (wavelength / 0.35) ** 2 * (along**2 + across**2)))
    return np.array(bank, dtype=np.complex128)


def _energies(images: Array, bank: NDArray[np.complex128]) -> Array:
    """Return energies and gray levels averaged over places, (n, feature); roots even out contrast."""
    centred = images - images.mean(axis=(1, 2), keepdims=True)
    spectrum = np.fft.fft2(centred)[:, None] * bank
    energy = np.sqrt(np.abs(np.fft.ifft2(spectrum)))
    maps = np.concatenate([energy, images[:, None]], axis=1)
    n, step = len(images), _WORKING_PX // _POOLED
    pooled = maps.reshape(n, maps.shape[1], _POOLED, step, _POOLED, step).mean(axis=(3, 5))
    return pooled.reshape(n, -1)
