"""What an open NWB file holds that layouts look at: tables of intervals and collections of images."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

import h5py
import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.folder import SUFFIXES, resolve_external
from nwb_migvis.read.pixels import DatasetPixels, FilePixels, Pixels
from nwb_migvis.read.presentations import StimulusImage
from nwb_migvis.read.sizes import check_frames, check_size, whole
from nwb_migvis.read.table import Table
from nwb_migvis.sources import OpenFile, RemoteFile, Source, folder_of

if TYPE_CHECKING:
    from pynwb import NWBFile, TimeSeries
    from pynwb.base import Images
    from pynwb.image import ImageSeries
    from pynwb.misc import Units

_SCHEMA_FIELDS = {"data", "description", "resolution", "image_format", "image_mode", "help"}


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
    source : path, or another source
        What the file was opened from. Paths of external images are resolved in its folder.
    allow_outside : bool
        Whether external images may lie outside that folder.
    index_base : {0, 1}, optional
        What the first image has in columns and series that count positions, where the user says so.
    """

    def __init__(
        self, nwb: NWBFile, source: Source, *, allow_outside: bool = False, index_base: int | None = None
    ) -> None:
        self.nwb = nwb
        self.source = source
        self.allow_outside = allow_outside
        self.index_base = index_base
        self._collections: dict[int, Collection] = {}

    @cached_property
    def stimuli(self) -> list[Any]:
        """Everything under the file's stimuli, then its templates, by name."""
        groups = (self.nwb.stimulus, self.nwb.stimulus_template)
        return [group[name] for group in groups for name in sorted(group)]

    @cached_property
    def others(self) -> list[tuple[str, Any]]:
        """What acquisition, events and processing modules hold, each after the name of its place."""
        items = [("acquisition", item) for item in self.nwb.acquisition.values()]
        items += [("events", item) for item in (getattr(self.nwb, "events", None) or {}).values()]
        for module in self.nwb.processing.values():
            items += [(module.name, item) for item in module.data_interfaces.values()]
        return items

    @cached_property
    def series(self) -> list[TimeSeries]:
        """Time series among the file's stimuli and templates, and every other `IndexSeries`."""
        from pynwb import TimeSeries
        from pynwb.image import IndexSeries

        series = [item for item in self.stimuli if isinstance(item, TimeSeries)]
        return series + [item for _, item in self.others if isinstance(item, IndexSeries)]

    @cached_property
    def tables(self) -> dict[str, Table]:
        """Tables of intervals or events by name: trials, other intervals, then those in other places.

        One whose name is taken is called after its place too.
        """
        from hdmf.common import DynamicTable

        items = dict(self.nwb.intervals or {})
        if self.nwb.trials is not None:
            items = {"trials": self.nwb.trials, **items}
        items.pop("invalid_times", None)
        for place, item in [*(("stimulus", item) for item in self.stimuli), *self.others]:
            if isinstance(item, DynamicTable) and {"start_time", "timestamp"} & set(item.colnames):
                items[item.name if item.name not in items else f"{place}/{item.name}"] = item
        return {name: Table.from_dynamic_table(table, name=name) for name, table in items.items()}

    @cached_property
    def elsewhere(self) -> list[str]:
        """What the layouts do not look at although it may say what was shown: series of images and tables."""
        from hdmf.common import DynamicTable
        from pynwb.image import ImageSeries

        places = [("acquisition", self.nwb.acquisition), ("analysis", self.nwb.analysis)]
        places += [("scratch", self.nwb.scratch or {})]
        places += [(module.name, module.data_interfaces) for module in self.nwb.processing.values()]
        looked_at = {id(item) for item in self.series}
        names = []
        for place, items in places:
            for name, item in items.items():
                is_table = isinstance(item, DynamicTable) and name not in self.tables
                if (is_table or isinstance(item, ImageSeries)) and id(item) not in looked_at:
                    names.append(f"{type(item).__name__} {place}/{name}")
        return names

    @cached_property
    def invalid_times(self) -> np.ndarray:
        """(interval, 2) float64, seconds: when the file says that nothing is to be analysed.

        Raises
        ------
        MigvisError
            If an interval has no start or stop, or stops before it starts.
        """
        item = self.nwb.invalid_times
        if item is None or not len(item.id):
            return np.empty((0, 2))
        table = Table.from_dynamic_table(item)
        times = np.stack([table.start_time, table.stop_time], axis=1)
        is_bad = ~(times[:, 0] <= times[:, 1])
        if is_bad.any():
            k = int(np.argmax(is_bad))
            raise MigvisError(
                f"invalid_times, row {k}: from {times[k, 0]:g} to {times[k, 1]:g} s; expected a start before "
                "a stop, in seconds: correct the file"
            )
        return times

    @cached_property
    def aggregated(self) -> dict[str, Units]:
        """`Units` tables `spike_times_X` in processing, by X, where intervals `trials_table_X` exist."""
        from pynwb.misc import Units

        units = {}
        for _, item in self.others:
            session = item.name.removeprefix("spike_times_")
            if isinstance(item, Units) and session != item.name and f"trials_table_{session}" in self.tables:
                units[session] = item
        return dict(sorted(units.items()))

    @cached_property
    def collections(self) -> list[Collection]:
        """Every collection of images among the file's stimuli and templates that can be read."""
        from pynwb.base import Images
        from pynwb.image import ImageSeries, IndexSeries

        collections: list[Collection] = []
        for item in [*self.stimuli, *(item for _, item in self.others if isinstance(item, Images))]:
            with contextlib.suppress(MigvisError):  # what the presentations need is asked for by name
                if isinstance(item, Images):
                    collections.append(self.images_collection(item))
                elif isinstance(item, ImageSeries) and not isinstance(item, IndexSeries):
                    collections.append(self.frames_collection(item))
        return collections

    @cached_property
    def named_images(self) -> dict[str, list[StimulusImage]]:
        """Images of the file by name."""
        by_name: dict[str, list[StimulusImage]] = {}
        for collection in self.collections:
            for image in collection.images:
                if image.name:
                    by_name.setdefault(image.name, []).append(image)
        return by_name

    def images_collection(self, images: Images) -> Collection:
        """Return the images of an `Images` container in the order that indices count.

        That is its `order_of_images`; without one, the number at the end of each name where those are
        0 .. n - 1. Any other order is unknown (the file keeps none).
        """
        if id(images) not in self._collections:
            names = _ordered_names(images)
            by_name = images.images
            ordered = [self._image(by_name[name]) for name in (by_name if names is None else names)]
            self._collections[id(images)] = Collection(images.name, ordered, is_ordered=names is not None)
        return self._collections[id(images)]

    def frames_collection(self, series: ImageSeries) -> Collection:
        """Return the frames of an `ImageSeries`, named by `control_description` where it has one each.

        Where the series has `control`, that says which description is whose.
        """
        if id(series) not in self._collections:
            pixels = self._frames(series)
            names = self._frame_names(series, len(pixels))
            frames = [StimulusImage(name, source) for name, source in zip(names, pixels, strict=True)]
            self._collections[id(series)] = Collection(series.name, frames)
        return self._collections[id(series)]

    def _frame_names(self, series: ImageSeries, n_frames: int) -> list[str]:
        nameless = [""] * n_frames
        if series.control_description is None:
            return nameless
        names = [str(name) for name in whole(series.control_description)]
        if len(names) != n_frames or len(set(names)) != n_frames:
            return nameless
        if series.control is None:
            return names
        control = whole(series.control).astype(np.int64)
        base = next((k for k in (0, 1) if sorted(control) == list(range(k, n_frames + k))), None)
        if base == 1 and self.index_base != 1:
            raise MigvisError(
                f"{series.name}: control holds 1 to {n_frames} for {n_frames} descriptions; expected 0 for "
                "the first: if it has number 1, say so with index_base=1 (--index-base 1)"
            )
        return nameless if base is None else [names[k - base] for k in control]

    def _frames(self, series: ImageSeries) -> list[Pixels]:
        if series.external_file is not None and len(series.external_file):
            paths = [str(path) for path in whole(series.external_file)]
            starts = [] if series.starting_frame is None else [int(k) for k in whole(series.starting_frame)]
            is_image = all(Path(path).suffix.lower() in SUFFIXES for path in paths)
            says_nothing = not any(starts) and is_image  # [0], or 0 for each: what writers put by default
            if not says_nothing and starts and starts != list(range(len(paths))):
                raise MigvisError(
                    f"{series.name}: external_file holds movies (starting_frame "
                    f"{', '.join(map(str, starts[:3]))} ...); expected one image per file: export the frames "
                    "as images"
                )
            return [self._external(path, series.name) for path in paths]
        data = series.data
        if not isinstance(data, h5py.Dataset) or data.ndim not in (3, 4):
            raise MigvisError(
                f"{series.name}: data has no frames (y, x[, channel]); expected images in the file"
            )
        check_frames(data)
        file, name, shape = self._home(data.file.filename), data.name, tuple(data.shape[1:])
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
        check_size(data)
        file = self._home(h5py.h5f.get_name(data.id).decode())  # of the object, should it be behind a link
        return StimulusImage(
            image.name, DatasetPixels(file, data.name, data.shape, data.id.dtype), attributes
        )

    def spikes_at(self, spike_times: Any) -> tuple[str | RemoteFile | OpenFile | None, Any]:
        """Return what spike times are read from again, and their name there; None with those in memory."""
        if not isinstance(spike_times, h5py.Dataset):
            return None, spike_times
        return self._home(h5py.h5f.get_name(spike_times.id).decode()), spike_times.name

    def _home(self, filename: str) -> str | RemoteFile | OpenFile:
        """Return what the file of this name is opened from: the source itself, or a file beside it."""
        own_name = str(self.source).encode("ascii", "replace").decode()  # h5py names a stream so
        is_own = not isinstance(self.source, Path) and filename in (own_name, str(self.source))
        return self.source if is_own else filename  # type: ignore[return-value]

    def _external(self, path: str, place: str) -> Pixels:
        folder = folder_of(self.source)
        if folder is None:
            raise MigvisError(
                f"{place}: image {path!r} lies beside a file that is not read from this machine; expected "
                "pixels in the file: download both, or give the images with images= (--images)"
            )
        return FilePixels.from_file(
            resolve_external(path, folder, place=place, allow_outside=self.allow_outside)
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
    check_size(dataset)
    addresses = np.empty(dataset.shape, np.uint64)
    dataset.id.read(h5py.h5s.ALL, h5py.h5s.ALL, addresses, mtype=h5py.h5t.STD_REF_OBJ)
    group = dataset.parent.id
    name_at: dict[int, str] = {}

    def note(name: bytes, link: Any) -> None:
        is_hard = link.type == h5py.h5l.TYPE_HARD
        name_at[link.u if is_hard else h5py.h5o.get_info(group, name).addr] = name.decode()

    group.links.iterate(note, info=True)
    return [name_at[int(address)] for address in addresses]
