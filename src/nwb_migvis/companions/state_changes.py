"""What states are like: counts that the decoder expects there, and images that are edited towards them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from nwb_migvis.companions.held import Held
from nwb_migvis.companions.statistics import Variables
from nwb_migvis.pixels import resize_images, target_shape

if TYPE_CHECKING:
    import xarray as xr

    from nwb_migvis.analysis.study import Study

N_SOURCES = 2
"""Held-out images that are edited, at random."""
MOST_STATES = 6
"""States that images are edited towards, the most frequent first."""
SIDE_PX = 32
"""Longest side of the pictures that are kept."""


def expected_counts(held: Held, centre: np.ndarray, overall: np.ndarray) -> Variables:
    """Return the counts that the decoder expects at states; of several, the change from the overall mean.

    Parameters
    ----------
    held : Held
        With a model of responses.
    centre : array (state, latent)
        Mean of each state's trials.
    overall : array (latent,)
        Mean of all trials.
    """
    model, groups = held.latents.model, held.latents.groups
    text = "Spike count per presentation that the decoder expects at the mean of the state's latents."
    made: Variables = {"rate": (("state", "unit"), model.rates(centre.astype(np.float32)), text)}
    if len(centre) < 2:
        return made
    moved = np.repeat(np.tile(overall, (len(centre), 1))[:, None], len(groups), axis=1)
    for g, own in enumerate(groups.slices.values()):
        moved[:, g, own] = centre[:, own]
    moved = moved.astype(np.float32)
    change = model.rates(moved.reshape(-1, len(overall))) - model.rates(overall[None].astype(np.float32))
    change = change.reshape(*moved.shape[:2], -1)
    text = (
        "Change of the expected spike count per presentation when the group's latents alone are moved from "
        "the mean of all trials to the state's"
    )
    size = np.sqrt((change**2).mean(axis=2))
    return made | {
        "change": (("state", "group", "unit"), change, f"{text}."),
        "moved": (("state", "group"), size, f"{text}: root mean square over units."),
    }


def pictured(held: Held, study: Study, centre: np.ndarray) -> tuple[Variables, str]:
    """Edit held-out images towards states, one group at a time; where that cannot be, say why.

    Sources are drawn at random, the same for all states. Edits are those of the settings (strength and
    guidance), guided by the critic and the prior.

    Parameters
    ----------
    held : Held
    study : Study
    centre : array (state, latent)

    Returns
    -------
    variables, note
    """
    if "image" not in held.session:
        return {}, "images are not edited towards states: the session has no pixels"
    if "critic" not in study.done:
        return {}, "images are not edited towards states: there is no critic"
    rows = np.sort(held.rng(34).permutation(held.test)[:N_SOURCES])
    names, chosen = held.session["stimulus"].values[rows].astype(str), centre[:MOST_STATES]
    edits = study.edit_towards(chosen, source=names.tolist(), session=held.place)
    shape = (len(chosen), len(held.latents.groups), len(rows))
    n = int(np.prod(shape))
    image = _small(edits)
    source = _gray(held.session["image"].isel(stimulus=rows).values, image.shape[1:])
    dims = ("pictured_state", "group", "source")
    return {
        "picture": (
            (*dims, "y", "x"),
            image[:n].reshape(*shape, *image.shape[1:]),
            "Image whose group is edited towards the state, mean of its colours.",
        ),
        "picture_support": (
            dims,
            edits["support"].values[:n].reshape(shape),
            "Percentage of held-out images whose latents are no farther out than those that guide.",
        ),
        "source_picture": (("source", "y", "x"), source, "Image that is edited, mean of its colours."),
        "rebuilt_picture": (
            ("source", "y", "x"),
            image[n:],
            "The same without guidance: what edits change is beside this one.",
        ),
        "source_stimulus": (("source",), names, "Image that is edited."),
    }, ""


def _small(edits: xr.Dataset) -> np.ndarray:
    """Return edits as small gray pictures (edit, y, x)."""
    images = edits["image"].values
    return _gray(images, target_shape(images.shape[1], images.shape[2], SIDE_PX))


def _gray(images: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    small = resize_images(images, (shape[0], shape[1]))
    return np.rint(small.mean(axis=3) if small.ndim == 4 else small).astype(np.int64)
