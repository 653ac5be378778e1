"""Unguided samples of the prior."""

from __future__ import annotations

import numpy as np
import torch

from nwb_migvis.networks.batches import in_batches
from nwb_migvis.synthesis.prior.ddim import sample, time_grid
from nwb_migvis.synthesis.prior.model import Prior


def sample_prior(prior: Prior, n: int, *, n_steps: int, seed: int, size: int) -> np.ndarray:
    """Draw images from the prior by deterministic DDIM from noise.

    Parameters
    ----------
    prior : Prior
    n : int
        More than 0.
    n_steps : int
    seed : int
    size : int
        Images per batch.

    Returns
    -------
    numpy.ndarray of uint8, shape (n, y, x (, channel))
    """
    noise = draw_noise(prior, n, torch.Generator().manual_seed(seed))
    grid = time_grid(prior.n_timesteps, strength=1.0, n_steps=n_steps)

    def drawn(x: torch.Tensor) -> torch.Tensor:
        return sample(prior.eps_and_x0_hat, x, alpha_bar=prior.alpha_bar, grid=grid)

    drawn_x = in_batches(drawn, noise, size=size, what="samples")
    return prior.decode(drawn_x)


def draw_noise(prior: Prior, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n starts of unguided samples, (n, channel, y, x), on the generator's device, for the prior's."""
    return torch.randn((n, *prior.x_shape), generator=generator, device=generator.device).to(prior.device)
