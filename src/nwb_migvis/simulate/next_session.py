"""A further session of units that respond to pixels, in which they are shown other pictures."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from PIL import Image

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.simulate.backgrounds import image_files
from nwb_migvis.simulate.ground_truth import add_ground_truth, read_ground_truth, read_settings
from nwb_migvis.simulate.nwb import add_presentations, add_units, new_file
from nwb_migvis.simulate.pixel_population import PixelPopulation
from nwb_migvis.simulate.population import draw_counts
from nwb_migvis.simulate.render import Stimuli
from nwb_migvis.simulate.scene import Scene
from nwb_migvis.simulate.session import check_at_least, check_destination, population_of, write_whole
from nwb_migvis.simulate.spikes import draw_schedule, spike_trains

_N_CHECKED = 16
_TOLERANCE_HZ = 0.01


def simulate_next_session(
    path: str | Path,
    pictures: str | Path,
    *,
    units_of: str | Path,
    seed: int = 1,
    n_repeats: int = 20,
    sorted_again: bool = False,
    overwrite: bool = False,
) -> Path:
    """Write a session in which the units of a simulated session are shown the pictures of a folder.

    Parameters
    ----------
    path : path
        The file to write.
    pictures : path
        A folder of image files, all of one size, such as `export_stimuli` writes. A picture is called as its
        file is.
    units_of : path
        A session that `simulate_session` wrote with `population="pixels"`, or a file derived from it.
    seed : int
        Of the order and the counts; another one than that of the first session.
    n_repeats : int
        Presentations of each picture.
    sorted_again : bool
        Whether units come in another order with new ids, a tenth of them lost, as sorting anew gives.
    overwrite : bool
        Replace an existing file.

    Returns
    -------
    Path
        `path`.

    Raises
    ------
    MigvisError
        If the file exists, the session's units do not respond to pixels, or the pictures cannot be used.
    """
    path = Path(path)
    check_destination(path, overwrite)
    check_at_least("seed", seed, 0)
    check_at_least("n_repeats", n_repeats, 1)
    settings = read_settings(units_of)
    if settings.get("population") != "pixels":
        raise MigvisError(
            f"{units_of}: its units do not respond to pixels; expected a session that was simulated with "
            "population='pixels' (`nwb-migvis simulate --population pixels`)"
        )
    if "next_seed" in settings:
        raise MigvisError(
            f"{units_of}: it is a further session itself; expected the first session of its units; give that"
        )
    if seed == settings["seed"]:
        raise MigvisError(f"seed: found {seed}, that of the first session; expected another one")
    names, images = _read_pictures(Path(pictures))
    population = population_of(settings)
    _check_same(population, settings, units_of)
    rate_hz = population.rate_hz(images)
    chosen = _sorted_units(rate_hz.shape[1], seed) if sorted_again else np.arange(rate_hz.shape[1])
    rate_hz = rate_hz[:, chosen]
    start, stop = settings["window_s"]
    order, onset_sample = draw_schedule(len(names), n_repeats, seed=seed)
    counts = draw_counts(rate_hz, order, stop - start, seed=seed)
    nwbfile = new_file(settings | {"next_seed": int(seed), "n_pictures": len(names), "n_repeats": n_repeats})
    stimuli = Stimuli(names, images, pd.DataFrame(index=range(len(names))))
    about = ("Picture that was shown.", "Pictures of a folder.")
    add_presentations(nwbfile, stimuli, order, onset_sample, labels=(), about=about)
    add_units(nwbfile, list(spike_trains(counts, onset_sample, (start, stop), seed=seed)))
    add_ground_truth(
        nwbfile, stimuli, population.planted_group[chosen], rate_hz, earlier_unit=chosen.astype(np.int64)
    )
    write_whole(nwbfile, path)
    return path


def _sorted_units(n: int, seed: int) -> NDArray[np.int64]:
    """Return units in a new order, one in ten lost."""
    return np.random.default_rng([seed, 10]).permutation(n)[: n - n // 10]


def _read_pictures(folder: Path) -> tuple[list[str], NDArray[np.uint8]]:
    images = []
    files = image_files(folder, what="pictures")
    for file in files:
        try:
            with Image.open(file) as picture:
                images.append(
                    np.asarray(picture.convert("L" if picture.mode in ("L", "1", "I;16") else "RGB"))
                )
        except (OSError, ValueError) as error:
            raise MigvisError(f"picture {file} cannot be read ({error}); remove or replace it") from None
        if images[-1].shape != images[0].shape:
            raise MigvisError(
                f"picture {file} has the shape {images[-1].shape}, {files[0].name} {images[0].shape}; "
                "expected pictures of one size"
            )
    return [file.name for file in files], np.stack(images)


def _check_same(population: PixelPopulation, settings: Json, units_of: str | Path) -> None:
    """Refuse a population that does not respond to the first session's images as that session says."""
    truth = read_ground_truth(units_of)["rate_hz"].values[:_N_CHECKED]
    scene = Scene(background=settings["background"], **settings.get("scene", {}))
    factors = scene.draw(settings["n_stimuli"], seed=settings["seed"]).iloc[:_N_CHECKED]
    images = scene.render(factors, size_px=settings["size_px"], seed=settings["seed"])
    error = np.abs(population.rate_hz(images) - truth).max()
    if error > _TOLERANCE_HZ:
        raise MigvisError(
            f"{units_of}: its units respond otherwise here, by up to {error:.2g} Hz; expected the versions "
            "of the package, numpy and scene files that wrote it; simulate the first session again"
        )
