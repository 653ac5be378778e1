"""A lower bound of the information between a latent group and images, from a critic's scores."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from scipy.special import logsumexp

from nwb_migvis.evidence.significance import permutation_p, permutations


@dataclass(frozen=True)
class InformationBound:
    """A bound of mutual information.

    Attributes
    ----------
    bound_nats : float
        The bound; negative where the critic does worse than none at all.
    cap_nats : float
        log N, which the bound cannot exceed with N images to choose from.
    p_value : float
    """

    bound_nats: float
    cap_nats: float
    p_value: float


def infonce_bound(scores: np.ndarray, *, n_permutations: int = 999, seed: int) -> InformationBound:
    """Bound the mutual information of a latent group and the images by InfoNCE.

    ``mean_j (S_jj - logsumexp_i S_ij) + log N`` (van den Oord et al. 2018, arXiv 1807.03748, eq. 4), for
    scores of stimuli that the critic was not trained on: each image tells the latents of its own stimulus
    from those of the others, as in the scores that guide edits. It is a lower bound in expectation, never an
    estimate: it stays below the information by what the critic misses and by the cap.

    The p-value is of the null that latents and images have nothing to do with each other: the images are
    permuted against the stimuli whole, all repeats of a stimulus together, the critic staying as it is.

    Parameters
    ----------
    scores : array (stimulus, image)
        Critic's score S_ij (nats, up to a constant per column) of the latents of held-out stimulus i with
        the image of held-out stimulus j.
    n_permutations : int
        B; p = (1 + k) / (1 + B).
    seed : int

    Returns
    -------
    InformationBound
        NaN for the bound and the p-value with fewer than two stimuli.

    Raises
    ------
    ValueError
        If `scores` is not square.
    """
    scores = np.asarray(scores, dtype=np.float64)
    if scores.ndim != 2 or scores.shape[0] != scores.shape[1]:
        raise ValueError(f"scores have shape {scores.shape}; expected one row and one column per stimulus")
    n = len(scores)
    cap = float(np.log(n)) if n else float("nan")
    if n < 2:
        return InformationBound(float("nan"), cap, float("nan"))
    pointwise = scores - logsumexp(scores, axis=0, keepdims=True) + cap
    bound, p_value = paired_mean(pointwise, n_permutations=n_permutations, seed=seed)
    return InformationBound(bound, cap, p_value)


def paired_mean(pointwise: np.ndarray, *, n_permutations: int = 999, seed: int) -> tuple[float, float]:
    """Average what stimuli's latents and images have in common, and test it against other pairings.

    Parameters
    ----------
    pointwise : array (stimulus, image)
        Pointwise information of the latents of stimulus i with the image of stimulus j.
    n_permutations : int
        B; p = (1 + k) / (1 + B).
    seed : int

    Returns
    -------
    mean : float
        Of the diagonal.
    p_value : float
        Of the null that latents and images have nothing to do with each other: the images are permuted
        against the stimuli whole.
    """
    n = len(pointwise)
    rows = np.arange(n)
    images = permutations(n, n_permutations, rng=np.random.default_rng(seed))
    mean = float(np.trace(pointwise) / n)
    null = pointwise[rows, images].mean(axis=1)
    return mean, float(permutation_p(mean, null))
