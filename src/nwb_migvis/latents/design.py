"""What the model is asked to do: the split of the stimuli, the groups, and the labels as targets."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from nwb_migvis.config import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.errors import MigvisError

MIN_STIMULI = 20
_ANGLE_WORDS = ("angle", "rotation", "orientation", "azimuth", "phase", "direction", "yaw", "pitch", "roll")


def split_stimuli(n_stimuli: int, config: SplitConfig, *, rng: np.random.Generator) -> np.ndarray:
    """Split stimuli at random into training, validation and test.

    Parameters
    ----------
    n_stimuli : int
    config : SplitConfig
    rng : numpy.random.Generator

    Returns
    -------
    numpy.ndarray of str, shape (n_stimuli,)
        "train", "validation" or "test".

    Raises
    ------
    MigvisError
        If a part would be empty, or there are too few stimuli to split at all.
    """
    n_validation = round(n_stimuli * config.validation)
    n_test = round(n_stimuli * config.test)
    split = np.full(n_stimuli, "train", dtype="<U10")
    order = rng.permutation(n_stimuli)
    split[order[:n_test]] = "test"
    split[order[n_test : n_test + n_validation]] = "validation"
    check_parts(split)
    return split


def check_parts(split: np.ndarray, *, where: str = "") -> None:
    """Raise `MigvisError`, beginning with `where`, for too few stimuli in all or in a part of the split."""
    n_train, n_validation, n_test = (int((split == part).sum()) for part in ("train", "validation", "test"))
    if split.size < MIN_STIMULI or min(n_validation, n_test, n_train) < 2:
        raise MigvisError(
            f"{where}{split.size} stimuli split into {n_train} for training, {n_validation} for validation "
            f"and {n_test} for test; expected at least {MIN_STIMULI} stimuli and 2 in each part; use a "
            "session with more images or change split.validation and split.test in the config"
        )


def stimulus_labels(session: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the labels of a session's stimuli: float arrays, or object arrays of str for categories."""
    labels: dict[str, np.ndarray] = {}
    for name, coord in session.coords.items():
        if name == "stimulus" or coord.dims != ("stimulus",):
            continue
        numeric = np.issubdtype(coord.dtype, np.number) or coord.dtype == bool
        labels[str(name)] = coord.values.astype(np.float64) if numeric else coord.values.astype(object)
    return labels


def resolve_groups(labels: Mapping[str, np.ndarray], config: LatentsConfig) -> tuple[GroupConfig, ...]:
    """Return the groups to fit: the configured ones, checked, or the defaults for these labels.

    Parameters
    ----------
    labels : mapping of str to array, shape (n_stimuli,)
        Float arrays are numeric labels, object arrays categorical ones.
    config : LatentsConfig

    Raises
    ------
    MigvisError
        For a group name used twice, or a label that the session does not have.
    """
    if not config.groups:
        numeric = tuple(name for name, values in labels.items() if values.dtype != object)
        groups = [GroupConfig(name="numeric", labels=numeric)] if numeric else []
        taken = {"numeric", "free_1", "free_2"}
        for label, values in labels.items():
            if values.dtype == object:
                groups.append(GroupConfig(name=_free_name(label, taken), labels=(label,)))
                taken.add(groups[-1].name)
        return (*groups, GroupConfig(name="free_1"), GroupConfig(name="free_2"))
    names = [group.name for group in config.groups]
    for group in config.groups:
        if names.count(group.name) > 1:
            raise MigvisError(f"latents.groups: name {group.name!r} is used twice; give each group its own")
        missing = [label for label in group.labels if label not in labels]
        if missing:
            raise MigvisError(
                f"latents.groups: group {group.name!r} names the label {missing[0]!r}; the session has "
                f"{', '.join(labels) or 'no labels'}; mend the config or give a CSV with that label"
            )
    return config.groups


def _free_name(label: str, taken: set[str]) -> str:
    """Return a label's name as that of a group: without comma and slash, and not taken."""
    name = label.replace(",", "_").replace("/", "_")
    while name in taken:
        name += "_"
    return name


@dataclass(frozen=True)
class LabelTargets:
    """The labels of one group as regression and classification targets.

    Attributes
    ----------
    group : str
    numeric : numpy.ndarray, shape (n_stimuli, k)
        Standardised on the training stimuli; sine and cosine for circular labels; NaN where missing.
    classes : tuple of (str, numpy.ndarray)
        For each categorical label its number of classes and, per stimulus, the class index (-1: missing).
    """

    group: str
    numeric: np.ndarray
    classes: tuple[tuple[int, np.ndarray], ...]


def label_targets(
    labels: Mapping[str, np.ndarray],
    groups: tuple[GroupConfig, ...],
    *,
    circular: Mapping[str, float],
    training: np.ndarray,
) -> tuple[LabelTargets, ...]:
    """Turn the labels that supervise each group into targets.

    Parameters
    ----------
    labels : mapping of str to array, shape (n_stimuli,)
    groups : tuple of GroupConfig
    circular : mapping of str to float
        Period of labels that wrap; 0 for a label that looks like an angle but does not.
    training : numpy.ndarray of bool, shape (n_stimuli,)

    Raises
    ------
    MigvisError
        If a label looks like an angle that wraps and the config does not say whether it does, if a period
        is given for a label that does not exist or is not numeric, or if a label is missing everywhere.
    """
    for name in circular:
        if name not in labels or labels[name].dtype == object:
            raise MigvisError(f"latents.circular names {name!r}, which is no numeric label of this session")
    for name, values in labels.items():
        if values.dtype != object and name not in circular:
            _refuse_wrapped(name, values[np.isfinite(values)])
    targets = []
    for group in groups:
        numeric = [np.empty((training.size, 0))]
        classes = []
        for name in group.labels:
            values = labels[name]
            if values.dtype == object:
                classes.append(_class_indices(name, values))
            else:
                numeric.append(_numeric_columns(name, values, circular.get(name), training))
        targets.append(LabelTargets(group.name, np.concatenate(numeric, axis=1), tuple(classes)))
    return tuple(targets)


def _class_indices(name: str, values: np.ndarray) -> tuple[int, np.ndarray]:
    known = sorted({value for value in values if value != ""})
    if len(known) < 2:
        raise MigvisError(
            f"label {name!r} has {len(known)} classes among the shown images; expected two or more; give a "
            "CSV with its values, or set latents.groups in a config to groups without it"
        )
    position = {value: i for i, value in enumerate(known)}
    return len(known), np.array([position.get(value, -1) for value in values], dtype=np.int64)


def _numeric_columns(name: str, values: np.ndarray, period: float | None, training: np.ndarray) -> np.ndarray:
    known = values[training & np.isfinite(values)]
    if known.size < 2 or np.ptp(known) == 0:
        raise MigvisError(
            f"label {name!r} has {known.size} values on {training.sum()} training stimuli and does not vary "
            "there; expected a label that varies; give a CSV with its values, or set latents.groups in a "
            "config to groups without it"
        )
    if period:
        angle = 2 * np.pi * values / period
        return np.stack([np.sin(angle), np.cos(angle)], axis=1) * np.sqrt(2)
    return ((values - known.mean()) / known.std())[:, None]


def _refuse_wrapped(name: str, values: np.ndarray) -> None:
    """Raise where a label is named like an angle and its values cover (nearly) a whole turn."""
    if not values.size or not any(word in name.lower() for word in _ANGLE_WORDS):
        return
    span = float(np.ptp(values))
    turns = (360.0, 2 * np.pi, 180.0, np.pi) if "orientation" in name.lower() else (360.0, 2 * np.pi)
    if any(0.9 * turn <= span <= 1.02 * turn for turn in turns):
        raise MigvisError(
            f"label {name!r} spans {values.min():g} to {values.max():g} and looks like an angle that wraps; "
            f"say so with its period in latents.circular ({name} = 360), or {name} = 0 if it does not wrap"
        )
