"""What networks predict of noised images: noise, velocity, the clean image, or the flow between both.

x_t = a x0 + s eps everywhere, with a**2 + s**2 = 1. A network of flow matching knows instead
(1 - sigma) x0 + sigma eps, which is x_t / (a + s), with sigma = s / (a + s).
"""

from __future__ import annotations

import torch

V, EPSILON, SAMPLE, FLOW = "v_prediction", "epsilon", "sample", "flow_prediction"
PREDICTS = (V, EPSILON, SAMPLE, FLOW)
"""In the words of diffusers. Salimans & Ho 2022 (arXiv 2202.00512): v = a eps - s x0. Lipman et al. 2023
(arXiv 2210.02747): flow = eps - x0."""


def eps_and_x0(
    out: torch.Tensor, x_t: torch.Tensor, a: torch.Tensor, s: torch.Tensor, *, predicts: str
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the noise and the clean image that a network's output stands for.

    Parameters
    ----------
    out, x_t : torch.Tensor, shape (n, channel, y, x)
    a, s : torch.Tensor
        Factors of image and noise in x_t: one, or (n, 1, 1, 1).
    predicts : str
        One of `PREDICTS`.
    """
    if predicts == EPSILON:
        return out, (x_t - s * out) / a
    if predicts == SAMPLE:
        return (x_t - a * out) / s.clamp_min(1e-8), out
    if predicts == FLOW:
        x_flow = x_t / (a + s)
        return x_flow + a / (a + s) * out, x_flow - s / (a + s) * out
    return a * out + s * x_t, a * x_t - s * out


def target(
    x: torch.Tensor, eps: torch.Tensor, a: torch.Tensor, s: torch.Tensor, *, predicts: str
) -> torch.Tensor:
    """Return what a network should predict of images x noised with eps."""
    if predicts == EPSILON:
        return eps
    if predicts == SAMPLE:
        return x
    if predicts == FLOW:
        return eps - x
    return a * eps - s * x


def flow_alpha_bar(n_timesteps: int, *, shift: float = 1.0) -> torch.Tensor:
    """Return the cumulative signal fraction of flow matching, shape (T,).

    Step t has sigma of the middle of its interval, (t + 1/2) / T, shifted as diffusers does
    (Esser et al. 2024, arXiv 2403.03206, eq. 23): no step is free of noise or of signal.
    """
    sigma = (torch.arange(n_timesteps, dtype=torch.float64) + 0.5) / n_timesteps
    sigma = shift * sigma / (1 + (shift - 1) * sigma)
    return ((1 - sigma) ** 2 / ((1 - sigma) ** 2 + sigma**2)).float()


def flow_sigma(alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return sigma of flow matching at noise levels, of the same shape."""
    a, s = alpha_bar.double().sqrt(), (1 - alpha_bar.double()).clamp_min(0).sqrt()
    return (s / (a + s)).float()
