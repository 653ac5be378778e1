"""Total correlation between groups of latents."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import pairwise
from typing import Any

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
    estimate: torch.Tensor = _Estimate.apply(z, mean, log_var, tuple(sizes))  # type: ignore[no-untyped-call]
    return estimate


class _Estimate(torch.autograd.Function):
    """The estimate, with its derivative written out: most of a training step's time is that of small pieces.

    With L_gij the log density of group g of sample i under group g of posterior j, and n samples::

        TC = mean_i( logsumexp_j sum_g L_gij - sum_g logsumexp_j L_gij ) + (number of groups - 1) * log n
        n * dTC / dL_gij = softmax_j(sum_g L_gij) - softmax_j(L_gij)
    """

    @staticmethod
    def forward(
        ctx: Any, z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor, sizes: tuple[int, ...]
    ) -> torch.Tensor:
        """Return the estimate. Only differences count: centred, the terms of the densities are smaller."""
        center, p = mean.mean(0), torch.exp(-log_var)
        x, m = z - center, mean - center
        samples = torch.stack([x.square(), x, torch.ones_like(x)], dim=1)
        constant = m.square() * p + log_var + math.log(2 * math.pi)
        posteriors = torch.stack([-0.5 * p, m * p, -0.5 * constant], dim=1)
        parts = zip(_flat(samples, sizes), _flat(posteriors, sizes), strict=True)
        by_group = torch.stack([a @ b.T for a, b in parts])
        joint, of_joint = _log_sum_exp(by_group.sum(0))
        marginals, of_groups = _log_sum_exp(by_group)
        ctx.save_for_backward(samples, posteriors, m, p, of_joint - of_groups)
        ctx.sizes = sizes
        return (joint - marginals.sum(0)).mean() + (len(sizes) - 1) * math.log(len(z))

    @staticmethod
    def backward(ctx: Any, *gradient: torch.Tensor) -> tuple[torch.Tensor | None, ...]:
        """Return the derivatives by z, mean and log variance."""
        samples, posteriors, m, p, of_densities = ctx.saved_tensors
        of_densities = of_densities * (gradient[0] / len(m))
        parts = list(zip(_flat(samples, ctx.sizes), _flat(posteriors, ctx.sizes), of_densities, strict=True))
        shape = (len(m), 3, -1)
        by_square, by_z, _ = torch.cat([(d @ b).view(shape) for _, b, d in parts], dim=2).unbind(1)
        a0, a1, a2 = torch.cat([(d.T @ a).view(shape) for a, _, d in parts], dim=2).unbind(1)
        to_mean = p * (a1 - m * a2)
        to_log_var = p * (0.5 * a0 - m * a1 + 0.5 * m.square() * a2) - 0.5 * a2
        to_z = 2 * samples[:, 1] * by_square + by_z
        return to_z, to_mean, to_log_var, None


def _flat(x: torch.Tensor, sizes: Sequence[int]) -> list[torch.Tensor]:
    """Return the groups of x (n, 3, latent), each (n, 3 * size)."""
    return [part.reshape(len(x), -1) for part in x.split(list(sizes), dim=2)]


def _log_sum_exp(x: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the log of the summed exponentials along the last axis, and its derivative, the softmax.

    Whatever is below e^-60 of the largest counts as e^-60 of it: denormal numbers take many times longer on a
    CPU.
    """
    largest = x.amax(-1, keepdim=True)
    share = (x - largest).clamp_min_(-60.0).exp_()
    total = share.sum(-1, keepdim=True)
    return (total.log() + largest).squeeze(-1), share / total


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
