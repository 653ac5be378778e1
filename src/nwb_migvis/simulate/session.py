"""Simulate a session and write it as one NWB file."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from functools import lru_cache
from pathlib import Path

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.simulate.features import FEATURES
from nwb_migvis.simulate.ground_truth import add_ground_truth
from nwb_migvis.simulate.nwb import add_presentations, add_units, new_file
from nwb_migvis.simulate.pixel_population import (
    N_REFERENCE,
    REFERENCE_SEED,
    PixelPopulation,
    pixel_population,
)
from nwb_migvis.simulate.population import DEFAULT_UNITS, draw_counts, draw_population
from nwb_migvis.simulate.render import Stimuli
from nwb_migvis.simulate.scene import Scene
from nwb_migvis.simulate.spikes import OFF_S, ON_S, draw_schedule, spike_trains

POPULATIONS = ("factors", "pixels")
"""What rates can depend on."""

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
    population: str = "factors",
    features: str = "random",
    tuning: str = "bumps",
    scene: Scene | None = None,
) -> Path:
    """Write an NWB session whose population is known: images, presentations, spikes, labels, ground truth.

    Images of 8 categories of solids are shown for 100 ms each, in a new order in every repeat, to units of
    four planted groups. Labels (columns of `trials`) are rotation, position, size and category; shape
    parameters, masks of objects, planted groups and expected rates are stored apart (`read_ground_truth`).
    The same settings give the same arrays.

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
    population : {"factors", "pixels"}
        What rates depend on: the factors that an image was drawn from, or its pixels. Units that respond to
        pixels can be shown other pictures (`simulate_next_session`).
    features : {"random", "efficientnet-lite0", "both"}
        What units that respond to pixels read; see `nwb_migvis.simulate.features`.
    tuning : {"bumps", "monotone", "sparse"}
        See `Population.form`.
    scene : Scene, optional
        Other solids or pictures, light and backgrounds. Its background counts, not `background`.

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
    check_destination(path, overwrite)
    check_at_least("seed", seed, 0)
    check_at_least("n_stimuli", n_stimuli, 1)
    check_at_least("n_repeats", n_repeats, 1)
    check_at_least("size_px", size_px, 8)
    window_s = _check_window(window_s)
    units = dict(DEFAULT_UNITS if units is None else units)
    scene = Scene(background=background) if scene is None else scene
    settings = {
        "seed": int(seed),
        "n_stimuli": int(n_stimuli),
        "n_repeats": int(n_repeats),
        "size_px": int(size_px),
        "units": {group: int(size) for group, size in units.items()},
        "window_s": list(window_s),
        "background": scene.background,
        **_more(scene, population=population, features=features, tuning=tuning),
    }
    tuned = draw_population(units, seed=seed, form=tuning, categories=scene.categories)
    factors = scene.draw(n_stimuli, seed=seed)
    images = scene.render(factors, size_px=size_px, seed=seed)
    if population == "pixels":
        rate_hz = population_of(settings).rate_hz(images)
    else:
        rate_hz = tuned.rate_hz(factors, reference=scene.reference)
    order, onset_sample = draw_schedule(n_stimuli, n_repeats, seed=seed)
    counts = draw_counts(rate_hz, order, window_s[1] - window_s[0], seed=seed)

    nwbfile = new_file(settings)
    stimuli = Stimuli([f"im{i:04d}.png" for i in range(n_stimuli)], images, factors)
    about = None if scene.pictures is None else ("Picture of {}.", "Pictures, turned and moved in the plane.")
    add_presentations(
        nwbfile, stimuli, order, onset_sample, labels=scene.labels, **({"about": about} if about else {})
    )
    add_units(nwbfile, list(spike_trains(counts, onset_sample, window_s, seed=seed)))
    mask = scene.masks(factors, size_px=size_px)
    add_ground_truth(nwbfile, stimuli, tuned.planted_group, rate_hz, object_mask=mask)
    write_whole(nwbfile, path)
    return path


def _more(scene: Scene, *, population: str, features: str, tuning: str) -> Json:
    """Return the settings that differ from those of every earlier session."""
    if population not in POPULATIONS:
        raise MigvisError(f"population {population!r} is unknown; expected one of {', '.join(POPULATIONS)}")
    if features not in FEATURES:
        raise MigvisError(f"features {features!r} are unknown; expected one of {', '.join(FEATURES)}")
    more: Json = {} if population == "factors" else {"population": population, "features": features}
    if tuning != "bumps":
        more["tuning"] = tuning
    own = {key: value for key, value in scene.settings().items() if key != "background"}
    return more | ({"scene": own} if own else {})


def population_of(settings: Json) -> PixelPopulation:
    """Return the units that respond to pixels of a session with these settings.

    Their read-outs are fitted to renders of the session's scene that it does not show.
    """
    return _cached_population(json.dumps(settings, sort_keys=True))


@lru_cache(maxsize=2)
def _cached_population(settings_text: str) -> PixelPopulation:
    settings = json.loads(settings_text)
    scene = Scene(background=settings["background"], **settings.get("scene", {}))
    tuned = draw_population(
        settings["units"],
        seed=settings["seed"],
        form=settings.get("tuning", "bumps"),
        categories=scene.categories,
    )
    factors = scene.draw(N_REFERENCE, seed=REFERENCE_SEED)
    images = scene.render(factors, size_px=settings["size_px"], seed=REFERENCE_SEED)
    return pixel_population(tuned, factors, images, features=settings["features"])


def check_destination(path: Path, overwrite: bool) -> None:
    """Raise `MigvisError` where a new file cannot be."""
    if not path.parent.is_dir():
        raise MigvisError(f"folder {path.parent} does not exist; make it or choose another path")
    if path.is_dir():
        raise MigvisError(f"{path} is a folder; give the path of a file to write")
    if path.exists() and not overwrite:
        raise MigvisError(f"{path} exists already; choose another path or overwrite it (--overwrite)")


def check_at_least(name: str, value: int, low: int) -> None:
    """Raise `MigvisError` for what is no whole number of at least `low`."""
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


def write_whole(nwbfile: object, path: Path) -> None:
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
