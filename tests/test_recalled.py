"""What a run was told stays with its results, and is used where a written file is read again."""

from __future__ import annotations

import json
from dataclasses import replace

import h5py
import numpy as np
import pytest
import xarray as xr
from examples import example_results
from layouts import N_IMAGES, SHOWN, brute_counts, edited, index_series, spike_trains, start_times
from pynwb import NWBHDF5IO

from nwb_migvis import read_results
from nwb_migvis.config import GroupConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.read import describe, inspect_session, read_session, read_sessions
from nwb_migvis.store.canonical import canonical
from nwb_migvis.store.encode import encode
from nwb_migvis.testing import write_tiny_session

STIMULI = [f"pic{k}" for k in range(N_IMAGES)]
OBJECTS = ["dog", "cat", "dog", ""]


def results_of(name, labels=(), **reading):
    """Return results that record how the session was read."""
    given = example_results(name=name, units=np.arange(3))
    latents = given.latents.isel(stimulus=slice(N_IMAGES)).assign_coords(stimulus=STIMULI)
    table = xr.Dataset(
        {key: ("stimulus", values) for key, values in dict(labels).items()}, coords={"stimulus": STIMULI}
    )
    provenance = {**given.provenance, "reading": reading}
    return replace(given, latents=latents, labels=table if labels else xr.Dataset(), provenance=provenance)


def written(folder, *runs, name="out.nwb", **options):
    path = index_series(folder / f"session-{name}", **options).path
    out = folder / name

    def add(nwb):
        for results in runs:
            nwb.add_analysis(encode(canonical(results), nwbfile=nwb, weights={}))
        nwb.set_modified()

    return edited(path, out, add)


def counts(window_s):
    return brute_counts(spike_trains(), start_times(), window_s)


def test_the_window_of_a_run_is_used_and_said(tmp_path):
    path = written(tmp_path, results_of("one", window_s=(0.0, 0.1)), results_of("two", window_s=[0, 0.1]))
    session = read_session(path)
    assert session.attrs["window_s"] == (0.0, 0.1)
    assert session.attrs["recalled"] == {"window_s": "that of run 'one', 'two'"}
    np.testing.assert_array_equal(session["spike_count"], counts((0.0, 0.1)))
    assert "recalled       window_s (that of run 'one', 'two')" in describe(inspect_session(path))
    given = read_session(path, window_s=(0.05, 0.15))
    np.testing.assert_array_equal(given["spike_count"], counts((0.05, 0.15)))
    assert given.attrs["recalled"] == {}
    (also,) = read_sessions([path])
    np.testing.assert_array_equal(also["spike_count"], session["spike_count"])


def test_a_long_window_that_a_run_was_allowed_is_allowed_again(tmp_path):
    path = written(tmp_path, results_of("one", window_s=(0.0, 0.4), allow_long_window=True))
    np.testing.assert_array_equal(read_session(path)["spike_count"], counts((0.0, 0.4)))
    path = written(tmp_path, results_of("one", window_s=(0.0, 0.4)), name="other.nwb")
    with pytest.raises(MigvisError, match="--allow-long-window"):
        read_session(path)


def test_windows_that_differ_are_said_and_the_default_is_used(tmp_path):
    path = written(tmp_path, results_of("one", window_s=(0.0, 0.1)), results_of("two", window_s=(0.05, 0.1)))
    session = read_session(path)
    assert session.attrs["window_s"] == (0.07, 0.17)
    note = session.attrs["recalled"]["window_s"]
    assert "0 to 0.1 s in run 'one', 0.05 to 0.1 s in run 'two': they differ" in note


def test_labels_of_a_run_are_offered_unless_others_are_given(tmp_path):
    labels = {"object": np.array(OBJECTS), "size": np.array([1.0, np.nan, 3.0, 4.0])}
    path = written(tmp_path, results_of("one", labels, window_s=(0.07, 0.17)))
    session = read_session(path)
    assert session["object"].sel(stimulus=STIMULI).values.tolist() == OBJECTS
    np.testing.assert_array_equal(session["size"].sel(stimulus=STIMULI), labels["size"])
    assert session.attrs["recalled"] == {
        "label object": "that of run 'one'",
        "label size": "that of run 'one'",
    }
    assert inspect_session(path)["labels"]["object"] == {"kind": "categorical", "n_values": 2}
    rows = [f"{stimulus},{k % 2}" for k, stimulus in enumerate(STIMULI)]
    (tmp_path / "labels.csv").write_text("\n".join(["stimulus,parity", *rows]))
    given = read_session(path, labels=tmp_path / "labels.csv")
    assert "object" not in given.coords
    assert given.attrs["recalled"] == {}


def test_the_labels_of_the_file_stand_before_those_of_runs(tmp_path):
    own = [f"file{k}" for k in (0, 1, 0, 1)]
    trials = {"object": [own[k] for k in SHOWN], "other": [float(i) for i in range(len(SHOWN))]}
    labels = {"object": np.array(OBJECTS), "other": np.arange(4.0)}
    session = read_session(written(tmp_path, results_of("one", labels), trials=trials))
    assert session["object"].sel(stimulus=STIMULI).values.tolist() == own
    assert session["other"].dims == ("stimulus",)
    assert session["other_"].dims == ("presentation",)


def test_labels_that_runs_know_differently_are_omitted(tmp_path):
    one, two = (
        results_of(name, {"object": np.array(v)}) for name, v in (("a", OBJECTS), ("b", OBJECTS[::-1]))
    )
    session = read_session(written(tmp_path, one, two))
    assert "object" not in session.coords
    assert "another in each of the runs 'a', 'b'" in session.attrs["recalled"]["label object"]
    number = results_of("c", {"object": np.arange(4.0)})
    session = read_session(written(tmp_path, one, number, name="kinds.nwb"))
    assert "object" not in session.coords


def test_choices_that_are_not_given_again_are_said(tmp_path):
    path = written(tmp_path, results_of("one", units="id > 10", where="fixated"))
    session = read_session(path)
    assert session.attrs["recalled"]["units"].startswith("'id > 10' in run 'one', and not here")
    assert session.sizes["unit"] == 3
    again = read_session(path, units="id > 10")
    assert "units" not in again.attrs["recalled"]


@pytest.mark.parametrize(
    "provenance",
    ["no JSON", "[]", json.dumps({"reading": 3}), json.dumps({"reading": {"window_s": [1]}}), "[" * 100_000],
)
def test_a_record_that_cannot_be_read_is_said_and_the_session_is_read(tmp_path, provenance):
    path = written(tmp_path, results_of("one", window_s=(0.0, 0.1)))
    with h5py.File(path, "r+") as file:
        file["analysis/one/model"].attrs["provenance"] = provenance
    session = read_session(path)
    assert session.attrs["window_s"] == (0.07, 0.17)
    assert session.attrs["recalled"]["one"].startswith("cannot be read: ")


@pytest.mark.parametrize("what", ["ndim", "kind", "rows", "missing"])
def test_labels_that_are_none_are_not_taken(tmp_path, what):
    path = written(tmp_path, results_of("one", {"size": np.arange(4.0)}))
    with h5py.File(path, "r+") as file:
        table = file["analysis/one/stimulus_labels"]
        attributes = dict(table["size"].attrs)
        del table["size"]
        values = {"ndim": np.zeros((4, 2)), "kind": np.zeros(4, complex), "rows": np.zeros(3)}
        if what in values:
            table["size"] = values[what]
            table["size"].attrs.update(attributes)
        else:
            del table["stimulus"]
    try:
        assert "size" not in read_session(path).coords
    except MigvisError as error:
        assert "\n" not in str(error)


def test_a_file_without_runs_recalls_nothing(tmp_path):
    session = read_session(index_series(tmp_path / "a.nwb").path, units="id > 0", merge_repeats=False)
    assert session.attrs["recalled"] == {}
    assert session.attrs["reading"] == {"units": "id > 0", "merge_repeats": False, "window_s": [0.07, 0.17]}
    nothing = written(tmp_path, name="x.nwb")
    with NWBHDF5IO(nothing, "r") as io:
        assert not io.read().analysis
    assert "recalled       nothing" in describe(inspect_session(nothing))


@pytest.mark.slow
def test_a_colleague_moves_along_a_label_without_the_csv(tmp_path, least_config, call):
    units = {"pose": 4, "category": 4, "content": 2, "mixed": 2}
    path = write_tiny_session(tmp_path / "s.nwb", n_stimuli=100, n_repeats=2, units=units)
    stimuli = read_session(path)["stimulus"].values
    rows = [f"{stimulus},{('dog', 'cat')[k % 2]},{(k % 40) * 9}" for k, stimulus in enumerate(stimuli)]
    csv = tmp_path / "labels.csv"
    csv.write_text("\n".join(["stimulus,object,heading", *rows]))
    settings = replace(
        least_config,
        latents=replace(
            least_config.latents,
            groups=(
                GroupConfig(name="what", labels=("object", "heading"), size=3),
                GroupConfig(name="rest", size=3),
            ),
            circular={"heading": 360.0},
        ),
    )
    (tmp_path / "tiny.toml").write_text(settings.to_toml())
    out = tmp_path / "out.nwb"
    code, _, errors = call(
        *("run", path, "--no-report", "--out", out, "--config", tmp_path / "tiny.toml", "--labels", csv),
        *("--window", "0.06", "0.16", "--units", "id < 11", "--quiet"),
    )
    assert (code, errors) == (0, "")
    results = read_results(out)
    assert results.labels["object"].values.tolist()[:3] == ["dog", "cat", "dog"]
    assert results.labels["heading"].attrs == {"period": 360.0}
    told = results.provenance["reading"]
    assert told == {"labels": str(csv), "units": "id < 11", "window_s": [0.06, 0.16]}
    csv.unlink()
    again = read_session(out)
    assert again.attrs["window_s"] == (0.06, 0.16)
    assert again["object"].values.tolist() == results.labels["object"].values.tolist()
    code, printed, errors = call(
        *("synthesize", out, "--group", "what", "--gamma", "1", "--direction", "object=dog", "--n", "2"),
        *("--out", tmp_path / "more.nwb", "--quiet"),
    )
    assert (code, errors) == (0, "")
    assert "2 edits made" in printed
    more = read_results(tmp_path / "more.nwb")
    assert more.synthesized["direction"].values.tolist()[-2:] == ["object=dog"] * 2
    xr.testing.assert_identical(more.labels, results.labels)
    assert more.provenance["reading"] == told
