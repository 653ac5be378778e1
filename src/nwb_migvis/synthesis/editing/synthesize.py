"""Running a plan of edits through prior and critic."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd
import torch
import xarray as xr

from nwb_migvis.config import SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.networks.batches import in_batches
from nwb_migvis.registry import METHODS
from nwb_migvis.synthesis.editing.batch import EditBatch, EditNetworks
from nwb_migvis.synthesis.editing.maps import change_maps, critic_maps
from nwb_migvis.synthesis.editing.methods import Editor
from nwb_migvis.synthesis.editing.support import Support
from nwb_migvis.synthesis.prior.ddim import invert, record, sample, time_grid
from nwb_migvis.synthesis.prior.fixed_point import THOROUGH
from nwb_migvis.synthesis.prior.model import Prior

MOST_BYTES = 2**28
"""Of what is recorded of the sources whose edits are made together."""

_DECIDES = (
    "source",
    "guiding_stimulus",
    "guiding_group",
    "method",
    "strength",
    "guidance",
    "gamma",
    "direction",
)
"""Columns of a plan that decide what an edit comes out as."""

Directions = Mapping[tuple[str, str], np.ndarray]
"""(group, direction) -> step of one standard deviation, (size,) standardised latents."""


@dataclass(frozen=True, eq=False)
class EditStimuli:
    """The stimuli that edits start from and aim at.

    Attributes
    ----------
    name : numpy.ndarray of str, shape (n_stimuli,)
    image : numpy.ndarray of uint8, shape (n_stimuli, y, x (, channel))
        At the prior's size.
    z : numpy.ndarray of float32, shape (n_stimuli, n_latents)
        Standardised latents.
    support : Support, optional
        That the goals of edits are compared with.
    """

    name: np.ndarray
    image: np.ndarray
    z: np.ndarray
    support: Support | None = None


def goals(
    plan: pd.DataFrame, z: torch.Tensor, groups: LatentGroups, directions: Directions | None = None
) -> torch.Tensor:
    """Return the standardised latents that guide each edit, shape (edit, latent).

    The group that an edit is guided through has the latents of the guiding stimulus, or the source's plus
    gamma times the step of its direction. All other groups have the source's own.

    Parameters
    ----------
    plan : pandas.DataFrame
        From `plan_edits`.
    z : torch.Tensor, shape (n_stimuli, n_latents)
        Standardised latents.
    groups : LatentGroups
    directions : mapping of (group, direction) to array, optional
        From `direction_vectors`; needed for every direction but "ones".
    """
    goal = z[plan["source"].to_numpy(copy=True)]
    guiding_stimulus = plan["guiding_stimulus"].to_numpy()
    gamma = torch.tensor(plan["gamma"].to_numpy(), dtype=z.dtype, device=z.device)
    for group, latents in groups.slices.items():
        through = (plan["guiding_group"] == group).to_numpy()
        paired = np.flatnonzero(through & (guiding_stimulus >= 0))
        goal[paired, latents] = z[guiding_stimulus[paired], latents]
        traversed = through & (guiding_stimulus < 0)
        for direction in plan["direction"][traversed].unique():
            rows = np.flatnonzero(traversed & (plan["direction"] == direction).to_numpy())
            size = latents.stop - latents.start
            step = np.ones(size) if directions is None else directions[group, direction]
            goal[rows, latents] += gamma[rows, None] * torch.as_tensor(step, dtype=z.dtype, device=z.device)
    return goal


def synthesize(
    plan: pd.DataFrame,
    stimuli: EditStimuli,
    networks: EditNetworks,
    *,
    config: SynthesisConfig,
    seed: int,
    directions: Directions | None = None,
) -> xr.Dataset:
    """Make every edit of a plan.

    Inversions are shared by all edits of a source; edits that come out the same are made once.

    Parameters
    ----------
    plan : pandas.DataFrame
        From `plan_edits`.
    stimuli : EditStimuli
    networks : EditNetworks
    config : SynthesisConfig
    seed : int
        Recorded with the edits; editing itself draws nothing at random.
    directions : mapping of (group, direction) to array, optional
        From `direction_vectors`; needed for every direction but "ones".

    Returns
    -------
    xarray.Dataset
        As `Results.synthesized`.
    """
    same = plan.groupby(list(_DECIDES), sort=False, dropna=False).ngroup().to_numpy()
    _, first = np.unique(same, return_index=True)
    z = torch.as_tensor(stimuli.z, device=networks.prior.device)
    distinct = plan.iloc[first].reset_index(drop=True)
    edited = _edit(distinct, stimuli.image, z, networks, config=config, directions=directions)[same]
    source = stimuli.image[plan["source"].to_numpy(copy=True)]
    judged = plan.assign(guiding_group=plan["group"])
    goal = goals(judged, z, networks.groups, directions)
    own = _positions(plan["group"], networks.groups)
    before, after = (
        _scores(networks, image, goal, own, size=config.batch_size) for image in (source, edited)
    )
    dataset = _dataset(plan, edited, stimuli.name, seed)
    dataset = dataset.assign_coords(score_before=("edit", before), score_after=("edit", after))
    if stimuli.support is not None:
        guiding = goals(plan, z, networks.groups, directions).cpu().numpy()
        dataset = dataset.assign_coords(support=("edit", stimuli.support.percentile(guiding)))
    if config.maps:
        saliency = critic_maps(networks, source, goal, own, size=config.batch_size)
        dataset["map"] = (("edit", "y", "x"), change_maps(source, edited))
        dataset["critic_map"] = (("edit", "y", "x"), saliency)
    return dataset


def _edit(
    plan: pd.DataFrame,
    images: np.ndarray,
    z: torch.Tensor,
    networks: EditNetworks,
    *,
    config: SynthesisConfig,
    directions: Directions | None,
) -> np.ndarray:
    """Return the edited images (edit, y, x (, channel)); parameters as in `synthesize`."""
    prior = networks.prior.for_inference()
    networks = replace(
        networks, prior=prior, critic=replace(networks.critic, precision=prior.denoiser.precision)
    )
    source = plan["source"].to_numpy(copy=True)
    goal = goals(plan, z, networks.groups, directions)
    guiding_group = torch.as_tensor(_positions(plan["guiding_group"], networks.groups), device=z.device)
    length = torch.tensor(plan["guidance"].to_numpy(), dtype=z.dtype, device=z.device)
    edited = np.empty((len(plan), *prior.shape), dtype=np.uint8)
    for strength in np.unique(plan["strength"]):
        grid = time_grid(prior.n_timesteps, strength=strength, n_steps=config.n_steps)
        for rows in _together(np.flatnonzero(plan["strength"] == strength), source, prior, config):
            shown, place = np.unique(source[rows], return_inverse=True)
            x0 = prior.encode(images[shown])
            sources = _Sources(networks, config, grid, x0, *_inverted(prior, x0, grid, config))
            parts = (goal[rows], z[source[rows]], guiding_group[rows], length[rows])
            for editor, among in _by_editor(plan.iloc[rows]):
                if editor is None:
                    once, back = np.unique(place[among], return_inverse=True)
                    edited[rows[among]] = sources.rebuilt(torch.as_tensor(once))[back]
                else:
                    at = torch.as_tensor(place[among])
                    edited[rows[among]] = sources.edited(editor, at, [part[among] for part in parts])
    return edited


def _together(
    rows: np.ndarray, source: np.ndarray, prior: Prior, config: SynthesisConfig
) -> list[np.ndarray]:
    """Split the rows of a plan by their sources: what is recorded of these must not fill the memory."""
    bytes_each = 4 * math.prod(prior.x_shape) * (config.n_steps + 1)
    n = max(config.batch_size, MOST_BYTES // bytes_each)
    _, place = np.unique(source[rows], return_inverse=True)
    return [rows[place // n == i] for i in range(place.max() // n + 1)]


@dataclass(frozen=True, eq=False)
class _Sources:
    """Sources of edits that start at one strength, in a row each, and what all their edits share.

    Attributes
    ----------
    networks : EditNetworks
    config : SynthesisConfig
    grid : numpy.ndarray of int
    image, start : torch.Tensor, shape (n, channel, y, x)
        As they are, and at the last step of the grid.
    misses : torch.Tensor, shape (n, n_steps, channel, y, x), or None
        What leads back, where it was recorded.
    """

    networks: EditNetworks
    config: SynthesisConfig
    grid: np.ndarray
    image: torch.Tensor
    start: torch.Tensor
    misses: torch.Tensor | None

    def edited(self, editor: Editor, place: torch.Tensor, parts: Sequence[torch.Tensor]) -> np.ndarray:
        """Return the edits of sources, given goal, own latents, guiding group and length of each."""

        def edit(place: torch.Tensor, *parts: torch.Tensor) -> torch.Tensor:
            start, misses = self._of(place)
            goal, own, guiding_group, length = parts
            batch = EditBatch(
                networks=self.networks,
                config=self.config,
                grid=self.grid,
                image=self.image[place],
                start=start,
                goal=goal,
                own=own,
                guiding_group=guiding_group,
                length=length,
                misses=misses,
            )
            return editor(batch)

        x = in_batches(edit, place, *parts, size=self.config.batch_size, what="edits")
        return self.networks.prior.decode(x)

    def rebuilt(self, place: torch.Tensor) -> np.ndarray:
        """Return what sources come back as without guidance."""
        prior = self.networks.prior

        def rebuild(place: torch.Tensor) -> torch.Tensor:
            start, misses = self._of(place)
            denoise, alpha_bar = prior.eps_and_x0_hat, prior.alpha_bar
            return sample(denoise, start, alpha_bar=alpha_bar, grid=self.grid, misses=misses)

        return prior.decode(in_batches(rebuild, place, size=self.config.batch_size))

    def _of(self, place: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor | None]:
        return self.start[place], None if self.misses is None else self.misses[place]


def _by_editor(plan: pd.DataFrame) -> list[tuple[Editor | None, np.ndarray]]:
    """Return what makes the edits of a plan, with the rows of each; None where nothing guides."""
    method_names = plan["method"].to_numpy()
    rows: list[tuple[Editor | None, list[np.ndarray]]] = []  # editors of others need not be hashable
    for name in dict.fromkeys(method_names):
        editor = METHODS[name].edit
        here = method_names == name
        still = here & (plan["guidance"].to_numpy() == 0)
        for key, chosen in ((editor, here & ~still), (None, still)):
            if not chosen.any():
                continue
            parts = next((parts for other, parts in rows if other == key), None)
            if parts is None:
                rows.append((key, parts := []))
            parts.append(np.flatnonzero(chosen))
    return [(editor, np.sort(np.concatenate(parts))) for editor, parts in rows]


def _inverted(
    prior: Prior, x0: torch.Tensor, grid: np.ndarray, config: SynthesisConfig
) -> tuple[torch.Tensor, torch.Tensor | None]:
    """Return images at the last step of the grid, and what leads back to them where it is recorded."""
    denoise, alpha_bar = prior.eps_and_x0_hat, prior.alpha_bar
    of_others = prior.search is THOROUGH
    tolerance = min(config.inversion_tolerance, THOROUGH.tolerance if of_others else math.inf)

    def searched(x0: torch.Tensor) -> torch.Tensor:
        return invert(denoise, x0, alpha_bar=alpha_bar, grid=grid, tolerance=tolerance)

    def recorded(x0: torch.Tensor) -> torch.Tensor:
        found = record(denoise, x0, alpha_bar=alpha_bar, grid=grid)
        return torch.cat([found.start[:, None], found.misses], dim=1)

    if config.inversion == "searched":
        return in_batches(searched, x0, size=config.batch_size, what="inversion"), None
    x = in_batches(recorded, x0, size=config.batch_size, what="inversion")
    return x[:, 0], x[:, 1:]


def _positions(names: pd.Series, groups: LatentGroups) -> np.ndarray:
    return np.array([groups.index(name) for name in names], dtype=np.int64)


@torch.no_grad()
def _scores(
    networks: EditNetworks, images: np.ndarray, goal: torch.Tensor, own: np.ndarray, *, size: int
) -> np.ndarray:
    """Return the PMI of clean images with the goal of the edited group, in nats, (edit,) float64."""
    critic = networks.critic
    pmi = in_batches(lambda x, goal: critic.pmi(x, 0.0, goal), networks.prior.encode(images), goal, size=size)
    return pmi[torch.arange(len(own)), torch.as_tensor(own)].cpu().numpy().astype(np.float64)


def _dataset(plan: pd.DataFrame, edited: np.ndarray, stimulus: np.ndarray, seed: int) -> xr.Dataset:
    target = plan["target"].to_numpy()
    coords: dict[str, Any] = {
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
    }
    dims = ("edit", "y", "x", "channel")[: edited.ndim]
    return xr.Dataset(
        {"image": (dims, edited)}, coords={name: ("edit", values) for name, values in coords.items()}
    )
