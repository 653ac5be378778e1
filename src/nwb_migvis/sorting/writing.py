"""Sorted units, presentations and images as an NWB session."""

from __future__ import annotations

import os
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import MigvisError
from nwb_migvis.sorting.metadata import SessionMetadata
from nwb_migvis.sorting.units import SortedUnits

if TYPE_CHECKING:
    from pynwb import NWBFile
    from spikeinterface import BaseSorting, SortingAnalyzer

IMAGES = "presented_images"
SERIES = "image_series"
TABLE = "image_table"


def write_sorted_session(
    path: str | Path,
    sorting: BaseSorting | SortingAnalyzer,
    presentations: pd.DataFrame,
    *,
    into: str | Path | SessionMetadata,
    image: xr.DataArray | None = None,
    unit_ids: Sequence[Any] | None = None,
    overwrite: bool = False,
) -> Path:
    """Write an NWB session of sorted units and the images that were shown.

    Parameters
    ----------
    path : path
        File to write; it appears whole or not at all.
    sorting : spikeinterface.BaseSorting or spikeinterface.SortingAnalyzer
        One segment, on the session's clock.
    presentations : pandas.DataFrame
        `start_time` (s), `stimulus` (name of the image; missing or "" for a blank), perhaps `stop_time` (s),
        and further columns of numbers, booleans or text.
    into : path or SessionMetadata
        An NWB session without units, which is copied and stays as it is; or what a new session says about the
        recording.
    image : xarray.DataArray, optional
        (stimulus, y, x[, channel]) uint8 with coordinate `stimulus`, as in the dataset of
        `session_from_sorting`; without it only the names of the images are written.
    unit_ids : sequence, optional
        Units to write, in this order; all by default.
    overwrite : bool
        Whether `path` may exist.

    Returns
    -------
    Path

    Raises
    ------
    MigvisError
        If the destination exists, or `into` cannot be read, or holds units or objects of the names used here
        already.
    """
    path = Path(path)
    if path.exists() and not overwrite:
        raise MigvisError(f"{path} exists; choose another path, or pass overwrite=True (--overwrite)")
    if not isinstance(into, SessionMetadata) and path.resolve() == Path(into).resolve():
        raise MigvisError(f"{path} is the session that units are added to; choose another path for the copy")
    units = SortedUnits.of(sorting)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            if isinstance(into, SessionMetadata):
                nwb = new_session(into, units)
                add_session(nwb, units, presentations, image=image, unit_ids=unit_ids)
                _write(nwb, partial)
            else:
                _export(Path(into), partial, units, presentations, image=image, unit_ids=unit_ids)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)
    return path


def _write(nwb: NWBFile, path: Path) -> None:
    from pynwb import NWBHDF5IO

    try:
        with NWBHDF5IO(path, "w") as io:
            io.write(nwb)
    except OSError as error:
        raise MigvisError(f"{path.parent} cannot be written to: {error}; choose another path") from error


def _export(into: Path, path: Path, units: SortedUnits, presentations: pd.DataFrame, **parts: Any) -> None:
    """Write a copy of a session with units, images and presentations added."""
    from pynwb import NWBHDF5IO

    if not into.is_file():
        raise MigvisError(f"{into} does not exist; give the NWB session that units are added to")
    try:
        with NWBHDF5IO(into, "r") as source:
            nwb = source.read()
            if nwb.units is not None:
                raise MigvisError(
                    f"{into} has {len(nwb.units.id)} units already; give a session without units, or run on "
                    "it as it is"
                )
            add_session(nwb, units, presentations, **parts)
            nwb.set_modified()
            with NWBHDF5IO(path, "w") as io:
                io.export(src_io=source, nwbfile=nwb)
    except MigvisError:
        raise
    except Exception as error:  # a damaged file raises nearly anything, from deep inside the libraries
        reason = " ".join(str(error).split())[:200]
        raise MigvisError(
            f"{into} cannot be copied ({type(error).__name__}: {reason}); give a whole NWB session"
        ) from error


def new_session(metadata: SessionMetadata, units: SortedUnits) -> NWBFile:
    """Return an NWB file in memory, with electrodes where the analyzer knows its channels."""
    from pynwb import NWBFile
    from pynwb.file import Subject

    nwb = NWBFile(**metadata.session, subject=Subject(**metadata.subject) if metadata.subject else None)
    if metadata.device:
        device = nwb.create_device(**metadata.device)
        if units.analyzer is not None:
            _add_electrodes(nwb, units.analyzer, device, metadata.electrodes.get("location", "unknown"))
    return nwb


def _add_electrodes(nwb: NWBFile, analyzer: Any, device: Any, location: str) -> None:
    group = nwb.create_electrode_group(
        "electrodes", description="Channels of the sorting.", location=location, device=device
    )
    nwb.add_electrode_column("channel_name", "Name of the channel in the recording.")
    for channel, (x, y) in zip(analyzer.channel_ids, analyzer.get_channel_locations()[:, :2], strict=True):
        nwb.add_electrode(
            group=group, location=location, rel_x=float(x), rel_y=float(y), channel_name=str(channel)
        )


def add_session(
    nwb: NWBFile,
    units: SortedUnits,
    presentations: pd.DataFrame,
    *,
    image: xr.DataArray | None = None,
    unit_ids: Sequence[Any] | None = None,
) -> None:
    """Add units, images and presentations to an NWB file in memory."""
    add_units(nwb, units, units.ids if unit_ids is None else np.asarray(unit_ids))
    clashes = {*nwb.stimulus, *nwb.stimulus_template, *(nwb.intervals or {})} & {IMAGES, SERIES, TABLE}
    if clashes:
        raise MigvisError(
            f"the session has {', '.join(sorted(clashes))} already; give one without presentations"
        )
    names = stimulus_names(presentations["stimulus"])
    start_time = presentations["start_time"].to_numpy(np.float64, na_value=np.nan)
    if image is not None:
        add_images(nwb, image, names, start_time)
    add_table(nwb, presentations, names, start_time)


def stimulus_names(stimulus: pd.Series) -> list[str]:
    """Return the name of the image of each presentation, "" for a blank (missing, or a number below 0)."""
    if pd.api.types.is_numeric_dtype(stimulus):
        return ["" if pd.isna(number) or number < 0 else f"{number:.0f}" for number in stimulus]
    return ["" if pd.isna(name) else str(name) for name in stimulus]


def is_object_name(name: str) -> bool:
    """Return whether an object of an NWB file can have this name."""
    return bool(name) and "/" not in name and ":" not in name


def reserved_names(kind: Any) -> set[str]:
    """Return the names that no further column of a type of table can have."""
    return {"id", "colnames", "description", *(column["name"] for column in kind.__columns__)}


def add_units(nwb: NWBFile, units: SortedUnits, unit_ids: np.ndarray) -> None:
    """Add a Units table: spike times, the sorting's names, properties and metrics.

    A property whose name the table uses for something else gets the prefix `sorting_`.
    """
    from pynwb.misc import Units

    unknown = [unit for unit in unit_ids if unit not in units.ids]
    if unknown:
        raise MigvisError(f"the sorting has no unit {unknown[0]}; expected ids such as {units.ids[0]}")
    rows = [int(np.flatnonzero(units.ids == unit)[0]) for unit in unit_ids]
    reserved = {"unit_name", *reserved_names(Units)}
    columns = {}
    for name, values in units.columns().items():
        fitting = name.replace("/", "_").replace(":", "_")
        columns[f"sorting_{fitting}" if fitting in reserved else fitting] = values[rows]
    columns["unit_name"] = np.array([str(unit) for unit in unit_ids], object)
    nwb.units = Units(
        name="units",
        description="Units sorted with SpikeInterface.",
        resolution=1 / units.sampling_frequency,
    )
    for name in columns:
        nwb.add_unit_column(name, f"{name} of the sorting.")
    numbers = unit_ids if unit_ids.dtype.kind in "iu" else np.arange(len(unit_ids))
    for i, unit in enumerate(unit_ids):
        row = {name: column[i] for name, column in columns.items()}
        nwb.add_unit(id=int(numbers[i]), spike_times=units.spike_times(unit), **row)


def add_images(nwb: NWBFile, image: xr.DataArray, names: Sequence[str], start_time: np.ndarray) -> None:
    """Add the images, and the series that says which was shown when; a blank is an index beyond them."""
    from pynwb.base import ImageReferences, Images
    from pynwb.image import GrayscaleImage, IndexSeries, RGBImage

    kind = RGBImage if "channel" in image.dims else GrayscaleImage
    stimuli = [str(name) for name in image["stimulus"].values]
    unfit = [name for name in stimuli if not is_object_name(name)]
    if unfit:
        raise MigvisError(
            f"the image {unfit[0]!r} ({len(unfit)} of {len(stimuli)} such) cannot be stored: names in NWB "
            "hold neither '/' nor ':'; rename the stimuli"
        )
    pictures = [
        kind(name=name, data=image[i].values, description="An image that was shown.")
        for i, name in enumerate(stimuli)
    ]
    order = ImageReferences(name="order_of_images", data=pictures)
    container = Images(
        name=IMAGES, images=pictures, description="Images that were shown.", order_of_images=order
    )
    nwb.add_stimulus_template(container)
    place = {name: i for i, name in enumerate(stimuli)}
    index = np.array([place.get(name, len(stimuli)) for name in names], np.uint32)
    nwb.add_stimulus(
        IndexSeries(
            name=SERIES,
            data=index,
            indexed_images=container,
            unit="N/A",
            timestamps=start_time,
            description="Image that came on at each time; an index beyond the images is a blank.",
        )
    )


def add_table(
    nwb: NWBFile, presentations: pd.DataFrame, names: Sequence[str], start_time: np.ndarray
) -> None:
    """Add a table with one row per presentation; `stop_time` is NaN where the presentations lack it."""
    from pynwb.core import VectorData
    from pynwb.epoch import TimeIntervals

    stop_time = np.full(len(start_time), np.nan)
    if "stop_time" in presentations:
        stop_time = presentations["stop_time"].to_numpy(np.float64, na_value=np.nan)
    columns: dict[str, np.ndarray] = {
        "start_time": start_time,
        "stop_time": stop_time,
        "image_name": np.array(names, object),
    }
    reserved = {"image_name", *reserved_names(TimeIntervals)} - {"start_time", "stop_time"}
    for name in map(str, presentations.columns):
        if name in reserved or not is_object_name(name):
            why = "NWB keeps for something else" if name in reserved else "cannot name a column in NWB"
            raise MigvisError(f"presentations have a column {name!r}, which {why}; rename it")
    for name in presentations.columns:
        if name not in ("start_time", "stop_time", "stimulus"):
            columns[str(name)] = _column(presentations[name])
    data = [
        VectorData(name=name, description=f"{name} of the presentation.", data=v)
        for name, v in columns.items()
    ]
    table = TimeIntervals(
        name=TABLE, description="Presentations of images.", columns=data, id=np.arange(len(start_time))
    )
    nwb.add_time_intervals(table)


def _column(values: pd.Series) -> np.ndarray:
    """Return a column as booleans, numbers, or text ("" where missing)."""
    if pd.api.types.is_bool_dtype(values) and not values.hasnans:
        return values.to_numpy(bool)
    if pd.api.types.is_numeric_dtype(values):
        is_whole = pd.api.types.is_integer_dtype(values) and not values.hasnans
        return values.to_numpy(np.int64) if is_whole else values.to_numpy(np.float64, na_value=np.nan)
    return np.array(["" if pd.isna(value) else str(value) for value in values], object)
