"""What further edits are asked for, checked before any work."""

from __future__ import annotations

import difflib
import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from numbers import Integral, Real
from typing import Any

from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.results import Results


@dataclass(frozen=True)
class Request:
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
                "beside it; give --gamma, or leave the direction away"
            )
        if self.gamma and self.source and self.n is not None:
            raise MigvisError(
                "found n beside source and gamma; expected one traversal a source; leave n away"
            )
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

    def check_against(self, results: Results, config: Config) -> None:
        """Refuse what a run does not have.

        Raises
        ------
        MigvisError
            For an unknown group or stimulus, or a strength that is outside (0, 1] or too low for the run's
            number of steps.
        """
        from nwb_migvis.synthesis.prior.ddim import time_grid

        _check_known("group", self.group, results.groups.index)
        _check_known("stimulus", (*self.source, *self.target), results.latents["stimulus"].values)
        for strength in self.strength:
            time_grid(config.prior.n_timesteps, strength=strength, n_steps=config.synthesis.n_steps)


def _several(name: str, value: Any, kind: type) -> tuple:
    """Return a value, or each of several, as a tuple without repetition."""
    wanted: type = str if kind is str else Real
    values = (value,) if isinstance(value, (str, Real)) else value
    if not isinstance(values, Iterable):
        values = (value,)
    values = tuple(values)
    for one in values:
        if not isinstance(one, wanted) or isinstance(one, bool):
            expected = "text" if kind is str else "a number"
            raise MigvisError(f"{name} is {one!r:.80}; expected {expected}, or several")
    return tuple(dict.fromkeys(kind(one) for one in values))


def _check_known(what: str, wanted: Iterable[str], known: Iterable[Any]) -> None:
    names = [str(name) for name in known]
    found = set(names)
    for name in wanted:
        if name not in found:
            close: Sequence[str] = difflib.get_close_matches(name, names, n=3, cutoff=0.5) or names[:3]
            raise MigvisError(
                f"{what} {name!r} is unknown; expected one of the run's {len(names)}, such as "
                f"{', '.join(close)}"
            )
