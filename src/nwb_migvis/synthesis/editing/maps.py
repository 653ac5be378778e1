"""Where an edit changed its image, and where the critic looked."""

from __future__ import annotations

import numpy as np
import torch

from nwb_migvis.networks.batches import in_batches
from nwb_migvis.synthesis.editing.batch import EditNetworks


def change_maps(source: np.ndarray, edited: np.ndarray) -> np.ndarray:
    """Return the absolute difference of edits and their sources, averaged over channels.

    Parameters
    ----------
    source, edited : numpy.ndarray of uint8, shape (edit, y, x (, channel))

    Returns
    -------
    numpy.ndarray of float32, shape (edit, y, x)
        As a fraction of the range of the pixels, in [0, 1].
    """
    difference = np.abs(edited.astype(np.float32) - source.astype(np.float32)) / 255
    return difference if difference.ndim == 3 else difference.mean(axis=3)


def critic_maps(
    networks: EditNetworks, source: np.ndarray, goal: torch.Tensor, own: np.ndarray, *, size: int
) -> np.ndarray:
    """Return how much each pixel of the sources bears on the score that their edits raise.

    Parameters
    ----------
    networks : EditNetworks
    source : numpy.ndarray of uint8, shape (edit, y, x (, channel))
    goal : torch.Tensor, shape (edit, latent)
        Standardised latents.
    own : numpy.ndarray of int, shape (edit,)
        Position of the group that each edit moves.
    size : int
        Images per batch.

    Returns
    -------
    numpy.ndarray of float32, shape (edit, y, x)
        Norm over channels of the gradient of the group's PMI with its goal, at the clean source image, in
        nats per standard deviation of the pixels.
    """

    def saliency(x: torch.Tensor, goal: torch.Tensor, own: torch.Tensor) -> torch.Tensor:
        with torch.enable_grad():
            x = x.detach().requires_grad_(True)
            score = networks.critic.pmi(prior.from_pixels(x), 0.0, goal).gather(1, own[:, None]).sum()
            return torch.autograd.grad(score, x)[0].norm(dim=1)

    prior = networks.prior
    x = prior.scale.to_x(source).to(prior.device)
    group = torch.as_tensor(own, device=goal.device)
    return in_batches(saliency, x, goal, group, size=size).float().cpu().numpy()
