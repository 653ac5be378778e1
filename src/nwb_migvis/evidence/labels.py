"""How well labels are read: scores of readings, and labels that the same stimuli have."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from nwb_migvis.labels import LabelCode


def by_presence(encoded: Mapping[str, np.ndarray]) -> list[tuple[np.ndarray, list[str]]]:
    """Put labels together that are present in the same rows.

    Parameters
    ----------
    encoded : mapping of str to array (n, n_columns)
        As `LabelCode.encode` gives them.

    Returns
    -------
    list of (mask, names)
        The rows, (n,) bool, and the labels that have a value in exactly those.
    """
    together: dict[bytes, tuple[np.ndarray, list[str]]] = {}
    for name, columns in encoded.items():
        present = np.isfinite(columns).all(axis=1)
        together.setdefault(present.tobytes(), (present, []))[1].append(name)
    return list(together.values())


def label_score(code: LabelCode, readings: np.ndarray, values: np.ndarray) -> float:
    """Score readings against true values: 1 for perfect, 0 for no better than a guess.

    Parameters
    ----------
    code : LabelCode
    readings : array
        As `LabelCode.decode` gives them.
    values : array (n,)
        True values; missing ones are omitted.

    Returns
    -------
    float
        R2 for a numeric label (over cosine and sine together for one that wraps). For a categorical one
        balanced accuracy above chance, (accuracy - 1 / K) / (1 - 1 / K) with K the classes present. NaN
        where the values present do not vary.
    """
    if code.classes:
        return _balanced_accuracy(code.class_index(values), readings.argmax(axis=1))
    truth = code.readings(values).reshape(len(readings), -1)
    present = np.isfinite(truth).all(axis=1)
    truth, read = truth[present], readings.reshape(len(readings), -1)[present]
    if len(truth) < 2:
        return float("nan")
    variance = ((truth - truth.mean(axis=0)) ** 2).sum()
    return float(1 - ((truth - read) ** 2).sum() / variance) if variance > 0 else float("nan")


def _balanced_accuracy(truth: np.ndarray, read: np.ndarray) -> float:
    classes = np.unique(truth[truth >= 0])
    if len(classes) < 2:
        return float("nan")
    accuracy = float(np.mean([(read[truth == c] == c).mean() for c in classes]))
    return float(above_chance(accuracy, len(classes)))


def above_chance(accuracy: np.ndarray | float, n_classes: np.ndarray | int) -> np.ndarray | float:
    """Scale balanced accuracy over K classes: 0 for guesses, 1 for perfect. (accuracy - 1/K) / (1 - 1/K)."""
    return (accuracy - 1 / n_classes) / (1 - 1 / n_classes)
