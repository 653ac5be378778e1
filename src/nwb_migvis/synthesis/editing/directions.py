"""Directions of traversals in the latents of a group."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from nwb_migvis.config import GroupConfig
from nwb_migvis.errors import MigvisError

_AXIS = re.compile(r"pc([1-9][0-9]*)")
_RIDGE = 1e-3


def check_directions(
    names: Sequence[str],
    *,
    groups: Sequence[GroupConfig],
    labels: Mapping[str, np.ndarray],
    circular: Mapping[str, float],
) -> None:
    """Refuse a direction that a group does not have.

    Parameters
    ----------
    names : sequence of str
        "ones", "pc1" and so on, a numeric label, or "label=value" for a category.
    groups : sequence of GroupConfig
    labels : mapping of str to array, shape (n_stimuli,)
        Object arrays are categorical.
    circular : mapping of str to float
        Period of numeric labels that wrap, 0 for those that do not.

    Raises
    ------
    MigvisError
        Naming the directions that there are, close ones first.
    """
    smallest = min(groups, key=lambda group: group.size)
    for name in names:
        axis = _AXIS.fullmatch(name)
        if axis and int(axis[1]) > smallest.size:
            raise MigvisError(
                f"direction {name!r}: group {smallest.name!r} has {smallest.size} latents; "
                f"expected pc1 to pc{smallest.size}"
            )
        if name == "ones" or axis:
            continue
        label, _, value = name.partition("=")
        known = labels.get(label)
        if known is None or not _fits(known, value):
            choices = ["ones", "pc1", *_choices(labels, circular)]
            close = difflib.get_close_matches(name, choices, n=8, cutoff=0.4) or choices[:8]
            raise MigvisError(f"direction {name!r} is unknown; expected one such as {', '.join(close)}")
        if circular.get(label):
            raise MigvisError(f"direction {name!r}: the label wraps, so that no one direction raises it")


def _fits(values: np.ndarray, value: str) -> bool:
    if values.dtype == object:
        return value != "" and value in {str(v) for v in values}
    return value == ""


def _choices(labels: Mapping[str, np.ndarray], circular: Mapping[str, float]) -> list[str]:
    numeric = [name for name, v in labels.items() if v.dtype != object and not circular.get(name)]
    classes = [
        f"{name}={value}"
        for name, v in labels.items()
        if v.dtype == object
        for value in sorted({str(x) for x in v} - {"", "nan", "None"})
    ]
    return numeric + classes


def direction_vectors(
    names: Sequence[str],
    z: np.ndarray,
    *,
    groups: Sequence[GroupConfig],
    labels: Mapping[str, np.ndarray],
) -> dict[tuple[str, str], np.ndarray]:
    """Return the step of one standard deviation along each direction that each group has.

    Along "ones" every latent moves by its own standard deviation. Along a principal axis or a label's
    direction, the group moves by the standard deviation of the training stimuli along that line; the sign
    of an axis makes its largest component positive.

    Parameters
    ----------
    names : sequence of str
        As `check_directions` lets pass for the groups that are to be moved.
    z : numpy.ndarray, shape (n, latent)
        Standardised latents of the training stimuli.
    groups : sequence of GroupConfig
    labels : mapping of str to array, shape (n,)
        Of the training stimuli.

    Returns
    -------
    dict of (group, direction) to array, shape (size,)
        In standardised latents.
    """
    edges = np.cumsum([0, *(group.size for group in groups)])
    steps = {}
    for group, first, stop in zip(groups, edges[:-1], edges[1:], strict=True):
        own = np.asarray(z[:, first:stop], dtype=np.float64)
        for name in names:
            axis = _AXIS.fullmatch(name)
            if axis is None or int(axis[1]) <= group.size:
                steps[group.name, name] = _step(name, own - own.mean(axis=0), labels)
    return steps


def _step(name: str, own: np.ndarray, labels: Mapping[str, np.ndarray]) -> np.ndarray:
    if name == "ones":
        return np.ones(own.shape[1])
    axis = _AXIS.fullmatch(name)
    if axis:
        line = np.linalg.svd(own, full_matrices=False)[2][int(axis[1]) - 1]
        line = line * np.sign(line[np.argmax(np.abs(line))])
    else:
        line = _regression(own, _numbers(name, labels))
    return line * (own @ line).std()


def _numbers(name: str, labels: Mapping[str, np.ndarray]) -> np.ndarray:
    label, _, value = name.partition("=")
    values = labels[label]
    if values.dtype == object:
        return np.array([str(v) == value for v in values], dtype=np.float64)
    return np.asarray(values, dtype=np.float64)


def _regression(own: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the unit vector along which ridge regression predicts y; zero where y does not vary."""
    present = np.isfinite(y)
    x, y = own[present], y[present]
    if len(y) < 2 or y.std() == 0:
        return np.zeros(own.shape[1])
    x, y = x - x.mean(axis=0), (y - y.mean()) / y.std()
    slope = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y)
    return slope / max(float(np.linalg.norm(slope)), 1e-12)
