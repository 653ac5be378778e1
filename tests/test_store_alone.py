"""Results without their recording, runs that are removed, and the folders of the archive."""

from __future__ import annotations

import json
import shutil
from importlib.util import find_spec
from pathlib import Path

import h5py
import numpy as np
import pynwb
import pytest
from examples import WEIGHTS, example_results
from pynwb import NWBHDF5IO

from nwb_migvis import MigvisError, inspect_session, read_results
from nwb_migvis.runs import archive_findings, lay_out
from nwb_migvis.store import (
    Destination,
    list_runs,
    read_weights,
    remove_run,
    validate_file,
    write_results,
)
from nwb_migvis.store.canonical import canonical, differences
from nwb_migvis.store.write import without_unit_rows


@pytest.fixture(scope="module")
def both(pristine, tmp_path_factory) -> Path:
    """A file with two runs."""
    out = tmp_path_factory.mktemp("both") / "both.nwb"
    write_results(example_results(), source=pristine, out=out, weights=WEIGHTS)
    return write_results(example_results(name="second", edits=False), source=out, in_place=True, backup=False)


def change_subject(path: Path, **fields) -> Path:
    """Set fields of a subject; None removes one."""
    with h5py.File(path, "r+") as file:
        for name, value in fields.items():
            place = f"general/{name}" if name == "session_id" else f"general/subject/{name}"
            if place in file:
                del file[place]
            if value is not None:
                file[place] = value
    return path


def test_results_alone_are_small_whole_and_valid(session, tmp_path):
    with NWBHDF5IO(session, "a") as io:
        file = io.read()
        file.add_acquisition(pynwb.TimeSeries(name="raw", data=np.arange(2e6), unit="V", rate=1.0))
        io.write(file)
    out = write_results(
        example_results(), source=session, out=tmp_path / "alone.nwb", weights=WEIGHTS, results_only=True
    )
    assert out.stat().st_size < session.stat().st_size / 10
    assert differences(read_results(out), canonical(without_unit_rows(example_results()))) == []
    assert read_weights(out) == WEIGHTS
    assert [f for f in validate_file(out) if f.importance != "best_practice_suggestion"] == []
    with NWBHDF5IO(session, "r") as one, NWBHDF5IO(out, "r") as other:
        source, alone = one.read(), other.read()
        for name in ("subject_id", "species", "sex", "age", "description"):
            assert getattr(alone.subject, name) == getattr(source.subject, name)
        assert alone.session_start_time == source.session_start_time
        assert list(alone.devices) == list(source.devices)
        assert source.identifier in alone.notes and source.object_id in alone.notes
        assert alone.units is None and not alone.acquisition and not alone.stimulus_template
        assert alone.identifier != source.identifier


def test_results_alone_are_not_written_in_place(session):
    with pytest.raises(MigvisError, match="found both in_place and results_only"):
        Destination(in_place=True, results_only=True)


def test_a_removed_run_leaves_all_else(both, tmp_path):
    copy = Path(shutil.copy(both, tmp_path / "copy.nwb"))
    before = read_results(copy, "second")
    assert remove_run(copy, "migvis", in_place=True) == copy
    assert list_runs(copy) == ["second"]
    assert differences(read_results(copy), before) == []
    assert list_runs(tmp_path / "copy.nwb.bak") == ["migvis", "second"]
    assert [f for f in validate_file(copy) if f.importance == "error"] == []
    with pytest.raises(MigvisError, match=r"found no run 'third'; .*\(second\)"):
        remove_run(copy, "third", in_place=True)


def test_the_command_removes_a_run(both, tmp_path, call):
    code, printed, _ = call("run", both, "--remove", "second", "--out", tmp_path / "one.nwb")
    assert code == 0 and "wrote" in printed
    assert list_runs(tmp_path / "one.nwb") == ["migvis"]
    code, _, errors = call("run", both, "--remove", "third")
    assert code == 1 and "found no run 'third'" in errors


@pytest.mark.parametrize("results_only", [False, True])
def test_files_are_laid_out_as_the_archive_wants_them(both, tmp_path, results_only):
    session = change_subject(Path(shutil.copy(both, tmp_path / "a.nwb")), session_id="day 1/2")
    folder = tmp_path / "dandiset"
    (place,) = lay_out([session], folder, results_only=results_only)
    name = f"sub-monkey_ses-day-1-2_desc-migvis_{'image' if results_only else 'ecephys+image'}.nwb"
    assert place == folder / "sub-monkey" / name
    assert sorted(p.name for p in place.parent.iterdir()) == [name]
    assert (folder / "dandiset.yaml").is_file()
    assert list_runs(place) == ["migvis", "second"]
    assert read_results(place, "migvis").synthesized.equals(read_results(both, "migvis").synthesized)
    with pytest.raises(MigvisError, match="exists already"):
        lay_out([session], folder, results_only=results_only)
    lay_out([session], folder, results_only=results_only, overwrite=True)


@pytest.mark.parametrize(
    ("fields", "note"),
    [
        ({"subject_id": None}, "no subject_id"),
        ({"species": "monkey"}, "species is 'monkey'; expected a Latin name"),
        ({"sex": "female"}, "sex is 'female'; expected one of M, F, U, O"),
        ({"age": "8 years"}, "age is '8 years'; expected an ISO 8601 duration"),
        ({"age": None}, "age is ''"),
    ],
)
def test_what_the_archive_refuses_is_said_before(both, tmp_path, fields, note):
    copy = change_subject(Path(shutil.copy(both, tmp_path / "copy.nwb")), session_id="1", **fields)
    assert any(note in line for line in inspect_session(copy)["archive"])
    with pytest.raises(MigvisError, match="the archive will refuse it") as error:
        lay_out([copy], tmp_path / "dandiset")
    assert note in str(error.value)
    assert not (tmp_path / "dandiset").exists()


def test_a_session_that_the_archive_takes_has_no_note(session):
    assert inspect_session(change_subject(session, session_id="1"))["archive"] == []
    assert inspect_session(change_subject(session, session_id=None))["archive"] == [
        "no session_id, which tells sessions of one subject apart"
    ]


def test_two_sessions_that_cannot_be_told_apart_are_refused(both, tmp_path):
    other = Path(shutil.copy(both, tmp_path / "other.nwb"))
    with pytest.raises(MigvisError, match="of one subject and session"):
        lay_out([both, other], tmp_path / "dandiset")


def test_the_archive_takes_no_links_to_other_files(both, pristine, tmp_path):
    copy = Path(shutil.copy(both, tmp_path / "copy.nwb"))
    with h5py.File(copy, "r+") as file:
        file["scratch/elsewhere"] = h5py.ExternalLink("other.nwb", "/")
    with pytest.raises(MigvisError, match=r"/scratch/elsewhere lies in another file \(other.nwb\)"):
        lay_out([copy], tmp_path / "dandiset")
    with pytest.raises(MigvisError, match="found no results"):
        lay_out([pristine], tmp_path / "dandiset")


def test_the_command_says_whether_dandi_finds_it_valid(both, tmp_path, call):
    code, printed, errors = call("dandi", both, tmp_path / "dandiset", "--results-only")
    assert code == 0, errors
    said = "valid by dandi validate" if find_spec("dandi") else "not validated: dandi is not installed"
    assert said in printed
    assert archive_findings(tmp_path / "dandiset") == ([] if find_spec("dandi") else None)


def test_inputs_are_recorded_with_their_object_id(session):
    from nwb_migvis.analysis.context import digest_of

    with h5py.File(session) as file:
        object_id = file.attrs["object_id"]
    record = digest_of(session)
    assert record["object_id"] == object_id and len(record["sha256"]) == 64
    table = session.with_name("labels.csv")
    table.write_text(json.dumps({}))
    assert set(digest_of(table)) == {"path", "sha256"}
