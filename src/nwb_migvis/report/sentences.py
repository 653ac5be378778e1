"""What holds of a group and what does not, in a sentence with its numbers."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd

from nwb_migvis.evidence.verdict import WORDS, Part, stored_part
from nwb_migvis.plot.axes import short_name
from nwb_migvis.results import PARTS, Results

STATES = ("not established", "established", "confounded", "not measured")
"""Beginnings of verdicts; what begins otherwise is "unknown"."""

_MOST_LABELS = 4
_ORDER = ("decoded", "shown", "stable", "beyond_labels", "repeatable")
"""Parts as a sentence names them."""


@dataclass(frozen=True)
class Claim:
    """What a file says of one group.

    Attributes
    ----------
    group : str
    state : str
        One of `STATES`, or "unknown".
    text : str
        A sentence about the group without its name, for people.
    parts : mapping of str to Part
        Measured or not, by the names in `PARTS`.
    """

    group: str
    state: str
    text: str
    parts: dict[str, Part]


def claims(results: Results) -> list[Claim]:
    """Return what holds and what does not, for every group in order."""
    return [_claim(results, i) for i in range(len(results.groups))]


def _claim(results: Results, i: int) -> Claim:
    row, group = results.groups.iloc[i], str(results.groups.index[i])
    verdict = str(row.get("verdict", ""))
    state = next((state for state in STATES if verdict.startswith(state)), "unknown")
    parts = {name: stored_part(row, name) for name in PARTS}
    if not any(part.is_measured for part in parts.values()):
        return Claim(group, state, _without_parts(verdict, row), parts)
    said = {name: _said(results, group, row, name) for name in PARTS}
    hold = [said[name] for name in _ORDER if parts[name].holds]
    fail = [f"not {said[name]}" for name in _ORDER if parts[name].is_measured and not parts[name].holds]
    listed = "; ".join([*hold, *fail])
    if state == "established":
        labels = _labels(str(row["supervised_by"]))
        head = f"encodes {labels}" if labels else "holds what no label of the session names"
        return Claim(group, state, f"{head}: {listed}.", parts)
    if state == "not established":
        return Claim(group, state, f"{'; '.join([*fail, *hold])}.", parts)
    head = verdict if state != "unknown" else "no verdict"
    return Claim(group, state, f"{_shorten(head)}. Measured all the same: {listed}.", parts)


def _without_parts(verdict: str, row: pd.Series) -> str:
    words = _shorten(verdict or "no verdict")
    explained = row["variance_explained"]
    numbers = f"; variance explained {explained:.2f}" if np.isfinite(explained) else ""
    return f"{words}{numbers} (the file does not say which parts of the claim hold)."


def _said(results: Results, group: str, row: pd.Series, name: str) -> str:
    """Return one part of a claim with its numbers."""
    part, supervised = stored_part(row, name), bool(row["supervised_by"])
    number = interval_text(part)
    if name == "repeatable":
        text = f"repeatable, {number} of the variance"
    elif name == "decoded":
        text = f"decoded, {number} beyond other labels, image features and time"
    elif name == "beyond_labels":
        text = f"beyond all labels, {number} of the variance"
    elif name == "stable":
        alike = float(row.get("stability", np.nan))
        similarity = f"similarity {alike:.2f}, " if np.isfinite(alike) else ""
        text = f"stable over seeds ({similarity}{number} above strangers)"
    else:
        kept = "".join(f", {other} kept {value:.2f}" for other, value in _kept(results, group).items())
        measure = "transfer" if supervised else "change towards the target"
        text = f"shown by edits ({measure} {number}{kept})"
    return text if part.holds else f"{text} [q {part.q:.2g}]"


def interval_text(part: Part) -> str:
    """Return an estimate with its interval, where it has one."""
    low, high = part.interval
    interval = f" [{low:.2f}, {high:.2f}]" if np.isfinite([low, high]).all() else ""
    return f"{part.estimate:.2f}{interval}" if np.isfinite(part.estimate) else "-"


def part_rows(claim: Claim) -> list[tuple[str, str, str, str]]:
    """Return the parts as a table: words, estimate, q-value, and whether it holds."""
    rows = []
    for name in PARTS:
        part = claim.parts[name]
        holds = ("holds" if part.holds else "does not hold") if part.is_measured else "not measured"
        q = f"{part.q:.3f}" if np.isfinite(part.q) else "-"
        rows.append((WORDS[name], interval_text(part), q, holds))
    return rows


def _kept(results: Results, group: str) -> dict[str, float]:
    """Return the mean retention of the labels of other supervised groups, over the readers, by group."""
    table, kept = results.selectivity, {}
    if "pmi" not in table["method"].values or group not in table["group"].values:
        return {}
    for other, labels in results.groups["supervised_by"].items():
        own = [name for name in str(labels).split(",") if name in table["label"].values]
        if str(other) == group or not own:
            continue
        values = table["retention"].sel({"group": group, "method": "pmi", "label": own}).values
        if np.isfinite(values).any():
            kept[short_name(other)] = float(np.nanmean(values))
    return dict(list(kept.items())[:_MOST_LABELS])


def _labels(supervised_by: str) -> str:
    names = [short_name(name) for name in supervised_by.split(",") if name]
    more = f" and {len(names) - _MOST_LABELS} more" if len(names) > _MOST_LABELS else ""
    return ", ".join(names[:_MOST_LABELS]) + more


def _shorten(text: str) -> str:
    return short_name(text, 400).rstrip(".")
