"""What stops the writing is found before the work, and results outlive a failure."""

from __future__ import annotations

import multiprocessing
import os
import signal
import sys
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from click.testing import CliRunner
from examples import WEIGHTS, example_results, write_session

from ndx_migvis import cache
from nwb_migvis import MigvisError, read_results, run
from nwb_migvis.cli import cli
from nwb_migvis.store import (
    check_destination,
    check_writable,
    copying,
    fingerprint,
    read_sidecar,
    read_weights,
    reserve,
    restore_sidecar,
    sidecar_path,
    write_results,
)
from nwb_migvis.store.apart import reason_of, run_apart
from nwb_migvis.store.canonical import canonical, differences
from nwb_migvis.store.dates import is_same_time

on_linux = pytest.mark.skipif(sys.platform != "linux", reason="processes of their own are forked on Linux")


def names(folder: Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


# Before the work -----------------------------------------------------------------------------------------


def note(file):
    file["general/lab_note"] = "left eye patched"


def group(file):
    file.create_group("processing/private")


def attribute(file):
    file.attrs["lab"] = "upstairs"


def electrode_gone(file):
    shank = file["general/extracellular_ephys"]
    shank["other"] = shank["shank"]["device"]
    del shank["shank"]


def image_gone(file):
    del file["stimulus/templates/images/image_03.png"]


def attribute_gone(file):
    file["units"].attrs["made_with"] = file.create_group("scratch").ref
    del file["scratch"]


def soft_link(file):
    file["acquisition/other"] = h5py.SoftLink("/acquisition/nothing")


def external_link(file):
    file["acquisition/other"] = h5py.ExternalLink("before_renaming.nwb", "/acquisition/film")


def blosc(file, name="intervals/trials/stop_time", code=32001):
    """Store a dataset under a filter that is not registered."""
    values, attributes = file[name][...], dict(file[name].attrs)
    del file[name]
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_chunk(values.shape)
    settings.set_filter(code, h5py.h5z.FLAG_OPTIONAL, (2, 2, 8))
    space, kind = h5py.h5s.create_simple(values.shape), h5py.h5t.py_create(values.dtype)
    dataset = h5py.h5d.create(file.id, name.encode(), kind, space, settings)
    dataset.write_direct_chunk((0,), values.tobytes(), 0)
    file[name].attrs.update(attributes)


def zstandard(file):
    blosc(file, "intervals/trials/start_time", 32015)


def unknown_filter(file):
    blosc(file, code=40_000)


REFUSED = {
    note: "/general/lab_note is absent",
    group: "/processing/private",
    attribute: "/@lab is absent",
    electrode_gone: "refers to an object that is not there",
    image_gone: "/order_of_images refers to an object that is not there (reference 3)",
    attribute_gone: "/units@made_with refers to an object that is not there",
    soft_link: "/acquisition/other is a link to something that is not there (/acquisition/nothing)",
    external_link: "(/acquisition/film of before_renaming.nwb)",
    blosc: "/intervals/trials/stop_time is compressed by the filter 32001 (Blosc)",
    zstandard: "the filter 32015 (Zstandard), which is not loaded",
    unknown_filter: "the filter 40000 (unknown)",
}


@pytest.mark.parametrize("spoil", REFUSED, ids=lambda f: f.__name__)
def test_a_session_that_cannot_be_copied_whole_is_refused_at_the_start(session, spoil):
    if spoil in (blosc, zstandard) and h5py.h5z.filter_avail(32001):
        pytest.skip("the filters are installed here")
    with h5py.File(session, "r+") as file:
        spoil(file)
    before = session.read_bytes()
    with pytest.raises(MigvisError) as caught:
        check_destination(session)
    assert REFUSED[spoil] in str(caught.value)
    assert "\n" not in str(caught.value)
    assert session.read_bytes() == before
    assert names(session.parent) == {"session.nwb"}


# What is the same ----------------------------------------------------------------------------------------


def of_matnwb(file):
    file["session_start_time"][()] = "2026-01-01T00:00:00.000000Z"
    file["timestamps_reference_time"][()] = "2026-01-01T00:00:00.000000+00:00"


def whole_seconds(file):
    file["session_start_time"][()] = "2026-01-01 00:00:00Z"
    file["file_create_date"][0] = "2026-02-03T04:05:06Z"


def born(file):
    file["general/subject/date_of_birth"] = "2020-05-06T00:00:00.000000+02:00"


def one_value(file):
    del file["general/experimenter"]
    file["general/experimenter"] = "Doe, Jane"


def fixed_length(file):
    for name in ("session_description", "general/institution"):
        text = file[name][()]
        del file[name]
        file[name] = np.bytes_(text)
    file["units"].attrs["description"] = np.bytes_(file["units"].attrs["description"])


@pytest.mark.parametrize("spell", [of_matnwb, whole_seconds, born, one_value, fixed_length])
def test_other_spellings_of_the_same_are_written(session, spell):
    with h5py.File(session, "r+") as file:
        spell(file)
        start = file["session_start_time"].asstr()[()]
    out = write_results(example_results(edits=False), source=session)
    with h5py.File(out) as file:
        assert file["session_start_time"].asstr()[()] == start
        assert np.ravel(file["general/experimenter"].asstr()[()]).tolist() == ["Doe, Jane"]


def test_dates_are_the_same_by_value_and_offset():
    assert is_same_time("2026-01-01T00:00:00.000000Z", "2026-01-01T00:00:00+00:00")
    assert is_same_time("2026-01-01T01:00:00.500000+01:00", "2026-01-01 01:00:00.5+01:00")
    assert not is_same_time("2026-01-01T01:00:00+01:00", "2026-01-01T00:00:00+00:00")
    assert not is_same_time("2026-01-01T00:00:00.0000001Z", "2026-01-01T00:00:00+00:00")
    assert not is_same_time("2026-01-01T00:00:00", "2026-01-01T00:00:00+00:00")
    assert not is_same_time("yesterday", "2026-01-01T00:00:00+00:00")


# Other files ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["session.nwb", "nothing.nwb", "elsewhere.nwb"])
def test_a_backup_that_is_a_link_is_not_a_backup(session, target):
    (session.parent / "elsewhere.nwb").write_text("mine")
    session.with_name("session.nwb.bak").symlink_to(target)
    before = session.read_bytes()
    check_destination(session, in_place=True)
    write_results(example_results(edits=False), source=session, in_place=True)
    assert session.with_name("session.nwb.bak1").read_bytes() == before
    assert not session.with_name("session.nwb.bak1").is_symlink()
    assert (session.parent / "elsewhere.nwb").read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="needs links and pipes")
@pytest.mark.parametrize("planted", ["a link", "a link to nothing", "a hard link", "a pipe"])
def test_a_planted_link_is_never_followed(session, monkeypatch, planted):
    victim, path = session.with_name("victim"), session.with_name(".known.tmp")
    if planted != "a link to nothing":
        victim.write_text("mine")
    if planted == "a pipe":
        os.mkfifo(path)
    elif planted == "a hard link":
        path.hardlink_to(victim)
    else:
        path.symlink_to(victim)
    monkeypatch.setattr(copying, "temporary_path", lambda _: path)
    with pytest.raises(MigvisError, match="could not be written"):
        write_results(example_results(edits=False), source=session)
    assert not victim.exists() if planted == "a link to nothing" else victim.read_text() == "mine"


@pytest.mark.skipif(sys.platform == "win32", reason="needs links")
def test_planted_sidecars_and_locks_are_not_followed(session):
    victim, out = session.with_name("victim"), session.with_name("session_migvis.nwb")
    victim.write_text("mine")
    sidecar_path(out).symlink_to(victim)
    session.with_name(".session_migvis.nwb.migvis.lock").symlink_to(victim)
    assert write_results(example_results(edits=False), source=session, sidecar=True) == out
    assert victim.read_text() == "mine" and sidecar_path(out).is_symlink()


def test_names_of_unfinished_files_cannot_be_known(session):
    one, two = (copying.temporary_path(session) for _ in range(2))
    assert one != two and one.parent == session.parent


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_what_is_private_stays_private(session, monkeypatch):
    session.chmod(0o600)
    seen = []
    verify = copying._verify
    monkeypatch.setattr(copying, "run_apart", lambda task: task())
    monkeypatch.setattr(
        copying, "_verify", lambda job: seen.append(job.output.stat().st_mode & 0o777) or verify(job)
    )
    out = write_results(example_results(edits=False), source=session)
    assert (out.stat().st_mode & 0o777, seen) == (0o600, [0o600])
    out.chmod(0o644)
    write_results(example_results(edits=False), source=session, overwrite=True)
    assert out.stat().st_mode & 0o777 == 0o600


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_in_place_keeps_permissions_times_and_extended_attributes(session):
    session.chmod(0o640)
    os.utime(session, ns=(10**18, 10**18 + 5))
    has_attributes = hasattr(os, "setxattr")
    if has_attributes:
        try:
            os.setxattr(session, "user.note", b"mine")
        except OSError:
            has_attributes = False
    write_results(example_results(edits=False), source=session, in_place=True)
    assert session.stat().st_mode & 0o777 == 0o640
    assert session.stat().st_mtime_ns == 10**18 + 5
    assert not has_attributes or os.getxattr(session, "user.note") == b"mine"


# A process of its own ------------------------------------------------------------------------------------


@on_linux
def test_a_crash_of_the_writing_process_is_one_line(session, monkeypatch):
    monkeypatch.setattr(copying, "_export", lambda _: os.kill(os.getpid(), signal.SIGSEGV))
    with pytest.raises(MigvisError, match="could not be written: the writing process ended by SIGSEGV"):
        write_results(example_results(edits=False), source=session)
    assert names(session.parent) == {"session.nwb"}


@on_linux
@pytest.mark.parametrize("limit", [5_000, 150_000, 300_000])
def test_a_full_disk_leaves_the_source_and_nothing_else(session, limit, monkeypatch):
    import resource

    before, export = session.read_bytes(), copying._export

    def with_limit(job):
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (limit, limit))
        export(job)

    monkeypatch.setattr(copying, "_export", with_limit)
    with pytest.raises(MigvisError, match="could not be written: ") as caught:
        write_results(example_results(), source=session, weights=WEIGHTS)
    assert "\n" not in str(caught.value)
    assert session.read_bytes() == before
    assert names(session.parent) == {"session.nwb"}


def test_errors_of_a_task_apart_are_what_they_were():
    def fail(error):
        raise error

    for error in (MigvisError("one"), ValueError("two"), OSError(28, "three"), KeyboardInterrupt()):
        with pytest.raises(type(error), match=str(error.args[-1]) if error.args else None):
            run_apart(lambda error=error: fail(error))
    assert reason_of("x (errno = 28, error message = 'No space left on device')") == "No space left on device"


def test_a_file_that_another_wrote_since_it_was_read_is_kept(session):
    before = fingerprint(session)
    write_results(example_results(edits=False), source=session, in_place=True, backup=False)
    other = session.read_bytes()
    for how in ({"in_place": True}, {"out": session.with_name("o.nwb")}):
        with pytest.raises(MigvisError, match="was changed since it was read"):
            late = replace(example_results(), name="late")
            write_results(late, source=session, unchanged_since=before, **how)
    assert session.read_bytes() == other and names(session.parent) == {"session.nwb"}
    before = fingerprint(session)
    os.utime(session, ns=(1, before[3] + 1))
    with pytest.raises(MigvisError, match="was changed since it was read"):
        write_results(replace(example_results(), name="late"), source=session, unchanged_since=before)


# One writer at a time ------------------------------------------------------------------------------------


def _hold(path, ready, done):
    with reserve(path):
        ready.set()
        done.wait(20)


@on_linux
def test_an_output_is_reserved_for_one_process(session):
    context = multiprocessing.get_context("fork")
    ready, done = context.Event(), context.Event()
    out = session.with_name("session_migvis.nwb")
    other = context.Process(target=_hold, args=(out, ready, done))
    other.start()
    assert ready.wait(20)
    with pytest.raises(MigvisError, match="is about to be written by another process"):
        write_results(example_results(edits=False), source=session)
    with pytest.raises(MigvisError, match="is about to be written by another process"):
        run(session)
    with reserve(session.with_name("third.nwb")):
        pass
    done.set()
    other.join()
    with reserve(out), reserve(out):
        write_results(example_results(edits=False), source=session)
    assert names(session.parent) == {"session.nwb", "session_migvis.nwb"}


# The sidecar ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "results",
    [example_results(maps=True, channels=True), example_results(edits=False, labels=False, stability=False)],
    ids=["all", "little"],
)
def test_results_outlive_a_failure_and_are_written_later(session, monkeypatch, results):
    with monkeypatch.context() as patch:
        patch.setattr(copying, "_verify", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
        with pytest.raises(
            MigvisError, match=r"the results are in .*results\.safetensors: `nwb-migvis recover"
        ):
            write_results(results, source=session, weights=WEIGHTS, sidecar=True)
    sidecar = sidecar_path(session.with_name("session_migvis.nwb"))
    assert names(session.parent) == {"session.nwb", sidecar.name}
    assert sidecar.stat().st_mode & 0o077 == 0 or sys.platform == "win32"
    saved, weights, identifier = read_sidecar(sidecar)
    assert (differences(canonical(results), saved), weights, identifier) == ([], WEIGHTS, "session-0")
    done = CliRunner().invoke(cli, ["recover", str(sidecar), "--source", str(session)])
    assert done.exit_code == 0, done
    out = session.with_name("session_migvis.nwb")
    assert differences(canonical(results), read_results(out)) == []
    assert read_weights(out) == WEIGHTS
    write_results(replace(results, name="b"), source=session, out=session.with_name("b.nwb"), sidecar=True)
    assert not sidecar_path(session.with_name("b.nwb")).exists()


def test_a_sidecar_of_another_session_or_damaged_is_refused(session, tmp_path, monkeypatch):
    monkeypatch.setattr(copying, "_verify", lambda _: (_ for _ in ()).throw(OSError(28, "No space left")))
    with pytest.raises(MigvisError):
        write_results(example_results(), source=session, sidecar=True)
    monkeypatch.undo()
    sidecar = sidecar_path(session.with_name("session_migvis.nwb"))
    other = write_session(tmp_path / "other.nwb", seed=1)
    with pytest.raises(MigvisError, match="has the identifier 'session-1'; expected 'session-0'"):
        restore_sidecar(sidecar, source=other)
    data = sidecar.read_bytes()
    for damaged in (b"", data[:100], data[:-1], b"\xff" * 64, data[:8] + b"x" + data[9:]):
        sidecar.write_bytes(damaged)
        with pytest.raises(MigvisError, match="cannot be read"):
            read_sidecar(sidecar)


# The cache of pynwb --------------------------------------------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="needs POSIX permissions")
def test_a_cache_that_others_can_write_is_not_used(tmp_path):
    assert cache.is_safe(tmp_path / "new")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    assert not cache.is_safe(tmp_path / "open")
    (tmp_path / "new" / "pynwb-hdmf").mkdir()
    (tmp_path / "new" / "pynwb-hdmf").chmod(0o775)
    assert not cache.is_safe(tmp_path / "new")
    (tmp_path / "file").touch()
    assert not cache.is_safe(tmp_path / "file")


def test_a_good_session_passes_the_trial_and_leaves_nothing(session):
    check_writable(session, beside=session.with_name("out.nwb"))
    assert names(session.parent) == {"session.nwb"}


@pytest.mark.parametrize("spoil", [note, group, attribute], ids=lambda f: f.__name__)
def test_what_no_schema_knows_is_found_before_anything_is_copied(session, spoil, monkeypatch):
    with h5py.File(session, "r+") as file:
        spoil(file)

    def never(*_, **__):
        raise AssertionError("an export began")

    monkeypatch.setattr(copying.NWBHDF5IO, "export", never)
    with pytest.raises(MigvisError, match=r"would not keep everything \(1 differences"):
        check_writable(session, beside=session.with_name("out.nwb"))


def test_what_an_export_loses_beside_results_is_found(session, monkeypatch):
    def lose(_, file):
        del file["/units/spike_times"].attrs["description"]

    monkeypatch.setattr(copying, "keep_spelling", lose)
    before = names(session.parent)
    with pytest.raises(MigvisError, match=r"(would not keep everything|would not be valid).*spike_times"):
        write_results(example_results(edits=False), source=session)
    monkeypatch.setattr(copying, "schema_findings", lambda *_, **__: [])
    with pytest.raises(
        MigvisError, match=r"would not keep everything \(1 differences.*spike_times@description"
    ):
        write_results(example_results(edits=False), source=session)
    assert names(session.parent) == before
