"""Several sessions in which the same image has the same id."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import xarray as xr
from xarray.core import indexing

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.pixels import LazyImages
from nwb_migvis.read.session import Asked, Loaded, load
from nwb_migvis.sources import Source, as_source


def read_sessions(
    paths: Sequence[str | Source | h5py.File], *, labels: str | Path | None = None, **reading: Any
) -> list[xr.Dataset]:
    """Read several sessions, of one subject or many, whose stimulus ids mean the same images.

    Parameters
    ----------
    paths : sequence of path
        Or of addresses or open files, as for `read_session`.
    labels : path, optional
        CSV with a `stimulus` column that covers the images of all sessions.
    **reading
        As for `read_session`.

    Returns
    -------
    list of xarray.Dataset
        One session dataset for each path, in that order.

    Raises
    ------
    MigvisError
        As `read_session`; and if an id has different pixels or labels in two sessions.
    """
    asked = Asked(**reading)
    loaded = [load(as_source(path, what="path"), asked) for path in paths]
    check_same_pixels(loaded)
    names = {name for item in loaded for name in (*item.names, *item.session["stimulus"].values.tolist())}
    sessions = [item.labelled(labels, more_stimuli=names) for item in loaded]
    for name in label_names(sessions):
        shared_label(sessions, name)
    return sessions


def check_same_pixels(loaded: Sequence[Loaded]) -> None:
    """Raise `MigvisError` where an image that has pixels in two sessions differs between them."""
    first: dict[str, tuple[str, str]] = {}
    for item in loaded:
        if item.stack is None or len(loaded) < 2:
            continue
        for name, digest in item.stack.digests().items():
            source = item.session.attrs["source"]
            other_source, other = first.setdefault(name, (source, digest))
            if other != digest:
                raise MigvisError(
                    f"image {name!r} has other pixels in {source} than in {other_source}; expected one image "
                    "for each name: rename one of them, or run the sessions apart"
                )


def label_names(sessions: Sequence[xr.Dataset]) -> list[str]:
    """Return the labels of any of the sessions, in the order in which they are found."""
    names: dict[str, None] = {}
    for session in sessions:
        for name, coord in session.coords.items():
            if coord.dims == ("stimulus",) and name != "stimulus":
                names[str(name)] = None
    return list(names)


def shared_label(sessions: Sequence[xr.Dataset], name: str) -> dict[str, str | float]:
    """Return a label's values by stimulus id over all sessions that have it.

    Raises
    ------
    MigvisError
        If an image has two values, or the label is a number here and text there.
    """
    values: dict[str, tuple[str | float, str]] = {}
    kinds: dict[str, str] = {}
    for session in sessions:
        if name not in session.coords or session[name].dims != ("stimulus",):
            continue
        source = str(session.attrs["source"])
        kinds.setdefault(session[name].dtype.kind, source)
        for stimulus, value in zip(
            session["stimulus"].values.tolist(), session[name].values.tolist(), strict=True
        ):
            if value == "" or value != value:
                continue
            first, first_source = values.setdefault(stimulus, (value, source))
            if first != value:
                raise MigvisError(
                    f"label {name!r} of image {stimulus!r} is {value!r} in {source} and {first!r} in "
                    f"{first_source}; expected one value: correct one of the files"
                )
    if len(kinds) > 1:
        raise MigvisError(
            f"label {name!r} is a number in one file and text in another ({', '.join(kinds.values())}); "
            "expected one kind: correct one of the files"
        )
    return {stimulus: value for stimulus, (value, _) in values.items()}


def shared_stimuli(sessions: Sequence[xr.Dataset]) -> xr.Dataset:
    """Return every image shown in any of several sessions, once.

    Parameters
    ----------
    sessions : sequence of xarray.Dataset
        From `read_sessions`.

    Returns
    -------
    xarray.Dataset
        Coordinate `stimulus`, in the order in which the sessions name them, and the labels (NaN or ""
        where no session knows one); `image` (stimulus, y, x[, channel]) uint8, read lazily, absent unless
        every image has pixels in some session.

    Raises
    ------
    MigvisError
        If labels conflict or images differ in size.
    """
    names = list(dict.fromkeys(name for session in sessions for name in session["stimulus"].values.tolist()))
    coords: dict[str, Any] = {"stimulus": np.array(names, dtype=str)}
    for label in label_names(sessions):
        values = shared_label(sessions, label)
        is_text = any(isinstance(value, str) for value in values.values())
        column = [values.get(name, "" if is_text else np.nan) for name in names]
        coords[label] = ("stimulus", np.array(column, dtype=str if is_text else np.float64))
    shared = xr.Dataset(coords=coords)
    home: dict[str, tuple[int, int]] = {}
    images = {i: session["image"] for i, session in enumerate(sessions) if "image" in session}
    for i, session in enumerate(sessions):
        if i in images:
            for row, name in enumerate(session["stimulus"].values.tolist()):
                home.setdefault(name, (i, row))
    if len(home) < len(names):
        return shared
    stack = SharedImages(images, [home[name] for name in names])
    dims = ("stimulus", "y", "x", "channel")[: len(stack.shape)]
    shared["image"] = xr.Variable(dims, indexing.LazilyIndexedArray(stack))
    return shared


class SharedImages(LazyImages):
    """Images of several sessions as one array of uint8 that reads on indexing.

    Parameters
    ----------
    images : mapping of int to xarray.DataArray
        (stimulus, y, x[, channel]) of each session that has pixels, by its number.
    home : sequence of (int, int)
        Session and row of each image.
    """

    def __init__(self, images: Mapping[int, xr.DataArray], home: Sequence[tuple[int, int]]) -> None:
        self._images = images
        self._home = np.array(home)
        shapes = {images[i].shape[1:] for i in np.unique(self._home[:, 0])}
        if len({shape[:2] for shape in shapes}) > 1:
            sizes = ", ".join(f"{shape[0]} x {shape[1]}" for shape in sorted(shapes))
            raise MigvisError(
                f"the sessions' images have different sizes (height x width in px): {sizes}; expected one: "
                "say which with resize_px=(height, width) (--resize HEIGHT WIDTH)"
            )
        self.shape = (len(home), *max(shapes, key=len))
        self.dtype = np.dtype(np.uint8)

    def read_rows(self, rows: np.ndarray) -> np.ndarray:
        """Return the images of some rows, (row, y, x[, channel])."""
        stack = np.empty((len(rows), *self.shape[1:]), np.uint8)
        for i in np.unique(self._home[rows, 0]):
            own = self._home[rows, 0] == i
            pixels = self._images[i].isel(stimulus=self._home[rows[own], 1]).values
            stack[own] = pixels if pixels.ndim == stack.ndim else pixels[..., None]
        return stack
