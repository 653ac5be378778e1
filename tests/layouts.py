"""Small NWB files in every layout that the reader knows, with what they hold written out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

import h5py
import numpy as np
import xarray as xr
from PIL import Image as PillowImage
from pynwb import NWBHDF5IO, NWBFile, TimeSeries
from pynwb.base import ImageReferences, Images
from pynwb.epoch import TimeIntervals
from pynwb.image import GrayscaleImage, ImageSeries, IndexSeries, OpticalSeries, RGBAImage, RGBImage

WINDOW_S = (0.05, 0.15)
N_PRESENTATIONS = 12
N_IMAGES = 4
SHOWN = (2, 0, 1, 1, 3, 0, 2, 3, 3, 0, 1, 2)
"""Images shown one after another, 12 presentations of 4 images; what the layouts share."""


def picture(k: int, shape: tuple[int, ...] = (6, 5)) -> np.ndarray:
    """Return the k-th picture, (y, x[, channel]) uint8, unlike its mirror images and transposes."""
    return np.random.default_rng(1000 + k).integers(0, 256, shape, dtype=np.uint8)


def start_times(n: int = N_PRESENTATIONS) -> np.ndarray:
    """Return starts of presentations, (n,) seconds, unevenly spaced."""
    return 1.0 + np.cumsum(np.random.default_rng(7).uniform(0.2, 0.3, n))


def spike_trains(n_units: int = 3, n_spikes: int = 120, *, until_s: float = 6.0) -> list[np.ndarray]:
    """Return spike times of each unit, unsorted, (spike,) seconds; the last unit is silent."""
    rng = np.random.default_rng(3)
    return [rng.uniform(0, until_s, n_spikes) for _ in range(n_units - 1)] + [np.empty(0)]


def brute_counts(
    trains: Sequence[np.ndarray], start_time: np.ndarray, window_s: tuple[float, float]
) -> np.ndarray:
    """Count spikes in [start + w0, start + w1) one comparison at a time, (presentation, unit)."""
    counts = np.zeros((len(start_time), len(trains)), np.int64)
    for i, start in enumerate(np.asarray(start_time, np.float64)):
        for j, train in enumerate(trains):
            counts[i, j] = sum(start + window_s[0] <= t < start + window_s[1] for t in train)
    return counts


@dataclass
class Truth:
    """A file and what a reader must find in it."""

    path: Path
    start_time: np.ndarray
    shown: Sequence[str | None]
    pixels: dict[str, np.ndarray] = field(default_factory=dict)
    trains: Sequence[np.ndarray] = field(default_factory=spike_trains)


def check(session: xr.Dataset, truth: Truth) -> None:
    """Assert that a session dataset has exactly the counts, images and blanks of a file."""
    is_shown = np.array([name is not None for name in truth.shown])
    start_time = np.asarray(truth.start_time)[is_shown]
    assert session.attrs["n_blank"] == (~is_shown).sum()
    assert session.attrs["n_dropped"] == 0
    np.testing.assert_array_equal(session["start_time"], start_time)
    names = session["stimulus"].values[session["stimulus_index"].values]
    assert names.tolist() == [name for name in truth.shown if name is not None]
    assert set(session["stimulus"].values) == {name for name in truth.shown if name is not None}
    expected = brute_counts(truth.trains, start_time, session.attrs["window_s"])
    assert expected.sum() > 0
    np.testing.assert_array_equal(session["spike_count"], expected)
    assert session["spike_count"].dtype.kind == "u"
    assert session["stimulus_index"].dtype == np.int64
    assert ("image" in session) == bool(truth.pixels)
    if truth.pixels:
        assert session["image"].dtype == np.uint8
        for name, pixels in truth.pixels.items():
            np.testing.assert_array_equal(session["image"].sel(stimulus=name), pixels)


def new_file(trains: Sequence[np.ndarray] | None = None, **columns: Sequence) -> NWBFile:
    """Return a file in memory with units, ids from 10; `columns` are extra columns of the Units table."""
    nwb = NWBFile(
        session_description="a test",
        identifier="test",
        session_start_time=datetime(2026, 1, 1, tzinfo=UTC),
    )
    for name in columns:
        nwb.add_unit_column(name, name)
    for i, train in enumerate(spike_trains() if trains is None else trains):
        nwb.add_unit(id=10 + i, spike_times=train, **{name: values[i] for name, values in columns.items()})
    return nwb


def write(nwb: NWBFile, path: Path) -> Path:
    """Write a file and return its path."""
    with NWBHDF5IO(path, "w") as io:
        io.write(nwb)
    return path


def edited(path: Path, out: Path, edit: Callable[[NWBFile], None]) -> Path:
    """Write a copy of a file with something added, and return its path."""
    with NWBHDF5IO(path, "r") as source, NWBHDF5IO(out, "w") as io:
        nwb = source.read()
        edit(nwb)
        io.export(src_io=source, nwbfile=nwb)
    return out


def add_trials(nwb: NWBFile, start_time: np.ndarray, *, duration_s: float = 0.1, **columns: Sequence) -> None:
    """Add one trial a presentation with columns."""
    for name in columns:
        nwb.add_trial_column(name, name)
    for i, start in enumerate(start_time):
        nwb.add_trial(start, start + duration_s, **{name: values[i] for name, values in columns.items()})


def add_intervals(nwb: NWBFile, name: str, start_time: np.ndarray, **columns: Sequence) -> None:
    """Add a table of intervals with columns."""
    table = TimeIntervals(name=name, description=name)
    for column in columns:
        table.add_column(column, column)
    for i, start in enumerate(start_time):
        table.add_interval(start, start + 0.1, **{column: values[i] for column, values in columns.items()})
    nwb.add_time_intervals(table)


def image_container(
    pixels: dict[str, np.ndarray], *, name: str = "pictures", is_ordered: bool = True
) -> Images:
    """Return `Images` of arrays by name, in that order."""
    kinds = {2: GrayscaleImage, 3: RGBImage, 4: RGBAImage}
    items = [
        kinds[2 if data.ndim == 2 else data.shape[2]](name=key, data=data) for key, data in pixels.items()
    ]
    order = ImageReferences(name="order_of_images", data=items) if is_ordered else None
    return Images(name=name, images=items, description="pictures", order_of_images=order)


def index_series(
    path: Path,
    *,
    pixels: dict[str, np.ndarray] | None = None,
    index: Sequence[int] = SHOWN,
    start_time: np.ndarray | None = None,
    rate: float | None = None,
    images_in: str = "stimulus_template",
    is_ordered: bool = True,
    trains: Sequence[np.ndarray] | None = None,
    trials: dict[str, Sequence] | None = None,
    unit_columns: dict[str, Sequence] | None = None,
) -> Truth:
    """Write an `IndexSeries` into `Images`; an index of no image is a blank."""
    pixels = {f"pic{k}": picture(k) for k in range(N_IMAGES)} if pixels is None else pixels
    start_time = start_times(len(index)) if start_time is None else start_time
    trains = spike_trains() if trains is None else trains
    nwb = new_file(trains, **(unit_columns or {}))
    container = image_container(pixels, is_ordered=is_ordered)
    (nwb.add_stimulus if images_in == "stimulus" else nwb.add_stimulus_template)(container)
    if rate is None:
        timing: dict = {"timestamps": start_time}
    else:
        timing = {"starting_time": 1.0, "rate": rate}
        start_time = 1.0 + np.arange(len(index)) / rate
    data = np.array(index).astype(np.uint64)
    nwb.add_stimulus(IndexSeries(name="shown", data=data, indexed_images=container, unit="N/A", **timing))
    if trials is not None:
        add_trials(nwb, start_time, **trials)
    names = list(pixels)
    shown = [names[k] if 0 <= k < len(names) else None for k in index]
    return Truth(write(nwb, path), start_time, shown, {n: pixels[n] for n in names if n in shown}, trains)


def deprecated_index_series(
    path: Path, *, names: Sequence[str] = (), index: Sequence[int] = SHOWN, presentations: dict | None = None
) -> Truth:
    """Write an `IndexSeries` into the frames of an `ImageSeries`, as Allen Visual Behavior files have it.

    Current pynwb does not write that link, so it is put in place afterwards.
    """
    frames = np.stack([picture(k) for k in range(N_IMAGES)])
    start_time = start_times(len(index))
    nwb = new_file()
    template = ImageSeries(
        name="scenes",
        data=frames,
        unit="N/A",
        timestamps=np.full(len(frames), np.nan),
        control=np.arange(len(names), dtype=np.uint8) if names else None,
        control_description=list(names) or None,
    )
    nwb.add_stimulus_template(template)
    spare = image_container({"spare": picture(99)}, name="spare")
    nwb.add_stimulus_template(spare)
    data = np.array(index).astype(np.uint32)
    nwb.add_stimulus(
        IndexSeries(name="scenes", data=data, indexed_images=spare, unit="N/A", timestamps=start_time)
    )
    if presentations is not None:
        add_intervals(nwb, "scenes_presentations", start_time, **presentations)
    write(nwb, path)
    with h5py.File(path, "r+") as file:
        series = file["stimulus/presentation/scenes"]
        del series["indexed_images"], file["stimulus/templates/spare"]
        series["indexed_timeseries"] = h5py.SoftLink("/stimulus/templates/scenes")
    shown = [(names[k] if names else f"frame{k}") if 0 <= k < N_IMAGES else None for k in index]
    return Truth(
        path, start_time, shown, {name: picture(k) for k, name in zip(index, shown, strict=True) if name}
    )


def allen_presentations(
    path: Path, *, with_pixels: bool = True, table: str = "scenes_presentations"
) -> Truth:
    """Write a `*_presentations` table with float frames and -1 blanks, and its template."""
    frame = np.array([*SHOWN[:6], -1, *SHOWN[6:]], np.float64)
    start_time = start_times(len(frame))
    nwb = new_file()
    if with_pixels:
        pixels = {f"scene{k}": picture(k) for k in range(N_IMAGES)}
        nwb.add_stimulus_template(image_container(pixels, name="scenes"))
    columns = {
        "frame": frame,
        "stimulus_index": np.full(len(frame), 3.0),
        "duration": np.full(len(frame), 0.25),
    }
    add_intervals(nwb, table, start_time, **columns)
    name = "scene" if with_pixels else ""
    shown = [None if k < 0 else f"{name}{int(k)}" for k in frame]
    pixels = {f"scene{k}": picture(k) for k in range(N_IMAGES)} if with_pixels else {}
    return Truth(write(nwb, path), start_time, shown, pixels)


def optical_series(path: Path, *, names: Sequence[str] | None = None, is_bgr: bool = False) -> Truth:
    """Write an `OpticalSeries` with one colour frame a presentation, as Rutishauser lab files have it."""
    start_time = start_times()
    nwb = new_file()
    stored = np.stack([picture(k, (6, 5, 3)) for k in SHOWN])
    series = OpticalSeries(
        name="StimulusPresentation",
        data=stored[..., ::-1] if is_bgr else stored,
        unit="meters",
        distance=0.7,
        field_of_view=[0.3, 0.4, 0.7],
        orientation="lower left",
        format="raw",
        timestamps=start_time,
    )
    nwb.add_stimulus(series)
    if names is not None:
        nwb.add_trial_column("stim_on_time", "onset")
        nwb.add_trial_column("stim_off_time", "offset")
        nwb.add_trial_column("external_image_file", "file")
        nwb.add_trial_column("category_name", "category")
        for start, k in zip(start_time, SHOWN, strict=True):
            nwb.add_trial(
                start - 0.05,
                start + 0.12,
                stim_on_time=start,
                stim_off_time=start + 0.1,
                external_image_file=names[k],
                category_name="even" if k % 2 == 0 else "odd",
            )
    shown = [f"frame{k}" if names is None else names[k] for k in SHOWN]
    return Truth(
        write(nwb, path),
        start_time,
        shown,
        {n: picture(k, (6, 5, 3)) for k, n in zip(SHOWN, shown, strict=True)},
    )


def dicarlo_session(path: Path, **columns: Sequence) -> Truth:
    """Write trials that name image files, as the DiCarlo lab's sessions have it; no images in the file."""
    names = [f"im{k}.png" for k in SHOWN]
    start_time = start_times()
    nwb = new_file()
    add_trials(
        nwb,
        start_time,
        stimulus_presented=list(SHOWN),
        stimulus_filename=names,
        image_hash=[f"hash{k}" for k in SHOWN],
        **columns,
    )
    return Truth(write(nwb, path), start_time, names)


def image_folder(folder: Path, names: dict[str, int], shape: tuple[int, ...] = (6, 5)) -> Path:
    """Write pictures as image files by name."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, k in names.items():
        PillowImage.fromarray(picture(k, shape)).save(folder / name)
    return folder


def unknown_series(name: str = "other") -> TimeSeries:
    """Return a time series that has nothing to do with images."""
    return TimeSeries(name=name, data=[1.0, 2.0], unit="V", rate=1.0)
