"""Images compressed by threads: HDF5 reads what was given, stored with the filters that pynwb would use."""

from __future__ import annotations

import h5py
import numpy as np
import pytest
from pynwb.core import VectorData

from nwb_migvis.store import compressed
from nwb_migvis.store.compressed import ImagesToCome, write_chunks

RNG = np.random.default_rng(5)
ARRAYS = {
    "gray": RNG.integers(0, 256, (7, 12, 10), dtype=np.uint8),
    "colour": RNG.integers(0, 256, (5, 6, 4, 3), dtype=np.uint8),
    "map": RNG.normal(size=(6, 9, 11)).astype(np.float32),
    "not contiguous": RNG.normal(size=(6, 9, 11)).transpose(0, 2, 1),
}


def _written(path, images, *, also=None):
    """Write images by hdmf and then by threads, and return them and how they are stored."""
    from hdmf.backends.hdf5 import HDF5IO
    from hdmf.common import DynamicTable, get_manager

    columns = {"image": images} if also is None else {"image": images, "also": also}
    with ImagesToCome() as to_come:
        given = {name: to_come(array) for name, array in columns.items()}
        table = DynamicTable(
            name="table",
            description="Images.",
            columns=[VectorData(name=n, description="Images.", data=d) for n, d in given.items()],
            id=list(range(len(images))),
        )
        with HDF5IO(str(path), manager=get_manager(), mode="w") as io:
            io.write(table)
        with h5py.File(path, "r+") as file:
            for name in columns:
                write_chunks(given[name], file[name])
    with h5py.File(path) as file:
        filters = {n: getattr(file["image"], n) for n in ("chunks", "compression", "shuffle", "maxshape")}
        return {name: file[name][()] for name in columns}, filters


@pytest.mark.parametrize("name", ARRAYS)
def test_images_come_back_as_given(tmp_path, name):
    images = ARRAYS[name]
    read, filters = _written(tmp_path / "a.h5", images)
    assert read["image"].dtype == images.dtype
    assert np.array_equal(read["image"], images)
    assert filters == {
        "chunks": (1, *images.shape[1:]),
        "compression": "gzip",
        "shuffle": True,
        "maxshape": images.shape,
    }


def test_what_is_stored_is_as_small_as_what_hdf5_filters(tmp_path):
    smooth = np.tile(np.linspace(0, 1, 64, dtype=np.float32), (4, 64, 1))
    _written(tmp_path / "a.h5", smooth)
    with h5py.File(tmp_path / "b.h5", "w") as file:
        file.create_dataset(
            "image", data=smooth, chunks=(1, 64, 64), compression="gzip", compression_opts=4, shuffle=True
        )
    with h5py.File(tmp_path / "a.h5") as ours, h5py.File(tmp_path / "b.h5") as theirs:
        sizes = [file["image"].id.get_storage_size() for file in (ours, theirs)]
    assert sizes[0] == pytest.approx(sizes[1], rel=0.05)
    assert sizes[0] < smooth.nbytes / 10


def test_more_images_than_are_compressed_ahead(tmp_path, monkeypatch):
    images = ARRAYS["gray"]
    monkeypatch.setattr(compressed, "_AHEAD_BYTES", 2 * images[0].nbytes)
    read, _ = _written(tmp_path / "a.h5", images, also=images[::-1])
    assert np.array_equal(read["image"], images)
    assert np.array_equal(read["also"], images[::-1])


def test_a_thread_that_fails_is_an_error(tmp_path, monkeypatch):
    def fail(image):
        raise MemoryError("no memory")

    monkeypatch.setattr(compressed, "_filtered", fail)
    with pytest.raises(MemoryError, match="no memory"):
        _written(tmp_path / "a.h5", ARRAYS["gray"])


def test_a_dataset_of_another_type_is_refused(tmp_path):
    with ImagesToCome() as to_come, h5py.File(tmp_path / "a.h5", "w") as file:
        data = to_come(ARRAYS["map"])
        other = file.create_dataset("image", ARRAYS["map"].shape, "float64", chunks=(1, 9, 11))
        with pytest.raises(RuntimeError, match="/image is of float64; its images are of float32"):
            write_chunks(data, other)
