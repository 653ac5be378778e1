"""The latent model of a run fitted anew to other counts of its session, its groups in the run's order."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from scipy.optimize import linear_sum_assignment

from nwb_migvis.analysis.context import stage_seeds
from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.companions.held import Held
from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.stability import linear_cka
from nwb_migvis.groups import LatentGroups
from nwb_migvis.latents.protocol import LatentModel

_NEVER = -1e6


@dataclass(frozen=True, eq=False)
class Again:
    """A latent model that was fitted anew.

    Attributes
    ----------
    model : LatentModel
    order : numpy.ndarray of int, shape (n_latents,)
        Which of its latents stands where the run has one: free groups are matched with the run's.
    """

    model: LatentModel
    order: np.ndarray

    def encode(self, average: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode average counts (stimulus, unit), latents in the run's order."""
        mean, log_var = self.model.encode(average)
        return mean[:, self.order], log_var[:, self.order]

    def loading(self) -> np.ndarray:
        """Return the loadings (unit, latent), latents in the run's order."""
        return self.model.loading()[:, self.order]


def fit_again(held: Held, counts: np.ndarray, *, where: str) -> Again:
    """Fit the run's groups to other counts, with its settings, seed, split and labels.

    Free groups are matched one to one with the run's free groups of the same size, so that their summed
    linear CKA on the training images is largest. Supervised groups have the same name in every fit.

    Parameters
    ----------
    held : Held
    counts : array (presentation, unit)
        Spikes of the session's presentations, in any window, of any units.
    where : str
        What messages begin with.

    Raises
    ------
    MigvisError
        If nothing can be fitted to the counts, or a group's label is known of other sessions alone.
    """
    from nwb_migvis.latents import LatentTask, Recording
    from nwb_migvis.latents.protocol import fit_models

    own, config = held.latents, held.config
    groups, n = tuple(own.model.groups), own.split.size
    lacking = sorted({label for group in groups for label in group.labels} - set(own.labels))
    if lacking:
        raise MigvisError(
            f"{where}: found no label {lacking[0]!r} in this session; expected those of every group, to fit "
            "its latents alone; set companions.refit = false, or give the label (a CSV of labels)"
        )
    whole = counts.astype(np.uint16) if not np.isnan(counts).any() else counts.astype(np.float32)
    try:
        (model,) = fit_models(
            [Recording.alone(whole, own.stimulus_index, n)],
            LatentTask(own.labels, groups, own.split),
            config=replace(config.latents, groups=groups),
            seed=stage_seeds(config.seed)["latents"],
            device=config.device,
        )
    except MigvisError as error:
        raise MigvisError(f"{where}: {error}") from None
    z = model.encode(average_counts(whole, own.stimulus_index, n))[0]
    return Again(model, matched_order(own.groups, own.mean[held.train], z[held.train]))


def matched_order(groups: LatentGroups, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """Return where in a second fit the latents of each group of a first one are, (latent,) int.

    Parameters
    ----------
    groups : LatentGroups
        Of both fits.
    first, second : array (stimulus, latent)
        Latents of the same stimuli.
    """
    places = list(groups.slices.values())
    free = [i for i, name in enumerate(groups) if not groups.supervised_by[name]]
    size = [place.stop - place.start for place in places]
    gain = np.full((len(free), len(free)), _NEVER)
    for a, i in enumerate(free):
        for b, j in enumerate(free):
            if size[i] == size[j]:
                gain[a, b] = linear_cka(first[:, places[i]], second[:, places[j]])
    order = np.arange(groups.n_latents)
    rows, columns = linear_sum_assignment(gain, maximize=True)
    for i, j in zip(rows, columns, strict=True):
        order[places[free[i]]] = np.arange(groups.n_latents)[places[free[j]]]
    return order
