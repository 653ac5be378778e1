"""What an open NWB file holds that layouts look at: tables of intervals and collections of images."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np
import pandas as pd

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.folder import resolve_external
from nwb_migvis.read.pixels import DatasetPixels, FilePixels, Pixels
from nwb_migvis.read.presentations import StimulusImage

if TYPE_CHECKING:
    from pynwb import NWBFile, TimeSeries
    from pynwb.base import Images
    from pynwb.image import ImageSeries

_SCHEMA_FIELDS = {"data", "description", "resolution", "image_format", "image_mode", "help"}


@dataclass(frozen=True)
class Table:
    """The scalar columns of a table of intervals.

    Attributes
    ----------
    name : str
    columns : mapping of str to numpy.ndarray
        (row,) numbers, booleans, or str objects; ragged, reference and array columns and `start_time` are
        left out.
    start_time, stop_time : numpy.ndarray
        (row,) float64, seconds; when the presentation began and ended. NaN where unknown.
    """

    name: str
    columns: Mapping[str, np.ndarray]
    start_time: np.ndarray
    stop_time: np.ndarray

    @classmethod
    def from_dynamic_table(cls, table: Any) -> Table:
        """Read a table; `stim_on_time` and `stim_off_time` are the times of a presentation where given."""
        columns = scalar_columns(table)
        n_rows = len(table.id)
        times = []
        for names in (("stim_on_time", "start_time"), ("stim_off_time", "stop_time")):
            name = next((name for name in names if name in columns), None)
            times.append(np.full(n_rows, np.nan) if name is None else columns[name].astype(np.float64))
        columns.pop("start_time", None)
        return cls(table.name, columns, *times)


@dataclass(frozen=True)
class Collection:
    """Images that a file keeps together.

    Attributes
    ----------
    name : str
    images : sequence of StimulusImage
        In the order that indices count.
    is_ordered : bool
        Whether that order is known.
    """

    name: str
    images: Sequence[StimulusImage]
    is_ordered: bool = True


class Contents:
    """An open file as the layouts see it.

    Parameters
    ----------
    nwb : pynwb.NWBFile
    folder : Path
        Folder of the file, in which paths of external images are resolved.
    allow_outside : bool
        Whether external images may lie outside that folder.
    """

    def __init__(self, nwb: NWBFile, folder: Path, *, allow_outside: bool = False) -> None:
        self.nwb = nwb
        self.folder = folder
        self.allow_outside = allow_outside
        self._collections: dict[int, Collection] = {}

    @cached_property
    def stimuli(self) -> list[Any]:
        """Everything under the file's stimuli, then its templates, by name."""
        found = []
        for group in (self.nwb.stimulus, self.nwb.stimulus_template):
            found += [group[name] for name in sorted(group)]
        return found

    @cached_property
    def series(self) -> list[TimeSeries]:
        """Time series under the file's stimuli and templates."""
        from pynwb import TimeSeries

        return [item for item in self.stimuli if isinstance(item, TimeSeries)]

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Tables of intervals by name, trials first."""
        found = dict(self.nwb.intervals)
        if self.nwb.trials is not None:
            found = {"trials": self.nwb.trials, **found}
        found.pop("invalid_times", None)
        return {name: Table.from_dynamic_table(table) for name, table in found.items()}

    @cached_property
    def aggregated(self) -> dict[str, Any]:
        """`Units` tables `spike_times_X` in processing, by X, where intervals `trials_table_X` exist."""
        from pynwb.misc import Units

        found = {}
        for module in self.nwb.processing.values():
            for name, item in module.data_interfaces.items():
                session = name.removeprefix("spike_times_")
                if isinstance(item, Units) and session != name and f"trials_table_{session}" in self.tables:
                    found[session] = item
        return dict(sorted(found.items()))

    @cached_property
    def collections(self) -> list[Collection]:
        """Every collection of images among the file's stimuli and templates that can be read."""
        from pynwb.base import Images
        from pynwb.image import ImageSeries, IndexSeries

        found: list[Collection] = []
        for item in self.stimuli:
            with contextlib.suppress(MigvisError):  # what the presentations need is asked for by name
                if isinstance(item, Images):
                    found.append(self.images_collection(item))
                elif isinstance(item, ImageSeries) and not isinstance(item, IndexSeries):
                    found.append(self.frames_collection(item))
        return found

    @cached_property
    def named_images(self) -> dict[str, list[StimulusImage]]:
        """Images of the file by name."""
        found: dict[str, list[StimulusImage]] = {}
        for collection in self.collections:
            for image in collection.images:
                if image.name:
                    found.setdefault(image.name, []).append(image)
        return found

    def images_collection(self, images: Images) -> Collection:
        """Return the images of an `Images` container in the order that indices count.

        That is its `order_of_images`; without one, the number at the end of each name where those are
        0 .. n - 1. Any other order is unknown (the file keeps none).
        """
        if id(images) not in self._collections:
            names = _ordered_names(images)
            by_name = images.images
            found = [self._image(by_name[name]) for name in (by_name if names is None else names)]
            self._collections[id(images)] = Collection(images.name, found, is_ordered=names is not None)
        return self._collections[id(images)]

    def frames_collection(self, series: ImageSeries) -> Collection:
        """Return the frames of an `ImageSeries`, named by `control_description` where it has one each."""
        if id(series) not in self._collections:
            pixels = self._frames(series)
            described = series.control_description
            names = [] if described is None else [str(name) for name in described[:]]
            if len(names) != len(pixels) or len(set(names)) != len(names):
                names = [""] * len(pixels)
            found = [StimulusImage(name, source) for name, source in zip(names, pixels, strict=True)]
            self._collections[id(series)] = Collection(series.name, found)
        return self._collections[id(series)]

    def _frames(self, series: ImageSeries) -> list[Pixels]:
        if series.external_file is not None and len(series.external_file):
            paths = [str(path) for path in series.external_file[:]]
            starts = (
                list(range(len(paths))) if series.starting_frame is None else list(series.starting_frame[:])
            )
            if starts != list(range(len(paths))):
                raise MigvisError(
                    f"{series.name}: external_file holds movies (starting_frame {starts[:3]} ...); expected "
                    "one image a file: export the frames as images"
                )
            return [self._external(path, series.name) for path in paths]
        data = series.data
        if not isinstance(data, h5py.Dataset) or data.ndim not in (3, 4):
            raise MigvisError(
                f"{series.name}: data has no frames (y, x[, channel]); expected images in the file"
            )
        file, name, shape = data.file.filename, data.name, tuple(data.shape[1:])
        return [DatasetPixels(file, name, shape, data.dtype, frame) for frame in range(data.shape[0])]

    def _image(self, image: Any) -> StimulusImage:
        from pynwb.base import ExternalImage

        attributes = {
            name: value
            for name, value in image.fields.items()
            if name not in _SCHEMA_FIELDS and np.isscalar(value)
        }
        if isinstance(image, ExternalImage):
            return StimulusImage(image.name, self._external(str(image.data), image.name), attributes)
        data = image.data
        if not isinstance(data, h5py.Dataset):
            raise MigvisError(
                f"image {image.name!r} has no pixels in an HDF5 dataset; expected (y, x[, channel])"
            )
        file = h5py.h5f.get_name(data.id).decode()  # of the object itself, should it be behind a link
        return StimulusImage(
            image.name, DatasetPixels(file, data.name, data.shape, data.id.dtype), attributes
        )

    def _external(self, path: str, place: str) -> Pixels:
        return FilePixels.from_file(
            resolve_external(path, self.folder, place=place, allow_outside=self.allow_outside)
        )


def _ordered_names(images: Images) -> list[str] | None:
    if images.order_of_images is not None:
        references = images.order_of_images.data
        dataset = getattr(references, "dataset", None)
        if isinstance(dataset, h5py.Dataset):
            return _referenced_names(dataset)
        return [image.name for image in references]
    numbered = {}
    for name in images.images:
        match = re.search(r"(\d+)(\.\w+)?$", name)
        if match:
            numbered[int(match[1])] = name
    if sorted(numbered) != list(range(len(images.images))):
        return None
    return [numbered[i] for i in range(len(numbered))]


def _referenced_names(dataset: h5py.Dataset) -> list[str]:
    """Return the names, within the group of a dataset of object references, of what each refers to.

    Asking HDF5 for the name of a reference searches the file, so addresses are looked up instead: in
    memory a reference is the address of its object.
    """
    addresses = np.empty(dataset.shape, np.uint64)
    dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, addresses, mtype=h5py.h5t.STD_REF_OBJ)
    group = dataset.parent.id
    name_at: dict[int, str] = {}

    def note(name: bytes, link: Any) -> None:
        is_hard = link.type == h5py.h5l.TYPE_HARD
        name_at[link.u if is_hard else h5py.h5o.get_info(group, name).addr] = name.decode()

    group.links.iterate(note, info=True)
    return [name_at[int(address)] for address in addresses]


def scalar_columns(table: Any) -> dict[str, np.ndarray]:
    """Return the columns of a `DynamicTable` that hold one number, boolean or text a row.

    Returns
    -------
    dict of str to numpy.ndarray
        (row,) each; text as str objects.
    """
    from hdmf.common import DynamicTableRegion, EnumData, VectorIndex

    columns = {}
    for name in table.colnames:
        column = table[name]
        if isinstance(column, VectorIndex | DynamicTableRegion):
            continue
        values = np.asarray(column.data[:])
        if isinstance(column, EnumData):
            values = np.asarray(column.elements.data[:], object)[values]
        plain = plain_column(values)
        if plain is not None and len(plain) == len(table.id):
            columns[name] = plain
    return columns


def plain_column(values: np.ndarray) -> np.ndarray | None:
    """Return one-dimensional numbers, booleans or text (as str objects), or None for anything else."""
    if values.ndim != 1 or values.dtype.kind not in "biufOSU":
        return None
    if values.dtype.kind in "biuf":
        return values
    kind = pd.api.types.infer_dtype(values, skipna=False)
    if kind == "string":
        return values.astype(object)
    if kind == "bytes" or not len(values):
        return np.array([value.decode(errors="replace") for value in values], object)
    return None
