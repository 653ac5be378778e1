"""Guidance by a prior that is conditioned on the latents."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.editing.guidance import check_count, with_contrast_of
from nwb_migvis.synthesis.prior.model import Prior


@torch.no_grad()
def embed_condition(prior: Prior, z: torch.Tensor) -> torch.Tensor:
    """Embed latents for a conditional prior, all groups kept.

    Parameters
    ----------
    prior : Prior
    z : torch.Tensor, shape (n, latent)
        Standardised latents.

    Returns
    -------
    torch.Tensor, shape (n, width)

    Raises
    ------
    MigvisError
        If the prior is not conditional.
    """
    embedding = prior.denoiser.latents
    if embedding is None:
        raise MigvisError("the prior is not conditional; expected one that was trained with latents")
    return embedding(z, z.new_ones(len(z), len(embedding.sizes)))


@dataclass(frozen=True, eq=False)
class PriorGuidance:
    """Shifts the noise by differences of a conditional prior's predictions::

        source_guidance * (eps(x_t, z_goal) - eps(x_t, z_source))
        + guidance_scale * (eps(x_t, z_goal) - eps(x_t))

    The first is, up to a factor, a gradient of the pointwise information of the image with the edited group,
    given the others. The second is classifier-free guidance (Ho & Salimans 2022, arXiv 2207.12598): the same
    with all groups together, which holds the others at the source's own latents as it moves the edited one.

    Both overshoot: the clean image that they lead to has more contrast than the one predicted at the goal.
    `guidance_rescale` takes its contrast back to that one's, all the way where it is 1. Contrast is the
    standard deviation over an image's pixels, around their mean, which is kept. Lin et al. 2024 (arXiv
    2305.08891, section 3.4) scale the output of the network, its mean with it.

    Attributes
    ----------
    prior : Prior
    goal, source : torch.Tensor, shape (n, width)
        Embedded latents of goals and sources (`embed_condition`).
    source_guidance, guidance_scale : float
    guidance_rescale : float
        From 0 to 1.

    Raises
    ------
    MigvisError
        If `guidance_rescale` is outside that range, or goal and source are of another number of images than
        are denoised.
    """

    prior: Prior
    goal: torch.Tensor
    source: torch.Tensor
    source_guidance: float = 0.0
    guidance_scale: float = 0.0
    guidance_rescale: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.guidance_rescale <= 1:
            raise MigvisError(f"found guidance_rescale = {self.guidance_rescale:g}; expected 0 to 1")
        check_count(len(self.source), like=self.goal)

    @torch.no_grad()
    def shift(self, x_t: torch.Tensor, t: int, eps: torch.Tensor, x0_hat: torch.Tensor) -> torch.Tensor:
        """Return what is added to the predicted noise."""
        check_count(len(self.goal), like=x_t)
        conditions = [self.goal, self.source] if self.source_guidance else [self.goal]
        eps_told, x0_told = self.prior.eps_and_x0_hat(
            torch.cat([x_t] * len(conditions)), t, torch.cat(conditions)
        )
        at_goal, *at_source = eps_told.chunk(len(conditions))
        shift = self.guidance_scale * (at_goal - eps)
        if at_source:
            shift = shift + self.source_guidance * (at_goal - at_source[0])
        if not self.guidance_rescale or not (self.source_guidance or self.guidance_scale):
            return shift
        noise = ((1 - self.prior.alpha_bar[t]) / self.prior.alpha_bar[t]).sqrt()
        x0_at_goal = x0_told[: len(x_t)]
        x0 = x0_at_goal + noise * (at_goal - eps - shift)
        return shift - self.guidance_rescale * (with_contrast_of(x0_at_goal, x0) - x0) / noise

    def __repr__(self) -> str:
        return (
            f"PriorGuidance of {len(self.goal)} images: {self.source_guidance:g} * (eps(x_t, z_goal) - "
            f"eps(x_t, z_source)) + {self.guidance_scale:g} * (eps(x_t, z_goal) - eps(x_t)), contrast taken "
            f"back by {self.guidance_rescale:g}"
        )
