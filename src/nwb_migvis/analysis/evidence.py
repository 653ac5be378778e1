"""Evidence of a study: what each latent group explains, says about labels and shows in edits; its verdict."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.alongside import Pending, alongside
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
from nwb_migvis.analysis.latents import SessionLatents, fit_sessions, refits, seed_stability
from nwb_migvis.analysis.scoring import edit_scoring, edit_selectivity, fit_edit_readers
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.analysis.setting import Repeats, repeats_of, setting_of, without_slow_change
from nwb_migvis.analysis.units import unit_coords
from nwb_migvis.labels import select
from nwb_migvis.levels import Design, Exchange
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
            folds = [fit_sessions(sessions, context, fold=k) for k in range(1, context.config.split.folds)]
    with context.clock.of("evidence"), one_thread() as n_threads:
        judges = open_judges(context.config, seen) if any(made.n_edits for made in edits) else {}
        shared: list[tuple[Mapping[str, Any], ...]] = [()] * n
        if knows_responses and n > 1:
            seed = context.seeds["evidence"]
            agreement = Agreement(sessions, latents, context.config.evidence, seed=seed)
            shared = [tuple(agreement.records(i)) for i in range(n)]
        evidence = []
        for i, (own, made) in enumerate(zip(latents, edits, strict=True)):
            fit_readers = partial(fit_edit_readers, own, made, context, judges=judges)
            with alongside(fit_readers, in_thread=n_threads > 1) as readers:
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
    readers : Pending
        Trained on the session's images while other evidence is gathered.
    """

    networks: Mapping[str, ImageDescriber]
    readers: Pending[list[Reader]]


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
    groups, units, n_units_left_out = _responses(session, latents, repeats[0], context)
    groups = groups.join(_information(raw, edits, context)).join(_dimensions(raw))
    groups = groups.join(_beyond(latents, edits, repeats[0], context, levels=design.split))
    if others:
        groups["stability"] = seed_stability(raw, others)
    decoding, own = _decoding(latents, design, context)
    groups = _adjusted(groups.join(own))
    cells = pool([decode_specifically(fit, setting, context) for fit in measured])
    if raw.labels:
        labels = decoding["label"].values.tolist()
        decoding = decoding.assign(beyond_variables(cells, list(raw.groups), labels))
    independence = _independence(raw, design, context)
    scoring = edit_scoring(stimulus.tolist(), raw, edits, judges.readers.result(), context=context)
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
        (*design.notes, *_notes(raw, groups), *_dependence_notes(independence), *encoding.notes),
        independence,
        encoding,
    )


def _responses(
    session: xr.Dataset, latents: SessionLatents, repeats: Repeats | None, context: Context
) -> tuple[pd.DataFrame, xr.Dataset, int]:
    """Measure what the groups explain of responses, and how reliable the units are."""
    from nwb_migvis.evidence.reliability import split_half_correlation, split_half_reliability

    seed, groups = context.seeds["evidence"], latents.groups
    table = pd.DataFrame(index=pd.Index(groups.names, name="group"))
    table["first"] = [place.start for place in groups.slices.values()]
    table["size"] = groups.sizes
    table["supervised_by"] = [",".join(labels) for labels in groups.labels]
    r2, n_left_out = np.full(session.sizes["unit"], np.nan), 0
    names = [f"variance_{name}" for name in ("explained", "explained_p", "unique", "unique_p")]
    if repeats is not None:
        variance = repeats.variance
        r2, n_left_out = variance.r2, variance.n_units_left_out
        for name in names:
            table[name] = pd.Series(getattr(variance, name.removeprefix("variance_")))
        for name in ("explained", "unique"):
            bounds = getattr(variance, f"{name}_interval")
            for i, end in enumerate(("low", "high")):
                table[f"variance_{name}_{end}"] = pd.Series({g: bound[i] for g, bound in bounds.items()})
    else:
        table[names] = np.nan
    counts = (latents.spike_count, latents.stimulus_index)
    n_stimuli, test = latents.split.size, latents.split == "test"
    units = xr.Dataset(
        {
            "loading": (("unit", "latent"), latents.model.loading()),
            "r2": ("unit", r2),
            "noise_ceiling": (
                "unit",
                split_half_correlation(*counts, n_stimuli=n_stimuli, seed=seed, stimuli=test),
            ),
            "reliability": ("unit", split_half_reliability(*counts, n_stimuli=n_stimuli, seed=seed)),
        },
        coords=unit_coords(session),
    )
    return table, units, n_left_out


def _notes(latents: SessionLatents, groups: pd.DataFrame) -> tuple[str, ...]:
    """Say what could not be measured, or counts for nothing."""
    from nwb_migvis.latents.checks import constant_units

    notes = []
    n_constant = int(constant_units(latents.spike_count).sum())
    if n_constant:
        notes.append(
            f"{n_constant} of {latents.spike_count.shape[1]} units never change their spike count: they are "
            "kept and say nothing"
        )
    if (latents.n_presentations < 2).all():
        notes.append(
            "no image was shown twice: no reliability was measured, and latents were fitted to predict "
            "the presentations that they were encoded from"
        )
    if (groups["supervised_by"] != "").any() and groups["decoding"].isna().all():
        notes.append("label decoding was not measured: it needs twenty test images with the label")
    return tuple(notes)


def _information(latents: SessionLatents, edits: SessionEdits, context: Context) -> pd.DataFrame:
    """Bound the information between each group and the images, and estimate it where the prior can."""
    from nwb_migvis.evidence.information import infonce_bound, paired_mean

    draws = {"n_permutations": context.config.evidence.n_permutations, "seed": context.seeds["evidence"]}
    rows = {
        group: dict.fromkeys(("mi_bound_nats", "mi_cap_nats", "mi_p"), np.nan) for group in latents.groups
    }
    if edits.scores is not None:
        for group, scores in zip(rows, edits.scores, strict=True):
            bound = infonce_bound(scores, **draws)
            rows[group] = {
                "mi_bound_nats": bound.bound_nats,
                "mi_cap_nats": bound.cap_nats,
                "mi_p": bound.p_value,
            }
    table = pd.DataFrame.from_dict(rows, orient="index")
    if edits.information is not None:
        table["information_nats"] = edits.information.own.mean(axis=0)
        table["information_p"] = [paired_mean(pairs, **draws)[1] for pairs in edits.information.crossed]
    return table


def _dimensions(latents: SessionLatents) -> pd.DataFrame:
    """Count the dimensions that each group uses on the test stimuli."""
    from nwb_migvis.evidence.dimension import participation_ratio, twonn_dimension

    z = latents.mean[latents.split == "test"]
    rows = {
        group: {
            "participation_ratio": participation_ratio(own),
            "twonn_dimension": twonn_dimension(own),
        }
        for group, own in latents.groups.split(z).items()
    }
    return pd.DataFrame.from_dict(rows, orient="index")


def _beyond(
    latents: SessionLatents,
    edits: SessionEdits,
    repeats: Repeats | None,
    context: Context,
    *,
    levels: Exchange,
) -> pd.DataFrame:
    """Measure the variance of each group beyond its own labels and beyond low-level image features."""
    from nwb_migvis.evidence.beyond import image_features, label_features

    seed, train, labels = context.seeds["evidence"], latents.split == "train", latents.labels
    sources: dict[tuple[str, ...], np.ndarray] = {}
    for names in latents.groups.labels:
        own = {name: labels[name] for name in names if name in labels}
        if own:
            sources[tuple(own)] = label_features(own, train=train, seed=seed)
    if edits.image.size:
        sources[()] = image_features(edits.image, train=train)
    given = {} if repeats is None else {key: repeats.given(x, levels, seed) for key, x in sources.items()}
    rows: dict[str, dict[str, float]] = {}
    for group, supervised_by in latents.groups.supervised_by.items():
        row = rows[group] = {}
        own_labels = tuple(name for name in supervised_by if name in labels)
        described = {"labels": given.get(own_labels) if own_labels else None, "images": given.get(())}
        for what, features in described.items():
            added, p_value = np.nan, np.nan
            if repeats is not None and features is not None:
                beyond = repeats.beyond(latents.groups.slices[group], features, context)
                added, p_value = beyond.added, beyond.p_value
            row[f"variance_beyond_{what}"], row[f"variance_beyond_{what}_p"] = added, p_value
    return pd.DataFrame.from_dict(rows, orient="index")


def _decoding(latents: SessionLatents, design: Design, context: Context) -> tuple[xr.Dataset, pd.DataFrame]:
    """Decode every label from every group on the test stimuli."""
    from nwb_migvis.evidence.decoding import decode_labels, own_group_gap
    from nwb_migvis.evidence.disentanglement import group_mig, group_sap

    names = ["decoding", "decoding_p", "own_group_gap"]
    own = pd.DataFrame(np.nan, index=list(latents.groups), columns=names)
    if not latents.labels:
        return no_decoding(), own
    test = latents.split == "test"
    table = decode_labels(
        latents.mean[test],
        select(latents.labels, test),
        groups=latents.groups,
        exchanges=design[test].by_label,
        n_permutations=context.config.evidence.n_permutations,
        seed=context.seeds["evidence"],
    )
    own["decoding"], own["decoding_p"] = table["own_score"].values, table["own_p"].values
    own["own_group_gap"] = pd.Series(
        own_group_gap(table["scaled"], supervised_by=latents.groups.supervised_by), dtype=float
    )
    for end in ("low", "high"):
        own[f"own_group_gap_{end}"] = table[f"gap_{end}"].values
    decoding = table[["score", "chance", "p_value", "q_value", "score_all", "mig_low", "mig_high"]].assign(
        mig=group_mig(table["information"], table["entropy"]),
        sap=group_sap(table["scaled"]),
    )
    return decoding, own


def _independence(latents: SessionLatents, design: Design, context: Context) -> tuple[Mapping[str, Any], ...]:
    """Test on the test stimuli whether the groups are independent of each other."""
    from nwb_migvis.evidence.decoding import Reading
    from nwb_migvis.evidence.independence import dependence_records, group_dependence

    test = latents.split == "test"
    reading = Reading(
        exchange=design.split[test],
        seed=context.seeds["evidence"],
        n_permutations=context.config.evidence.n_permutations,
    )
    return dependence_records(group_dependence(latents.mean[test], latents.groups, reading))


def _dependence_notes(independence: Sequence[Mapping[str, Any]]) -> list[str]:
    """Name the pairs of groups that predict each other."""
    from nwb_migvis.evidence.significance import LEVEL

    pairs = [pair for pair in independence if pair["q_value"] < LEVEL]
    names = ", ".join(f"{pair['group']} and {pair['other']} (R2 {pair['score']:.2f})" for pair in pairs)
    return [f"groups that are not independent on the test images: {names}"] if pairs else []


def _adjusted(groups: pd.DataFrame) -> pd.DataFrame:
    """Add p-values adjusted over the groups."""
    from nwb_migvis.evidence.significance import benjamini_hochberg

    groups = groups.copy()
    for name in ("variance_explained", "variance_unique", "mi", "decoding"):
        groups[f"{name}_q"] = benjamini_hochberg(groups[f"{name}_p"].to_numpy())
    return groups
