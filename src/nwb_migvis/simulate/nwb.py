"""The simulated session as NWB objects."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime
from importlib.metadata import version
from typing import TYPE_CHECKING
from uuid import NAMESPACE_URL, uuid5

import numpy as np
from numpy.typing import NDArray

from nwb_migvis.plain import Json
from nwb_migvis.simulate.render import POSE, Stimuli
from nwb_migvis.simulate.spikes import ON_S, SAMPLING_HZ

if TYPE_CHECKING:
    from pynwb import NWBFile

_START = datetime(2024, 1, 1, 9, 0, tzinfo=UTC)

_LABELS = {
    "rotation_x": "Rotation of the object about the horizontal image axis, degrees, after rotation_y.",
    "rotation_y": "Rotation of the object about the vertical image axis, degrees.",
    "rotation_z": "Rotation of the object in the image plane, degrees, counterclockwise, after rotation_x.",
    "position_x": "Position of the object's centre, half-widths of the image to the right of its centre.",
    "position_y": "Position of the object's centre, half-widths of the image above its centre.",
    "size": "Radius of the object, half-widths of the image.",
    "category": "Category of the object.",
}


def new_file(settings: Json) -> NWBFile:
    """Return an NWB file of a simulated subject; the same settings give the same identifier.

    Parameters
    ----------
    settings : Json
        Plain values, kept as JSON in the file's notes.
    """
    from pynwb import NWBFile
    from pynwb.file import Subject

    record = json.dumps(settings, sort_keys=True)
    return NWBFile(
        session_description="Simulated: images of solids shown to a population with planted groups of units.",
        identifier=str(uuid5(NAMESPACE_URL, f"nwb-migvis simulate {record}")),
        session_start_time=_START,
        session_id=f"seed-{settings['seed']}",
        experiment_description="Passive viewing of rendered objects in rapid serial presentation, simulated.",
        experimenter=["Simulator, Migvis"],
        institution="none (simulated)",
        lab="none (simulated)",
        keywords=["simulation", "vision", "inferior temporal cortex", "object recognition"],
        notes=record,
        was_generated_by=[["nwb-migvis", version("nwb-migvis")]],
        subject=Subject(
            subject_id="simulated",
            species="Macaca mulatta",
            sex="U",
            age="P7Y",
            description="No animal: spikes are drawn from known tuning functions.",
        ),
    )


def add_presentations(
    nwbfile: NWBFile,
    stimuli: Stimuli,
    order: NDArray[np.int64],
    onset_sample: NDArray[np.int64],
    *,
    labels: Sequence[str] = (*POSE, "category"),
    about: tuple[str, str] = ("Rendered {} on its background.", "Rendered solids of eight categories."),
) -> None:
    """Add the images, the series that says which came when, and trials with labels, one row per presentation.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    stimuli : Stimuli
        Shape parameters are not written.
    order : int64 (presentation,)
        Index of the image.
    onset_sample : int64 (presentation,)
        Samples at `SAMPLING_HZ`.
    labels : sequence of str
        Factors that become columns.
    about : (str, str)
        Descriptions of an image, with a place for its category, and of all images.
    """
    from pynwb import H5DataIO
    from pynwb.base import ImageReferences, Images
    from pynwb.core import VectorData
    from pynwb.epoch import TimeIntervals
    from pynwb.image import GrayscaleImage, IndexSeries, RGBImage

    names, factors = stimuli.names, stimuli.factors
    onset_s = onset_sample / SAMPLING_HZ
    kind = GrayscaleImage if stimuli.images.ndim == 3 else RGBImage
    kinds = factors["category"] if "category" in factors else [""] * len(names)
    pictures = [
        kind(name=name, data=pixels, description=about[0].format(category))
        for name, pixels, category in zip(names, stimuli.images, kinds, strict=True)
    ]
    template = Images(
        name="images",
        images=pictures,
        description=about[1],
        order_of_images=ImageReferences(name="order_of_images", data=pictures),
    )
    nwbfile.add_stimulus_template(template)
    nwbfile.add_stimulus(
        IndexSeries(
            name="presentations",
            data=H5DataIO(order.astype(np.uint32), compression="gzip", shuffle=True),
            unit="N/A",
            indexed_images=template,
            timestamps=H5DataIO(onset_s, compression="gzip", shuffle=True),
            description=f"Image that came on at each time; each was shown for {ON_S:g} s.",
        )
    )
    columns_by_name = {
        "start_time": ("Onset of the image (s).", onset_s),
        "stop_time": ("Offset of the image (s).", onset_s + ON_S),
        "stimulus": ("Name of the image.", np.array(names, dtype=object)[order]),
    }
    for label in labels:
        columns_by_name[label] = (_LABELS[label], factors[label].to_numpy()[order])
    columns = []
    for name, (description, values) in columns_by_name.items():
        data = (
            values.tolist() if values.dtype == object else H5DataIO(values, compression="gzip", shuffle=True)
        )
        columns.append(VectorData(name=name, description=description, data=data))
    nwbfile.trials = TimeIntervals(
        name="trials", description="One row per presentation of an image.", columns=columns
    )


def add_units(nwbfile: NWBFile, spike_times: list[NDArray[np.float64]]) -> None:
    """Add the units and the electrodes they were found on, one electrode per unit.

    Parameters
    ----------
    nwbfile : pynwb.NWBFile
    spike_times : list of float64 (spike,)
        Seconds, rising.
    """
    from hdmf.common import DynamicTableRegion, VectorIndex
    from pynwb import H5DataIO
    from pynwb.core import VectorData
    from pynwb.misc import Units

    device = nwbfile.create_device(name="array", description="Simulated multi-electrode array.")
    group = nwbfile.create_electrode_group(
        name="array", description="All electrodes of the array.", location="IT", device=device
    )
    n_units = len(spike_times)
    for _ in range(n_units):
        nwbfile.add_electrode(location="IT", group=group)
    times = VectorData(
        name="spike_times",
        description="Spike times (s).",
        data=H5DataIO(
            np.concatenate(spike_times), compression="gzip", compression_opts=2, shuffle=True, chunks=(2**17,)
        ),
    )
    ends = np.cumsum([len(train) for train in spike_times], dtype=np.uint64)
    electrodes = DynamicTableRegion(
        name="electrodes",
        description="The electrode on which the unit was found.",
        data=list(range(n_units)),
        table=nwbfile.electrodes,
    )
    nwbfile.units = Units(
        name="units",
        description="Simulated units.",
        resolution=1 / SAMPLING_HZ,
        columns=[
            times,
            VectorIndex(name="spike_times_index", data=ends, target=times),
            electrodes,
            VectorIndex(
                name="electrodes_index", data=np.arange(1, n_units + 1, dtype=np.uint64), target=electrodes
            ),
        ],
    )
