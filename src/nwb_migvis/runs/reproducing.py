"""The stored edits of a written file, made again from the file alone and compared."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.context import torch_settings
from nwb_migvis.analysis.edits import used_rows
from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label, labels_in, select
from nwb_migvis.read.recorded import read_shown, small_images
from nwb_migvis.registry import METHODS
from nwb_migvis.results import Results
from nwb_migvis.runs.models import checked_weights, edit_networks, run_config
from nwb_migvis.sources import Source, as_source
from nwb_migvis.store import read_results

_KEYS = ("group", "method", "source", "target")
_UNKNOWN = -2
"""A guiding stimulus that the file does not tell; -1 is none."""


@dataclass(frozen=True)
class Reproduction:
    """How far edits that were made again differ from the stored ones.

    Attributes
    ----------
    n_edits, n_made : int
        Stored edits, and those that were made again. The others are guided by a stimulus that the file does
        not name.
    n_different : int
        Edits that differ in any pixel.
    largest_difference : int
        Of a pixel, in gray levels (0 to 255).
    different_methods : tuple of str
        Methods of edits that differ. What guides `shuffled` is drawn again by the run's seed, as this version
        draws it; version 0.1.0 drew it otherwise.
    """

    n_edits: int
    n_made: int
    n_different: int
    largest_difference: int
    different_methods: tuple[str, ...] = ()

    def __str__(self) -> str:
        said = (
            f"{self.n_made} of {self.n_edits} edits made again: {self.n_different} differ, by at most "
            f"{self.largest_difference} of 255 gray levels"
        )
        if not self.different_methods:
            return said
        said += f" ({', '.join(self.different_methods)})"
        if all(METHODS[method].other_target for method in self.different_methods):
            said += (
                "; what guides these is not in the file and was drawn again by the run's seed, which version "
                "0.1.0 drew otherwise"
            )
        return said


def reproduce(path: str | Source, name: str | None = None, **reading: Any) -> Reproduction:
    """Make the stored edits of a run again from its file, and compare the pixels.

    On the machine, with the number of threads and the versions that made them they are the same, bit for bit.

    Parameters
    ----------
    path : path, or address
        A file that `run` wrote.
    name : str, optional
        The run, where the file holds several.
    **reading
        `images` and `labels`, as for `synthesize_more`.

    Raises
    ------
    MigvisError
        If the run made no edits, its weights are absent or others than it recorded, or the session's images
        cannot be read.
    """
    require(MODELS, what="editing")
    path = as_source(path, what="file")
    results = read_results(path, name)
    if not results.synthesized.sizes["edit"]:
        raise MigvisError(f"{path}: run {results.name!r} made no edits; expected some; name another run")
    weights = checked_weights(path, results, needs=("critic", "prior"))
    config = run_config(path, results)
    with torch_settings(config):
        session = read_shown(path, results, **reading)
        rows, made = _made_again(results, session, weights, config)
    stored = results.synthesized["image"].values[rows]
    difference = np.abs(made.astype(np.int64) - stored).reshape(len(rows), -1)
    differs = difference.any(axis=1)
    return Reproduction(
        n_edits=results.synthesized.sizes["edit"],
        n_made=len(rows),
        n_different=int(differs.sum()),
        largest_difference=int(difference.max(initial=0)),
        different_methods=tuple(np.unique(results.synthesized["method"].values[rows][differs]).tolist()),
    )


def _made_again(
    results: Results, session: xr.Dataset, weights: Mapping[str, bytes], config: Config
) -> tuple[np.ndarray, np.ndarray]:
    """Return the rows of edits that could be made again, and their images."""
    from nwb_migvis.latents import stimulus_labels
    from nwb_migvis.synthesis.editing.directions import direction_vectors
    from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize

    networks, latents = edit_networks(weights, config), results.latents
    labels = labels_in(results.labels) or stimulus_labels(session, circular=config.latents.circular)
    prior = networks.prior
    z = networks.critic.scale.standardise(latents["mean"].values)
    train = latents["split"].values == "train"
    plan = _plan(results, labels, config)
    directions = direction_vectors(
        tuple(sorted(set(plan["direction"]) - {""})),
        z[train],
        groups=networks.groups,
        labels=select(labels, train),
    )
    used = used_rows(plan)
    images = np.zeros((latents.sizes["stimulus"], *prior.shape), np.uint8)
    images[used] = small_images(session["image"].isel(stimulus=used), max(prior.shape[:2]), like=prior.shape)
    stimuli = EditStimuli(latents["stimulus"].values, images, z)
    made = synthesize(
        plan.reset_index(drop=True),
        stimuli,
        networks,
        config=config.synthesis,
        seed=config.seed,
        directions=directions,
    )
    return plan.index.to_numpy(), made["image"].values


def _plan(results: Results, labels: Mapping[str, Label], config: Config) -> pd.DataFrame:
    """Return the plan that the stored edits were made by; its index is their row."""
    edits, row = results.synthesized, {n: i for i, n in enumerate(results.latents["stimulus"].values)}
    names = LatentGroups.of(config.latents.groups).names
    columns = ("group", "method", "role", "strength", "guidance", "gamma", "direction")
    plan = pd.DataFrame({name: edits[name].values for name in columns})
    plan["source"] = [row[name] for name in edits["source"].values]
    plan["target"] = [row.get(name, -1) for name in edits["target"].values]
    methods = [METHODS[name] for name in plan["method"]]
    plan["guiding_group"] = [
        names[(names.index(group) + method.other_group) % len(names)]
        for group, method in zip(plan["group"], methods, strict=True)
    ]
    plan["guiding_stimulus"] = plan["target"]
    is_other = np.array([bool(method.other_target) for method in methods])
    if is_other.any():
        guides = _guides(results, labels, config)
        keys = plan.loc[is_other, list(_KEYS)].itertuples(index=False, name=None)
        plan.loc[is_other, "guiding_stimulus"] = [guides.get(key, _UNKNOWN) for key in keys]
    return plan[plan["guiding_stimulus"] != _UNKNOWN]


def _guides(
    results: Results, labels: Mapping[str, Label], config: Config
) -> dict[tuple[str, str, int, int], int]:
    """Return the stimuli that guide edits whose guide is not their target, drawn again by the run's seed."""
    from nwb_migvis.synthesis.editing.plan import plan_edits

    seeds = results.provenance.get("seeds", {})
    if "pairs" not in seeds:
        return {}
    drawn = plan_edits(
        np.flatnonzero(results.latents["split"].values == "test"),
        LatentGroups.of(config.latents.groups),
        labels=labels,
        config=config.synthesis,
        rng=np.random.default_rng(seeds["pairs"]),
    )
    keys = drawn[list(_KEYS)].itertuples(index=False, name=None)
    return dict(zip(keys, drawn["guiding_stimulus"].tolist(), strict=True))
