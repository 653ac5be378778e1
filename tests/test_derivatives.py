"""Results laid out in a dandiset of derivatives of many sessions."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import h5py
import pytest
from examples import WEIGHTS, example_results

from nwb_migvis import MigvisError, read_results
from nwb_migvis.runs import archive_findings, lay_out
from nwb_migvis.store import list_runs, write_results

ASSET = "0a748f90-d497-4a9c-822e-9c63811db412"
SESSION = {
    "path": "sub-1_ses-2_ecephys.nwb",
    "address": "dandi://dandi/000409@0.260101.0000/sub-1/sub-1_ses-2_ecephys.nwb",
    "dandiset": "000409",
    "version": "0.260101.0000",
    "asset_id": ASSET,
    "asset_path": "sub-1/sub-1_ses-2_ecephys.nwb",
    "sha256": "ab" * 32,
}
NAME = "sub-monkey_ses-2_desc-migvis_image.nwb"


def write(folder, pristine, *, inputs=(SESSION,), name="results.nwb", config=None):
    """Write a file with results of a session in the archive."""
    source = Path(shutil.copy(pristine, folder / f"source_{name}"))
    with h5py.File(source, "r+") as file:
        file["general/session_id"] = "2"
    results = example_results()
    provenance = {
        **results.provenance,
        "inputs": list(inputs),
        "times": {"started": "2026-09-16T23:30:00-02:00"},
        "versions": {"nwb-migvis": "0.2.0"},
    }
    if config is not None:
        provenance["config"] = config
    return write_results(
        replace(results, provenance=provenance), source=source, out=folder / name, weights=WEIGHTS
    )


@pytest.fixture(scope="module")
def written(pristine, tmp_path_factory):
    return write(tmp_path_factory.mktemp("written"), pristine)


def test_each_result_lies_in_a_folder_that_says_what_it_is_of(written, tmp_path):
    (place,) = lay_out([written], tmp_path, derivatives=True, results_only=True)
    capsule = place.parents[2]
    within = "derivatives/dandisets-000/dandiset-000409/sub-1/sub-1_ses-2_ecephys/pipeline-migvis"
    assert capsule.parent == tmp_path / within
    assert capsule.name.startswith("job-260917") and len(capsule.name) == len("job-260917a1b2c3")
    assert place == capsule / "derivatives" / "nwb" / NAME
    files = {path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    own = capsule.relative_to(tmp_path).as_posix()
    assert files == {
        "dandiset.yaml",
        f"{own}/dataset_description.json",
        f"{own}/code/migvis.json",
        f"{own}/derivatives/nwb/{NAME}",
    }
    assert list_runs(place) == ["migvis"]
    settings = json.loads((capsule / "code" / "migvis.json").read_text())
    assert settings == read_results(written).provenance["config"]


def test_the_description_says_what_made_it_and_from_which(written, tmp_path):
    (place,) = lay_out([written], tmp_path, derivatives=True, results_only=True)
    about = json.loads((place.parents[2] / "dataset_description.json").read_text())
    (by,) = about["GeneratedBy"]
    assert (by["Name"], by["Version"]) == ("nwb-migvis", "0.2.0") and by["CodeURL"].startswith("https://")
    assert about["SourceDatasets"] == [
        {"URL": "https://dandiarchive.org/dandiset/000409/", "Version": "0.260101.0000"}
    ]
    assert about["DatasetType"] == "study" and about["BIDSVersion"] == "1.10.0"
    assert about["NwbMigvis"] == {
        "job_id": place.parents[2].name,
        "dandiset_id": "000409",
        "within_dandiset_path": SESSION["asset_path"],
        "asset_id": ASSET,
        "sha256": SESSION["sha256"],
        "pipeline": "migvis",
        "version": "0.2.0",
        "runs": ["migvis"],
    }


def test_the_same_results_get_the_same_folder_and_other_settings_another(written, pristine, tmp_path):
    config = {**read_results(written).provenance["config"], "seed": 12345}
    other = write(tmp_path, pristine, name="other.nwb", config=config)
    folder = tmp_path / "dandiset"
    first, second = lay_out([written, other], folder, derivatives=True, results_only=True)
    assert first.parents[2] != second.parents[2] and first.parents[3] == second.parents[3]
    with pytest.raises(MigvisError, match="exists already"):
        lay_out([written], folder, derivatives=True, results_only=True)
    assert lay_out([written], folder, derivatives=True, results_only=True, overwrite=True) == [first]


def test_a_session_that_was_not_read_in_the_archive_needs_its_dandiset(pristine, tmp_path):
    local = write(tmp_path, pristine, inputs=[{"path": "sub-1_ses-2.nwb", "sha256": "cd" * 32}])
    with pytest.raises(MigvisError, match="do not say which dandiset") as error:
        lay_out([local], tmp_path / "dandiset", derivatives=True)
    assert "--dandiset" in str(error.value) and not (tmp_path / "dandiset").exists()
    (place,) = lay_out([local], tmp_path / "dandiset", derivatives=True, dandiset="000004")
    within = "derivatives/dandisets-000/dandiset-000004/sub-monkey/sub-1_ses-2/pipeline-migvis"
    assert place.parents[3] == tmp_path / "dandiset" / within
    about = json.loads((place.parents[2] / "dataset_description.json").read_text())
    assert about["SourceDatasets"] == [{"URL": "https://dandiarchive.org/dandiset/000004/"}]


def test_what_does_not_fit_is_refused_before_anything_is_copied(written, pristine, tmp_path, call):
    folder = tmp_path / "dandiset"
    for given, said in (("000004", "in dandiset 000409; expected 000004"), ("4", "expected 4")):
        with pytest.raises(MigvisError, match=said):
            lay_out([written], folder, derivatives=True, dandiset=given)
    outside = write(tmp_path, pristine, inputs=[{**SESSION, "asset_path": "../../../x.nwb"}])
    with pytest.raises(MigvisError, match="expected the path of a file in a dandiset"):
        lay_out([outside], folder, derivatives=True)
    assert not folder.exists()
    code, _, error = call("dandi", written, folder, "--dandiset", "000409")
    assert code == 1 and "add --derivatives" in error and error.count("\n") == 1


def test_dandi_finds_it_valid(written, tmp_path, call):
    if find_spec("dandi") is None:
        pytest.skip("dandi is not installed")
    code, printed, error = call("dandi", written, tmp_path, "--derivatives", "--results-only")
    assert code == 0, error
    assert "valid by dandi validate" in printed and archive_findings(tmp_path) == []
