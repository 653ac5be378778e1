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
    Where the posteriors are so narrow that they do not overlap, every log density is that of the sample's own
    component. The estimate then saturates at (number of groups - 1) * log(batch), without a gradient.
    """
    by_group = torch.stack(
        [
            _log_densities(*part)
            for part in zip(*(x.split(list(sizes), dim=-1) for x in (z, mean, log_var)), strict=True)
        ]
    )
    log_n = float(np.log(z.shape[0]))
    joint = _log_sum_exp(by_group.sum(0)) - log_n
    marginals = _log_sum_exp(by_group) - log_n
    return (joint - marginals.sum(0)).mean()


def _log_sum_exp(x: torch.Tensor) -> torch.Tensor:
    """Return the log of the summed exponentials along the last axis.

    Whatever is below e^-60 of the largest counts as e^-60 of it: denormal numbers take many times longer on a
    CPU.
    """
    largest = x.detach().amax(-1, keepdim=True)
    return torch.logsumexp((x - largest).clamp_min(-60.0), dim=-1) + largest.squeeze(-1)


def _log_densities(z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """Return the log density of every sample under every posterior, (sample, posterior).

    The squares are multiplied out, so that one matrix product replaces an array (sample, posterior, latent).
    It is in double precision, since the difference is small where posteriors are narrow.
    """
    z, mean, precision = z.double(), mean.double(), torch.exp(-log_var.double())
    constant = (mean.square() * precision + log_var + float(np.log(2 * np.pi))).sum(-1, keepdim=True)
    samples = torch.cat([z.square(), z, torch.ones_like(z[:, :1])], dim=1)
    posteriors = torch.cat([-0.5 * precision, mean * precision, -0.5 * constant], dim=1)
    return (samples @ posteriors.T).to(log_var.dtype)


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
