"""Simulate a session and write it as one NWB file."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.simulate.ground_truth import add_ground_truth
from nwb_migvis.simulate.nwb import add_presentations, add_units, new_file
from nwb_migvis.simulate.population import DEFAULT_UNITS, draw_counts, draw_population
from nwb_migvis.simulate.render import Stimuli, draw_factors, render_stimuli
from nwb_migvis.simulate.spikes import OFF_S, ON_S, draw_schedule, spike_trains

_MIN_WINDOW_S = 0.01


def simulate_session(
    path: str | Path,
    *,
    seed: int = 0,
    n_stimuli: int = 5760,
    n_repeats: int = 20,
    size_px: int = 32,
    units: Mapping[str, int] | None = None,
    window_s: tuple[float, float] = (0.07, 0.17),
    background: str = "textured",
    overwrite: bool = False,
) -> Path:
    """Write an NWB session whose population is known: images, presentations, spikes, labels, ground truth.

    Images of 8 categories of solids are shown for 100 ms each, in a new order in every repeat, to units of
    four planted groups. Labels (columns of `trials`) are rotation, position, size and category; shape
    parameters, planted groups and expected rates are stored apart (`read_ground_truth`). The same settings
    give the same arrays.

    Parameters
    ----------
    path : str or Path
        The file to write; it appears whole or not at all.
    seed : int
        0 or more.
    n_stimuli : int
        Number of images.
    n_repeats : int
        Presentations of each image.
    size_px : int
        Side of the square images.
    units : mapping of str to int, optional
        Units in each planted group (pose, category, content, mixed); a group that is not named has none.
        Default 45, 40, 35, 40.
    window_s : (float, float)
        Response window relative to onset in seconds: all spikes fall in these windows.
    background : {"textured", "plain"}
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    MigvisError
        If the file exists and `overwrite` is false, its folder does not exist, or a setting is out of range.
    """
    path = Path(path)
    _check_destination(path, overwrite)
    _check_at_least("seed", seed, 0)
    _check_at_least("n_stimuli", n_stimuli, 1)
    _check_at_least("n_repeats", n_repeats, 1)
    _check_at_least("size_px", size_px, 8)
    window_s = _check_window(window_s)
    units = dict(DEFAULT_UNITS if units is None else units)
    population = draw_population(units, seed=seed)
    factors = draw_factors(n_stimuli, seed=seed)
    images = render_stimuli(factors, size_px=size_px, seed=seed, background=background)
    rate_hz = population.rate_hz(factors)
    order, onset_sample = draw_schedule(n_stimuli, n_repeats, seed=seed)
    counts = draw_counts(rate_hz, order, window_s[1] - window_s[0], seed=seed)

    settings = {
        "seed": int(seed),
        "n_stimuli": int(n_stimuli),
        "n_repeats": int(n_repeats),
        "size_px": int(size_px),
        "units": {group: int(size) for group, size in units.items()},
        "window_s": list(window_s),
        "background": background,
    }
    nwbfile = new_file(settings)
    stimuli = Stimuli([f"im{i:04d}.png" for i in range(n_stimuli)], images, factors)
    add_presentations(nwbfile, stimuli, order, onset_sample)
    add_units(nwbfile, list(spike_trains(counts, onset_sample, window_s, seed=seed)))
    add_ground_truth(nwbfile, stimuli, population.planted_group, rate_hz)
    _write(nwbfile, path)
    return path


def _check_destination(path: Path, overwrite: bool) -> None:
    if not path.parent.is_dir():
        raise MigvisError(f"folder {path.parent} does not exist; make it or choose another path")
    if path.is_dir():
        raise MigvisError(f"{path} is a folder; give the path of a file to write")
    if path.exists() and not overwrite:
        raise MigvisError(f"{path} exists already; choose another path or overwrite it (--overwrite)")


def _check_at_least(name: str, value: int, low: int) -> None:
    if isinstance(value, bool) or not isinstance(value, (int, np.integer)) or value < low:
        raise MigvisError(f"{name}: found {value!r}; expected a whole number of at least {low}")


def _check_window(window_s: tuple[float, float]) -> tuple[float, float]:
    longest = ON_S + OFF_S
    try:
        start, stop = (float(edge) for edge in window_s)
    except (TypeError, ValueError):
        raise MigvisError(f"window_s: found {window_s!r}; expected two times in seconds") from None
    if not (start >= 0 and _MIN_WINDOW_S <= round(stop - start, 9) <= longest):
        raise MigvisError(
            f"window_s: found {start:g} to {stop:g} s; expected a start of at least 0 and a length of "
            f"{_MIN_WINDOW_S:g} to {longest:g} s, so that windows of successive images do not overlap"
        )
    return start, stop


def _write(nwbfile: object, path: Path) -> None:
    """Write to a temporary file beside `path`, then rename it."""
    from pynwb import NWBHDF5IO

    temporary = path.with_name(f".{path.stem}.{os.getpid()}.tmp.nwb")
    try:
        with NWBHDF5IO(temporary, "w") as io:
            io.write(nwbfile)
        with temporary.open("rb") as written:
            os.fsync(written.fileno())
        temporary.replace(path)
    except OSError as error:
        raise MigvisError(
            f"{path} could not be written ({error.strerror or error}); free space or choose another"
        ) from None
    finally:
        temporary.unlink(missing_ok=True)
