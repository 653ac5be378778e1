"""Damage that would end the process is found, and numbers are not taken for it."""

from __future__ import annotations

from pathlib import Path

import h5py
import numpy as np
import pytest
from layouts import index_series

from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session
from nwb_migvis.read.damage import fatal_damage

LIKE_A_DATATYPE = np.array([0x0219 | 0x10 << 32, 0x10, 0x04], "<i8")
"""As bytes in a file these are a variable-length datatype that is neither a sequence nor text."""


def make(path: Path) -> Path:
    with h5py.File(path, "w") as file:
        file["counts"] = LIKE_A_DATATYPE
        file["words"] = ["one", "two"]
        file["values"] = np.arange(3.0)
        file["values"].attrs["unit"] = "volts"
        file.create_dataset("ragged", (2,), h5py.vlen_dtype(np.int32))
    return path


def test_numbers_that_look_like_damage_are_read(tmp_path: Path):
    assert fatal_damage(make(tmp_path / "whole.h5")) is None


@pytest.mark.parametrize(
    ("whole", "base"),
    [
        pytest.param(b"\x19\x01\x01\x00\x10\x00\x00\x00", b"", id="text"),
        pytest.param(b"\x19\x00\x00\x00\x10\x00\x00\x00", b"\x10\x08", id="sequence"),
    ],
)
def test_an_unknown_variable_length_type_is_found(tmp_path: Path, whole: bytes, base: bytes):
    path = make(tmp_path / "damaged.h5")
    data = path.read_bytes()
    n_types = data.count(whole + base)
    assert n_types > 0
    at = -1
    for _ in range(n_types):
        at = data.index(whole + base, at + 1)
        broken = bytearray(data)
        broken[at + 1] |= 0x02
        path.write_bytes(broken)
        assert "neither a sequence nor text" in str(fatal_damage(path))


def test_a_file_that_does_not_open_is_not_called_damaged(tmp_path: Path):
    path = make(tmp_path / "cut.h5")
    path.write_bytes(path.read_bytes()[8:])
    with pytest.raises(OSError, match="signature"):
        fatal_damage(path)


def test_metadata_that_the_file_cannot_hold(tmp_path):
    path = index_series(tmp_path / "a.nwb").path
    with h5py.File(path, "r+") as file:
        for name in ("file_create_date", "general/keywords"):
            if name in file:
                del file[name]
            file.create_dataset(name, shape=(2**33,), dtype=h5py.string_dtype(), chunks=(4096,))
            with pytest.raises(MigvisError, match=f"/{name} is said to hold .* bytes"):
                file.flush()
                read_session(path)
            del file[name]


def test_results_with_a_name_that_is_not_text_are_refused(tmp_path: Path):
    path = tmp_path / "session.nwb"
    with h5py.File(path, "w") as file:
        file.attrs["neurodata_type"] = "NWBFile"
        run = file.create_group("analysis/migvis")
        run.attrs["neurodata_type"] = "MigvisRun"
        run.create_group("model")
        run.id.links.create_hard(b"\xf4odel", run.id, b"model")
    with pytest.raises(MigvisError, match=r"is damaged: /analysis/migvis cannot be listed.*utf-8"):
        read_session(path)
