"""What a latent model is fitted for: the split of the stimuli, the groups, and the labels as targets."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass

import numpy as np
import xarray as xr

from nwb_migvis.config import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.labels import Label, as_labels
from nwb_migvis.levels import Exchange
from nwb_migvis.plain import free_name, nearest

MIN_STIMULI = 20
_ANGLE_WORDS = ("angle", "rotation", "orientation", "azimuth", "phase", "direction", "yaw", "pitch", "roll")


def split_stimuli(
    n_stimuli: int,
    config: SplitConfig,
    *,
    rng: np.random.Generator,
    levels: Exchange | None = None,
    fold: int = 0,
) -> np.ndarray:
    """Split stimuli at random into training, validation and test, whole levels each.

    Parameters
    ----------
    n_stimuli : int
    config : SplitConfig
    rng : numpy.random.Generator
    levels : Exchange, optional
        Of the stimuli; each on its own where it is None.
    fold : int
        Which of the parts is for test: no stimulus is in two of them.

    Returns
    -------
    numpy.ndarray of str, shape (n_stimuli,)
        "train", "validation" or "test".

    Raises
    ------
    MigvisError
        If a part would be empty, or there are too few stimuli to split at all.
    """
    levels = Exchange.singles(n_stimuli) if levels is None else levels
    n = levels.n_levels
    n_validation, n_test = round(n * config.validation), round(n * config.test)
    of_level = np.full(n, "train", dtype="<U10")
    order = np.roll(rng.permutation(n), -fold * n_test)
    of_level[order[:n_test]] = "test"
    of_level[order[n_test : n_test + n_validation]] = "validation"
    split = of_level[levels.level]
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


def stimulus_labels(session: xr.Dataset, *, circular: Mapping[str, float] | None = None) -> dict[str, Label]:
    """Return the labels of a session's stimuli; truth values are numbers, 0 and 1.

    Parameters
    ----------
    session : xarray.Dataset
    circular : mapping of str to float, optional
        Period of numeric labels that wrap; 0 for one that looks like an angle but does not. Nothing wraps,
        and nothing is checked, without it.

    Raises
    ------
    MigvisError
        If a label looks like an angle that wraps and nothing says whether it does. If a period is given for a
        label that does not exist or is not numeric.
    """
    arrays: dict[str, np.ndarray] = {}
    for name, coord in session.coords.items():
        if name == "stimulus" or coord.dims != ("stimulus",):
            continue
        arrays[str(name)] = coord.values.astype(np.float64) if coord.dtype == bool else coord.values
    labels = as_labels(arrays, circular=circular)
    if circular is not None:
        check_circular(labels, circular)
    return labels


def check_circular(labels: Mapping[str, Label], circular: Mapping[str, float]) -> None:
    """Refuse periods of labels that are not numeric, and angles of which nothing says whether they wrap."""
    for name in circular:
        if name not in labels or labels[name].is_categorical:
            raise MigvisError(
                f"latents.circular names {name!r}, which is not a numeric label of this session"
            )
    for name, label in labels.items():
        if not label.is_categorical and name not in circular:
            _refuse_wrapped(name, label.values[label.present])


def resolve_groups(labels: Mapping[str, Label], config: LatentsConfig) -> tuple[GroupConfig, ...]:
    """Return the groups to fit: the configured ones, checked, or the defaults for these labels.

    Parameters
    ----------
    labels : mapping of str to Label
    config : LatentsConfig

    Raises
    ------
    MigvisError
        For a group name used twice, or a label that the session does not have.
    """
    if not config.groups:
        numeric = tuple(name for name, label in labels.items() if not label.is_categorical)
        groups = [GroupConfig(name="numeric", labels=numeric)] if numeric else []
        names_used = {"numeric", "free_1", "free_2"}
        for name, label in labels.items():
            if label.is_categorical:
                groups.append(GroupConfig(name=free_group_name(name, names_used), labels=(name,)))
                names_used.add(groups[-1].name)
        return (*groups, GroupConfig(name="free_1"), GroupConfig(name="free_2"))
    names = [group.name for group in config.groups]
    for group in config.groups:
        if names.count(group.name) > 1:
            raise MigvisError(f"latents.groups: name {group.name!r} is used twice; give each group its own")
        missing = [label for label in group.labels if label not in labels]
        if missing:
            known = nearest(missing[0], labels, most=40) or "no labels"
            raise MigvisError(
                f"latents.groups: group {group.name!r} names the label {missing[0]!r}; the session has "
                f"{known}; fix the config or give a CSV with that label"
            )
    return config.groups


def free_group_name(name: str, taken: Collection[str]) -> str:
    """Return a name as that of a group: without comma and slash, and not taken."""
    return free_name(name.replace(",", "_").replace("/", "_"), taken)


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
    labels: Mapping[str, Label],
    groups: tuple[GroupConfig, ...],
    *,
    training: np.ndarray,
) -> tuple[LabelTargets, ...]:
    """Turn the labels that supervise each group into targets.

    Parameters
    ----------
    labels : mapping of str to Label
    groups : tuple of GroupConfig
    training : numpy.ndarray of bool, shape (n_stimuli,)

    Raises
    ------
    MigvisError
        If a label does not vary: a category over all stimuli, a number over the training stimuli.
    """
    targets = []
    for group in groups:
        numeric = [np.empty((training.size, 0))]
        classes = []
        for name in group.labels:
            if labels[name].is_categorical:
                classes.append(_class_indices(labels[name]))
            else:
                numeric.append(_numeric_columns(labels[name], training))
        targets.append(LabelTargets(group.name, np.concatenate(numeric, axis=1), tuple(classes)))
    return tuple(targets)


def _class_indices(label: Label) -> tuple[int, np.ndarray]:
    code = label.code()
    if code is None:
        raise MigvisError(
            f"label {label.name!r} has {len(label.classes)} classes among the shown images; expected two or "
            "more; give a CSV with its values, or set latents.groups in a config to groups without it"
        )
    return code.n_columns, code.class_index(label.values)


def _numeric_columns(label: Label, training: np.ndarray) -> np.ndarray:
    """Return a label standardised; sine and cosine, each of about unit variance, where it wraps."""
    code = label[training].code()
    if code is None:
        raise MigvisError(
            f"label {label.name!r} has {int(label[training].present.sum())} values on {training.sum()} "
            "training stimuli and does not vary there; expected a label that varies; give a CSV with its "
            "values, or set latents.groups in a config to groups without it"
        )
    columns = code.encode(label.values)
    return columns[:, ::-1] * np.sqrt(2) if code.period else columns


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
