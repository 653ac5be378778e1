"""Rows of the stimuli's presentations: from the table that they are read from to the file of results."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import h5py
import numpy as np
import pytest
from examples import STIMULI, WEIGHTS, example_results, name_trials, results_with_rows, write_session
from layouts import N_PRESENTATIONS as N
from layouts import dicarlo_session, index_series, picture
from pynwb import NWBHDF5IO

import nwb_migvis
from nwb_migvis import MigvisError, read_results, read_session
from nwb_migvis.store import (
    list_runs,
    read_sidecar,
    remove_run,
    restore_sidecar,
    validate_file,
    write_results,
    write_sidecar,
)
from nwb_migvis.store.canonical import canonical, differences
from nwb_migvis.testing import tiny_config, write_tiny_session

TRIALS = "/intervals/trials"
COLUMN = "analysis/migvis/stimulus_latents/presentations"


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return name_trials(write_session(tmp_path_factory.mktemp("rows") / "session.nwb"))


@pytest.fixture(scope="module")
def written(source):
    return write_results(results_with_rows(), source=source, weights=WEIGHTS)


def errors(path):
    return [f"{f.location}: {f.message}" for f in validate_file(path) if f.importance == "error"]


def test_a_table_of_presentations_gives_their_rows(tmp_path):
    path = dicarlo_session(tmp_path / "x.nwb", fixation_correct=[k % 2 == 0 for k in range(N)]).path
    session = read_session(path, stimulus="stimulus_filename")
    assert session["table_row"].attrs == {"table": TRIALS}
    assert session["table_row"].values.tolist() == list(range(len(session["start_time"])))
    kept = read_session(path, stimulus="stimulus_filename", where="fixation_correct")
    assert kept["table_row"].values.tolist() == list(range(0, N, 2))
    with h5py.File(path) as file:
        starts = file[f"{TRIALS}/start_time"][()]
    np.testing.assert_array_equal(starts[kept["table_row"].values], kept["start_time"].values)


def test_a_table_of_numbers_alone_gives_none(tmp_path):
    path = dicarlo_session(tmp_path / "x.nwb").path
    with h5py.File(path, "r+") as file:
        trials = file[TRIALS]
        for name in ("stimulus_filename", "image_hash"):
            del trials[name]
        names = [name for name in trials.attrs["colnames"] if name in trials]
        trials.attrs["colnames"] = np.array(names, dtype=h5py.string_dtype())
    assert "table_row" not in read_session(path, stimulus="stimulus_presented")


def test_a_series_has_no_rows(tmp_path):
    path = index_series(
        tmp_path / "x.nwb", pixels={"a": picture(0), "b": picture(1)}, index=[0, 1] * (N // 2)
    ).path
    assert "table_row" not in read_session(path)


def test_any_tool_goes_from_a_stimulus_to_its_trials(written):
    with NWBHDF5IO(written, "r") as io:
        file = io.read()
        table = file.analysis["migvis"].stimulus_latents
        assert table["presentations"].target.table is file.trials
        shown = table["presentations"][1]
        assert shown.index.tolist() == [1 + k * len(STIMULI) for k in range(4)]
        np.testing.assert_allclose(shown["start_time"], 0.5 + 0.5 * shown.index.to_numpy())
    with h5py.File(written) as file:
        column = file[COLUMN]
        assert file[column.attrs["table"]].name == TRIALS
        assert file[f"{COLUMN}_index"][()].tolist() == [4 * (k + 1) for k in range(len(STIMULI))]


def test_they_are_read_back_and_the_file_is_valid(written):
    assert differences(read_results(written), results_with_rows()) == []
    assert errors(written) == []


def test_files_without_them_have_none(source, tmp_path):
    out = write_results(example_results(), source=source, out=tmp_path / "x.nwb", weights=WEIGHTS)
    assert not read_results(out).presentations.sizes and errors(out) == []
    frozen = Path(__file__).parent / "data" / "frozen_0_1_0.nwb"
    assert not read_results(frozen, "migvis").presentations.sizes


def test_they_stay_when_runs_are_added_replaced_and_removed(written, tmp_path):
    path = Path(shutil.copy(written, tmp_path / "x.nwb"))
    second = results_with_rows(name="second", edits=False)
    write_results(second, source=path, in_place=True, backup=False)
    write_results(second, source=path, in_place=True, backup=False, replace_run=True)
    assert list_runs(path) == ["migvis", "second"] and errors(path) == []
    remove_run(path, "migvis", in_place=True, backup=False)
    assert differences(read_results(path), canonical(second)) == [] and errors(path) == []


def test_results_without_the_recording_have_none(source, tmp_path):
    out = write_results(results_with_rows(), source=source, out=tmp_path / "alone.nwb", results_only=True)
    with h5py.File(out) as file:
        assert COLUMN not in file and f"{COLUMN}_index" not in file
    assert not read_results(out).presentations.sizes and errors(out) == []


def test_a_sidecar_keeps_them(source, tmp_path):
    results = results_with_rows()
    sidecar = write_sidecar(results, {}, source=source, beside=tmp_path / "x.nwb")
    assert differences(read_sidecar(sidecar)[0], results) == []
    out = restore_sidecar(sidecar, source=source, out=tmp_path / "x.nwb")
    assert differences(read_results(out), results) == []


def test_they_are_exported(written, tmp_path):
    results = read_results(written)
    assert "presentations.csv" in {path.name for path in results.to_tables(tmp_path / "tables")}
    assert results.to_datatree()["presentations"]["row"].attrs["table"] == TRIALS


@pytest.mark.parametrize("table", ["/intervals/none", "/units", ""])
def test_another_session_is_refused(source, tmp_path, table):
    results = results_with_rows(table=table)
    with pytest.raises(MigvisError, match="presentations do not lead to rows of"):
        write_results(results, source=source, out=tmp_path / "x.nwb")
    assert not list(tmp_path.iterdir())


def test_rows_of_stimuli_that_are_not_there_are_refused():
    results = results_with_rows()
    for name, value in (("stimulus_index", 99), ("row", 0.5)):
        wrong = results.presentations.copy(deep=True)
        wrong[name] = ("presentation", np.full(wrong.sizes["presentation"], value))
        with pytest.raises(ValueError, match="presentations"):
            canonical(replace(results, presentations=wrong))


def change(path, values):
    def edit(file):
        file[path][...] = values(file[path][()])

    return edit


def lead_to_units(file):
    file[COLUMN].attrs["table"] = file["units"].ref


def lead_nowhere(file):
    file.create_group("scratch/gone")
    file[COLUMN].attrs["table"] = file["scratch/gone"].ref
    del file["scratch/gone"]


def without_index(file):
    del file[f"{COLUMN}_index"]


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (change(COLUMN, lambda rows: rows + 1000), f"rows that {TRIALS} does not have"),
        (change(COLUMN, lambda rows: np.zeros_like(rows)), "of two stimuli, or twice of one"),
        (change(f"{COLUMN}_index", lambda ends: np.r_[ends[:1] - 1, ends[1:]]), "than n_presentations"),
        (change(f"{COLUMN}_index", lambda ends: ends[::-1]), "does not divide"),
        (lead_to_units, "the presentations were read from"),
        (lead_nowhere, "does not lead to a table of presentations"),
        (without_index, "expected presentations with their index"),
    ],
)
def test_validate_finds_damage(written, tmp_path, damage, said):
    path = Path(shutil.copy(written, tmp_path / "x.nwb"))
    with h5py.File(path, "r+") as file:
        damage(file)
    found = errors(path)
    assert any(said in line for line in found), found


def test_a_run_on_a_table_writes_them(tmp_path):
    path = write_tiny_session(tmp_path / "session.nwb", n_stimuli=90, n_repeats=2)
    with h5py.File(path, "r+") as file:
        del file["stimulus/presentation"]
        file.create_group("stimulus/presentation")
    session = read_session(path)
    settings = {"n_permutations": 9, "n_bootstrap": 9, "stability_seeds": 0}
    config = tiny_config(latents={"n_steps": 10, "n_hidden": 8}, evidence=settings)
    study = nwb_migvis.Study(session, config)
    study.fit_latents()
    study.measure()
    out = study.write(tmp_path / "out.nwb")
    shown = read_results(out).presentations
    assert shown.sizes["presentation"] == session.sizes["presentation"] and errors(out) == []
    table = session["table_row"].attrs["table"]
    assert shown["row"].attrs == {"table": table}
    order = np.lexsort((session["table_row"].values, session["stimulus_index"].values))
    np.testing.assert_array_equal(shown["row"].values, session["table_row"].values[order])


def test_rows_of_another_table_are_a_difference():
    from nwb_migvis.store.canonical import canonical, differences

    one, other = (canonical(results_with_rows(table=f"/intervals/{name}")) for name in ("trials", "others"))
    assert differences(one, one) == []
    assert differences(one, other) == ["presentations"]
