"""How many dimensions a latent group really uses."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree


def participation_ratio(latents: np.ndarray) -> float:
    """Participation ratio (sum of eigenvalues)^2 / (sum of their squares) of the covariance.

    d for a Gaussian of d equal variances, 1 for a line (Gao et al. 2017); it counts linear dimensions,
    weighed by their variance.

    Parameters
    ----------
    latents : array (stimulus, latent)

    Returns
    -------
    float
        NaN where nothing varies.
    """
    x = np.asarray(latents, dtype=np.float64)
    covariance = np.atleast_2d(np.cov(x, rowvar=False))
    squared = (covariance**2).sum()
    return float(np.trace(covariance) ** 2 / squared) if squared > 0 else float("nan")


def twonn_dimension(latents: np.ndarray, *, discard: float = 0.1) -> float:
    """Dimension of the manifold that the points lie on, from two nearest neighbours.

    The ratio of the distances to the second and the first neighbour follows a Pareto law whose exponent is
    the dimension (Facco et al. 2017). It is fitted by regression through the origin of -log(1 - F) on the
    log ratio, the largest ratios omitted.

    Parameters
    ----------
    latents : array (stimulus, latent)
    discard : float
        Fraction of the largest ratios that is omitted.

    Returns
    -------
    float
        NaN with fewer than ten different points.
    """
    x = np.unique(np.asarray(latents, dtype=np.float64), axis=0)
    if len(x) < 10:
        return float("nan")
    distance, _ = cKDTree(x).query(x, k=3)
    log_ratio = np.sort(np.log(distance[:, 2] / distance[:, 1]))
    n_used = int(len(x) * (1 - discard))
    below = np.arange(1, n_used + 1) / len(x)
    height, log_ratio = -np.log(1 - below), log_ratio[:n_used]
    norm = (log_ratio**2).sum()
    return float((log_ratio * height).sum() / norm) if norm > 0 else float("nan")
