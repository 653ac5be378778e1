"""Unguided samples of the prior."""

from __future__ import annotations

import numpy as np
import torch

from nwb_migvis.synthesis.batches import in_batches
from nwb_migvis.synthesis.editing import sample, time_grid
from nwb_migvis.synthesis.prior import Prior


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
        Images a batch.

    Returns
    -------
    numpy.ndarray of uint8, shape (n, y, x (, channel))
    """
    grayscale = len(prior.shape) == 2
    shape = (n, 1 if grayscale else prior.shape[2], *prior.shape[:2])
    noise = torch.randn(shape, generator=torch.Generator().manual_seed(seed)).to(prior.alpha_bar.device)
    grid = time_grid(prior.n_timesteps, strength=1.0, n_steps=n_steps)

    def drawn(x: torch.Tensor) -> torch.Tensor:
        return sample(prior.eps_and_x0_hat, x, alpha_bar=prior.alpha_bar, grid=grid)

    return prior.scale.to_images(in_batches(drawn, noise, size=size, what="samples"), grayscale=grayscale)
