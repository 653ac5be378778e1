"""A batch of edits, as the methods that make them see it."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import torch

from nwb_migvis.config import SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.synthesis.critic.model import Critic
from nwb_migvis.synthesis.editing.critic_guidance import CriticGuidance, Score
from nwb_migvis.synthesis.editing.guidance import Guidance, GuidedDenoiser
from nwb_migvis.synthesis.editing.prior_guidance import PriorGuidance, embed_condition
from nwb_migvis.synthesis.prior.ddim import sample
from nwb_migvis.synthesis.prior.model import Prior


@dataclass(frozen=True)
class EditNetworks:
    """What edits are made with.

    Attributes
    ----------
    prior : Prior
    critic : Critic
    groups : LatentGroups
        Of the latents that both were trained with.
    """

    prior: Prior
    critic: Critic
    groups: LatentGroups


@dataclass(frozen=True, eq=False)
class EditBatch:
    """Edits that are made together: what they share, and tensors with one row per edit.

    Attributes
    ----------
    networks : EditNetworks
    config : SynthesisConfig
    grid : numpy.ndarray of int, shape (n_steps + 1,)
        Steps from the clean image to the start step, rising (`time_grid`).
    image : torch.Tensor, shape (n, channel, y, x)
        Source images.
    start : torch.Tensor, shape (n, channel, y, x)
        The source images carried to the last step of the grid.
    goal, own : torch.Tensor, shape (n, latent)
        Standardised latents: what guides, and the source's own.
    guiding_group : torch.Tensor of int, shape (n,)
        Position of the group that guides.
    length : torch.Tensor, shape (n,)
        `guidance` of each edit.
    misses : torch.Tensor, shape (n, n_steps, channel, y, x), optional
        What leads back to the source images without guidance (`record`).
    """

    networks: EditNetworks
    config: SynthesisConfig
    grid: np.ndarray
    image: torch.Tensor
    start: torch.Tensor
    goal: torch.Tensor
    own: torch.Tensor
    guiding_group: torch.Tensor
    length: torch.Tensor
    misses: torch.Tensor | None = None

    def critic_guidance(
        self, score: Score, *, preservation: float = 0.0, stop: float = 1.0
    ) -> CriticGuidance:
        """Return guidance by the critic.

        Parameters
        ----------
        score : callable
            What is raised.
        preservation : float
            Weight of the score of the other groups at the source's own latents.
        stop : float
            Share of the steps, from the noisiest on, at which the critic guides.
        """
        n_timesteps = self.networks.prior.n_timesteps
        weight = torch.full_like(self.goal[:, : len(self.networks.groups)], preservation)
        weight[torch.arange(len(weight)), self.guiding_group] = 1.0
        n_guided = math.ceil(stop * self.config.n_steps)
        t_min = 0 if stop == 1 else int(self.grid[-n_guided]) if n_guided else n_timesteps
        return CriticGuidance(self.networks.critic, self.goal, weight, self.length, n_timesteps, score, t_min)

    def prior_guidance(self) -> tuple[PriorGuidance, ...]:
        """Return guidance by the conditional prior; none where the settings ask for none."""
        if not self.config.is_conditioned:
            return ()
        prior, config = self.networks.prior, self.config
        goal, source = (embed_condition(prior, self._for_prior(z)) for z in (self.goal, self.own))
        return (
            PriorGuidance(
                prior,
                goal,
                source,
                source_guidance=config.source_guidance,
                guidance_scale=config.guidance_scale,
                guidance_rescale=config.guidance_rescale,
            ),
        )

    def _for_prior(self, z: torch.Tensor) -> torch.Tensor:
        """Return standardised latents on the prior's scale, which is the critic's unless they came apart."""
        scale, own = self.networks.critic.scale, self.networks.prior.denoiser.latents
        mean, std = z.new_tensor(scale.mean), z.new_tensor(scale.std)
        if own is None or (torch.equal(own.mean, mean) and torch.equal(own.std, std)):
            return z
        return own.standardise(scale.restore(z))

    def denoise(self, *guidance: Guidance, rescale: float = 0.0) -> torch.Tensor:
        """Denoise from the start under guidance; return clean images x (n, channel, y, x).

        `rescale` is how far the contrast that guidance adds is taken back (`GuidedDenoiser`).
        """
        prior = self.networks.prior
        guided = GuidedDenoiser(prior.eps_and_x0_hat, prior.alpha_bar, guidance, rescale)
        return sample(guided, self.start, alpha_bar=prior.alpha_bar, grid=self.grid, misses=self.misses)
