"""The loaded schema is used where a file carries the same, and then finds what `pynwb.validate` finds."""

from __future__ import annotations

import shutil
from pathlib import Path

import h5py
import pynwb
import pytest
from examples import WEIGHTS, example_results, write_session

from nwb_migvis.store import write_results
from nwb_migvis.store.schema import schema_errors


@pytest.fixture(scope="module")
def written(tmp_path_factory) -> Path:
    source = write_session(tmp_path_factory.mktemp("schema") / "session.nwb")
    return write_results(example_results(), source=source, weights=WEIGHTS)


@pytest.fixture
def copy(written, tmp_path) -> Path:
    return Path(shutil.copy(written, tmp_path / "copy.nwb"))


def change(path: Path, damage) -> None:
    with h5py.File(path, "r+") as file:
        damage(file)


def replace_text(file: h5py.File, place: str, old: str, new: str) -> None:
    text = file[place][()].decode()
    assert old in text
    del file[place]
    file.create_dataset(place, data=text.replace(old, new), dtype=h5py.string_dtype())


def without_required(file):
    del file["session_description"], file["analysis/migvis/latent_groups/id"]


def of_another_type(file):
    del file["identifier"]
    file["identifier"] = 3
    file["units"].attrs["colnames"] = 2.5


def without_ours(file):
    del file["specifications/ndx-migvis"]


def with_shape(file):
    images = file["analysis/migvis/synthesized_images"]
    attributes = dict(images["image"].attrs)
    del images["image"]
    images["image"] = [1.0, 2.0]
    images["image"].attrs.update(attributes)


DAMAGES = {f.__name__: f for f in (without_required, of_another_type, without_ours, with_shape)}


def findings(errors) -> list[tuple[str, str, str | None]]:
    return [(error.name, error.reason, error.location) for error in errors]


def test_a_valid_file_is_valid_without_reading_its_specifications_again(written, monkeypatch):
    assert pynwb.validate(path=written) == []
    monkeypatch.setattr(pynwb, "validate", None)
    assert schema_errors(written) == []


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_findings_are_those_of_pynwb(copy, damage):
    change(copy, damage)
    expected = findings(pynwb.validate(path=copy))
    assert expected or damage is without_ours
    assert findings(schema_errors(copy)) == expected


def test_a_schema_of_its_own_counts(copy):
    with h5py.File(copy, "r") as file:
        (version,) = file["specifications/core"]
    at = f"specifications/core/{version}/nwb.file"
    change(copy, lambda file: replace_text(file, at, '"name":"identifier"', '"name":"identifier_of_old"'))
    expected = findings(pynwb.validate(path=copy))
    assert any("identifier_of_old" in name for name, *_ in expected)
    assert findings(schema_errors(copy)) == expected


def test_no_specifications_or_odd_ones_are_left_to_pynwb(copy):
    change(copy, lambda file: file.attrs.pop(".specloc"))
    assert findings(schema_errors(copy)) == findings(pynwb.validate(path=copy))
