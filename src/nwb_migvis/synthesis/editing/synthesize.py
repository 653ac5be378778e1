"""Running a plan of edits through prior and critic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch
import xarray as xr

from nwb_migvis.config import GroupConfig, SynthesisConfig
from nwb_migvis.networks.batches import in_batches
from nwb_migvis.synthesis.critic.model import T_MAX_FRACTION, Critic
from nwb_migvis.synthesis.editing.maps import change_maps, critic_maps
from nwb_migvis.synthesis.editing.methods import GUIDANCE, Method, Score, ascend, tempered_pmi
from nwb_migvis.synthesis.editing.prior_guidance import conditional_shift, tell
from nwb_migvis.synthesis.prior.ddim import Gradient, invert, sample, time_grid
from nwb_migvis.synthesis.prior.model import Prior

_MAKES = ("source", "guide", "through", "method", "strength", "guidance", "gamma", "direction")
"""Columns of a plan that decide what an edit comes out as."""


def goals(
    plan: pd.DataFrame,
    latents: np.ndarray,
    critic: Critic,
    groups: Sequence[GroupConfig],
    steps: Mapping[tuple[str, str], np.ndarray] | None = None,
) -> torch.Tensor:
    """Return the standardised latents that guide each edit, shape (edit, latent).

    The group that an edit is guided through has the guide's latents, or the source's plus gamma times the
    step of its direction; all other groups have the source's own.

    Parameters
    ----------
    plan : pandas.DataFrame
        From `plan_edits`.
    latents : numpy.ndarray, shape (n_stimuli, n_latents)
    critic : Critic
    groups : sequence of GroupConfig
    steps : mapping of (group, direction) to array, optional
        From `direction_vectors`; needed for every direction but "ones".
    """
    z = _standardised(critic, latents)
    goal = z[plan["source"].to_numpy(copy=True)]
    guide = plan["guide"].to_numpy()
    gamma = torch.tensor(plan["gamma"].to_numpy(), dtype=z.dtype, device=z.device)
    edges = np.cumsum([0, *critic.sizes])
    for g, group in enumerate(groups):
        mine = (plan["through"] == group.name).to_numpy()
        part = slice(edges[g], edges[g + 1])
        guided = np.flatnonzero(mine & (guide >= 0))
        goal[guided, part] = z[guide[guided], part]
        for direction in plan["direction"][mine & (guide < 0)].unique():
            moved = np.flatnonzero(mine & (guide < 0) & (plan["direction"] == direction).to_numpy())
            step = np.ones(critic.sizes[g]) if steps is None else steps[group.name, direction]
            goal[moved, part] += gamma[moved, None] * torch.as_tensor(step, dtype=z.dtype, device=z.device)
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
    steps: Mapping[tuple[str, str], np.ndarray] | None = None,
) -> xr.Dataset:
    """Make every edit of a plan.

    Inversions are shared by all edits of a source; edits that come out the same are made once.

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
    steps : mapping of (group, direction) to array, optional
        From `direction_vectors`; needed for every direction but "ones".

    Returns
    -------
    xarray.Dataset
        As `Results.synthesized`.
    """
    same = plan.groupby(list(_MAKES), sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(same, return_index=True)
    edited = _make(
        plan.iloc[first].reset_index(drop=True), images, latents, prior, critic, groups, config, steps
    )[same]
    names = [group.name for group in groups]
    source = plan["source"].to_numpy(copy=True)
    own = np.array([names.index(name) for name in plan["group"]])
    wanted = goals(plan.assign(through=plan["group"]), latents, critic, groups, steps)
    before, after = (
        _scores(prior, critic, shown, wanted, own, config.batch_size) for shown in (images[source], edited)
    )
    made = _dataset(plan, edited, stimulus, before, after, seed)
    if config.maps:
        made["map"] = (("edit", "y", "x"), change_maps(images[source], edited))
        saliency = critic_maps(prior, critic, images[source], wanted, own, size=config.batch_size)
        made["critic_map"] = (("edit", "y", "x"), saliency)
    return made


def _make(
    plan: pd.DataFrame,
    images: np.ndarray,
    latents: np.ndarray,
    prior: Prior,
    critic: Critic,
    groups: Sequence[GroupConfig],
    config: SynthesisConfig,
    steps: Mapping[tuple[str, str], np.ndarray] | None,
) -> np.ndarray:
    """Return the edited images (edit, y, x (, channel)); parameters as in `synthesize`."""
    goal = goals(plan, latents, critic, groups, steps)
    names = [group.name for group in groups]
    source = plan["source"].to_numpy(copy=True)
    told = tell(prior, critic, goal, _standardised(critic, latents)[source])
    inputs = (goal, *_weights(plan, names, config.preservation, goal), told)
    edited = np.empty((len(plan), *prior.shape), dtype=np.uint8)
    for strength in np.unique(plan["strength"]):
        at = (plan["strength"] == strength).to_numpy()
        grid = time_grid(prior.n_timesteps, strength=strength, n_steps=config.n_steps)
        sources, which = np.unique(source[at], return_inverse=True)
        starts = _invert_all(prior, images[sources], grid, config.batch_size)
        start = np.full(len(plan), -1)
        start[at] = which
        for methods in _alike():
            rows = np.flatnonzero(at & plan["method"].isin(methods).to_numpy())
            method = GUIDANCE[methods[0]]
            conditioned = method.conditioned and config.is_conditioned
            still = plan["guidance"].to_numpy()[rows] == 0
            free, guided = (rows, rows[:0]) if method.score is None else (rows[still], rows[~still])
            if free.size:
                once, back = np.unique(start[free], return_inverse=True)
                edited[free] = _rebuild(prior, starts[once], grid, config.batch_size)[back]
            if guided.size:
                these = (part[guided] for part in inputs)
                x = starts[start[guided]]
                edited[guided] = _edit(
                    prior, critic, x, grid, *these, method, conditioned=conditioned, config=config
                )
    for name in (name for name, method in GUIDANCE.items() if method.from_pixels):
        rows = np.flatnonzero(plan["method"] == name)
        if rows.size:
            these = (part[rows] for part in inputs[:3])
            score = GUIDANCE[name].score
            edited[rows] = _climb(prior, critic, images[source[rows]], *these, score=score, config=config)
    return edited


def _standardised(critic: Critic, latents: np.ndarray) -> torch.Tensor:
    return critic.scale.standardise(torch.as_tensor(latents, dtype=torch.float32, device=critic.device))


def _alike() -> list[list[str]]:
    """Return the names of the methods that edit through the prior, those of one score together."""
    by_score: dict[Score | None, list[str]] = {}
    for name, method in GUIDANCE.items():
        if not method.from_pixels:
            by_score.setdefault(method.score, []).append(name)
    return list(by_score.values())


def _weights(
    plan: pd.DataFrame, names: Sequence[str], preservation: float, like: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the weights of the groups' scores (edit, group) and the length of the guidance (edit,)."""
    keeps = np.array([GUIDANCE[method].preserves for method in plan["method"]])
    weight = np.where(keeps[:, None], preservation, 0.0) * np.ones(len(names))
    weight[np.arange(len(plan)), [names.index(name) for name in plan["through"]]] = 1.0
    kind = {"dtype": like.dtype, "device": like.device}
    return torch.as_tensor(weight, **kind), torch.tensor(plan["guidance"].to_numpy(), **kind)


def pmi_gradient(
    critic: Critic,
    goal: torch.Tensor,
    weight: torch.Tensor,
    n_timesteps: int,
    score: Score = tempered_pmi,
    *,
    t_min: int = 0,
) -> Gradient:
    """Return the ascent direction of the scores of all groups with their goals.

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
    score : callable
        What is raised: the tempered PMI, or the score of a control.
    t_min : int
        Below this step, too, the direction is zero.
    """
    sizes = list(critic.sizes)

    def gradient(x_t: torch.Tensor, t: int) -> torch.Tensor:
        if not t_min <= t <= T_MAX_FRACTION * n_timesteps:
            return torch.zeros_like(x_t)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_(True)
            read, log_precision = critic.read(x, t / n_timesteps)
            at = read.detach().requires_grad_(True)
            raised = score(*critic.scores(at, log_precision.detach(), goal))
            ascent = torch.autograd.grad(raised.sum(), at)[0]
            unit = [part / part.norm(dim=1, keepdim=True).clamp_min(1e-12) for part in ascent.split(sizes, 1)]
            parts = [w * part for w, part in zip(weight.split(1, 1), unit, strict=True)]
            return torch.autograd.grad(read, x, torch.cat(parts, 1))[0]

    return gradient


def _invert_all(prior: Prior, images: np.ndarray, grid: np.ndarray, size: int) -> torch.Tensor:
    def inverted(x0: torch.Tensor) -> torch.Tensor:
        return invert(prior.eps_and_x0_hat, x0, alpha_bar=prior.alpha_bar, grid=grid)

    return in_batches(inverted, _x(prior, images), size=size, what="inversion")


def _rebuild(prior: Prior, starts: torch.Tensor, grid: np.ndarray, size: int) -> np.ndarray:
    def rebuilt(x: torch.Tensor) -> torch.Tensor:
        return sample(prior.eps_and_x0_hat, x, alpha_bar=prior.alpha_bar, grid=grid)

    return _images(prior, in_batches(rebuilt, starts, size=size))


def _edit(
    prior: Prior,
    critic: Critic,
    starts: torch.Tensor,
    grid: np.ndarray,
    goal: torch.Tensor,
    weight: torch.Tensor,
    guidance: torch.Tensor,
    told: torch.Tensor,
    method: Method,
    *,
    conditioned: bool,
    config: SynthesisConfig,
) -> np.ndarray:
    names = ("condition", "adherence", "guidance_rescale")
    weights = {name: getattr(config, name) for name in names}
    n_guided = math.ceil(config.guided_steps * config.n_steps)
    first = int(grid[-n_guided]) if n_guided else prior.n_timesteps
    t_min = first if method.preserves else 0

    def guided(x: torch.Tensor, *its: torch.Tensor) -> torch.Tensor:
        goal, weight, guidance, told = its
        gradient = pmi_gradient(critic, goal, weight, prior.n_timesteps, method.score, t_min=t_min)
        return sample(
            prior.eps_and_x0_hat,
            x,
            alpha_bar=prior.alpha_bar,
            grid=grid,
            gradient=gradient,
            guidance=guidance,
            shift=conditional_shift(prior, told, **weights) if conditioned else None,
        )

    given = (starts, goal, weight, guidance, told)
    return _images(prior, in_batches(guided, *given, size=config.batch_size, what="edits"))


def _climb(
    prior: Prior,
    critic: Critic,
    images: np.ndarray,
    goal: torch.Tensor,
    weight: torch.Tensor,
    guidance: torch.Tensor,
    *,
    score: Score,
    config: SynthesisConfig,
) -> np.ndarray:
    bounds = tuple((pixel - prior.scale.mean) / prior.scale.std for pixel in (0.0, 255.0))

    def climbed(x: torch.Tensor, *its: torch.Tensor) -> torch.Tensor:
        goal, weight, guidance = its
        gradient = pmi_gradient(critic, goal, weight, prior.n_timesteps, score)
        return ascend(gradient, x, guidance=guidance, n_steps=config.n_steps, bounds=bounds)

    x = _x(prior, images)
    return _images(prior, in_batches(climbed, x, goal, weight, guidance, size=config.batch_size))


def _x(prior: Prior, images: np.ndarray) -> torch.Tensor:
    return prior.encode(images)


def _images(prior: Prior, x: torch.Tensor) -> np.ndarray:
    return prior.decode(x)


@torch.no_grad()
def _scores(
    prior: Prior, critic: Critic, images: np.ndarray, goal: torch.Tensor, own: np.ndarray, size: int
) -> np.ndarray:
    """Return the PMI of clean images with the goal of the edited group, in nats, shape (edit,)."""
    pmi = in_batches(lambda x, goal: critic.pmi(x, 0.0, goal), _x(prior, images), goal, size=size)
    return pmi[torch.arange(len(own)), torch.as_tensor(own)].cpu().numpy()


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
