"""What an image has before anyone looks at its content: luminance, contrast, edges, size."""

from __future__ import annotations

import numpy as np
from scipy.stats import rankdata

MOST_WAVES, STIMULI_PER_WAVE = 5, 40

LOW_LEVEL = ("luminance", "contrast", "edge_energy", "high_frequencies", "extent")


def low_level_features(images: np.ndarray) -> np.ndarray:
    """Describe images by one number of each kind in `LOW_LEVEL`.

    Parameters
    ----------
    images : array of uint8 (stimulus, y, x) or (stimulus, y, x, channel)

    Returns
    -------
    array (stimulus, 5)
        Mean gray value; standard deviation of gray values; root mean square of their differences between
        neighbouring pixels, and of their second differences; and the distance from the centre of gravity,
        in pixels, that the deviation from the border's median has (root mean square: the size on the retina
        of an object on a plain ground).
    """
    gray = np.asarray(images, dtype=np.float64)
    gray = gray.mean(axis=3) if gray.ndim == 4 else gray
    n = len(gray)
    flat = gray.reshape(n, -1)
    return np.column_stack(
        [
            flat.mean(axis=1),
            flat.std(axis=1),
            _roughness(gray, order=1),
            _roughness(gray, order=2),
            _extent(gray),
        ]
    )


def _roughness(gray: np.ndarray, *, order: int) -> np.ndarray:
    parts = [np.diff(gray, n=order, axis=axis).reshape(len(gray), -1) ** 2 for axis in (1, 2)]
    return np.sqrt(np.concatenate(parts, axis=1).mean(axis=1))


def _extent(gray: np.ndarray) -> np.ndarray:
    border = np.concatenate([gray[:, 0], gray[:, -1], gray[:, 1:-1, 0], gray[:, 1:-1, -1]], axis=1)
    weight = np.abs(gray - np.median(border, axis=1)[:, None, None])
    total = np.maximum(weight.sum(axis=(1, 2)), 1e-12)
    spread = np.zeros(len(gray))
    for axis, size in ((1, gray.shape[1]), (2, gray.shape[2])):
        along = weight.sum(axis=3 - axis) / total[:, None]
        place = np.arange(size)
        centre = along @ place
        spread += (along * (place - centre[:, None]) ** 2).sum(axis=1)
    return np.sqrt(spread)


def nuisance_basis(features: np.ndarray) -> np.ndarray:
    """Return features with smooth functions of each by itself, (stimulus, column).

    Each is replaced by its rank, from 0 to 1, and by cosines of that; so that what follows a nuisance in a
    nonlinear way, such as categories by brightness, is predicted from it. Few stimuli get fewer cosines, one
    for every `STIMULI_PER_WAVE`: what is taken out of a label by chance is lost for the test.
    """
    rank = (rankdata(features, axis=0) - 1) / max(len(features) - 1, 1)
    n_waves = min(MOST_WAVES, max(1, len(features) // STIMULI_PER_WAVE))
    waves = [np.cos(np.pi * k * rank) for k in range(1, n_waves + 1)]
    return np.concatenate([features, rank, *waves], axis=1)
