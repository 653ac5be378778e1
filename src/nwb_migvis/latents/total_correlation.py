"""Total correlation between groups of latents."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import torch


def total_correlation(
    z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor, *, sizes: Sequence[int]
) -> torch.Tensor:
    """Estimate the total correlation between groups under the aggregated posterior of a batch, in nats.

    TC = E[log q(z) - sum_g log q(z_g)], with q the mixture of the batch's Gaussian posteriors
    (minibatch-weighted sampling: Chen et al. 2018, arXiv 1802.04942; between groups rather than single
    latents: PDisVAE, arXiv 2502.02279).

    Parameters
    ----------
    z : torch.Tensor, shape (batch, latent)
        One sample of each posterior.
    mean, log_var : torch.Tensor, shape (batch, latent)
        The posteriors; `log_var` is the log of the variance, not of the standard deviation.
    sizes : sequence of int
        Latents in each group, in order.

    Returns
    -------
    torch.Tensor, scalar

    Notes
    -----
    Where the posteriors are so narrow that they do not overlap, every log density is that of the sample's
    own component and the estimate saturates at (number of groups - 1) * log(batch), without a gradient.
    """
    n = z.shape[0]
    log_density = -0.5 * (
        (z[:, None] - mean[None]).square() * torch.exp(-log_var)[None]
        + log_var[None]
        + float(np.log(2 * np.pi))
    )
    by_group = torch.stack([part.sum(-1) for part in log_density.split(list(sizes), dim=-1)], dim=-1)
    log_n = float(np.log(n))
    joint = torch.logsumexp(by_group.sum(-1), dim=1) - log_n
    marginals = torch.logsumexp(by_group, dim=1) - log_n
    return (joint - marginals.sum(-1)).mean()


def gaussian_total_correlation(covariance: np.ndarray, *, sizes: Sequence[int]) -> float:
    """Return the total correlation between groups of a Gaussian, in nats.

    TC = 1/2 (sum_g log det C_gg - log det C).

    Parameters
    ----------
    covariance : numpy.ndarray, shape (latent, latent)
    sizes : sequence of int
        Latents in each group, in order.
    """
    edges = np.concatenate([[0], np.cumsum(sizes)])
    blocks = [covariance[a:b, a:b] for a, b in pairwise(edges)]
    joint = np.linalg.slogdet(covariance)[1]
    return float(0.5 * (sum(np.linalg.slogdet(block)[1] for block in blocks) - joint))
