"""The edits of a session: those that the settings plan, and those that are asked for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.latents import SessionLatents
from nwb_migvis.config import Config
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label, select
from nwb_migvis.results import no_edits

if TYPE_CHECKING:
    import pandas as pd

    from nwb_migvis.synthesis.editing.batch import EditNetworks
    from nwb_migvis.synthesis.editing.request import EditRequest
    from nwb_migvis.synthesis.editing.synthesize import EditStimuli
    from nwb_migvis.synthesis.prior.information import DenoisingInformation

N_INFORMATION, N_CROSSED = 128, 16
"""Most test stimuli whose information a conditional prior estimates, and is tested on."""

NO_IMAGES = np.zeros((0, 0, 0), np.uint8)


@dataclass(frozen=True, eq=False)
class SessionEdits:
    """What synthesis made of a session: nothing where it has no pixels.

    Attributes
    ----------
    image : numpy.ndarray of uint8, shape (n_stimuli, y, x (, channel))
        The stimuli at the prior's size.
    synthesized : xarray.Dataset
        As `Results.synthesized`.
    scores : numpy.ndarray, shape (group, n_test, n_test), optional
        The critic's of the test stimuli's latents against their images.
    z : numpy.ndarray, shape (n_stimuli, n_latents)
        Standardised latents.
    directions : dict of (group, direction) to numpy.ndarray
        Steps of the traversals.
    information : DenoisingInformation, optional
        What a conditional prior says about test stimuli.
    trained_on, samples : numpy.ndarray of uint8
        Images that the prior was trained on, and unguided samples of it.
    """

    image: np.ndarray = field(default_factory=lambda: NO_IMAGES)
    synthesized: xr.Dataset = field(default_factory=no_edits)
    scores: np.ndarray | None = None
    z: np.ndarray = field(default_factory=lambda: np.zeros((0, 0)))
    directions: dict[tuple[str, str], np.ndarray] = field(default_factory=dict)
    information: DenoisingInformation | None = None
    trained_on: np.ndarray = field(default_factory=lambda: NO_IMAGES)
    samples: np.ndarray = field(default_factory=lambda: NO_IMAGES)

    @property
    def n_edits(self) -> int:
        """Number of edits."""
        return self.synthesized.sizes["edit"]

    @property
    def has_pairs(self) -> bool:
        """Whether there are pairs that evidence is measured on (role "main")."""
        return bool((self.synthesized["role"] == "main").any())

    def with_further(self, edits: xr.Dataset, stimuli: EditStimuli) -> SessionEdits:
        """Return these edits followed by further ones."""
        if self.n_edits:
            edits = joined_edits(self.synthesized, edits)
        return replace(self, synthesized=edits, image=stimuli.image, z=stimuli.z)


def check_config_directions(latents: SessionLatents, config: Config) -> None:
    """Refuse directions of traversals that the groups or labels of a session do not have."""
    from nwb_migvis.synthesis.editing.directions import check_directions

    check_directions(config.synthesis.directions, groups=latents.groups, labels=latents.labels)


def planned_edits(
    stimuli: EditStimuli, latents: SessionLatents, networks: EditNetworks, context: Context
) -> SessionEdits:
    """Make the edits that the settings plan, of held-out images towards the session's own latents."""
    from nwb_migvis.synthesis.editing.directions import direction_vectors
    from nwb_migvis.synthesis.editing.plan import plan_edits
    from nwb_migvis.synthesis.editing.support import within_support
    from nwb_migvis.synthesis.editing.synthesize import synthesize

    config, groups = context.config, latents.groups
    train, test = latents.split == "train", np.flatnonzero(latents.split == "test")
    with context.clock.of("critic"):
        scores = networks.critic.score_matrix(latents.mean[test], networks.prior.encode(stimuli.image[test]))
    with context.clock.of("edits"):
        directions = direction_vectors(
            config.synthesis.directions,
            stimuli.z[train],
            groups=groups,
            labels=select(latents.labels, train),
        )
        plan = plan_edits(
            test, groups, labels=latents.labels, config=config.synthesis, rng=context.rng("pairs")
        )
        if config.synthesis.limit_traversals and stimuli.support is not None:
            plan = within_support(plan, stimuli.z, stimuli.support, groups=groups, directions=directions)
        synthesized = synthesize(
            plan, stimuli, networks, config=config.synthesis, seed=config.seed, directions=directions
        )
    information = _information(stimuli, latents, networks, context)
    return SessionEdits(stimuli.image, synthesized, scores, stimuli.z, directions, information)


def requested_directions(
    request: EditRequest, latents: xr.Dataset, z: np.ndarray, *, labels: Mapping[str, Label], config: Config
) -> dict[tuple[str, str], np.ndarray]:
    """Return the steps of the traversals that are asked for; none where none is.

    Parameters
    ----------
    request : EditRequest
    latents : xarray.Dataset
        As `Results.latents`.
    z : numpy.ndarray, shape (n_stimuli, n_latents)
        The same, standardised.
    labels : mapping of str to Label, of the stimuli
    config : Config

    Raises
    ------
    MigvisError
        For a direction that the groups to be moved do not have.
    """
    from nwb_migvis.synthesis.editing.directions import check_directions, direction_vectors

    if not request.gamma:
        return {}
    moved = LatentGroups.of(group for group in config.latents.groups if group.name in request.group)
    check_directions(request.directions, groups=moved, labels=labels)
    train = latents["split"].values == "train"
    groups = LatentGroups.of(config.latents.groups)
    return direction_vectors(request.directions, z[train], groups=groups, labels=select(labels, train))


def joined_edits(edits: xr.Dataset, further: xr.Dataset) -> xr.Dataset:
    """Return edits with further ones behind them; what one of both lacks is NaN there."""
    if "predicted_rate" in edits:
        shape = further.sizes["edit"], edits.sizes["unit"]
        further = further.assign(predicted_rate=(("edit", "unit"), np.full(shape, np.nan, np.float32)))
    both = [
        each.assign_coords(
            {
                name: ("edit", np.full(each.sizes["edit"], np.nan))
                for name in set(other.coords) - set(each.coords)
            }
        )
        for each, other in ((edits, further), (further, edits))
    ]
    return xr.concat(both, dim="edit", combine_attrs="drop")


def edits_towards(
    z: np.ndarray, sources: np.ndarray, *, stimuli: EditStimuli, networks: EditNetworks, config: Config
) -> xr.Dataset:
    """Edit images towards latents that no stimulus has to have, one group at a time.

    Parameters
    ----------
    z : numpy.ndarray of float32, shape (n_goals, n_latents)
        Standardised.
    sources : numpy.ndarray of int
        Rows of stimuli.
    stimuli : EditStimuli
    networks : EditNetworks
    config : Config

    Returns
    -------
    xarray.Dataset
        As `Results.synthesized`: an edit for each goal, group and source, in that order; the target is the
        goal's number as text. Then the reconstruction of each source (method "none").
    """
    from nwb_migvis.synthesis.editing.plan import PlannedEdit, as_plan
    from nwb_migvis.synthesis.editing.synthesize import synthesize

    options, n, first = config.synthesis, len(stimuli.name), networks.groups.names[0]
    rows = [
        PlannedEdit(g, int(s), n + k, n + k, g, "pmi", "further", options.strength, options.guidance)
        for k in range(len(z))
        for g in networks.groups
        for s in sources
    ]
    rows += [
        PlannedEdit(first, int(s), -1, int(s), first, "none", "further", options.strength, 0.0)
        for s in sources
    ]
    names = np.concatenate([stimuli.name.astype(object), np.arange(len(z)).astype(str).astype(object)])
    extended = replace(stimuli, name=names, z=np.concatenate([stimuli.z, z]))
    return synthesize(as_plan(rows), extended, networks, config=options, seed=config.seed)


def used_rows(plan: pd.DataFrame) -> np.ndarray:
    """Return the stimuli whose images a plan needs."""
    rows = np.unique(plan[["source", "target"]].to_numpy())
    return rows[rows >= 0]


def _information(
    stimuli: EditStimuli, latents: SessionLatents, networks: EditNetworks, context: Context
) -> DenoisingInformation | None:
    """Estimate the information of test images with each group, where the prior is conditional."""
    from nwb_migvis.synthesis.prior.information import denoising_information

    config, seed, prior = context.config, context.seeds["evidence"], networks.prior
    n_draws = config.evidence.information_draws
    if not (prior.is_conditional and n_draws):
        return None
    test = np.random.default_rng(seed).permutation(np.flatnonzero(latents.split == "test"))[:N_INFORMATION]
    with context.clock.of("evidence"):
        return denoising_information(
            prior,
            prior.encode(stimuli.image[test]),
            latents.mean[test],
            n_draws=n_draws,
            n_crossed=N_CROSSED,
            seed=seed,
            size=config.synthesis.batch_size,
        )
