"""A session of a study as further analyses see it: latents, groups, splits and what is independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.context import Context, one_thread, stage_seeds
from nwb_migvis.analysis.latents import SessionLatents, average_counts
from nwb_migvis.analysis.setting import Setting, setting_of, without_slow_change
from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.design import order_of
from nwb_migvis.levels import Design, Exchange

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

ALL = "all latents"
COUNTS = "counts"
"""Spaces beside the groups: all groups together, and mean spike counts without a model."""


@dataclass(frozen=True, eq=False)
class Held:
    """A session of a study.

    Attributes
    ----------
    name : str
        Of its file; "" in memory.
    session : xarray.Dataset
    latents : SessionLatents
        With counts from which drift and repetition suppression are taken out, as for the evidence.
    design : Design
        Of its stimuli.
    config : Config
    seed : int
        Of all draws.
    place : int
        Among the sessions of the study.
    """

    name: str
    session: xr.Dataset
    latents: SessionLatents
    design: Design
    config: Config
    seed: int
    place: int = 0

    @property
    def train(self) -> np.ndarray:
        """Rows of the training stimuli."""
        return np.flatnonzero(self.latents.split == "train")

    @property
    def validation(self) -> np.ndarray:
        """Rows of the validation stimuli."""
        return np.flatnonzero(self.latents.split == "validation")

    @property
    def test(self) -> np.ndarray:
        """Rows of the held-out stimuli."""
        return np.flatnonzero(self.latents.split == "test")

    @property
    def levels(self) -> Exchange:
        """What is independent among the held-out stimuli."""
        return self.design.split[self.test]

    @cached_property
    def mean_count(self) -> np.ndarray:
        """Mean spike counts (stimulus, unit); NaN where a unit was not observed."""
        own = self.latents
        return average_counts(own.spike_count, own.stimulus_index, own.split.size)

    @cached_property
    def spaces(self) -> dict[str, np.ndarray]:
        """Latents (stimulus, latent) of each group, of all groups, and root mean counts."""
        own = self.latents
        groups = {name: np.asarray(z, np.float64) for name, z in own.groups.split(own.mean).items()}
        filled = np.sqrt(np.where(np.isnan(self.mean_count), np.nanmean(self.mean_count, 0), self.mean_count))
        return {**groups, ALL: np.asarray(own.mean, np.float64), COUNTS: np.nan_to_num(filled)}

    @cached_property
    def setting(self) -> Setting:
        """What the design of the session allows to be said, and what labels are judged beyond."""
        return setting_of(self.session, self.latents.labels, self.design, Context(self.config))

    @property
    def in_first(self) -> np.ndarray | None:
        """Presentations in the earlier half of their image's, as for the evidence; None without times."""
        order = order_of(self.session)
        return None if order is None else order.in_first_half

    def rng(self, *stream: int) -> np.random.Generator:
        """Return a new generator of one stream of draws."""
        return np.random.default_rng([self.seed, *stream])

    def require_held_out(self, least: int, *, to: str) -> None:
        """Refuse too few held-out images.

        Raises
        ------
        MigvisError
        """
        if len(self.test) < least:
            raise MigvisError(
                f"{f'{self.name}: ' if self.name else ''}found {len(self.test)} held-out images; expected at "
                f"least {least} to compute {to!r}; raise split.test, or omit the analysis"
            )


def held_sessions(study: Study) -> list[Held]:
    """Return the sessions of a study that has latents."""
    sessions, config = study.joined, study.config
    latents = study.latents if isinstance(study.latents, list) else [study.latents]
    design, seed = sessions.design(config), stage_seeds(config.seed)["evidence"]
    held = []
    for i, own in enumerate(latents):
        session = sessions.sessions[i]
        steady = without_slow_change(own, order_of(session))
        held.append(Held(sessions.names[i], session, steady, design[sessions.rows[i]], config, seed, i))
    return held


def each_session(study: Study, measure: Callable[[Held], xr.Dataset]) -> xr.Dataset:
    """Measure every session of a study; several stand along a dim `session`."""
    with one_thread():
        parts = [measure(held) for held in held_sessions(study)]
    if len(parts) == 1:
        return parts[0]
    names = pd.Index(study.joined.names, name="session")
    together = xr.concat(parts, dim=names, join="outer", combine_attrs="override")
    return together.assign_attrs(parts[0].attrs)


def described(data: Mapping[str, tuple], coords: Mapping[str, object], **attributes: object) -> xr.Dataset:
    """Return a dataset of variables (dims, values, description)."""
    variables = {name: (dims, values, {"description": text}) for name, (dims, values, text) in data.items()}
    return xr.Dataset(variables, coords=dict(coords), attrs=dict(attributes))
