"""What further analyses are, and what they need of a study's sessions: checked before any work."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any, Protocol

import xarray as xr

from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.analysis.units import unit_positions, unit_values
from nwb_migvis.config import Config
from nwb_migvis.config.companions import PRIOR
from nwb_migvis.config.evidence import AUTO, EDGES
from nwb_migvis.errors import MigvisError
from nwb_migvis.read.unit_query import POSITIONS
from nwb_migvis.registry import ANALYSES

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

STEPS = ("latents", "prior", "critic", "edits", "evidence")
"""Steps of a study in order: one that is done again undoes those after it."""
MIN_SITES = 10
"""Positions of units that a correlation with them can be tested on."""


class FurtherAnalysis(Protocol):
    """An entry of the registry of analyses.

    `min_images`, the fewest held-out images that it can say something about, is optional. So is `uses`: steps
    that it does more with, where they were taken.
    """

    needs: tuple[str, ...]
    """Steps of a study, and conditions of its sessions (`CONDITIONS`)."""

    def compute(self, study: Study, /) -> xr.Dataset:
        """Return what was measured, in a form that `canonical_analysis` accepts."""
        ...


def checked_analysis(name: str, sessions: Sessions, config: Config) -> Any:
    """Return the analysis of a name, once the sessions have what it needs.

    Raises
    ------
    MigvisError
        If there is no analysis of that name, or a session lacks something.
    """
    analysis = ANALYSES[name]
    for need in analysis.needs:
        if need in CONDITIONS:
            CONDITIONS[need](name, sessions, config)
        elif need not in STEPS:
            raise MigvisError(
                f"the analysis {name!r} needs {need!r}; expected some of {', '.join((*STEPS, *CONDITIONS))}; "
                "correct its `needs`"
            )
    least = int(getattr(analysis, "min_images", 0))
    for i, session in enumerate(sessions.sessions):
        n = session.sizes["stimulus"]
        if n * config.split.test < least:
            raise MigvisError(
                f"{sessions.where(i)}found {n} images, of which {int(n * config.split.test)} are held out; "
                f"expected at least {least} of them for {name!r}; raise split.test, or omit the analysis"
            )
    return analysis


def _pixels(name: str, sessions: Sessions, config: Config) -> None:
    for i in range(len(sessions)):
        if i not in sessions.pictured:
            raise MigvisError(
                f"{sessions.where(i)}found no pixels of the images; expected some to compute {name!r}; read "
                "the session with its images (images=FOLDER), or omit the analysis"
            )


def _network(name: str, sessions: Sessions, config: Config) -> None:
    """Open the network that describes images, where the settings name one and there are images."""
    network = config.companions.network
    if network in (AUTO, EDGES, PRIOR) or not sessions.pictured:
        return
    from nwb_migvis.networks.image_networks import open_image_network

    kind, _, model = network.partition(":")
    open_image_network(kind, model=model, **config.evidence.weights_of(model))


def _photographs(name: str, sessions: Sessions, config: Config) -> None:
    _network(name, sessions, config)
    if config.companions.network == PRIOR:
        raise MigvisError(
            f"companions: found network = {PRIOR!r}, which describes the images of the session alone; "
            f"expected a network for photographs or 'edges' to compute {name!r}; choose one (--network edges)"
        )


def _labels(name: str, sessions: Sessions, config: Config) -> None:
    if not sessions.labels(config):
        raise MigvisError(
            f"found no labels of the images; expected one or more to compute {name!r}; give a CSV of labels, "
            "or omit the analysis"
        )


def _words(name: str, sessions: Sessions, config: Config) -> None:
    chosen = config.companions
    if chosen.vocabulary:
        from nwb_migvis.networks.text_networks import check_text_network

        _pixels(name, sessions, config)
        check_text_network(chosen.text_network)
    elif not sessions.labels(config):
        raise MigvisError(
            "found no labels of the images and no vocabulary; expected one of them to compute "
            f"{name!r}; give a CSV of labels, or companions.vocabulary with companions.text_network, or omit "
            "the analysis"
        )


def _repeats(name: str, sessions: Sessions, config: Config) -> None:
    for i, session in enumerate(sessions.sessions):
        if session.sizes["presentation"] < 2 * session.sizes["stimulus"]:
            raise MigvisError(
                f"{sessions.where(i)}found {session.sizes['presentation']} presentations of "
                f"{session.sizes['stimulus']} images; expected two or more of each to compute {name!r}; omit "
                "the analysis"
            )


def _windows(name: str, sessions: Sessions, config: Config) -> None:
    if not config.companions.windows_s:
        raise MigvisError(
            f"found no counting windows for {name!r}; expected one or more in companions.windows_s; give "
            "some (--windows 0.07:0.12)"
        )
    for i, session in enumerate(sessions.sessions):
        if "reading" not in session.attrs:
            raise MigvisError(
                f"{sessions.where(i)}found a session that was not read from a file; expected one whose "
                f"spikes can be counted again, to compute {name!r}; read it with read_session"
            )


def _areas(name: str, sessions: Sessions, config: Config) -> None:
    column = config.companions.areas
    if not column:
        raise MigvisError(
            f"found no column of units for {name!r}; expected one in companions.areas; give it (--areas "
            "location)"
        )
    for i, session in enumerate(sessions.sessions):
        areas = sorted(set(unit_values(session, column).tolist()) - {""})
        if len(areas) < 2:
            raise MigvisError(
                f"{sessions.where(i)}found {areas or 'nothing'} in {column!r} of the units; expected two or "
                f"more areas to compute {name!r}; name another column, or omit the analysis"
            )


def _electrodes(name: str, sessions: Sessions, config: Config) -> None:
    for i, session in enumerate(sessions.sessions):
        found = unit_positions(session)
        if found.n_sites < MIN_SITES:
            raise MigvisError(
                f"{sessions.where(i)}found {found.n_sites} positions of units "
                f"({', '.join(found.axis) or 'no column of them'}); expected {MIN_SITES} or more different "
                f"ones to compute {name!r}, in columns {', '.join(POSITIONS)} of units or electrodes; "
                "omit the analysis"
            )


Condition = Callable[[str, Sessions, Config], None]

CONDITIONS: Mapping[str, Condition] = {
    "pixels": _pixels,
    "network": _network,
    "photographs": _photographs,
    "labels": _labels,
    "words": _words,
    "repeats": _repeats,
    "windows": _windows,
    "areas": _areas,
    "electrodes": _electrodes,
}
"""What an analysis can need beside steps, by name: each raises where it is absent."""
