"""Responses that no model can be fitted to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from nwb_migvis.config import GroupConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.latents.task import LatentTask, Recording


def check_recordings(recordings: Sequence[Recording], task: LatentTask) -> None:
    """Refuse recordings whose counts cannot be used or whose training stimuli are too few.

    Raises
    ------
    MigvisError
        As `check_counts` and `check_enough`, beginning with the session's name where there are several.
    """
    for recording in recordings:
        own_split = task.split[recording.stimulus_row]
        begin = f"{recording.name}: " if len(recordings) > 1 else ""
        counts = recording.spike_count, recording.stimulus_index
        check_counts(*counts, training=own_split == "train", where=begin)
        check_enough(own_split, task.groups, where=begin)


def check_counts(
    spike_count: np.ndarray, stimulus_index: np.ndarray, *, training: np.ndarray, where: str = ""
) -> None:
    """Refuse counts that are not counts, and populations that never vary.

    Parameters
    ----------
    spike_count : array (presentation, unit)
        NaN where a unit was not observed.
    stimulus_index : array (presentation,)
    training : array of bool (stimulus,)
    where : str
        What messages begin with.

    Raises
    ------
    MigvisError
        For a count that is infinite or negative, naming the first, and where no unit's count varies over the
        presentations of the training stimuli.
    """
    spike_count = np.asarray(spike_count)
    if spike_count.dtype.kind not in "ub":
        refuse_values(np.isinf(spike_count) | (spike_count < 0), spike_count, where=where)
    if constant_units(spike_count[training[stimulus_index]]).all():
        raise MigvisError(
            f"{where}none of the {spike_count.shape[1]} units ever changes its spike count over training "
            "stimuli; expected units that respond; check the counting window and the units chosen"
        )


def refuse_values(wrong: np.ndarray, spike_count: np.ndarray, *, where: str) -> None:
    """Raise `MigvisError`, beginning with `where`, for values that are `wrong`, (presentation, unit) bool."""
    if wrong.any():
        presentation, unit = (int(i) for i in np.argwhere(wrong)[0])
        raise MigvisError(
            f"{where}spike_count holds {int(wrong.sum())} values that are not counts, the first "
            f"{spike_count[presentation, unit]} at presentation {presentation}, unit {unit}; expected "
            "whole numbers from 0; omit those presentations or units"
        )


def constant_units(spike_count: np.ndarray) -> np.ndarray:
    """Tell which units have the same count wherever they were observed, (unit,) bool."""
    if not len(spike_count):
        return np.ones(spike_count.shape[1], dtype=bool)
    missing = np.isnan(spike_count)
    if not missing.any():
        return (spike_count == spike_count[0]).all(axis=0)
    least = np.where(missing, np.inf, spike_count).min(axis=0)
    return least >= np.where(missing, -np.inf, spike_count).max(axis=0)


def check_enough(split: np.ndarray, groups: Sequence[GroupConfig], *, where: str = "") -> None:
    """Raise `MigvisError`, beginning with `where`, for fewer than two training stimuli per latent."""
    n_latents = sum(group.size for group in groups)
    n_train = int((split == "train").sum())
    if n_train < 2 * n_latents:
        raise MigvisError(
            f"{where}{n_train} training stimuli for {n_latents} latents; expected at least {2 * n_latents}; "
            "lower the size of the groups in latents.groups"
        )
