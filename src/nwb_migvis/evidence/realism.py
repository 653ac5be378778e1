"""How far edited images are, as a set, from real ones."""

from __future__ import annotations

import numpy as np


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of feature vectors.

    ``|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`` (Dowson and Landau 1982). It grows as sets
    get smaller: compare sets of equal numbers only, and against two halves of real images.

    Parameters
    ----------
    a, b : array (image, feature)
        Features of a reader (`Reader.features`).

    Returns
    -------
    float
        In the squared unit of the features; NaN with fewer than two images in a set.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    # With C = R^T R, tr (C_a C_b)^(1/2) is the sum of the singular values of R_a R_b^T.
    root_a, root_b = (
        np.asarray(np.linalg.qr((x - mean) / np.sqrt(len(x)), mode="r"))
        for x, mean in ((a, mean_a), (b, mean_b))
    )
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return float(((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * cross)
