"""Where results may go: every reason not to write them there is found before any work."""

from __future__ import annotations

import os
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import h5py
import numpy as np
import pytest
from examples import UNIT_IDS, example_results, write_session
from pynwb import NWBHDF5IO, TimeSeries
from pynwb.image import ImageSeries

from nwb_migvis import MigvisError
from nwb_migvis.files import results_name
from nwb_migvis.store import check_destination, destination, list_runs, write_results


@pytest.fixture(autouse=True)
def no_trial(monkeypatch):
    """Leave out the copy on trial, which has tests of its own (test_store_refusals.py)."""
    monkeypatch.setattr(destination, "check_writable", lambda *_, **__: None)


@contextmanager
def opened_elsewhere(path: Path, mode: str):
    """Hold a file open in another process."""
    code = "import h5py, sys; f = h5py.File(*sys.argv[1:]); print('open', flush=True); sys.stdin.read()"
    command = [sys.executable, "-c", code, str(path), mode]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"open\n"
        yield
    finally:
        process.communicate()


def test_the_destination_is_a_sibling_unless_told(session, tmp_path):
    assert check_destination(session) == session.with_name("session_migvis.nwb")
    assert check_destination(session, in_place=True) == session
    (tmp_path / "other").mkdir()
    assert check_destination(session, out=tmp_path / "other" / "x.nwb") == tmp_path / "other" / "x.nwb"
    assert {p.name for p in tmp_path.iterdir()} == {"session.nwb", "other"}


def refusal(session: Path, **options) -> str:
    with pytest.raises(MigvisError) as caught:
        check_destination(session, **options)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize(
    ("stem", "name"),
    [
        ("sub-1_ses-2_ecephys+image", "sub-1_ses-2_desc-migvis_ecephys+image"),
        ("sub-1", "sub-1_desc-migvis"),
        ("sub-M-1_tis-3_probe-0_ecephys", "sub-M-1_tis-3_desc-migvis_probe-0_ecephys"),
        ("sub-1_ses-2_desc-sorted_ecephys", "sub-1_ses-2_desc-sorted-migvis_ecephys"),
        ("sub-1_ses-2_my_notes", "sub-1_ses-2_my_notes_migvis"),
        ("sub-1_Session", "sub-1_Session_migvis"),
        ("subject-1_ecephys", "subject-1_ecephys_migvis"),
        ("session.v2", "session.v2_migvis"),
    ],
)
def test_names_that_the_archive_gave_stay_names_that_it_accepts(stem, name):
    assert results_name(Path(f"somewhere/{stem}.nwb")) == f"{name}.nwb"


def test_an_output_that_exists_is_refused(session):
    out = session.with_name("session_migvis.nwb")
    out.write_text("something")
    assert "session_migvis.nwb exists already; expected a new file" in refusal(session)
    assert check_destination(session, overwrite=True) == out
    out.unlink()
    write_results(example_results(edits=False), source=session)
    assert "exists already (runs: migvis); expected a new file" in refusal(session)
    assert "found a run 'migvis' already (runs: migvis)" in refusal(out, in_place=True)
    assert check_destination(out, in_place=True, name="second") == out
    assert check_destination(out, in_place=True, overwrite=True) == out


def test_outputs_that_cannot_be_are_refused(session, tmp_path):
    assert "is the source itself" in refusal(session, out=session, overwrite=True)
    assert "both in_place and out" in refusal(session, out=tmp_path / "x.nwb", in_place=True)
    assert "not a folder" in refusal(session, out=tmp_path / "absent" / "x.nwb")
    assert "is a folder" in refusal(session, out=tmp_path)
    (tmp_path / "link.nwb").symlink_to(tmp_path / "nowhere.nwb")
    assert "is a symbolic link" in refusal(session, out=tmp_path / "link.nwb")
    assert "nothing; expected an NWB file" in refusal(tmp_path / "absent.nwb")


def test_in_place_refuses_links_and_protected_files(session, tmp_path, monkeypatch):
    link = tmp_path / "link.nwb"
    link.symlink_to(session)
    assert "is a symbolic link to" in refusal(link, in_place=True)
    assert check_destination(link) == tmp_path / "link_migvis.nwb"
    second = tmp_path / "second.nwb"
    second.hardlink_to(session)
    assert "1 more names (hard links)" in refusal(session, in_place=True)
    second.unlink()
    session.with_name("session.nwb.bak").hardlink_to(session)
    assert check_destination(session, in_place=True) == session
    monkeypatch.setattr(os, "access", lambda *_: False)
    assert "is read-only" in refusal(session, in_place=True)


def test_a_folder_that_cannot_be_written_is_refused(session, monkeypatch):
    def fail(*args, **kwargs):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, "touch", fail)
    assert "Permission denied; expected a writable folder" in refusal(session)


def test_a_folder_without_hard_links_is_refused_for_a_backup(session, monkeypatch):
    def fail(*args, **kwargs):
        raise PermissionError(1, "Operation not permitted")

    monkeypatch.setattr(os, "link", fail)
    assert "expected a folder with hard links for the backup" in refusal(session, in_place=True)
    assert check_destination(session, in_place=True, backup=False) == session
    assert check_destination(session) == session.with_name("session_migvis.nwb")
    assert {p.name for p in session.parent.iterdir()} == {"session.nwb"}


def test_too_little_space_is_refused(session):
    assert "of free space; expected" in refusal(session, expected_bytes=10**18)


def test_a_name_that_something_else_has_is_refused(session):
    with NWBHDF5IO(session, "a") as io:
        nwbfile = io.read()
        nwbfile.add_analysis(TimeSeries(name="migvis", data=np.ones(3), unit="V", rate=1.0))
        io.write(nwbfile)
    assert "/analysis/migvis is there already and is not a run" in refusal(session, overwrite=True)


def test_files_that_are_open_elsewhere_are_refused(session):
    out = write_results(example_results(edits=False), source=session)
    with opened_elsewhere(session, "r+"):
        assert "open for writing elsewhere" in refusal(session, out=session.with_name("x.nwb"))
        assert "is open in another process" in refusal(session, in_place=True)
    with opened_elsewhere(session, "r"), opened_elsewhere(out, "r"):
        assert "is open in another process" in refusal(session, in_place=True)
        assert "is open in another process" in refusal(session, overwrite=True)
        assert check_destination(session, out=session.with_name("x.nwb")).name == "x.nwb"
    with h5py.File(session):
        assert check_destination(session, in_place=True) == session


def test_a_reader_elsewhere_does_not_lose_finished_results(session):
    with opened_elsewhere(session, "r"):
        write_results(example_results(edits=False), source=session, in_place=True)
    assert list_runs(session) == ["migvis"]


def add_to(session: Path, *objects) -> None:
    with NWBHDF5IO(session, "a") as io:
        nwbfile = io.read()
        for item in objects:
            nwbfile.add_acquisition(item)
        io.write(nwbfile)


def test_relative_image_paths_keep_the_output_beside_the_source(session, tmp_path):
    def film(name, path):
        return ImageSeries(
            name=name,
            external_file=[path],
            format="external",
            starting_frame=[0],
            timestamps=[0.0],
            unit="n/a",
            dimension=[2, 2],
        )

    add_to(session, film("film", "https://example.org/film.avi"), film("second", "/films/second.avi"))
    (tmp_path / "other").mkdir()
    elsewhere = tmp_path / "other" / "x.nwb"
    assert check_destination(session, out=elsewhere) == elsewhere
    add_to(session, film("third", "./third.avi"))
    assert "/acquisition/third/external_file points to ./third.avi" in refusal(session, out=elsewhere)
    assert check_destination(session).parent == session.parent


def test_links_to_other_files_stay_valid_and_broken_ones_are_refused(session, tmp_path):
    other = write_session(tmp_path / "other.nwb", seed=1)
    with h5py.File(session, "r+") as file:
        series = file["stimulus/presentation/presentations"]
        del series["data"]
        series["data"] = h5py.ExternalLink("other.nwb", "/stimulus/presentation/presentations/data")
    (tmp_path / "folder").mkdir()
    out = write_results(example_results(), source=session, out=tmp_path / "folder" / "out.nwb")
    with h5py.File(out) as file, h5py.File(other) as source:
        path = "stimulus/presentation/presentations/data"
        np.testing.assert_array_equal(file[path][()], source[path][()])
        assert list(file["units/id"]) == list(UNIT_IDS)
    other.unlink()
    assert "/stimulus/presentation/presentations/data is a link to something" in refusal(session)
