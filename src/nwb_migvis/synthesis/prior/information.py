"""How much information images have about each latent group, from the errors of a conditional prior."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nwb_migvis.errors import MigvisError
from nwb_migvis.networks.batches import in_batches
from nwb_migvis.synthesis.prior.model import Prior
from nwb_migvis.synthesis.prior.noising import draw_steps, noised


@dataclass(frozen=True)
class DenoisingInformation:
    """Estimates of the pointwise information of images with latents of a group, in nats.

    Attributes
    ----------
    own : numpy.ndarray of float64, shape (image, group)
        Of each image with its own latents.
    crossed : numpy.ndarray of float64, shape (group, latents, image)
        Of the first images with the latents of each of them, with the same noise.
    """

    own: np.ndarray
    crossed: np.ndarray


def denoising_information(
    prior: Prior, x: torch.Tensor, latents: np.ndarray, *, n_draws: int, n_crossed: int, seed: int, size: int
) -> DenoisingInformation:
    """Estimate the pointwise information of images with the latents of each group.

    With the integral over the log signal-to-noise ratio (Kong et al. 2023, arXiv 2310.07972, eq. 6)::

        log p(x | z_g) - log p(x) = 1/2 integral of E(|eps - eps_hat(x_t)|^2 - |eps - eps_hat(x_t | z_g)|^2)

    All other groups are dropped from both terms, and both errors are measured with the same noise. The
    integral goes over the noise levels of the prior's schedule; the n_draws levels of an image are stratified
    over its time steps.

    Parameters
    ----------
    prior : Prior
        A conditional one.
    x : torch.Tensor, shape (n, channel, y, x)
        Images on the prior's pixel scale that it was not trained on.
    latents : numpy.ndarray, shape (n, n_latents)
    n_draws : int
        Noise levels, with noise, for each image.
    n_crossed : int
        Images, the first ones, that are also paired with one another's latents.
    seed : int
    size : int
        Images per batch.

    Raises
    ------
    MigvisError
        If the prior is not a conditional one.
    """
    embed = prior.denoiser.latents
    if embed is None:
        raise MigvisError("the prior is conditioned on nothing; expected one that is trained with latents")
    groups = torch.eye(len(embed.sizes), device=x.device)
    z = embed.standardise(torch.as_tensor(latents, dtype=torch.float32, device=x.device))
    n, n_crossed = len(x), min(n_crossed, len(x))
    weight = _level_weights(prior.alpha_bar).to(x.device)
    generator = torch.Generator().manual_seed(seed)
    own = torch.zeros(n, len(groups), dtype=torch.float64, device=x.device)
    crossed = own.new_zeros(len(groups) * n_crossed, n_crossed)
    with torch.no_grad():
        alone = [embed(z, keep.expand(n, -1)) for keep in groups]
        others = torch.cat([condition[:n_crossed] for condition in alone])
        nothing = torch.zeros_like(alone[0])
        for draw in range(n_draws):
            stratum = torch.full((n,), draw)
            t = draw_steps(stratum, n_draws, n_timesteps=prior.n_timesteps, generator=generator)
            t = t.to(x.device)
            noisy = (*noised(x, t, prior.alpha_bar, generator), t)
            free = _errors(prior, noisy, nothing, size=size)
            half = 0.5 * weight[t] * prior.n_timesteps / n_draws
            for g, condition in enumerate(alone):
                own[:, g] += half * (free - _errors(prior, noisy, condition, size=size))
            for i in range(n_crossed):
                x_t, eps, at = (part[i : i + 1].expand(len(others), *part.shape[1:]) for part in noisy)
                crossed[:, i] += half[i] * (free[i] - _errors(prior, (x_t, eps, at), others, size=size))
    return DenoisingInformation(
        own.cpu().numpy(), crossed.reshape(len(groups), n_crossed, n_crossed).cpu().numpy()
    )


def _level_weights(alpha_bar: torch.Tensor) -> torch.Tensor:
    """Return the log signal-to-noise ratio that each time step stands for (trapezoid rule), shape (T,)."""
    a = alpha_bar.double().cpu()
    step = -torch.diff(torch.log(a) - torch.log1p(-a)) / 2
    zero = step.new_zeros(1)
    return torch.cat([step, zero]) + torch.cat([zero, step])


def _errors(
    prior: Prior,
    noisy: tuple[torch.Tensor, torch.Tensor, torch.Tensor],
    condition: torch.Tensor,
    *,
    size: int,
) -> torch.Tensor:
    """Return the squared error of the noise predicted for (x_t, eps, t), summed over each image (n,)."""

    def errors(
        x_t: torch.Tensor, eps: torch.Tensor, t: torch.Tensor, condition: torch.Tensor
    ) -> torch.Tensor:
        eps_hat, _ = prior.eps_and_x0_hat(x_t, t, condition)
        return (eps_hat - eps).double().square().flatten(1).sum(1)

    return in_batches(errors, *noisy, condition, size=size)
