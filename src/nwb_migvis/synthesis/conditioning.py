"""Guidance by a prior that is conditioned on the latents."""

from __future__ import annotations

import torch

from nwb_migvis.synthesis.critic import Critic
from nwb_migvis.synthesis.editing import Gradient
from nwb_migvis.synthesis.prior import Prior


@torch.no_grad()
def tell(prior: Prior, critic: Critic, *goals: torch.Tensor) -> torch.Tensor:
    """Embed goals for the prior, all groups kept, one after the other along the last axis.

    Parameters
    ----------
    prior : Prior
        One that is not conditional is told nothing.
    critic : Critic
    *goals : torch.Tensor, shape (n, latent)
        Latents as the critic standardises them.

    Returns
    -------
    torch.Tensor, shape (n, n_goals * width); (n, 0) for a prior that is not conditional
    """
    latents = prior.denoiser.latents
    if latents is None:
        return goals[0].new_zeros(len(goals[0]), 0)
    keep = goals[0].new_ones(len(goals[0]), len(latents.sizes))
    plain = (goal * critic.std + critic.mean for goal in goals)
    return torch.cat([latents(latents.standardise(z), keep) for z in plain], dim=1)


def conditional_difference(prior: Prior, told: torch.Tensor, weight: float) -> Gradient:
    """Return what an edit's goal adds to the predicted noise, beyond the source's own latents.

    `weight * (eps(x_t | goal) - eps(x_t | source))`, minus the scaled difference of two scores: a gradient
    of the pointwise information of the image with the edited group, given the others.

    Parameters
    ----------
    prior : Prior
    told : torch.Tensor, shape (n, 2 * width)
        What `tell` returned for the goals and the sources' own latents.
    weight : float
    """
    goal, own = told.chunk(2, dim=1)

    @torch.no_grad()
    def difference(x_t: torch.Tensor, t: int) -> torch.Tensor:
        eps, _ = prior.eps_and_x0_hat(torch.cat([x_t, x_t]), t, torch.cat([goal, own]))
        towards, here = eps.chunk(2)
        return weight * (towards - here)

    return difference
