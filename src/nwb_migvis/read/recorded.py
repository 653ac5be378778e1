"""The images of a run's stimuli, read again and resized to the prior's size."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session
from nwb_migvis.results import Results
from nwb_migvis.sources import Source

_CHUNK = 256
"""Images read at a time, or as many as fit into `_CHUNK_BYTES`."""

_CHUNK_BYTES = 2**27


def read_shown(
    path: Source, results: Results, *, images: str | Path | None = None, labels: str | Path | None = None
) -> xr.Dataset:
    """Read the session of a written file again, its stimuli in the order of the run's.

    Of what the file says about how it was read only names of places in it are used: a file must not make
    this program open other files or evaluate anything.

    Raises
    ------
    MigvisError
        As `read_session`; if there are no pixels; or if a stimulus of the run is not among the session's.
    """
    recorded = results.provenance.get("reading", {})
    reading: dict[str, Any] = {
        key: recorded[key] for key in ("layout", "stimulus") if isinstance(recorded.get(key), str)
    }
    reading |= {key: recorded[key] for key in ("index_base", "merge_repeats") if recorded.get(key) in (0, 1)}
    reading["allow_long_window"] = True  # the counts are not used
    session = read_session(path, images=images, labels=labels, **reading)
    if "image" not in session:
        raise MigvisError(
            f"{path}: found no pixels of the images; expected those that the run was made with; "
            "give their folder with --images"
        )
    row = {str(name): i for i, name in enumerate(session["stimulus"].values)}
    stimuli = [str(name) for name in results.latents["stimulus"].values]
    absent = [name for name in stimuli if name not in row]
    if absent:
        raise MigvisError(
            f"{path}: {len(absent)} of the run's {len(stimuli)} stimuli are not in the session, the first "
            f"{absent[0]!r}; expected the session and images that the run was made with"
        )
    return session.isel(stimulus=[row[name] for name in stimuli])


def small_images(image: xr.DataArray, size_px: int, *, like: tuple[int, ...] | None = None) -> np.ndarray:
    """Return images with a longest side of at most `size_px`, reading a few hundred at a time.

    Parameters
    ----------
    image : xarray.DataArray, dims (stimulus, y, x (, channel))
    size_px : int
    like : tuple of int, optional
        Shape that each image has to have.

    Raises
    ------
    MigvisError
        If the images have another shape.
    """
    from nwb_migvis.pixels import resize_images, target_shape

    shape = target_shape(image.sizes["y"], image.sizes["x"], size_px)
    small_shape = (*shape, *image.shape[3:])
    if like is not None and small_shape != tuple(like):
        raise MigvisError(
            f"images of {image.shape[1:]} pixels become {small_shape}; the prior has {tuple(like)}; "
            "give the images that the run was made with"
        )
    n = image.sizes["stimulus"]
    step = min(_CHUNK, max(1, _CHUNK_BYTES // math.prod(image.shape[1:])))
    return np.concatenate(
        [resize_images(image[first : first + step].values, shape) for first in range(0, n, step)]
    )
