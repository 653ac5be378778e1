"""What a study has made so far: what can be looked at without a step being taken."""

from __future__ import annotations

from collections.abc import Sequence
from html import escape
from typing import TYPE_CHECKING, Any

import xarray as xr

from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.analysis.state import StudyState
from nwb_migvis.config import Config
from nwb_migvis.results import Results

if TYPE_CHECKING:
    from nwb_migvis.synthesis.critic.model import Critic
    from nwb_migvis.synthesis.prior.model import Prior


class Made:
    """The settings, sessions, steps and results of a study.

    Parameters
    ----------
    name : str
        Of the run.
    state : StudyState
    one : bool
        Whether there is one session, of which things are not put into lists.
    """

    def __init__(self, name: str, state: StudyState, *, one: bool) -> None:
        self.name = name
        self._state, self._one = state, one

    @property
    def config(self) -> Config:
        """The settings, with the values that were actually used as far as the steps have gone."""
        return self._state.config

    @property
    def seconds(self) -> dict[str, float]:
        """Seconds that each stage took so far."""
        return self._state.context.clock.seconds

    @property
    def sessions(self) -> tuple[xr.Dataset, ...]:
        """The sessions, as they were given."""
        return tuple(self._state.sessions.sessions)

    @property
    def joined(self) -> Sessions:
        """The same side by side, with stimuli, labels and design."""
        return self._state.sessions

    @property
    def has_images(self) -> bool:
        """Whether a session holds pixels, without which nothing is synthesized."""
        return bool(self._state.sessions.pictured)

    @property
    def done(self) -> tuple[str, ...]:
        """Steps that were taken: some of "latents", "prior", "critic", "edits", "evidence"."""
        return tuple(self._state.done)

    @property
    def latents(self) -> Any:
        """The latents so far: `SessionLatents`, or a list of them for several sessions."""
        return self._each(self._state.need("latents", to="show them"))

    @property
    def prior(self) -> Prior:
        """The prior so far."""
        return self._state.need("prior", to="show it")

    @property
    def critic(self) -> Critic:
        """The critic so far."""
        return self._state.need("critic", to="show it")

    @property
    def results(self) -> Results | list[Results]:
        """What was found, as `run` returns it; a list for several sessions.

        Raises
        ------
        MigvisError
            If nothing was measured yet.
        """
        return self._each([results for results, _ in self.assembled()])

    @property
    def so_far(self) -> Any:
        """Latents and edits so far: `Results` of which nothing is measured; a list for several sessions."""
        return self._each(self._state.so_far(self.name))

    def assembled(self) -> list[tuple[Results, dict[str, bytes]]]:
        """Return for each session its results, and safetensors bytes of the networks by name.

        Raises
        ------
        MigvisError
            If nothing was measured yet.
        """
        return self._state.assembled(self.name)

    def __repr__(self) -> str:
        return self._state.describe(self.name)

    def _repr_html_(self) -> str:
        return f"<pre>{escape(repr(self))}</pre>"

    def _each(self, values: Sequence[Any]) -> Any:
        return values[0] if self._one else list(values)
