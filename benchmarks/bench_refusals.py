"""How long it takes until a session that cannot be written is refused; prints ratios.

    OMP_NUM_THREADS=1 python benchmarks/bench_refusals.py [--n-stimuli 2000] [--size 64]

A simulated session is spoilt in each of the ways that the writer refuses. The time until `run` refuses it is
set beside that of `inspect` and one copy of the file, the least of some calls each. Nothing may be fitted.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import h5py

from nwb_migvis import MigvisError, run, simulate_session
from nwb_migvis.analysis import Study
from nwb_migvis.read import inspect_session

IMAGES = "stimulus/templates/images"
REPEATS = 3


def note(file: h5py.File) -> None:
    file["general/lab_note"] = "left eye patched"


def group(file: h5py.File) -> None:
    file.create_group("processing/private")


def attribute_unknown(file: h5py.File) -> None:
    file.attrs["lab"] = "upstairs"


def reference_gone(file: h5py.File) -> None:
    file["units"].attrs["made_with"] = file.create_group("acquisition/gone").ref
    del file["acquisition/gone"]


def image_gone(file: h5py.File) -> None:
    del file[f"{IMAGES}/{next(name for name in file[IMAGES] if name != 'order_of_images')}"]


def link_gone(file: h5py.File) -> None:
    file["acquisition/other"] = h5py.SoftLink("/acquisition/nothing")


def file_gone(file: h5py.File) -> None:
    file["acquisition/other"] = h5py.ExternalLink("before_renaming.nwb", "/acquisition/film")


def filter_unknown(file: h5py.File) -> None:
    """Store the stops of trials under a filter that nobody has registered."""
    name = "intervals/trials/stop_time"
    values, attributes = file[name][...], dict(file[name].attrs)
    del file[name]
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk(values.shape)
    settings.set_filter(40_000, h5py.h5z.FLAG_OPTIONAL, ())
    space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space, settings)
    dataset.write_direct_chunk((0,), values.tobytes(), 0)
    file[name].attrs.update(attributes)


KINDS = (note, group, attribute_unknown, reference_gone, image_gone, link_gone, file_gone, filter_unknown)


def least_s(function: Callable[[], Any], *, repeats: int = REPEATS) -> float:
    """Return the least time of some calls, seconds."""
    times = []
    for _ in range(repeats):
        begin = time.perf_counter()
        function()
        times.append(time.perf_counter() - begin)
    return min(times)


def copy(path: Path) -> None:
    """Copy a file and wait until it is on the disk."""
    other = path.with_name("copy.nwb")
    shutil.copyfile(path, other)
    with other.open("rb") as file:
        os.fsync(file.fileno())
    other.unlink()


def refusal(path: Path) -> str:
    """Return how `run` refuses a session, having fitted nothing."""
    with mock.patch.object(Study, "run", side_effect=AssertionError("fitted before it was refused")):
        try:
            run(path)
        except MigvisError as error:
            return str(error)
    raise AssertionError(f"{path} was not refused")


def main() -> None:
    """Print a row per kind."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--n-stimuli", type=int, default=2000)
    parser.add_argument("--size", type=int, default=64)
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "session.nwb"
        simulate_session(path, n_stimuli=asked.n_stimuli, n_repeats=4, size_px=asked.size)
        inspect_session(path)
        inspect_s, copy_s = least_s(lambda: inspect_session(path)), least_s(lambda: copy(path))
        size_mb = path.stat().st_size / 1e6
        print(f"{asked.n_stimuli} images, {size_mb:.0f} MB: inspect {inspect_s:.2f} s, copy {copy_s:.2f} s")
        for spoil in KINDS:
            spoilt = Path(shutil.copyfile(path, path.with_name(f"{spoil.__name__}.nwb")))
            with h5py.File(spoilt, "r+") as file:
                spoil(file)
            refused_s = least_s(lambda spoilt=spoilt: refusal(spoilt))
            ratio = refused_s / (inspect_s + copy_s)
            print(f"  {spoil.__name__:<15} {refused_s:6.2f} s  ratio {ratio:.2f}", flush=True)
            spoilt.unlink()


if __name__ == "__main__":
    main()
