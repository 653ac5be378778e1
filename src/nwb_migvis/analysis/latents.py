"""The latents of sessions: fitted or given, encoded, and fitted again to see what is stable."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property, partial
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.by_engine import fits_by_engine
from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.given import GivenLatents
from nwb_migvis.analysis.observed import with_missing_counts
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.analysis.units import matching_units
from nwb_migvis.engines import LOOP
from nwb_migvis.errors import MigvisError
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label

if TYPE_CHECKING:
    from nwb_migvis.latents.protocol import LatentModel

HALVES = ("units", "stimuli")


@dataclass(frozen=True, eq=False)
class SessionLatents:
    """The latents of a session's stimuli, with the model that gives them and what it was fitted to.

    Attributes
    ----------
    model : LatentModel or GivenLatents
    split : numpy.ndarray of str, shape (n_stimuli,)
    labels : dict of str to Label, of the session's stimuli
    spike_count : numpy.ndarray, shape (n_presentations, n_units)
        Unsigned integers, or floats with NaN where a unit was not observed.
    stimulus_index : numpy.ndarray of int, shape (n_presentations,)
    n_presentations : numpy.ndarray of int, shape (n_stimuli,)
    mean, log_var : numpy.ndarray, shape (n_stimuli, n_latents)
        From all repeats of a stimulus.
    """

    model: LatentModel | GivenLatents
    split: np.ndarray
    labels: dict[str, Label]
    spike_count: np.ndarray
    stimulus_index: np.ndarray
    n_presentations: np.ndarray
    mean: np.ndarray
    log_var: np.ndarray

    @cached_property
    def groups(self) -> LatentGroups:
        """The groups of its latents."""
        return LatentGroups.of(self.model.groups)

    @property
    def knows_responses(self) -> bool:
        """Whether its model encodes responses: not where latents were given as an array."""
        return not isinstance(self.model, GivenLatents)

    def __repr__(self) -> str:
        parts = ", ".join(
            f"{int((self.split == part).sum())} {part}" for part in ("train", "validation", "test")
        )
        return f"SessionLatents: {len(self.split)} stimuli ({parts}); {self.groups!r}"

    def to_dataset(self, stimulus: np.ndarray) -> xr.Dataset:
        """Return the latents as `Results.latents`."""
        dims = ("stimulus", "latent")
        return xr.Dataset(
            {"mean": (dims, self.mean), "log_var": (dims, self.log_var)},
            coords={
                "stimulus": stimulus.astype(object),
                "group": ("latent", self.groups.of_latent),
                "split": ("stimulus", self.split.astype(object)),
                "n_presentations": ("stimulus", self.n_presentations.astype(np.int64)),
            },
        )


@dataclass(frozen=True)
class Fit:
    """Which of the fits of one latent space to the same sessions.

    Attributes
    ----------
    seed : int, optional
        Another seed than the context's.
    fold : int
        Which of the parts of the split is for test.
    """

    seed: int | None = None
    fold: int = 0

    def within(self, context: Context) -> Context:
        """Return the context of this fit."""
        return context if self.seed is None else context.with_seed_of("latents", self.seed)


def fit_sessions(sessions: Sessions, context: Context) -> list[SessionLatents]:
    """Split the stimuli, fit one latent space to all sessions, and encode every stimulus of each."""
    with context.clock.of("latents"):
        return _encoded(_fitted(Fit(), sessions=sessions, context=context), sessions, context)


def fit_sessions_again(
    sessions: Sessions, context: Context, fits: Sequence[Fit]
) -> list[list[SessionLatents]]:
    """Fit the same latent space again, from other seeds or holding out other stimuli, by the engine.

    Returns
    -------
    list of list of SessionLatents
        For each fit one per session.
    """
    fit = partial(_fitted, sessions=sessions.without_pixels(), context=replace(context, engine=LOOP))
    made = fits_by_engine(fit, fits, context, what="")
    return [
        _encoded(models, sessions, fit.within(context), fold=fit.fold)
        for fit, models in zip(fits, made, strict=True)
    ]


def _fitted(fit: Fit, *, sessions: Sessions, context: Context) -> list[LatentModel]:
    """Fit one latent space to all sessions; return a model per session."""
    from nwb_migvis.latents import LatentTask, Recording, resolve_groups
    from nwb_migvis.latents.protocol import fit_models

    context = fit.within(context)
    config, labels = context.config, sessions.labels(context.config)
    recordings = [
        Recording(name, session["spike_count"].values, session["stimulus_index"].values, rows)
        for name, session, rows in zip(sessions.names, sessions.sessions, sessions.rows, strict=True)
    ]
    split = sessions.split(config, context.rng("split"), fold=fit.fold)
    with context.clock.of("latents"):
        return fit_models(
            recordings,
            LatentTask(labels, resolve_groups(labels, config.latents), split, sessions.pairs()),
            config=config.latents,
            seed=context.seeds["latents"],
            device=context.device,
            checkpoints=config.checkpoints,
        )


def _encoded(
    models: Sequence[LatentModel], sessions: Sessions, context: Context, *, fold: int = 0
) -> list[SessionLatents]:
    """Encode every stimulus of each session by its model."""
    config, labels = context.config, sessions.labels(context.config)
    split = sessions.split(config, context.rng("split"), fold=fold)
    return [
        encode_session(model, sessions.sessions[i], split=split[rows], labels=sessions.labels_of(i, labels))
        for i, (model, rows) in enumerate(zip(models, sessions.rows, strict=True))
    ]


def encode_session(
    model: LatentModel | GivenLatents, session: xr.Dataset, *, split: np.ndarray, labels: Mapping[str, Label]
) -> SessionLatents:
    """Encode every stimulus of a session from all of its repeats."""
    spike_count, stimulus_index = session["spike_count"].values, session["stimulus_index"].values
    n_presentations = np.bincount(stimulus_index, minlength=split.size)
    mean, log_var = model.encode(average_counts(spike_count, stimulus_index, split.size))
    if isinstance(model, GivenLatents):
        mean = model.mean
    return SessionLatents(
        model, split, dict(labels), spike_count, stimulus_index, n_presentations, mean, log_var
    )


def average_counts(spike_count: np.ndarray, stimulus_index: np.ndarray, n_stimuli: int) -> np.ndarray:
    """Average the counts (presentation, unit) of each stimulus, (stimulus, unit).

    Over the presentations in which the unit was observed; NaN where there is none.
    """
    total = np.zeros((n_stimuli, spike_count.shape[1]))
    np.add.at(total, stimulus_index, np.nan_to_num(spike_count))
    n = np.bincount(stimulus_index, minlength=n_stimuli)[:, None].astype(np.float64)
    if (missing := np.isnan(spike_count)).any():
        absent = np.zeros_like(total)
        np.add.at(absent, stimulus_index, missing)
        n = n - absent
    return np.where(n > 0, total / np.maximum(n, 1), np.nan)


def other_seeds(seed: int, n: int) -> list[int]:
    """Return further seeds, drawn from one."""
    return [int(word) for word in np.random.SeedSequence(seed).generate_state(n)]


def refits(sessions: Sessions, context: Context) -> list[list[np.ndarray]]:
    """Fit the same latent space again from as many other seeds as the settings want (`stability_seeds`).

    Returns
    -------
    list of list of numpy.ndarray (stimulus, latent)
        For each fit the latents of every session's stimuli.
    """
    seeds = other_seeds(context.seeds["evidence"], context.config.evidence.stability_seeds)
    made = fit_sessions_again(sessions, context, [Fit(seed=seed) for seed in seeds])
    return [[own.mean for own in again] for again in made]


def seed_stability(latents: SessionLatents, others: Sequence[np.ndarray]) -> pd.Series:
    """Agreement of each group between the fit and fits from other seeds, on the same data.

    Parameters
    ----------
    latents : SessionLatents
    others : sequence of numpy.ndarray (stimulus, latent)
        The latents in the other fits.

    Returns
    -------
    pandas.Series
        By group, the mean linear CKA on the test stimuli with the group that it is matched to.
    """
    return pd.DataFrame([_similarity(latents, latents.mean, other) for other in others]).mean()


def half_stability(latents: SessionLatents, context: Context, *, seed: int, of: str) -> pd.Series:
    """Agreement of each group between two fits on random halves of the units or of the training stimuli.

    Parameters
    ----------
    latents : SessionLatents
    context : Context
    seed : int
    of : {"units", "stimuli"}

    Returns
    -------
    pandas.Series
        By group, the linear CKA on the test stimuli with the group that it is matched to.
    """
    rng = np.random.default_rng(seed)
    if of == "units":
        in_first = rng.permuted(np.arange(latents.spike_count.shape[1]) % 2 == 0)
        halves = [refit(latents, context, seed=seed, units=half) for half in (in_first, ~in_first)]
    elif of == "stimuli":
        train = rng.permutation(np.flatnonzero(latents.split == "train"))
        halves = []
        for left_out in (train[::2], train[1::2]):
            split = latents.split.copy()
            split[left_out] = "unused"
            halves.append(refit(latents, context, seed=seed, split=split))
    else:
        raise ValueError(f"found of = {of!r}; expected one of {', '.join(HALVES)}")
    return pd.Series(_similarity(latents, *halves))


def refit(
    latents: SessionLatents,
    context: Context,
    *,
    seed: int,
    units: np.ndarray | None = None,
    split: np.ndarray | None = None,
) -> np.ndarray:
    """Fit the same groups again and return every stimulus's latents, (stimulus, latent).

    Parameters
    ----------
    latents : SessionLatents
    context : Context
    seed : int
    units : numpy.ndarray of bool, shape (n_units,), optional
        The units to use.
    split : numpy.ndarray of str, shape (n_stimuli,), optional
        Another split; stimuli in neither "train" nor "validation" are not used.
    """
    from nwb_migvis.latents import LatentTask, Recording
    from nwb_migvis.latents.protocol import fit_models

    counts = latents.spike_count if units is None else latents.spike_count[:, units]
    n_stimuli, groups = latents.split.size, tuple(latents.model.groups)
    (model,) = fit_models(
        [Recording.alone(counts, latents.stimulus_index, n_stimuli)],
        LatentTask(latents.labels, groups, latents.split if split is None else split),
        config=replace(context.config.latents, groups=groups),
        seed=seed,
        device=context.device,
    )
    return model.encode(average_counts(counts, latents.stimulus_index, n_stimuli))[0]


def latents_of(latents: SessionLatents, session: xr.Dataset, fitted: xr.Dataset) -> xr.Dataset:
    """Encode another session of the same units: new trials, another window, other images.

    Parameters
    ----------
    latents : SessionLatents
        Whose model encodes.
    session : xarray.Dataset
        As `read_session` returns it.
    fitted : xarray.Dataset
        The session whose units the model was fitted to.

    Returns
    -------
    xarray.Dataset, dims (stimulus, latent)
        `mean`, `log_var`; coordinates `group` and `n_presentations`.

    Raises
    ------
    MigvisError
        If the session lacks one of the units.
    """
    if not latents.knows_responses:
        raise MigvisError("the latents were given as an array; expected a model that encodes responses")
    session = with_missing_counts(session)
    index = matching_units(session, fitted)
    n_stimuli = session.sizes["stimulus"]
    stimulus_index = session["stimulus_index"].values
    counts = session["spike_count"].values[:, index]
    mean, log_var = latents.model.encode(average_counts(counts, stimulus_index, n_stimuli))
    dims = ("stimulus", "latent")
    return xr.Dataset(
        {"mean": (dims, mean), "log_var": (dims, log_var)},
        coords={
            "stimulus": session["stimulus"].values.astype(object),
            "group": ("latent", latents.groups.of_latent),
            "n_presentations": ("stimulus", np.bincount(stimulus_index, minlength=n_stimuli)),
        },
    )


def _similarity(latents: SessionLatents, first: np.ndarray, second: np.ndarray) -> Mapping[str, float]:
    from nwb_migvis.evidence.stability import match_groups

    test, groups = latents.split == "test", latents.groups
    return match_groups(first[test], second[test], groups_a=groups, groups_b=groups).similarity
