"""What a latent model is fitted to: recordings, and the groups and labels that their latents should have."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from nwb_migvis.config import GroupConfig
from nwb_migvis.labels import Label


@dataclass(frozen=True)
class Recording:
    """What one session brings to a latent space.

    Attributes
    ----------
    name : str
        For messages about several sessions.
    spike_count : numpy.ndarray, shape (n_presentations, n_units)
        Unsigned integers, or floats with NaN where a unit was not observed.
    stimulus_index : numpy.ndarray of int, shape (n_presentations,)
        Row of each presentation among the session's own stimuli.
    stimulus_row : numpy.ndarray of int, shape (n_own_stimuli,)
        Row of each of the session's own stimuli among the stimuli of all sessions.
    """

    name: str
    spike_count: np.ndarray
    stimulus_index: np.ndarray
    stimulus_row: np.ndarray

    @classmethod
    def alone(cls, spike_count: np.ndarray, stimulus_index: np.ndarray, n_stimuli: int) -> Recording:
        """Return the recording of a session by itself, whose stimuli are all that there are."""
        return cls("", spike_count, stimulus_index, np.arange(n_stimuli))


@dataclass(frozen=True, eq=False)
class LatentTask:
    """What is asked of the latents of one session or several.

    Parameters
    ----------
    labels : mapping of str to Label
        Of the stimuli of all sessions, as `stimulus_labels` returned them.
    groups : tuple of GroupConfig
        As `resolve_groups` returned them.
    split : numpy.ndarray of str, shape (n_stimuli,)
        Of the stimuli of all sessions, as `split_stimuli` or `split_shared_stimuli` returned it.
    pairs : sequence of (int, int)
        Sessions that are held together, as `linked_pairs` returned them.
    """

    labels: Mapping[str, Label]
    groups: tuple[GroupConfig, ...]
    split: np.ndarray
    pairs: Sequence[tuple[int, int]] = ()
