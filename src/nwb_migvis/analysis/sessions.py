"""Several sessions at once: one latent space, one prior and one critic, and how well they agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import Clock, stage_seeds
from nwb_migvis.analysis.priors import images_for_prior
from nwb_migvis.analysis.stability import other_seeds
from nwb_migvis.analysis.stages import Edits, Fitted, check_steps, edit_images, encode_all, train_guides
from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.groups import LatentGroups
from nwb_migvis.read import shared_stimuli


@dataclass(frozen=True)
class Together:
    """Sessions whose stimulus ids mean the same images.

    Attributes
    ----------
    sessions : tuple of xarray.Dataset
    names : tuple of str
        Their files' names, with folders where they would be the same.
    stimuli : xarray.Dataset
        Every stimulus of any of them, with its labels.
    rows : tuple of numpy.ndarray of int
        Row among `stimuli` of each session's own.
    """

    sessions: tuple[xr.Dataset, ...]
    names: tuple[str, ...]
    stimuli: xr.Dataset
    rows: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, sessions: Sequence[xr.Dataset]) -> Together:
        """Put sessions, as `read_sessions` returns them, side by side."""
        sources = [Path(session.attrs["source"]) for session in sessions]
        short = [source.name for source in sources]
        names = short if len(set(short)) == len(short) else [str(source) for source in sources]
        stimuli = shared_stimuli(sessions)
        index = stimuli.indexes["stimulus"]
        rows = [index.get_indexer(session.indexes["stimulus"]) for session in sessions]
        return cls(tuple(sessions), tuple(names), stimuli, tuple(rows))

    @property
    def shown(self) -> np.ndarray:
        """Which stimuli each session saw, (session, stimulus) bool."""
        every = np.arange(self.stimuli.sizes["stimulus"])
        return np.stack([np.isin(every, rows) for rows in self.rows])

    def labels_of(self, i: int, labels: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return the labels that a session has, with what any session knows of its stimuli."""
        own = {name for name, coord in self.sessions[i].coords.items() if coord.dims == ("stimulus",)}
        return {name: values[self.rows[i]] for name, values in labels.items() if name in own}


def fit_together(together: Together, config: Config, seeds: Mapping[str, int], clock: Clock) -> list[Fitted]:
    """Split the stimuli of all sessions once, fit one latent space to all, and encode each."""
    from nwb_migvis.latents import (
        LatentTask,
        Recording,
        linked_pairs,
        resolve_groups,
        split_shared_stimuli,
        stimulus_labels,
    )
    from nwb_migvis.latents.fit import fit_latents

    shown, names = together.shown, together.names
    pairs = linked_pairs(shown, names)
    labels = stimulus_labels(together.stimuli, circular=config.latents.circular)
    groups = resolve_groups(labels, config.latents)
    split = split_shared_stimuli(shown, names, config.split, rng=np.random.default_rng(seeds["split"]))
    recordings = [
        Recording(name, session["spike_count"].values, session["stimulus_index"].values, rows)
        for name, session, rows in zip(names, together.sessions, together.rows, strict=True)
    ]
    with clock.of("latents"):
        models = fit_latents(
            recordings,
            LatentTask(labels, groups, split, pairs),
            config=config.latents,
            seed=seeds["latents"],
            device=config.device,
            checkpoints=config.checkpoints,
        )
        values = {name: label.values for name, label in labels.items()}
        return [
            encode_all(model, session, split=split[rows], labels=together.labels_of(i, values))
            for i, (model, session, rows) in enumerate(
                zip(models, together.sessions, together.rows, strict=True)
            )
        ]


def refit_together(together: Together, config: Config, seed: int, *, n_seeds: int) -> list[list[np.ndarray]]:
    """Fit the same latent space again from other seeds.

    Returns
    -------
    list of list of numpy.ndarray (stimulus, latent)
        For each session the latents of its stimuli in each of the fits, as `seed_stability` takes them.
    """
    fits = []
    for other in other_seeds(seed, n_seeds):
        seeds = {**stage_seeds(config.seed), "latents": other}
        fits.append([fitted.mean for fitted in fit_together(together, config, seeds, Clock())])
    return [list(of_session) for of_session in zip(*fits, strict=True)]


def edit_together(
    together: Together, fitted: Sequence[Fitted], config: Config, seeds: Mapping[str, int], clock: Clock
) -> list[Edits]:
    """Train one prior and one critic on the images of all sessions that hold pixels, and edit each's own."""
    pictured = [i for i, session in enumerate(together.sessions) if "image" in session]
    edits = [Edits() for _ in together.sessions]
    if not pictured:
        return edits
    for i in pictured:
        try:
            check_steps(fitted[i], config)
        except MigvisError as error:
            raise MigvisError(f"{together.names[i]}: {error}") from None
    part = Together.of([together.sessions[i] for i in pictured])
    with clock.of("prior"):
        images, start = images_for_prior(part.stimuli["image"], config.prior)
    split = np.full(len(images), "", dtype=fitted[0].split.dtype)
    for i, rows in zip(pictured, part.rows, strict=True):
        split[rows] = fitted[i].split
    guides = train_guides(
        images,
        np.concatenate([fitted[i].mean for i in pictured]),
        shown=np.concatenate(part.rows),
        split=split,
        groups=LatentGroups.of(fitted[0].model.groups),
        start=start,
        config=config,
        seeds=seeds,
        clock=clock,
    )
    for i, rows in zip(pictured, part.rows, strict=True):
        edits[i] = edit_images(together.sessions[i], images[rows], fitted[i], guides, config, seeds, clock)
    return edits


def agreement(
    together: Together, fitted: Sequence[Fitted], config: Config, seed: int
) -> list[list[dict[str, Any]]]:
    """Measure on test stimuli how well the latents of each session stand for those of each other.

    Returns
    -------
    list of list of dict
        For each session, in order, a record for each other session that shares stimuli with it: `session`
        (its name), `n_shared`, `n_test`, and where there are enough of these `variance_own` and
        `variance_other` (see `cross_variance`) and `groups_matched` (partners in `match_groups`).
    """
    from nwb_migvis.evidence.reliability import half_means

    halves, latents = [], []
    for f in fitted:
        a, b, _, _ = half_means(
            f.spike_count, f.stimulus_index, f.split.size, rng=np.random.default_rng(seed)
        )
        halves.append((a, b))
        latents.append((_encode_repeated(f, a), _encode_repeated(f, b)))
    records = []
    for i in range(len(fitted)):
        others = [j for j in range(len(fitted)) if j != i]
        found = [_agreement(together, fitted, (i, j), halves[i], latents, config) for j in others]
        records.append([record for record in found if record["n_shared"]])
    return records


def _encode_repeated(fitted: Fitted, half: np.ndarray) -> np.ndarray:
    """Encode the mean responses in half of the repeats; NaN rows where there are none."""
    z = fitted.model.encode(np.nan_to_num(half))[0]
    return np.where(np.isfinite(half).all(axis=1, keepdims=True), z, np.nan)


def _agreement(
    together: Together,
    fitted: Sequence[Fitted],
    ends: tuple[int, int],
    halves: tuple[np.ndarray, np.ndarray],
    latents: Sequence[tuple[np.ndarray, np.ndarray]],
    config: Config,
) -> dict[str, Any]:
    """Return the record of session `ends[0]` about session `ends[1]`."""
    from nwb_migvis.evidence.between import cross_variance
    from nwb_migvis.evidence.stability import match_groups

    i, j = ends
    _, in_i, in_j = np.intersect1d(together.rows[i], together.rows[j], return_indices=True)
    other = np.full((2, *latents[i][0].shape), np.nan)
    other[:, in_i] = np.stack(latents[j])[:, in_j]
    found = cross_variance(
        halves,
        own=latents[i],
        other=(other[0], other[1]),
        train=fitted[i].split == "train",
        test=fitted[i].split == "test",
        min_reliability=config.evidence.min_reliability,
    )
    record: dict[str, Any] = {
        "session": together.names[j],
        "n_shared": int(in_i.size),
        "n_test": found.n_stimuli,
    }
    if np.isfinite(found.own):
        test, groups = fitted[i].split[in_i] == "test", fitted[i].slices
        x, y = fitted[i].mean[in_i[test]], fitted[j].mean[in_j[test]]
        record |= {
            "variance_own": found.own,
            "variance_other": found.other,
            "groups_matched": match_groups(x, y, groups_a=groups, groups_b=groups).partner,
        }
    return record


def agreement_note(record: Mapping[str, Any]) -> str:
    """Say in one line how well two sessions agree."""
    start = f"latents are shared with {record['session']} ({record['n_shared']} images in common)"
    if "variance_own" not in record:
        return f"{start}: only {record['n_test']} held-out ones have repeats, too few to measure how well"
    n_matched = sum(a == b for a, b in record["groups_matched"].items())
    return (
        f"{start}: on {record['n_test']} held-out ones its latents predict {record['variance_other']:.2f} of "
        f"the repeatable variance here, the session's own {record['variance_own']:.2f}; "
        f"{n_matched} of {len(record['groups_matched'])} groups match their namesakes"
    )
