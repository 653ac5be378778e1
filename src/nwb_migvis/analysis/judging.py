"""The verdict on each group: which parts of its claim were measured, and which hold."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.latents import SessionLatents
from nwb_migvis.analysis.setting import Repeats, Setting
from nwb_migvis.results import BEYOND

if TYPE_CHECKING:
    from nwb_migvis.evidence.specific import Specific
    from nwb_migvis.evidence.transfer import Transfer
    from nwb_migvis.evidence.verdict import Part


def decode_specifically(
    latents: SessionLatents, setting: Setting, context: Context
) -> dict[tuple[str, str], Specific]:
    """Decode every label from every group beyond the other labels, low-level image features and time.

    Parameters
    ----------
    latents : SessionLatents
    setting : Setting
    context : Context
    """
    from nwb_migvis.evidence.specific import HeldOut, other_features, read_beyond, share_left, what_is_left

    config, seed = context.config.evidence, context.seeds["evidence"]
    left, shares = {}, {}
    for name, label in latents.labels.items():
        others = other_features(name, latents.labels, seed=seed)
        left[name] = what_is_left(label, others, setting.nuisances)
        shares[name] = share_left(label, left[name])
    cells: dict[tuple[str, str], Specific] = {}
    by_label = {name: setting.design.by_label[name] for name in left}
    for key, exchange in {levels.level.tobytes(): levels for levels in by_label.values()}.items():
        names = [name for name, levels in by_label.items() if levels.level.tobytes() == key]
        held_out = HeldOut(
            train=latents.split != "test",
            test=latents.split == "test",
            exchange=exchange,
            seed=seed,
            n_permutations=config.n_permutations,
            n_bootstrap=config.n_bootstrap,
        )
        some = {name: left[name] for name in names}
        cells |= read_beyond(latents.groups.split(latents.mean), some, shares=shares, held_out=held_out)
    return cells


def pool(fits: Sequence[Mapping[tuple[str, str], Specific]]) -> dict[tuple[str, str], Specific]:
    """Pool the readings of several fits, each tested on other stimuli (`nwb_migvis.evidence.folds`)."""
    from nwb_migvis.evidence.folds import combined_p, mean_interval
    from nwb_migvis.evidence.specific import Specific

    if len(fits) == 1:
        return dict(fits[0])
    pooled = {}
    for key in fits[0]:
        cells = [fit[key] for fit in fits if np.isfinite(fit[key].p_value)]
        if not cells:
            pooled[key] = fits[0][key]
            continue
        scores = [cell.score for cell in cells]
        pooled[key] = Specific(
            float(np.mean(scores)),
            mean_interval(scores, [cell.interval for cell in cells]),
            combined_p([cell.p_value for cell in cells]),
            cells[0].left,
        )
    return pooled


def beyond_variables(
    cells: Mapping[tuple[str, str], Specific], groups: Sequence[str], labels: Sequence[str]
) -> dict[str, tuple[tuple[str, str], np.ndarray]]:
    """Return the readings as variables (group, label) of `Results.decoding`."""
    from nwb_migvis.evidence.significance import benjamini_hochberg

    table = np.full((len(BEYOND), len(groups), len(labels)), np.nan)
    for i, group in enumerate(groups):
        for j, label in enumerate(labels):
            if cell := cells.get((group, label)):
                table[:, i, j] = (cell.score, *cell.interval, cell.p_value, np.nan, cell.left)
    table[BEYOND.index("beyond_q")] = benjamini_hochberg(table[BEYOND.index("beyond_p")])
    return {name: (("group", "label"), values) for name, values in zip(BEYOND, table, strict=True)}


def decoded_part(
    group: str, own: Sequence[str], cells: Mapping[tuple[str, str], Specific], setting: Setting
) -> tuple[Part, str, str]:
    """Return whether a group's own labels are decoded; and why they cannot be, by the design or the split.

    The p-value is the smallest of its labels' times their number; score and interval are of that label.
    """
    from nwb_migvis.evidence.specific import MIN_LEFT
    from nwb_migvis.evidence.verdict import Part

    confounds, unmeasured, tested = [], [], []
    for name in own:
        cell = cells.get((group, name))
        if name in setting.time_of_labels:
            confounds.append(setting.time_of_labels[name])
        elif name in setting.design.unmeasured:
            unmeasured.append(setting.design.unmeasured[name])
        elif cell is not None and cell.left < MIN_LEFT:
            confounds.append(
                f"other labels or low-level image features ({cell.left:.2f} of {name} is left beyond them)"
            )
        elif cell is not None and np.isfinite(cell.p_value):
            tested.append(cell)
    if not tested:
        return Part(), "" if unmeasured else next(iter(confounds), ""), next(iter(unmeasured), "")
    best = min(tested, key=lambda cell: (cell.p_value, -cell.score))
    p_value = min(1.0, best.p_value * len(tested))
    return Part(best.score, best.interval, p_value), "", ""


def _shown_by_labels(group: str, own: Sequence[str], selectivity: xr.Dataset, *, min_score: float) -> Part:
    """Return whether edits of a group move its own labels, read by every reader that can read one of them.

    The weakest reader counts. Its p-value is the smallest of its labels' times their number.
    """
    from nwb_migvis.evidence.verdict import Part

    if "pmi" not in selectivity["method"].values or not own:
        return Part()
    parts = []
    for reader in selectivity["reader"].values:
        readable = [
            name
            for name in own
            if name in selectivity["label"].values
            and selectivity["reader_score"].sel({"label": name, "reader": reader}) >= min_score
        ]
        if not readable:
            continue
        cell = selectivity.sel({"group": group, "method": "pmi", "reader": reader, "label": readable})
        p_values = cell["p_value"].values
        if not np.isfinite(p_values).any():
            continue
        best = int(np.nanargmin(p_values))
        interval = tuple(float(cell[f"transfer_{end}"].values[best]) for end in ("low", "high"))
        p_value = min(1.0, float(p_values[best]) * int(np.isfinite(p_values).sum()))
        parts.append(Part(float(cell["transfer"].values[best]), (interval[0], interval[1]), p_value))
    return max(parts, key=lambda part: part.p) if parts else Part()


@dataclass(frozen=True, eq=False)
class Shown:
    """What the edits show.

    Attributes
    ----------
    selectivity : xarray.Dataset
        As `Results.selectivity`.
    appearance : mapping
        From `describe_edits`.
    encoded : mapping of (method, edited group, measured group) to Transfer
        Of the encoding check; empty where there was none.
    """

    selectivity: xr.Dataset
    appearance: Mapping[str, Any]
    encoded: Mapping[tuple[str, str, str], Transfer] = field(default_factory=dict)

    def part(self, group: str, own: Sequence[str], *, min_score: float) -> Part:
        """Return whether edits of a group move what it encodes, on images or in predicted responses.

        On images: its own labels, or, of a free group, what images look like. Where both were tested, either
        shows it: the smaller p-value counts, times two.
        """
        from nwb_migvis.evidence.verdict import either

        encoded = _shown_by_encoding(self.encoded.get(("pmi", group, group)))
        if own:
            on_images = _shown_by_labels(group, own, self.selectivity, min_score=min_score)
            return either(on_images, encoded)
        looks = _shown_by_features(self.appearance.get("feature_transfer", {}).get(group, {}))
        return either(encoded, looks)  # of equal p-values, the one whose estimate is 1 at the target


def _shown_by_encoding(cell: Transfer | None) -> Part:
    """Return whether edits move the group's own latents, as predicted responses have them."""
    from nwb_migvis.evidence.verdict import Part

    if cell is None or not np.isfinite(cell.p_value):
        return Part()
    return Part(cell.transfer, cell.transfer_interval, cell.p_value)


def _shown_by_features(of_methods: Mapping[str, Mapping[str, Any]]) -> Part:
    """Return whether edits take over what their targets look like, beyond edits with other targets."""
    from nwb_migvis.evidence.verdict import Part

    cell = of_methods.get("pmi")
    if cell is None or cell["p_value"] is None or not np.isfinite(cell["p_value"]):
        return Part()
    base = (of_methods.get("shuffled") or {}).get("transfer") or 0.0
    low, high = (value - base for value in cell["transfer_interval"])
    return Part(cell["transfer"] - base, (low, high), cell["p_value"])


@dataclass(frozen=True, eq=False)
class Claim:
    """What is claimed of a group, with the parts that were measured of it.

    Attributes
    ----------
    parts : mapping of str to Part
    supervised : bool
    confounded, unmeasured : str
        What the design cannot tell the claim from, and why it was not tested; "" where nothing is in the way.
    """

    parts: Mapping[str, Part]
    supervised: bool
    confounded: str = ""
    unmeasured: str = ""


def claims_of(
    fits: Sequence[SessionLatents],
    repeats: Sequence[Repeats | None],
    setting: Setting,
    shown: Shown,
    *,
    cells: Mapping[tuple[str, str], Specific],
    others: Sequence[np.ndarray],
    context: Context,
) -> dict[str, Claim]:
    """Return what is claimed of each group, with the parts that were measured."""
    config, latents = context.config.evidence, fits[0]
    groups = latents.groups
    responses = [
        _response_parts(fit, own, setting, context) if own is not None else {}
        for fit, own in zip(fits, repeats, strict=True)
    ]
    stable = _stable_parts(latents, others, setting, context)
    claims = {}
    for group, labels in groups.supervised_by.items():
        own = [name for name in labels if name in latents.labels]
        parts = {"stable": stable[group], "shown": shown.part(group, own, min_score=config.min_reader_score)}
        for name in ("repeatable", "beyond_labels"):
            measured = [of_fit[group][name] for of_fit in responses if of_fit]
            if measured and not setting.time_of_images:
                parts[name] = _pooled_part(measured)
        confounded, unmeasured = "" if labels else setting.time_of_images, ""
        if labels:
            parts["decoded"], confounded, unmeasured = decoded_part(group, own, cells, setting)
        claims[group] = Claim(parts, bool(labels), confounded, unmeasured)
    return claims


def _response_parts(
    latents: SessionLatents, repeats: Repeats, setting: Setting, context: Context
) -> dict[str, dict[str, Part]]:
    """Return, by group, whether it explains responses of other repeats, alone and beyond all labels."""
    from nwb_migvis.evidence.beyond import label_features
    from nwb_migvis.evidence.verdict import Part

    seed, variance = context.seeds["evidence"], repeats.variance
    features = label_features(latents.labels, train=latents.split == "train", seed=seed)
    given = repeats.given(features, setting.design.split, seed) if features.shape[1] else None
    parts = {}
    for group, place in latents.groups.slices.items():
        alone = Part(
            variance.explained[group], variance.explained_interval[group], variance.explained_p[group]
        )
        beyond = alone
        if given is not None:
            added = repeats.beyond(place, given, context)
            beyond = Part(added.added, added.interval, added.p_value)
        parts[group] = {"repeatable": alone, "beyond_labels": beyond}
    return parts


def _pooled_part(parts: Sequence[Part]) -> Part:
    """Pool a part over fits that are tested on other stimuli.

    It has no interval: shares of the variance of few test stimuli err too unevenly for widths to add up.
    """
    from nwb_migvis.evidence.folds import combined_p
    from nwb_migvis.evidence.verdict import Part

    measured = [part for part in parts if np.isfinite(part.p)]
    if len(parts) == 1 or not measured:
        return parts[0]
    estimate = float(np.mean([part.estimate for part in measured]))
    return Part(estimate, p=combined_p([part.p for part in measured]))


def _stable_parts(
    latents: SessionLatents, others: Sequence[np.ndarray], setting: Setting, context: Context
) -> dict[str, Part]:
    """Return, by group, whether fits from other seeds find it again."""
    from nwb_migvis.evidence.stability import beyond_strangers
    from nwb_migvis.evidence.verdict import Part

    if not others:
        return {group: Part() for group in latents.groups}
    test = latents.split == "test"
    rng = np.random.default_rng(context.seeds["evidence"])
    agreement = beyond_strangers(
        latents.mean[test],
        [other[test] for other in others],
        groups=latents.groups,
        weight=setting.design.split[test].bootstrap(context.config.evidence.n_bootstrap, rng),
    )
    return {group: Part(own.difference, own.interval, own.p_value) for group, own in agreement.items()}


def judge(claims: Mapping[str, Claim]) -> pd.DataFrame:
    """Adjust the parts over the groups, and say what holds.

    Parameters
    ----------
    claims : mapping of group to Claim

    Returns
    -------
    pandas.DataFrame
        By group: the columns of the parts, and `verdict`.
    """
    from nwb_migvis.evidence.significance import benjamini_hochberg
    from nwb_migvis.evidence.verdict import PARTS, Part, part_columns, verdict_in_parts

    adjusted: dict[str, dict[str, Part]] = {group: {} for group in claims}
    for name in PARTS:
        measured = [claim.parts.get(name, Part()) for claim in claims.values()]
        q = benjamini_hochberg(np.array([part.p for part in measured]))
        for group, part, value in zip(claims, measured, q, strict=True):
            adjusted[group][name] = replace(part, q=float(value))
    rows = {}
    for group, own in adjusted.items():
        claim = claims[group]
        verdict = verdict_in_parts(
            own,
            supervised=claim.supervised,
            confounded_with=claim.confounded,
            unmeasured=claim.unmeasured,
        )
        rows[group] = {**part_columns(own), "verdict": verdict}
    return pd.DataFrame.from_dict(rows, orient="index")
