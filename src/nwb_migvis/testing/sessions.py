"""A small simulated session, in memory and as a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from types import MappingProxyType

import numpy as np
import xarray as xr

from nwb_migvis.simulate import draw_counts, draw_factors, draw_population, render_stimuli, simulate_session
from nwb_migvis.simulate.render import POSE
from nwb_migvis.simulate.spikes import ON_S, SAMPLING_HZ, draw_schedule

TINY_UNITS: Mapping[str, int] = MappingProxyType({"pose": 8, "category": 8, "content": 4, "mixed": 4})
"""Units in each planted group of a tiny session: 24 together."""

_WINDOW_S = (0.07, 0.17)


def write_tiny_session(
    path: str | Path,
    *,
    seed: int = 1,
    n_stimuli: int = 120,
    n_repeats: int = 4,
    size_px: int = 16,
    units: Mapping[str, int] = TINY_UNITS,
) -> Path:
    """Write a simulated session of 120 grayscale images of 16 x 16 px and 24 units; see `simulate_session`.

    Parameters
    ----------
    path : path
        The NWB file to write.
    seed : int
    n_stimuli, n_repeats : int
        Images, and presentations of each.
    size_px : int
        Side of the images, at least 8.
    units : mapping of str to int
        Units in each planted group: pose, category, content, mixed.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    MigvisError
        If the file exists, its folder does not, or a setting is out of range.
    """
    return simulate_session(
        path, seed=seed, n_stimuli=n_stimuli, n_repeats=n_repeats, size_px=size_px, units=units
    )


def mock_session(
    *,
    seed: int = 1,
    n_stimuli: int = 120,
    n_repeats: int = 4,
    size_px: int | None = 16,
    units: Mapping[str, int] = TINY_UNITS,
) -> xr.Dataset:
    """Return a simulated session without a file.

    The arrays are those that `read_session` reads from the file that `write_tiny_session` writes with the
    same arguments.

    Parameters
    ----------
    seed : int
    n_stimuli, n_repeats : int
        Images, and presentations of each.
    size_px : int, optional
        Side of the images, at least 8; None for a session without pixels.
    units : mapping of str to int
        Units in each planted group: pose, category, content, mixed.

    Returns
    -------
    xarray.Dataset
        `spike_count` (presentation, unit) uint16; `stimulus_index` (presentation,) int64; `start_time`
        (presentation,) float64, seconds; `image` (stimulus, y, x) uint8. Coordinates `unit`, `stimulus`,
        `stop_time` (presentation,) and the labels along `stimulus`.
    """
    factors = draw_factors(n_stimuli, seed=seed)
    order, onset_sample = draw_schedule(n_stimuli, n_repeats, seed=seed)
    rate_hz = draw_population(dict(units), seed=seed).rate_hz(factors)
    counts = draw_counts(rate_hz, order, _WINDOW_S[1] - _WINDOW_S[0], seed=seed)
    start_time = onset_sample / SAMPLING_HZ
    data = {
        "spike_count": (("presentation", "unit"), counts),
        "stimulus_index": ("presentation", order),
        "start_time": ("presentation", start_time, {"unit": "s"}),
    }
    if size_px is not None:
        data["image"] = (("stimulus", "y", "x"), render_stimuli(factors, size_px=size_px, seed=seed))
    labels = {label: ("stimulus", factors[label].to_numpy()) for label in POSE}
    coords = {
        "unit": np.arange(counts.shape[1]),
        "unit_row": ("unit", np.arange(counts.shape[1])),
        "stimulus": np.array([f"im{i:04d}.png" for i in range(n_stimuli)]),
        **labels,
        "category": ("stimulus", factors["category"].to_numpy().astype(str)),
        "stop_time": ("presentation", start_time + ON_S),
    }
    attrs = {
        "source": "mock_session",
        "identifier": f"mock-{seed}",
        "layout": "index_series",
        "found_in": "presentations, trials",
        "window_s": _WINDOW_S,
        "n_merged": 0,
        "n_blank": 0,
        "n_dropped": 0,
        "dropped": {},
        "not_joined": {},
        "not_labels": {},
        "recalled": {},
        "reading": {"window_s": list(_WINDOW_S)},
    }
    return xr.Dataset(data, coords=coords, attrs=attrs)
