"""Noised images: the forward process at steps that cover all noise levels evenly."""

from __future__ import annotations

import torch


def draw_steps(
    stratum: torch.Tensor,
    n_strata: int,
    *,
    n_timesteps: int,
    generator: torch.Generator,
    fraction: float = 1.0,
) -> torch.Tensor:
    """Draw one time step in each of some equal parts of the noise levels.

    Parameters
    ----------
    stratum : torch.Tensor of int, shape (n,)
        The part that each step is drawn in, from 0; on the device of the generator.
    n_strata : int
    n_timesteps : int
        T.
    generator : torch.Generator
    fraction : float
        Share of the noise levels, from the clean image on, that steps are drawn from.

    Returns
    -------
    torch.Tensor of int, shape (n,)
    """
    u = (stratum + torch.rand(len(stratum), generator=generator, device=generator.device)) / n_strata
    return (u * fraction * n_timesteps).long().clamp_max(n_timesteps - 1)


def signal_and_noise(alpha_bar: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the factors of image and noise at time steps (n,), both (n, 1, 1, 1)."""
    signal = alpha_bar[t][:, None, None, None]
    return signal.sqrt(), (1 - signal).sqrt()


def noised(
    x: torch.Tensor, t: torch.Tensor, alpha_bar: torch.Tensor, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images at noise levels, x_t = sqrt(alpha_bar_t) x + sqrt(1 - alpha_bar_t) eps.

    Parameters
    ----------
    x : torch.Tensor, shape (n, channel, y, x)
    t : torch.Tensor of int, shape (n,)
        Time steps.
    alpha_bar : torch.Tensor, shape (T,)
    generator : torch.Generator
        Of the noise, which is drawn on its device.

    Returns
    -------
    x_t, eps : torch.Tensor, shape (n, channel, y, x)
    """
    eps = torch.randn(x.shape, generator=generator, device=generator.device).to(x)
    of_signal, of_noise = signal_and_noise(alpha_bar, t)
    return of_signal * x + of_noise * eps, eps
