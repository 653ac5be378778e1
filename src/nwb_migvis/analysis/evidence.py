"""Evidence of a study: what each latent group explains, says about labels and shows in edits; its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.agreement import Agreement
from nwb_migvis.analysis.appearance import describe_edits
from nwb_migvis.analysis.context import Context, one_thread
from nwb_migvis.analysis.edits import SessionEdits
from nwb_migvis.analysis.encoding import EncodingCheck, check_by_encoding
from nwb_migvis.analysis.judges import open_judges
from nwb_migvis.analysis.judging import (
    Shown,
    beyond_variables,
    claims_of,
    decode_specifically,
    judge,
    pool,
)
from nwb_migvis.analysis.latents import Fit, SessionLatents, fit_sessions_again, refits, seed_stability
from nwb_migvis.analysis.measuring import (
    adjusted,
    dependence_notes,
    evidence_notes,
    measure_beyond,
    measure_decoding,
    measure_dimensions,
    measure_independence,
    measure_information,
    measure_responses,
)
from nwb_migvis.analysis.scoring import edit_scoring, edit_selectivity, readers_alongside
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.analysis.setting import repeats_of, setting_of, without_slow_change
from nwb_migvis.levels import Design
from nwb_migvis.results import GROUP_COLUMNS, no_decoding, no_selectivity

if TYPE_CHECKING:
    from nwb_migvis.evidence.readers.protocol import Reader
    from nwb_migvis.networks.describing import ImageDescriber


@dataclass(frozen=True, eq=False)
class SessionEvidence:
    """The evidence of one session.

    Attributes
    ----------
    groups : pandas.DataFrame
        As `Results.groups`.
    units, decoding, selectivity : xarray.Dataset
        As in `Results`.
    n_units_left_out : int
        Units that are too unreliable to count as variance.
    appearance : dict
        What the edits look like.
    shared_with : tuple of dict
        How well other sessions agree.
    independence : tuple of dict
        How well each pair of groups predict each other.
    notes : tuple of str
    encoding : EncodingCheck
        What an encoding model says of the edits.
    """

    groups: pd.DataFrame
    units: xr.Dataset
    n_units_left_out: int = 0
    decoding: xr.Dataset = field(default_factory=no_decoding)
    selectivity: xr.Dataset = field(default_factory=no_selectivity)
    appearance: Mapping[str, Any] = field(default_factory=dict)
    shared_with: tuple[Mapping[str, Any], ...] = ()
    notes: tuple[str, ...] = ()
    independence: tuple[Mapping[str, Any], ...] = ()
    encoding: EncodingCheck = field(default_factory=EncodingCheck)


def gather_evidence(
    sessions: Sessions,
    latents: Sequence[SessionLatents],
    edits: Sequence[SessionEdits],
    context: Context,
    *,
    seen: Mapping[str, Any] | None = None,
    reseeded: Callable[[], list[list[np.ndarray]]] | None = None,
) -> list[SessionEvidence]:
    """Gather the evidence of every session: each on its own, and how well they agree.

    Parameters
    ----------
    sessions : Sessions
    latents, edits : sequence
        Of each session.
    context : Context
    seen : mapping, optional
        What the critic's features are, as they record it: no judge may be the same network.
    reseeded : callable, optional
        Returns the latents of fits from other seeds, as `refits` does, which makes them where it is None.
    """
    knows_responses = all(own.knows_responses for own in latents)
    design, n = sessions.design(context.config), len(sessions)
    with context.clock.of("further fits"):
        others: list[list[np.ndarray]] = []
        folds: list[list[SessionLatents]] = []
        if knows_responses:
            others = refits(sessions, context) if reseeded is None else reseeded()
            held_out = [Fit(fold=k) for k in range(1, context.config.split.folds)]
            folds = fit_sessions_again(sessions, context, held_out)
    with context.clock.of("evidence"), one_thread() as n_threads:
        judges = open_judges(context.config, seen) if any(made.n_edits for made in edits) else {}
        shared: list[tuple[Mapping[str, Any], ...]] = [()] * n
        if knows_responses and n > 1:
            seed = context.seeds["evidence"]
            agreement = Agreement(sessions, latents, context.config.evidence, seed=seed)
            shared = [tuple(agreement.records(i)) for i in range(n)]
        evidence = []
        for i, (own, made) in enumerate(zip(latents, edits, strict=True)):
            with readers_alongside(own, made, context, judges=judges, in_thread=n_threads > 1) as readers:
                fits = Fits((own, *(fold[i] for fold in folds)), [refit[i] for refit in others])
                evidence.append(
                    _of_session(
                        sessions.sessions[i],
                        fits,
                        made,
                        context,
                        judges=Judges(judges, readers),
                        design=design[sessions.rows[i]],
                        shared_with=shared[i],
                    )
                )
        return evidence


@dataclass(frozen=True, eq=False)
class Judges:
    """What judges the edits of one session.

    Attributes
    ----------
    networks : mapping of str to ImageDescriber
    readers : callable
        Returns those that were trained on the session's images, the first while other evidence is gathered.
    """

    networks: Mapping[str, ImageDescriber]
    readers: Callable[[], list[Reader]]


@dataclass(frozen=True, eq=False)
class Fits:
    """The fits of one session.

    Attributes
    ----------
    folds : sequence of SessionLatents
        The one that is kept, and those that hold out other stimuli.
    others : sequence of numpy.ndarray (stimulus, latent)
        Its latents in fits from other seeds.
    """

    folds: Sequence[SessionLatents]
    others: Sequence[np.ndarray]


def _of_session(
    session: xr.Dataset,
    fits: Fits,
    edits: SessionEdits,
    context: Context,
    *,
    judges: Judges,
    design: Design,
    shared_with: tuple[Mapping[str, Any], ...],
) -> SessionEvidence:
    """Return the evidence of one session."""
    seed, raw, others = context.seeds["evidence"], fits.folds[0], fits.others
    stimulus = session["stimulus"].values
    encoding = check_by_encoding(raw, edits, stimulus, context, judges=judges.networks, levels=design.split)
    setting = setting_of(session, raw.labels, design, context)
    measured = [without_slow_change(fit, setting.order) for fit in fits.folds]
    latents, repeats = measured[0], [repeats_of(fit, setting, context) for fit in measured]
    groups, units, n_units_left_out = measure_responses(session, latents, repeats[0], context)
    groups = groups.join(measure_information(raw, edits, context)).join(measure_dimensions(raw))
    groups = groups.join(measure_beyond(latents, edits, repeats[0], context, levels=design.split))
    if others:
        groups["stability"] = seed_stability(raw, others)
    decoding, own = measure_decoding(latents, design, context)
    groups = adjusted(groups.join(own))
    cells = pool([decode_specifically(fit, setting, context) for fit in measured])
    if raw.labels:
        labels = decoding["label"].values.tolist()
        decoding = decoding.assign(beyond_variables(cells, list(raw.groups), labels))
    independence = measure_independence(raw, design, context)
    scoring = edit_scoring(stimulus.tolist(), raw, edits, judges.readers(), context=context)
    selectivity = edit_selectivity(raw, edits, scoring)
    appearance = describe_edits(raw, edits, scoring, seed=seed)
    claims = claims_of(
        measured,
        repeats,
        setting,
        Shown(selectivity, appearance, encoding.transfers),
        cells=cells,
        others=others,
        context=context,
    )
    groups = groups.join(judge(claims))
    return SessionEvidence(
        groups[[name for name in GROUP_COLUMNS if name in groups]],
        units,
        n_units_left_out,
        decoding,
        selectivity,
        appearance,
        shared_with,
        (*design.notes, *evidence_notes(raw, groups), *dependence_notes(independence), *encoding.notes),
        independence,
        encoding,
    )
