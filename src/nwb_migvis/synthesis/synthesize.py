"""Running a plan of edits through prior and critic."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr

from nwb_migvis.config import GroupConfig, SynthesisConfig
from nwb_migvis.progress import progress
from nwb_migvis.synthesis.critic import T_MAX_FRACTION, Critic
from nwb_migvis.synthesis.editing import Gradient, invert, sample, time_grid
from nwb_migvis.synthesis.prior import Prior

TEMPER = 0.5
"""Factor on the marginal's term of the PMI that guides; the scores that are reported have none."""


def goals(
    plan: pd.DataFrame, latents: np.ndarray, critic: Critic, groups: Sequence[GroupConfig]
) -> torch.Tensor:
    """Return the standardised latents that guide each edit, shape (edit, latent).

    The edited group has the guide's latents, or the source's plus gamma standard deviations in every
    latent; all other groups have the source's own.
    """
    z = critic.standardise(latents)
    goal = z[torch.as_tensor(plan["source"].to_numpy())].clone()
    guide = torch.as_tensor(plan["guide"].to_numpy())
    gamma = torch.as_tensor(plan["gamma"].to_numpy(), dtype=z.dtype, device=z.device)
    edges = np.cumsum([0, *critic.sizes])
    for g, group in enumerate(groups):
        mine = torch.as_tensor((plan["group"] == group.name).to_numpy())
        part = slice(edges[g], edges[g + 1])
        guided = mine & (guide >= 0)
        goal[guided, part] = z[guide[guided], part]
        moved = mine & (guide < 0)
        goal[moved, part] += gamma[moved, None]
    return goal


def synthesize(
    plan: pd.DataFrame,
    images: np.ndarray,
    latents: np.ndarray,
    stimulus: np.ndarray,
    *,
    prior: Prior,
    critic: Critic,
    groups: Sequence[GroupConfig],
    config: SynthesisConfig,
    seed: int,
) -> xr.Dataset:
    """Make every edit of a plan.

    Inversions are shared by all edits of a source; edits without guidance are made once for a source.

    Parameters
    ----------
    plan : pandas.DataFrame
        From `plan_edits`.
    images : numpy.ndarray of uint8, shape (n_stimuli, y, x (, channel))
        At the prior's size.
    latents : numpy.ndarray, shape (n_stimuli, n_latents)
    stimulus : numpy.ndarray of str, shape (n_stimuli,)
    prior : Prior
    critic : Critic
    groups : sequence of GroupConfig
    config : SynthesisConfig
    seed : int
        Recorded with the edits; editing itself draws nothing at random.

    Returns
    -------
    xarray.Dataset
        As `Results.synthesized`.
    """
    goal = goals(plan, latents, critic, groups)
    own = np.array([[group.name for group in groups].index(name) for name in plan["group"]])
    weight = torch.full((len(plan), len(groups)), config.preservation, device=goal.device)
    weight[torch.arange(len(plan)), torch.as_tensor(own)] = 1.0
    guidance = plan["guidance"].to_numpy()
    scale = torch.as_tensor(guidance, dtype=torch.float32, device=goal.device)
    edited = np.empty((len(plan), *prior.shape), dtype=np.uint8)
    for strength, rows in plan.groupby("strength", sort=True).indices.items():
        grid = time_grid(prior.n_timesteps, strength=strength, n_steps=config.n_steps)
        sources, which = np.unique(plan["source"].to_numpy()[rows], return_inverse=True)
        starts = _invert_all(prior, images[sources], grid, config.batch_size)
        free = guidance[rows] == 0
        once, back = np.unique(which[free], return_inverse=True)
        if once.size:
            parts = starts[once].split(config.batch_size)
            edited[rows[free]] = np.concatenate([_denoise(prior, part, grid) for part in parts])[back]
        guided, start_of = rows[~free], which[~free]
        for first in progress(range(0, len(guided), config.batch_size), what=f"edits at {strength:g} T"):
            part = guided[first : first + config.batch_size]
            gradient = pmi_gradient(critic, goal[part], weight[part], prior.n_timesteps)
            edited[part] = _denoise(
                prior, starts[start_of[first : first + config.batch_size]], grid, gradient, scale[part]
            )
    source_images = images[plan["source"].to_numpy()]
    before = _scores(prior, critic, source_images, goal, own, config.batch_size)
    after = _scores(prior, critic, edited, goal, own, config.batch_size)
    return _dataset(plan, edited, stimulus, before, after, seed)


def pmi_gradient(critic: Critic, goal: torch.Tensor, weight: torch.Tensor, n_timesteps: int) -> Gradient:
    """Return the ascent direction of the tempered PMI of all groups with their goals.

    Each group's ascent is taken to length one in the space of its standardised latents before it is
    weighted and carried back to the image. A group that is at its goal already, or that the critic reads
    sharply, so has neither less nor more of a say than its weight.

    Parameters
    ----------
    critic : Critic
    goal : torch.Tensor, shape (n, latent)
    weight : torch.Tensor, shape (n, group)
        One for the edited group, the preservation weight for the others.
    n_timesteps : int
        T of the prior. Above the noise levels that the critic was trained on the direction is zero.
    """
    sizes = list(critic.sizes)

    def gradient(x_t: torch.Tensor, t: int) -> torch.Tensor:
        if t > T_MAX_FRACTION * n_timesteps:
            return torch.zeros_like(x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_(True)
            read, log_precision = critic.read(x, t / n_timesteps)
            at = read.detach().requires_grad_(True)
            positive, negative = critic.scores(at, log_precision.detach(), goal)
            score = positive - TEMPER * torch.logsumexp(negative, dim=1)
            ascent = torch.autograd.grad(score.sum(), at)[0]
            unit = [part / part.norm(dim=1, keepdim=True).clamp_min(1e-12) for part in ascent.split(sizes, 1)]
            parts = [w * part for w, part in zip(weight.split(1, 1), unit, strict=True)]
            return torch.autograd.grad(read, x, torch.cat(parts, 1))[0]

    return gradient


def _invert_all(prior: Prior, images: np.ndarray, grid: np.ndarray, batch_size: int) -> torch.Tensor:
    x0 = prior.scale.to_x(images).to(prior.alpha_bar.device)
    parts = [
        invert(prior.eps_and_x0_hat, part, alpha_bar=prior.alpha_bar, grid=grid)
        for part in x0.split(batch_size)
    ]
    return torch.cat(parts)


def _denoise(
    prior: Prior,
    starts: torch.Tensor,
    grid: np.ndarray,
    gradient: Gradient | None = None,
    guidance: torch.Tensor | None = None,
) -> np.ndarray:
    x = sample(
        prior.eps_and_x0_hat,
        starts,
        alpha_bar=prior.alpha_bar,
        grid=grid,
        gradient=gradient,
        guidance=guidance,
    )
    return prior.scale.to_images(x, grayscale=len(prior.shape) == 2)


@torch.no_grad()
def _scores(
    prior: Prior, critic: Critic, images: np.ndarray, goal: torch.Tensor, own: np.ndarray, batch_size: int
) -> np.ndarray:
    """Return the PMI of clean images with the goal of the edited group, in nats, shape (edit,)."""
    pmi = [
        critic.pmi(prior.scale.to_x(images[first : first + batch_size]).to(goal.device), 0.0, part)
        for first, part in zip(range(0, len(images), batch_size), goal.split(batch_size), strict=True)
    ]
    return torch.cat(pmi)[torch.arange(len(own)), torch.as_tensor(own)].cpu().numpy()


def _dataset(
    plan: pd.DataFrame,
    edited: np.ndarray,
    stimulus: np.ndarray,
    before: np.ndarray,
    after: np.ndarray,
    seed: int,
) -> xr.Dataset:
    target = plan["target"].to_numpy()
    coords = {
        "group": plan["group"].to_numpy(dtype=object),
        "source": stimulus[plan["source"].to_numpy()].astype(object),
        "target": np.where(target >= 0, stimulus[target], "").astype(object),
        "method": plan["method"].to_numpy(dtype=object),
        "role": plan["role"].to_numpy(dtype=object),
        "strength": plan["strength"].to_numpy(dtype=np.float64),
        "guidance": plan["guidance"].to_numpy(dtype=np.float64),
        "gamma": plan["gamma"].to_numpy(dtype=np.float64),
        "direction": plan["direction"].to_numpy(dtype=object),
        "seed": np.full(len(plan), seed, dtype=np.int64),
        "score_before": before.astype(np.float64),
        "score_after": after.astype(np.float64),
    }
    dims = ("edit", "y", "x", "channel")[: edited.ndim]
    return xr.Dataset(
        {"image": (dims, edited)}, coords={name: ("edit", values) for name, values in coords.items()}
    )
