"""Small synthetic results and sessions for tests."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import numpy as np
import xarray as xr
from pynwb import NWBHDF5IO, NWBFile
from pynwb.base import Images
from pynwb.file import Subject
from pynwb.image import GrayscaleImage, IndexSeries

from nwb_migvis.results import Results
from nwb_migvis.store.canonical import canonical
from nwb_migvis.testing.results import MOCK_STIMULI, MOCK_UNITS, MOCK_WEIGHTS, mock_results

WEIGHTS = dict(MOCK_WEIGHTS)
UNIT_IDS = np.array(MOCK_UNITS)
STIMULI = list(MOCK_STIMULI)


def example_results(*, stability=True, edits=True, labels=True, evidence=True, **settings) -> Results:
    """Return `mock_results`; what is false is absent. Units are those of `write_session` unless given."""
    parts = {"stability": stability, "edits": edits, "labels": labels, "evidence": evidence}
    results = mock_results(without=[part for part, present in parts.items() if not present], **settings)
    return results if "units" in settings else with_unit_rows(results)


def with_unit_rows(results: Results) -> Results:
    """Return results whose units are the first rows of their session's Units table."""
    units = results.units.assign_coords(unit_row=("unit", np.arange(results.units.sizes["unit"])))
    return replace(results, units=units)


def write_session(path: Path, *, seed: int = 0) -> Path:
    """Write a session with subject, electrodes, units, images, their presentations and trials."""
    rng = np.random.default_rng(seed)
    file = NWBFile(
        session_description="Passive viewing of images.",
        identifier=f"session-{seed}",
        session_start_time=datetime(2026, 1, 1, tzinfo=UTC),
        experimenter=["Doe, Jane"],
        institution="University of Somewhere",
        experiment_description="Responses of inferior temporal cortex to images of objects.",
        keywords=["vision"],
        subject=Subject(
            subject_id="monkey", species="Macaca mulatta", sex="F", age="P8Y", description="Adult monkey."
        ),
    )
    device = file.create_device(name="array", description="Multi-electrode array.")
    shank = file.create_electrode_group(
        name="shank", description="All electrodes.", location="inferior temporal cortex", device=device
    )
    for _ in UNIT_IDS:
        file.add_electrode(location="inferior temporal cortex", group=shank)
    file.add_unit_column("quality", "Rating of the sorter.")
    for i, unit in enumerate(UNIT_IDS):
        spikes = np.sort(rng.uniform(0, 30, 200 + i))
        file.add_unit(id=unit, spike_times=spikes, electrodes=[i], quality="good")
    file.units.resolution = 1 / 30_000
    pictures = [
        GrayscaleImage(name=s, data=rng.integers(0, 256, (8, 10), dtype=np.uint8), description="An object.")
        for s in STIMULI
    ]
    images = Images(name="images", images=pictures, description="Images of objects.")
    images.order_of_images = _order(pictures)
    file.add_stimulus_template(images)
    order = np.tile(np.arange(len(STIMULI), dtype=np.uint32), 4)
    series = IndexSeries(
        name="presentations",
        data=order,
        unit="N/A",
        indexed_images=images,
        rate=2.0,
        starting_time=0.5,
        description="Which image was shown.",
    )
    file.add_stimulus(series)
    for i in range(len(order)):
        file.add_trial(start_time=0.5 + 0.5 * i, stop_time=0.8 + 0.5 * i)
    with NWBHDF5IO(path, "w") as io:
        io.write(file)
    return path


def results_with_rows(*, table="/intervals/trials", name="migvis", **parts):
    """Return results whose stimuli were shown four times each, in the order of `write_session`'s trials."""
    results = example_results(name=name, **parts)
    n_stimuli = len(STIMULI)
    latents = results.latents.assign_coords(n_presentations=("stimulus", np.full(n_stimuli, 4)))
    rows = np.arange(4 * n_stimuli)
    shown = {
        "stimulus_index": ("presentation", rows % n_stimuli),
        "row": ("presentation", rows, {"table": table}),
    }
    provenance = {**results.provenance, "session": {"found_in": "trials"}}
    found = replace(results, latents=latents, presentations=xr.Dataset(shown), provenance=provenance)
    return canonical(found)


def name_trials(path: Path) -> Path:
    """Add to the trials of `write_session` the names of the images."""
    with NWBHDF5IO(path, "a") as io:
        file = io.read()
        file.trials.add_column("image_name", "Name of the image.", data=list(STIMULI) * 4)
        io.write(file)
    return path


def _order(pictures: list[GrayscaleImage]):
    from pynwb.base import ImageReferences

    return ImageReferences(name="order_of_images", data=pictures)
