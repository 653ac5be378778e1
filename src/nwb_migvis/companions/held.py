"""A session of a study as further analyses see it: latents, groups, splits and what is independent."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import Context, one_thread, stage_seeds
from nwb_migvis.analysis.latents import SessionLatents, average_counts
from nwb_migvis.analysis.setting import Setting, setting_of, without_slow_change
from nwb_migvis.config import Config
from nwb_migvis.config.companions import PRIOR
from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.design import order_of
from nwb_migvis.levels import Design, Exchange

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study
    from nwb_migvis.synthesis.prior.model import Prior

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
    prior : Prior, optional
        The study's, where `companions.network` asks for it.
    place : int
        Among the sessions of the study.
    """

    name: str
    session: xr.Dataset
    latents: SessionLatents
    design: Design
    config: Config
    seed: int
    prior: Prior | None = None
    place: int = 0

    @property
    def begin(self) -> str:
        """What messages begin with: the name of its file."""
        return f"{self.name}: " if self.name else ""

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
                f"{self.begin}found {len(self.test)} held-out images; expected at "
                f"least {least} to compute {to!r}; raise split.test, or omit the analysis"
            )


def held_sessions(study: Study) -> list[Held]:
    """Return the sessions of a study that has latents."""
    sessions, config = study.joined, study.config
    latents = study.latents if isinstance(study.latents, list) else [study.latents]
    design, seed = sessions.design(config), stage_seeds(config.seed)["evidence"]
    prior, held = _prior_of(study), []
    for i, own in enumerate(latents):
        session = sessions.sessions[i]
        steady = without_slow_change(own, order_of(session))
        own_design = design[sessions.rows[i]]
        held.append(Held(sessions.names[i], session, steady, own_design, config, seed, prior, i))
    return held


def _prior_of(study: Study) -> Prior | None:
    """Return the prior whose blocks are to describe images; None where something else does."""
    if study.config.companions.network != PRIOR or not study.has_images:
        return None
    try:
        return study.prior
    except MigvisError:
        raise MigvisError(
            f"companions: found network = {PRIOR!r} and no prior; expected one whose blocks describe images; "
            "first call train_prior() or use_prior(...), or choose another network (--network edges)"
        ) from None


def each_session(study: Study, measure: Callable[[Held], xr.Dataset]) -> xr.Dataset:
    """Measure every session of a study; several stand along a dim `session`."""
    with one_thread():
        parts = [measure(held) for held in held_sessions(study)]
    if len(parts) == 1:
        return parts[0]
    names = xr.DataArray(np.array(study.joined.names, dtype=str), dims="session", name="session")
    together = xr.concat(parts, dim=names, join="outer", combine_attrs="override")
    # What one session has and another lacks: numbers are NaN there, and words empty.
    words = {name: own.fillna("").astype(str) for name, own in together.items() if own.dtype == object}
    return together.assign(words).assign_attrs(_joined([part.attrs for part in parts], study.joined.names))


def _joined(attributes: Sequence[Mapping[str, Any]], names: Sequence[str]) -> dict[str, Any]:
    """Return the attributes of several sessions as one: where they differ, each by its session's name."""
    out: dict[str, Any] = {}
    for key in dict.fromkeys(key for own in attributes for key in own):
        said = [own.get(key) for own in attributes]
        if all(one == said[0] for one in said):
            out[key] = said[0]
        elif key == "note":
            out[key] = "; ".join(f"{name}: {one}" for name, one in zip(names, said, strict=True) if one)
        elif key == "headline":
            out[key] = list(dict.fromkeys(one for own in said for one in own or ()))
        else:
            out[key] = dict(zip(names, said, strict=True))
    return out


def described(data: Mapping[str, tuple], coords: Mapping[str, object], **attributes: object) -> xr.Dataset:
    """Return a dataset of variables (dims, values, description)."""
    variables = {name: (dims, values, {"description": text}) for name, (dims, values, text) in data.items()}
    return xr.Dataset(variables, coords=dict(coords), attrs=dict(attributes))
