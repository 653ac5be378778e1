"""Guidance by a prior that is conditioned on the latents."""

from __future__ import annotations

import torch

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.critic.model import Critic
from nwb_migvis.synthesis.prior.ddim import Shift
from nwb_migvis.synthesis.prior.model import Prior


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
    plain = (critic.scale.restore(goal) for goal in goals)
    return torch.cat([latents(latents.standardise(z), keep) for z in plain], dim=1)


def conditional_shift(
    prior: Prior,
    told: torch.Tensor,
    *,
    condition: float = 0.0,
    adherence: float = 0.0,
    guidance_rescale: float = 0.0,
) -> Shift:
    """Return what an edit's goal adds to the predicted noise.

    condition * (eps(x_t | goal) - eps(x_t | source)) + adherence * (eps(x_t | goal) - eps(x_t))

    The first is, up to a factor, a gradient of the pointwise information of the image with the edited group,
    given the others. The second is classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): the same
    with all groups together, which holds the others at the source's own latents as it moves the edited one.

    Both overshoot: the clean image that they lead to has more contrast than the one predicted at the goal.
    Its contrast (standard deviation over an image's pixels, around their mean, which is kept) is taken back
    to that one's, all of the way with `guidance_rescale` 1. Lin et al. 2024 (arXiv 2305.08891, section 3.4)
    scale the output of the network, its mean with it.

    Parameters
    ----------
    prior : Prior
    told : torch.Tensor, shape (n, 2 * width)
        What `tell` returned for the goals and the sources' own latents.
    condition, adherence : float
    guidance_rescale : float
        From 0 to 1.

    Raises
    ------
    MigvisError
        If `guidance_rescale` is outside that range.
    """
    if not 0 <= guidance_rescale <= 1:
        raise MigvisError(f"found guidance_rescale = {guidance_rescale:g}; expected 0 to 1")
    goal, own = told.chunk(2, dim=1)
    embedded = [goal, own] if condition else [goal]

    @torch.no_grad()
    def shift(x_t: torch.Tensor, t: int, eps: torch.Tensor) -> torch.Tensor:
        told_eps, told_x0 = prior.eps_and_x0_hat(torch.cat([x_t] * len(embedded)), t, torch.cat(embedded))
        towards, *here = told_eps.chunk(len(embedded))
        moved = adherence * (towards - eps)
        if here:
            moved = moved + condition * (towards - here[0])
        if not guidance_rescale or not (condition or adherence):
            return moved
        noise = ((1 - prior.alpha_bar[t]) / prior.alpha_bar[t]).sqrt()
        at_goal = told_x0[: len(x_t)]
        x0 = at_goal + noise * (towards - eps - moved)
        return moved - guidance_rescale * (_with_contrast_of(at_goal, x0) - x0) / noise

    return shift


def _with_contrast_of(other: torch.Tensor, x0: torch.Tensor) -> torch.Tensor:
    """Return images with the standard deviation that others have, each around its own mean."""
    over = (1, 2, 3)
    mean, std = x0.mean(over, keepdim=True), x0.std(over, keepdim=True).clamp_min(1e-6)
    return mean + (x0 - mean) * other.std(over, keepdim=True) / std
