"""Edits that are asked for by name: checked before any work, and laid out as a plan."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

import numpy as np

from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.labels import Label

if TYPE_CHECKING:
    import pandas as pd
    import xarray as xr

DEFAULT_PAIRS = 8
"""Sources that are drawn where nothing says how many."""


@dataclass(frozen=True)
class EditRequest:
    """Which edits to make.

    One value stands for itself alone; what is named twice is made once.

    Parameters
    ----------
    group : str or sequence of str
        Groups to move; every edit is made for each.
    source, target : str or sequence of str
        Stimulus ids. Sources that are not given are drawn from the held-out stimuli, and so are targets.
    strength : float or sequence of float
        Start steps / T, in (0, 1]; the run's own where empty.
    gamma : float or sequence of float
        Lengths of traversals; with any, there are no targets.
    direction : str or sequence of str
        Directions of the traversals; "ones" where empty.
    n : int, optional
        Targets for each source that is given, or sources where none is; what is not given is drawn.
    seed : int, optional
        Of the draws; the run's own where None.

    Raises
    ------
    MigvisError
        For a value of another type, or values that contradict each other.
    """

    group: tuple[str, ...]
    source: tuple[str, ...] = ()
    target: tuple[str, ...] = ()
    strength: tuple[float, ...] = ()
    gamma: tuple[float, ...] = ()
    direction: tuple[str, ...] = ()
    n: int | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        for name in ("group", "source", "target", "direction"):
            object.__setattr__(self, name, _several(name, getattr(self, name), str))
        for name in ("strength", "gamma"):
            object.__setattr__(self, name, _several(name, getattr(self, name), float))
        for name in ("n", "seed"):
            value = getattr(self, name)
            if value is not None and (isinstance(value, bool) or not isinstance(value, Integral)):
                raise MigvisError(f"{name} is {value!r}; expected a whole number")
        self._check()

    def _check(self) -> None:
        if not self.group:
            raise MigvisError("found no group; expected one to move; name it with --group")
        for gamma in self.gamma:
            if not math.isfinite(gamma):
                raise MigvisError(f"gamma is {gamma:g}; expected a finite length")
        if self.gamma and self.target:
            raise MigvisError("found both target and gamma; expected one of them: a traversal has no target")
        if self.direction and not self.gamma:
            raise MigvisError(
                f"found direction {self.direction[0]!r} without gamma; expected the length of a traversal "
                "beside it; give --gamma, or omit the direction"
            )
        if self.gamma and self.source and self.n is not None:
            raise MigvisError("found n beside source and gamma; expected one traversal per source; omit n")
        least = max(len(self.target), 1) if self.source else 1
        if self.n is not None and self.n < least:
            why = ", the targets that are named for each source" if least > 1 else ""
            raise MigvisError(f"n is {self.n}; expected at least {least}{why}")
        if self.seed is not None and not 0 <= self.seed < 2**63:
            raise MigvisError(f"seed is {self.seed}; expected 0 or more, below 2**63")

    @property
    def directions(self) -> tuple[str, ...]:
        """Directions of the traversals, "ones" where none is named; none without gamma."""
        return (self.direction or ("ones",)) if self.gamma else ()

    def check_against(self, groups: Iterable[str], stimuli: Iterable[str], config: Config) -> None:
        """Refuse what a run does not have.

        Parameters
        ----------
        groups, stimuli : iterable of str
            Names of the run's.
        config : Config
            The run's.

        Raises
        ------
        MigvisError
            For an unknown group or stimulus, or a strength that is outside (0, 1] or too low for the run's
            number of steps.
        """
        from nwb_migvis.synthesis.prior.ddim import time_grid

        _check_names("group", self.group, groups)
        _check_names("stimulus", (*self.source, *self.target), stimuli)
        for strength in self.strength:
            time_grid(config.prior.n_timesteps, strength=strength, n_steps=config.synthesis.n_steps)


def plan_request(
    request: EditRequest,
    latents: xr.Dataset,
    *,
    labels: Mapping[str, Label],
    config: Config,
    n_edits: int = 0,
) -> pd.DataFrame:
    """Lay out the edits that are asked for; stimuli that are not given are drawn from the held-out ones.

    Parameters
    ----------
    request : EditRequest
    latents : xarray.Dataset
        As `Results.latents`.
    labels : mapping of str to Label, of its stimuli
    config : Config
        The run's.
    n_edits : int
        Edits that there are already: other stimuli are drawn where there are more.

    Returns
    -------
    pandas.DataFrame
        As `plan_edits` returns it.

    Raises
    ------
    MigvisError
        If more stimuli are asked for than were held out.
    """
    from nwb_migvis.synthesis.editing.plan import PlannedEdit, Push, as_plan, pair_rows, traversal_rows

    seed = config.seed if request.seed is None else request.seed
    draws = _Draws(request, latents, labels, np.random.default_rng([seed, n_edits]))
    sources = draws.sources()
    pairs = [] if request.gamma else draws.pairs(sources)
    rows: list[PlannedEdit] = []
    for group in request.group:
        for strength in request.strength or (config.synthesis.strength,):
            push = Push(float(strength), config.synthesis.guidance)
            rows += pair_rows(group, pairs, role="further", push=push)
            for direction in request.directions:
                for gamma in request.gamma:
                    rows += traversal_rows(group, sources, direction=direction, gamma=float(gamma), push=push)
    return as_plan(rows)


class _Draws:
    """Sources and targets of a request: those that are named, and others drawn from the held-out stimuli."""

    def __init__(
        self,
        request: EditRequest,
        latents: xr.Dataset,
        labels: Mapping[str, Label],
        rng: np.random.Generator,
    ):
        self.request, self.labels, self.rng = request, labels, rng
        self.stimulus = latents["stimulus"].values
        self.row = {str(name): i for i, name in enumerate(self.stimulus)}
        self.test = np.flatnonzero(latents["split"].values == "test")

    def sources(self) -> list[int]:
        """Return rows of the sources."""
        from nwb_migvis.synthesis.editing.plan import draw_sources

        if self.request.source:
            return [self.row[name] for name in self.request.source]
        n = min(DEFAULT_PAIRS, len(self.test)) if self.request.n is None else self.request.n
        if n > len(self.test):
            raise MigvisError(f"n is {n}; expected at most {len(self.test)}: no more stimuli were held out")
        return draw_sources(self.test, n, self.rng).tolist()

    def pairs(self, sources: Sequence[int]) -> list[tuple[int, int]]:
        """Return rows of sources and targets."""
        from nwb_migvis.synthesis.editing.plan import draw_targets

        named = [self.row[name] for name in self.request.target]
        n = max(len(named), 1)
        if self.request.source:
            n = self.request.n or n
        pairs = []
        for source in sources:
            drawn = draw_targets(source, self.test, n - len(named), labels=self.labels, rng=self.rng)
            if len(named) + len(drawn) < n:
                raise MigvisError(
                    f"n is {n}; expected at most {len(named) + len(drawn)}: no more held-out stimuli "
                    f"can be targets of {self.stimulus[source]!s}"
                )
            pairs += [(source, target) for target in (*named, *drawn.tolist())]
        return pairs


def _several(name: str, value: Any, kind: type) -> tuple:
    """Return a value, or each of several, as a tuple without repetition."""
    accepted: type = str if kind is str else Real
    values = (value,) if isinstance(value, (str, Real)) else value
    if not isinstance(values, Iterable):
        values = (value,)
    values = tuple(values)
    for one in values:
        if not isinstance(one, accepted) or isinstance(one, bool):
            expected = "text" if kind is str else "a number"
            raise MigvisError(f"{name} is {one!r:.80}; expected {expected}, or several")
    return tuple(dict.fromkeys(kind(one) for one in values))


def _check_names(what: str, asked: Iterable[str], existing: Iterable[Any]) -> None:
    names = [str(name) for name in existing]
    there = set(names)
    for name in asked:
        if name not in there:
            close: Sequence[str] = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:3]
            raise MigvisError(
                f"{what} {name!r} is unknown; expected one of the run's {len(names)}, such as "
                f"{', '.join(close)}"
            )
