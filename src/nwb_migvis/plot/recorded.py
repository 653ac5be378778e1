"""What the provenance records for figures, as far as it has the form that a run gives it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from nwb_migvis.results import Results

Scores = dict[str, np.ndarray]
"""`transfer` and `retention`, (strength,) each; NaN where not measured."""


def table(value: Any, *names: str) -> Mapping[str, Any]:
    """Return the object at a place in nested objects; an empty one where there is none."""
    for name in names:
        value = value.get(name) if isinstance(value, Mapping) else None
    return value if isinstance(value, Mapping) else {}


def numbers(value: Any) -> np.ndarray | None:
    """Return a list of numbers and nulls as floats, None for anything else."""
    if not isinstance(value, list):
        return None
    if not all(item is None or (isinstance(item, int | float) and abs(item) < 1e300) for item in value):
        return None
    return np.array([np.nan if item is None else float(item) for item in value])


def doses(results: Results) -> tuple[np.ndarray, dict[str, dict[str, dict[str, Scores]]]]:
    """Return the strengths, and what was measured at them by group, label and reader."""
    record = table(results.provenance, "appearance", "dose")
    strength = numbers(record.get("strength"))
    if strength is None:
        return np.empty(0), {}
    cells: dict[str, dict[str, dict[str, Scores]]] = {}
    for group, labels in table(record, "cells").items():
        for label, readers in table(labels).items():
            for reader, measured in table(readers).items():
                scores = {name: numbers(table(measured).get(name)) for name in ("transfer", "retention")}
                checked = {
                    name: values
                    for name, values in scores.items()
                    if values is not None and len(values) == len(strength)
                }
                if len(checked) == len(scores):
                    cells.setdefault(group, {}).setdefault(label, {})[reader] = checked
    return strength, cells


def curves(results: Results) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Return steps and losses by training, those with two points or more."""
    kept = {}
    for name, curve in table(results.provenance, "training").items():
        step, loss = (numbers(table(curve).get(column)) for column in ("step", "loss"))
        if step is not None and loss is not None and len(step) == len(loss) > 1:
            kept[name] = (step, loss)
    return kept


def extremes(results: Results, group: str, direction: str) -> tuple[list[str], list[str]]:
    """Return the stimuli at the low and at the high end of a direction of a group."""
    ends = table(results.provenance, "appearance", "extremes", group, direction)
    low, high = (ends.get(end) for end in ("bottom", "top"))
    return _texts(low), _texts(high)


def _texts(value: Any) -> list[str]:
    return [item for item in value if isinstance(item, str)] if isinstance(value, list) else []
