"""A small grid over the number of free groups and their size, to choose settings by: it writes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.by_engine import fits_by_engine
from nwb_migvis.analysis.context import Context, stage_seeds, torch_settings
from nwb_migvis.analysis.latents import SessionLatents, fit_sessions, refit
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.config import Config, GroupConfig
from nwb_migvis.engines import Engine
from nwb_migvis.errors import MigvisError
from nwb_migvis.labels import select

FREE_GROUPS = (1, 2, 3)
GROUP_SIZES = (3, 6, 9)
N_PERMUTATIONS = 199
"""Of the test of independence between groups."""


def sweep(
    session: xr.Dataset,
    *,
    config: Config,
    free_groups: tuple[int, ...] = FREE_GROUPS,
    sizes: tuple[int, ...] = GROUP_SIZES,
    engine: str = "loop",
    engine_kwargs: Mapping[str, Any] | None = None,
) -> pd.DataFrame:
    """Fit every combination of a number of free groups and a group size, twice, from two seeds.

    Parameters
    ----------
    session : xarray.Dataset
        As `read_session` returns it.
    config : Config
        The supervised groups are those that it names, or the default ones, all of the size in question.
    free_groups, sizes : tuple of int
    engine : {"loop", "joblib", "dask"}
        What the combinations are worked through with. Each uses as many threads as this process, so that the
        numbers are the same, bit for bit.
    engine_kwargs : mapping, optional
        joblib: `n_jobs`. dask: `client`, or the `address` of a scheduler. As for `run_batch`.

    Returns
    -------
    pandas.DataFrame
        One row per combination. All but the first three columns are measured on the *validation* stimuli, so
        that a choice made by them leaves the test stimuli unseen. The fits stop early on the same stimuli.
        `bits_per_spike` is of one half of the repeats, predicted from the other. `dependence` is the largest
        R2 at which one group predicts another, and `dependence_q` the smallest q-value over the pairs.
        `stability` is the mean linear CKA of matched groups between the two seeds. `decoding` is of each
        supervised group's labels from it, averaged.

    Raises
    ------
    MigvisError
        If no combination has enough training stimuli, or the engine cannot be had.
    """
    sessions, by = Sessions.of([session]).without_pixels(), Engine.of(engine, engine_kwargs)
    grid = [(n_free, size) for n_free in free_groups for size in sizes]
    with torch_settings(config) as n_threads:
        config = replace(config, n_threads=n_threads)
        cell = partial(_cell, sessions=sessions, config=config)
        cells = fits_by_engine(cell, grid, Context(config, engine=by), what="sweep")
    rows = [row for row in cells if isinstance(row, dict)]
    if not rows:
        raise MigvisError(str(cells[-1]))
    return pd.DataFrame(rows)


def _cell(numbers: tuple[int, int], *, sessions: Sessions, config: Config) -> dict[str, float] | str:
    """Fit and measure a combination; say why where it has too few training stimuli."""
    n_free, size = numbers
    groups = _groups(sessions, config, n_free, size)
    context = Context(replace(config, latents=replace(config.latents, groups=groups)))
    try:
        (latents,) = fit_sessions(sessions, context)
    except MigvisError as error:
        if "training stimuli for" not in str(error):
            raise
        return str(error)
    seed = stage_seeds(config.seed)["evidence"]
    return {
        "free_groups": n_free,
        "group_size": size,
        "latents": latents.mean.shape[1],
        **_scores(latents, refit(latents, context, seed=seed), seed),
    }


def _groups(sessions: Sessions, config: Config, n_free: int, size: int) -> tuple[GroupConfig, ...]:
    from nwb_migvis.latents import free_group_name, resolve_groups

    groups = resolve_groups(sessions.labels(config), config.latents)
    supervised = tuple(replace(group, size=size) for group in groups if group.labels)
    free = [group.name for group in groups if not group.labels]
    names_used = {group.name for group in supervised}
    names = [f"free_{i}" for i in range(1, n_free + 1)]
    free += [free_group_name(name, names_used) for name in names if name not in free]
    return supervised + tuple(GroupConfig(name=name, size=size) for name in free[:n_free])


def _scores(latents: SessionLatents, other: np.ndarray, seed: int) -> dict[str, float]:
    from nwb_migvis.evidence.decoding import decode_labels
    from nwb_migvis.evidence.stability import match_groups

    validation = latents.split == "validation"
    groups = latents.groups
    match = match_groups(latents.mean[validation], other[validation], groups_a=groups, groups_b=groups)
    decoding = float("nan")
    if any(groups.labels):
        table = decode_labels(
            latents.mean[validation],
            select(latents.labels, validation),
            groups=groups,
            seed=seed,
        )
        decoding = float(table["own_score"].mean())
    return {
        "bits_per_spike": _held_out_bits(latents, validation, seed),
        **_dependence(latents, validation, seed),
        "stability": float(np.mean(list(match.similarity.values()))),
        "decoding": decoding,
    }


def _held_out_bits(latents: SessionLatents, validation: np.ndarray, seed: int) -> float:
    from nwb_migvis.evidence.likelihood import bits_per_spike
    from nwb_migvis.evidence.missing import mean_of_present
    from nwb_migvis.evidence.reliability import half_means

    n = latents.split.size
    first, second, _, n_second = half_means(
        latents.spike_count, latents.stimulus_index, n, rng=np.random.default_rng(seed)
    )
    chosen = validation & np.isfinite(first).any(axis=1)
    training = (latents.split == "train")[latents.stimulus_index]
    base = np.nan_to_num(mean_of_present(latents.spike_count[training]))
    rate = latents.model.rates(latents.model.encode(first[chosen])[0])
    exposure = np.where(np.isfinite(second), n_second.reshape(n, -1), 0)[chosen]
    total = np.nan_to_num(second[chosen]) * exposure
    return bits_per_spike(total, exposure, rate, base_rate=base)


def _dependence(latents: SessionLatents, validation: np.ndarray, seed: int) -> dict[str, float]:
    """How well one group predicts another at most, and the smallest adjusted p-value; NaN for one group."""
    from nwb_migvis.evidence.decoding import Reading
    from nwb_migvis.evidence.independence import group_dependence
    from nwb_migvis.levels import Exchange

    exchange = Exchange.singles(int(validation.sum()))
    reading = Reading(exchange=exchange, seed=seed, n_permutations=N_PERMUTATIONS)
    pairs = group_dependence(latents.mean[validation], latents.groups, reading)
    if not np.isfinite(pairs["score"].values).any():
        return {"dependence": np.nan, "dependence_q": np.nan}
    return {"dependence": float(pairs["score"].max()), "dependence_q": float(pairs["q_value"].min())}
