"""Directions of traversals in the latents of a group."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label

_AXIS = re.compile(r"pc([1-9][0-9]*)")
_RIDGE = 1e-3


def check_directions(names: Sequence[str], *, groups: LatentGroups, labels: Mapping[str, Label]) -> None:
    """Refuse a direction that a group does not have.

    Parameters
    ----------
    names : sequence of str
        "ones", "pc1" and so on, a numeric label, or "label=value" for a category.
    groups : LatentGroups
    labels : mapping of str to Label

    Raises
    ------
    MigvisError
        Naming the directions that exist, similar names first.
    """
    smallest = min(groups.sizes)
    for name in names:
        axis = _AXIS.fullmatch(name)
        if axis and int(axis[1]) > smallest:
            raise MigvisError(
                f"direction {name!r}: group {groups.names[groups.sizes.index(smallest)]!r} has {smallest} "
                f"latents; expected pc1 to pc{smallest}"
            )
        if name == "ones" or axis:
            continue
        label_name, _, value = name.partition("=")
        label = labels.get(label_name)
        if label is None or not _fits(label, value):
            choices = ["ones", "pc1", *_choices(labels)]
            close = difflib.get_close_matches(name, choices, n=8, cutoff=0.4) or choices[:8]
            raise MigvisError(f"direction {name!r} is unknown; expected one such as {', '.join(close)}")
        if label.kind == "circular":
            raise MigvisError(f"direction {name!r}: the label wraps, so that no one direction raises it")


def _fits(label: Label, value: str) -> bool:
    return value in label.classes if label.is_categorical else value == ""


def _choices(labels: Mapping[str, Label]) -> list[str]:
    numeric = [name for name, label in labels.items() if label.kind == "numeric"]
    return numeric + [f"{name}={value}" for name, label in labels.items() for value in label.classes]


def direction_vectors(
    names: Sequence[str], z: np.ndarray, *, groups: LatentGroups, labels: Mapping[str, Label]
) -> dict[tuple[str, str], np.ndarray]:
    """Return the step of one standard deviation along each direction that each group has.

    Along "ones" every latent moves by its own standard deviation. Along a principal axis or a label's
    direction, the group moves by the standard deviation of the training stimuli along that line. The sign of
    an axis makes its largest component positive.

    Parameters
    ----------
    names : sequence of str
        As `check_directions` lets pass for the groups that are to be moved.
    z : numpy.ndarray, shape (n, latent)
        Standardised latents of the training stimuli.
    groups : LatentGroups
    labels : mapping of str to Label, of the training stimuli

    Returns
    -------
    dict of (group, direction) to array, shape (size,)
        In standardised latents.
    """
    vectors = {}
    for group, own in groups.split(np.asarray(z, dtype=np.float64)).items():
        for name in names:
            axis = _AXIS.fullmatch(name)
            if axis is None or int(axis[1]) <= own.shape[1]:
                vectors[group, name] = _vector(name, own - own.mean(axis=0), labels)
    return vectors


def _vector(name: str, own: np.ndarray, labels: Mapping[str, Label]) -> np.ndarray:
    if name == "ones":
        return np.ones(own.shape[1])
    axis = _AXIS.fullmatch(name)
    if axis:
        line = np.linalg.svd(own, full_matrices=False)[2][int(axis[1]) - 1]
        line = line * np.sign(line[np.argmax(np.abs(line))])
    else:
        line = _regression(own, _numbers(name, labels))
    return line * (own @ line).std()


def _numbers(name: str, labels: Mapping[str, Label]) -> np.ndarray:
    label_name, _, value = name.partition("=")
    label = labels[label_name]
    return (label.values == value).astype(np.float64) if label.is_categorical else label.values


def _regression(own: np.ndarray, y: np.ndarray) -> np.ndarray:
    """Return the unit vector along which ridge regression predicts y; zero where y does not vary."""
    present = np.isfinite(y)
    x, y = own[present], y[present]
    if len(y) < 2 or y.std() == 0:
        return np.zeros(own.shape[1])
    x, y = x - x.mean(axis=0), (y - y.mean()) / y.std()
    slope = np.linalg.solve(x.T @ x + _RIDGE * len(x) * np.eye(x.shape[1]), x.T @ y)
    return slope / max(float(np.linalg.norm(slope)), 1e-12)
