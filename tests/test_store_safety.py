"""The source's bytes stay, nothing of it is lost, and the output appears whole or not at all."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import signal
import sys
import time
from pathlib import Path

import h5py
import numpy as np
import pytest
from examples import WEIGHTS, example_results, with_unit_rows

from nwb_migvis import MigvisError, read_results
from nwb_migvis.store import check_destination, copying, list_runs, write, write_results
from nwb_migvis.store.canonical import canonical, differences
from nwb_migvis.store.compare import Rules, lost_or_altered
from nwb_migvis.store.private import temporary_path

SHARED = Path(__file__).parents[2] / "shared" / "data"
REAL = ("nwb_dicarlo_layout/session_with_images.nwb", "nwb_dicarlo_layout/aggregated.nwb")


def differing(source: Path, copy: Path, skip=(), may_grow=()) -> list[str]:
    with h5py.File(source) as a, h5py.File(copy) as b:
        return list(lost_or_altered(a, b, Rules(lambda old, new: False, skip=skip, may_grow=may_grow)))


# In place ------------------------------------------------------------------------------------------------


def test_in_place_keeps_the_old_file_under_another_name(session):
    before, inode = session.read_bytes(), session.stat().st_ino
    session.chmod(0o640)
    assert write_results(example_results(), source=session, in_place=True, weights=WEIGHTS) == session
    backup = session.with_name("session.nwb.bak")
    assert backup.read_bytes() == before
    assert backup.stat().st_ino == inode
    assert session.stat().st_mode & 0o777 == 0o640
    assert differing(backup, session) == []
    assert differences(canonical(example_results()), read_results(session)) == []
    assert {p.name for p in session.parent.iterdir()} == {"session.nwb", "session.nwb.bak"}


def test_a_backup_never_replaces_a_file(session):
    mine = session.with_name("session.nwb.bak")
    mine.write_text("mine")
    before = session.read_bytes()
    write_results(example_results(edits=False), source=session, in_place=True)
    assert mine.read_text() == "mine"
    assert session.with_name("session.nwb.bak1").read_bytes() == before


def test_the_backup_can_be_refused(session):
    write_results(example_results(edits=False), source=session, in_place=True, backup=False)
    assert {p.name for p in session.parent.iterdir()} == {"session.nwb"}


# Kills ---------------------------------------------------------------------------------------------------


def kill_at(moment: str) -> None:
    """Make this process be killed at a moment of `write_results`, by the one that writes or by itself."""
    writer = os.getpid()

    def die(*args, **kwargs):
        os.kill(writer, signal.SIGKILL)
        time.sleep(60)  # the writing process ends with it

    def die_at_call(number, function):
        calls = iter(range(number))
        return lambda *args, **kwargs: function(*args, **kwargs) if next(calls, None) is not None else die()

    if moment == "first dataset":
        h5py.Group.create_dataset = die_at_call(1, h5py.Group.create_dataset)
    elif moment == "among the datasets":
        h5py.Group.create_dataset = die_at_call(20, h5py.Group.create_dataset)
    elif moment == "before the check":
        copying._verify = die
    elif moment == "before the disk has it":
        copying.sync = die
    elif moment == "before the name":
        Path.replace = die
    elif moment == "after the name":
        write.sync = die


MOMENTS = (
    "first dataset",
    "among the datasets",
    "before the check",
    "before the disk has it",
    "before the name",
    "after the name",
)


def write_and_die(moment: str, session: Path, in_place: bool) -> None:
    kill_at(moment)
    write_results(example_results(), source=session, in_place=in_place, weights=WEIGHTS)


@pytest.mark.skipif(sys.platform == "win32", reason="needs fork and SIGKILL")
@pytest.mark.parametrize(
    ("moment", "in_place"), [*((m, True) for m in MOMENTS), *((m, False) for m in MOMENTS[1::2])]
)
def test_a_kill_leaves_all_of_the_old_or_all_of_the_new(session, moment, in_place):
    before = session.read_bytes()
    process = multiprocessing.get_context("fork").Process(
        target=write_and_die, args=(moment, session, in_place)
    )
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert not multiprocessing.active_children()
    final = session if in_place else session.with_name("session_migvis.nwb")
    done = moment == "after the name"
    if in_place and done:
        assert session.with_name("session.nwb.bak").read_bytes() == before
    else:
        assert session.read_bytes() == before
    assert final.exists() == (in_place or done)
    if done:
        assert differences(canonical(example_results()), read_results(final)) == []
    orphans = [p.name for p in session.parent.iterdir() if p.name.endswith(".tmp")]
    assert len(orphans) == (not done)
    out = session.with_name("later.nwb")
    if moment == "before the name":
        write_results(example_results(name="later", edits=False), source=session, out=out)
        assert list_runs(out)[-1] == "later"
        assert not [p.name for p in session.parent.iterdir() if p.name.startswith(".")]
        assert check_destination(session, in_place=True, name="x") == session


@pytest.mark.skipif(sys.platform == "win32", reason="nothing is swept there")
def test_only_temporary_files_of_dead_processes_are_swept(session):
    child = multiprocessing.get_context("fork").Process(target=int)
    child.start()
    child.join()
    mine = temporary_path(session.with_name("other.nwb"))
    dead = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{child.pid}-"))
    alive = mine.with_name(mine.name.replace(f"-{os.getpid()}-", f"-{os.getppid()}-"))
    elsewhere = mine.with_name(f".other.nwb.migvis-another-host-{child.pid}-{16 * '0'}.tmp")
    unlike = session.with_name(".other.nwb.tmp")
    for path in (dead, alive, elsewhere, unlike):
        path.touch()
    write_results(example_results(edits=False), source=session)
    assert not dead.exists()
    assert alive.exists() and elsewhere.exists() and unlike.exists()


def test_an_exception_leaves_nothing_behind(session, monkeypatch):
    def fail(*args, **kwargs):
        raise KeyboardInterrupt

    monkeypatch.setattr(copying, "_verify", fail)
    with pytest.raises(KeyboardInterrupt):
        write_results(example_results(), source=session)
    assert {p.name for p in session.parent.iterdir()} == {"session.nwb"}


def test_a_full_disk_is_one_line_and_leaves_nothing(session, monkeypatch):
    def full(*args, **kwargs):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(copying, "_export", full)
    with pytest.raises(MigvisError, match=r"could not be written: .*No space left on device"):
        write_results(example_results(), source=session)
    assert {p.name for p in session.parent.iterdir()} == {"session.nwb"}


def test_an_output_that_appears_meanwhile_is_kept(session, monkeypatch):
    out = session.with_name("session_migvis.nwb")
    monkeypatch.setattr(copying, "_verify", lambda *_: out.write_text("mine"))
    with pytest.raises(MigvisError, match="appeared meanwhile"):
        write_results(example_results(edits=False), source=session)
    assert out.read_text() == "mine"


def test_a_source_that_changes_meanwhile_is_not_overwritten(session, monkeypatch):
    def touch(*args, **kwargs):
        os.utime(session, (1, 1))

    monkeypatch.setattr(copying, "_verify", touch)
    before = session.read_bytes()
    with pytest.raises(MigvisError, match="was changed while results were written"):
        write_results(example_results(), source=session, in_place=True)
    assert session.read_bytes() == before
    assert {p.name for p in session.parent.iterdir()} == {"session.nwb"}


# What would be lost --------------------------------------------------------------------------------------


def change_value(file):
    file["units/spike_times"][3] += 1e-9


def change_text(file):
    file["units/quality"][0] = "bad"


def change_reference(file):
    order = file["stimulus/templates/images/order_of_images"]
    order[:2] = order[:2][::-1]


def change_attribute(file):
    file["stimulus/presentation/presentations/data"].attrs["unit"] = "s"


def change_type(file):
    data = file["intervals/trials/start_time"]
    values, attributes = data[()].astype(np.float32), dict(data.attrs)
    del file["intervals/trials/start_time"]
    file["intervals/trials/start_time"] = values
    file["intervals/trials/start_time"].attrs.update(attributes)


def remove_object(file):
    del file["general/subject/age"]


def remove_attribute(file):
    del file["units"].attrs["description"]


CHANGES = {
    change_value: "/units/spike_times differs",
    change_text: "/units/quality differs",
    change_reference: "/stimulus/templates/images/order_of_images differs",
    change_attribute: "/stimulus/presentation/presentations/data@unit differs",
    change_type: "/intervals/trials/start_time differs",
    remove_object: "/general/subject/age is absent",
    remove_attribute: "/units@description is absent",
}


@pytest.mark.parametrize("change", CHANGES, ids=lambda f: f.__name__)
def test_the_comparison_finds_every_difference(session, tmp_path, change):
    copy = Path(shutil.copy(session, tmp_path / "copy.nwb"))
    assert differing(session, copy) == []
    with h5py.File(copy, "r+") as file:
        change(file)
    assert differing(session, copy) == [CHANGES[change]]


def test_the_comparison_goes_through_whole_datasets_block_by_block(tmp_path, monkeypatch):
    monkeypatch.setattr("nwb_migvis.store.compare.BLOCK_BYTES", 64)
    for name, last in (("a.h5", np.nan), ("b.h5", np.nan), ("c.h5", 0.0)):
        with h5py.File(tmp_path / name, "w") as file:
            values = np.arange(3000.0).reshape(1000, 3)
            values[-1, -1] = last
            file.create_dataset("data", data=values, chunks=(7, 3))
    assert differing(tmp_path / "a.h5", tmp_path / "b.h5") == []
    assert differing(tmp_path / "a.h5", tmp_path / "c.h5") == ["/data differs"]


def test_a_file_that_pynwb_would_not_copy_whole_is_refused(session):
    with h5py.File(session, "r+") as file:
        file["units"].attrs["lab_note"] = "keep me"
        file["private"] = np.arange(3)
    before = session.read_bytes()
    with pytest.raises(MigvisError, match=r"would not keep everything \(. differences?, the first: /"):
        write_results(example_results(), source=session)
    assert session.read_bytes() == before
    assert {p.name for p in session.parent.iterdir()} == {"session.nwb"}


@pytest.mark.parametrize("name", REAL)
def test_real_sessions_keep_every_object(name, tmp_path):
    if not (SHARED / name).is_file():
        pytest.skip(f"{name} of the shared data is absent")
    session = Path(shutil.copy(SHARED / name, tmp_path / "session.nwb"))
    session.chmod(0o644)
    before = session.read_bytes()
    given = example_results(units=np.arange(4), maps=True)
    has_units = "aggregated" not in name
    given = with_unit_rows(given) if has_units else given
    out = write_results(given, source=session, weights=WEIGHTS)
    assert session.read_bytes() == before
    assert differing(session, out) == []
    assert differences(canonical(given), read_results(out)) == []
    with h5py.File(out) as file:
        assert ("unit_row" in file["analysis/migvis/unit_loadings"]) == has_units


def test_a_session_of_an_older_schema_is_brought_up_to_date_and_kept(tmp_path):
    source = SHARED / "nwb_generic" / "A8604-211122.nwb"
    if not source.is_file():
        pytest.skip("the shared data are absent")
    session = Path(shutil.copy(source, tmp_path / "session.nwb"))
    out = write_results(example_results(edits=False, units=np.arange(4)), source=session)
    electrodes = "/general/extracellular_ephys/electrodes"
    assert sorted(differing(session, out)) == [
        f"{electrodes}@namespace differs",
        f"{electrodes}@neurodata_type differs",
    ]
    with h5py.File(out) as file:
        assert file[electrodes].attrs["neurodata_type"] == "ElectrodesTable"
        assert {len(versions) for versions in file["specifications"].values()} == {1}


def test_only_rows_may_be_added_and_only_where_it_is_allowed(tmp_path):
    for name, rows in (("a", [1, 2]), ("longer", [1, 2, 3]), ("other", [9, 2, 3])):
        with h5py.File(tmp_path / f"{name}.h5", "w") as file:
            file["rows"] = rows
    a, longer, other = (tmp_path / f"{name}.h5" for name in ("a", "longer", "other"))
    assert differing(a, longer, may_grow={"/rows"}) == []
    assert differing(a, longer) == differing(a, other, may_grow={"/rows"}) == ["/rows differs"]
    assert differing(longer, a, may_grow={"/rows"}) == ["/rows differs"]
