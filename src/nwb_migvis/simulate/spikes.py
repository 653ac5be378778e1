"""When images come on, and spike trains whose counts are given."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

SAMPLING_HZ = 32_768
"""A power of two, so that every time in seconds is exact in binary."""

ON_S, OFF_S = 0.1, 0.1
_IMAGES_PER_TRIAL = 10
_LEAD_S = 5.0
_PAUSE_S = (0.2, 0.6)
_REFRACTORY_S = 0.001
_UNITS_PER_SORTING = 16


def draw_schedule(
    n_stimuli: int, n_repeats: int, *, seed: int
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Draw which image comes when: every repeat shows all images in a new order.

    Images are on for `ON_S` and off for `OFF_S`, with a pause of 0.2-0.6 s after every ten.

    Returns
    -------
    order : int64 (presentation,)
        Index of the image.
    onset_sample : int64 (presentation,)
        Onset in samples at `SAMPLING_HZ`.
    """
    rng = np.random.default_rng([seed, 5])
    order = np.concatenate([rng.permutation(n_stimuli) for _ in range(n_repeats)])
    n = len(order)
    pauses = rng.uniform(*_PAUSE_S, -(-n // _IMAGES_PER_TRIAL)).cumsum()
    onset_s = _LEAD_S + (ON_S + OFF_S) * np.arange(n) + pauses[np.arange(n) // _IMAGES_PER_TRIAL]
    return order, np.ceil(onset_s * SAMPLING_HZ).astype(np.int64)


def place_spikes(
    counts: NDArray[np.uint16],
    onset_sample: NDArray[np.int64],
    window_s: tuple[float, float],
    rng: np.random.Generator,
) -> NDArray[np.int64]:
    """Place one unit's spikes uniformly inside the response windows, 1 ms apart where there is room.

    Parameters
    ----------
    counts : uint16 (presentation,)
        Spikes in each window.
    onset_sample : int64 (presentation,)
        In time order; windows must not overlap.
    window_s : (float, float)
        Window relative to onset. No spike falls within a sample of its edges.
    rng : numpy.random.Generator

    Returns
    -------
    int64 (spike,)
        Samples, strictly rising.
    """
    first = int(np.ceil(window_s[0] * SAMPLING_HZ)) + 1
    n_slots = int(np.floor(window_s[1] * SAMPLING_HZ)) - first
    k = counts.astype(np.int64)
    most = int(k.max(initial=0))
    gap = min(round(_REFRACTORY_S * SAMPLING_HZ), (n_slots - 1) // max(most - 1, 1))
    presentation = np.repeat(np.arange(len(k)), k)
    free = n_slots - (np.maximum(k, 1) - 1) * gap
    slot = (rng.random(len(presentation)) * free[presentation]).astype(np.int64)
    slot = np.sort(presentation * n_slots + slot) - presentation * n_slots
    rank = np.arange(len(presentation)) - (np.cumsum(k) - k)[presentation]
    return onset_sample[presentation] + first + slot + rank * gap


def spike_trains(
    counts: NDArray[np.uint16],
    onset_sample: NDArray[np.int64],
    window_s: tuple[float, float],
    *,
    seed: int,
) -> Iterator[NDArray[np.float64]]:
    """Yield the spike times (s) of one unit after another, read from SpikeInterface sortings.

    Parameters
    ----------
    counts : uint16 (presentation, unit)
    onset_sample, window_s
        As for `place_spikes`.
    seed : int
    """
    from spikeinterface.core import NumpySorting

    n_units = counts.shape[1]
    generators = np.random.default_rng([seed, 6]).spawn(n_units)
    for first in range(0, n_units, _UNITS_PER_SORTING):
        block = range(first, min(first + _UNITS_PER_SORTING, n_units))
        samples = {u: place_spikes(counts[:, u], onset_sample, window_s, generators[u]) for u in block}
        sorting = NumpySorting.from_unit_dict(samples, sampling_frequency=float(SAMPLING_HZ))
        for unit in block:
            yield sorting.get_unit_spike_train(unit, segment_index=0, return_times=True, use_cache=False)
