"""The next experiment, end to end: pictures exported, shown to units that respond to pixels, compared."""

import json
import shutil

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from nwb_migvis import MigvisError, compare, export_stimuli, read_results, read_session
from nwb_migvis.evidence.same_units import match_by_responses
from nwb_migvis.results.pictures import chosen_edits, picture_table
from nwb_migvis.runs.showings import picture_note, pictures_shown
from nwb_migvis.simulate import read_ground_truth, simulate_next_session, simulate_session
from nwb_migvis.simulate import session as simulated
from nwb_migvis.testing import mock_results, tiny_config, write_flawless_run

CONFIG = tiny_config(
    latents={"n_steps": 300, "n_hidden": 64, "groups": [{"name": "free_1", "size": 2}]},
    evidence={"n_permutations": 199, "n_bootstrap": 99, "stability_seeds": 0},
)
UNITS = {"pose": 20, "category": 16, "content": 4}


@pytest.fixture(scope="module")
def loop(tmp_path_factory):
    """A session, a run with flawless edits, its pictures, and the next session, with tiny read-outs."""
    folder = tmp_path_factory.mktemp("loop")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(simulated, "N_REFERENCE", 600)
        simulate_session(
            folder / "first.nwb",
            seed=0,
            n_stimuli=400,
            n_repeats=6,
            size_px=16,
            units=UNITS,
            population="pixels",
        )
        write_flawless_run(folder / "first.nwb", folder / "run.nwb", config=CONFIG, n_pairs=24)
        export_stimuli(folder / "run.nwb", folder / "pictures", size_px=32)
        simulate_next_session(
            folder / "next.nwb", folder / "pictures", units_of=folder / "run.nwb", n_repeats=10
        )
    return folder


@pytest.fixture(scope="module")
def later(loop):
    return read_session(loop / "next.nwb")


@pytest.fixture(scope="module")
def found(loop, later):
    return compare(loop / "run.nwb", later)


def test_pictures_say_what_they_should_do(loop):
    results = read_results(loop / "run.nwb")
    table = pd.read_csv(loop / "pictures" / "stimuli.csv", keep_default_na=False)
    rates = pd.read_csv(loop / "pictures" / "predicted_rates.csv")
    assert set(table["file"]) == {file.name for file in (loop / "pictures").glob("*.png")}
    assert table["kind"].value_counts()[["edit", "control"]].tolist() == [48, 96]
    real = table[table["kind"] == "real"]
    assert set(real["source"]) == {
        *results.synthesized["source"].values,
        *results.synthesized["target"].values,
    }
    edit = table.iloc[0]
    assert (
        edit["expected"]
        == f"latents of pose as in {edit['target_file']}, the others as in {edit['source_file']}"
    )
    assert edit["source_file"] in set(real["file"])
    np.testing.assert_allclose(rates.to_numpy()[:, 1:].astype(float), results.synthesized["predicted_rate"])
    with Image.open(loop / "pictures" / edit["file"]) as picture:
        assert picture.size == (32, 32)


def test_units_respond_to_the_pixels_alone(loop):
    first, after = (read_ground_truth(loop / name) for name in ("first.nwb", "next.nwb"))
    real = [name for name in after["stimulus"].values if name.startswith("real")]
    own = first["rate_hz"].sel(stimulus=[name.split("_", 2)[2].removesuffix(".png") for name in real])
    same = np.corrcoef(own.values.ravel(), after["rate_hz"].sel(stimulus=real).values.ravel())[0, 1]
    assert same > 0.98  # the pictures were made larger


def test_flawless_edits_follow_their_targets_and_controls_do_not(found):
    assert "follow their targets (q < 0.05): pose, category" in found.table()
    own, shuffled, none = (found.own(method) for method in ("pmi", "shuffled", "none"))
    assert found.following == ("pose", "category")
    assert (own.loc[["pose", "category"], "transfer"] > 0.5).all()
    for control in (shuffled, none):
        assert (control.loc[["pose", "category"], "transfer"].abs() < 0.35).all()
    assert (none.loc[["pose", "category"], "retention"] > 0.7).all()


def test_measured_transfers_are_those_of_expected_counts(loop, later, found):
    truth = read_ground_truth(loop / "next.nwb")
    row = {name: i for i, name in enumerate(truth["stimulus"].values)}
    expected = truth["rate_hz"].values[[row[name] for name in later["stimulus"].values]] * 0.1
    n = later.sizes["stimulus"]
    noiseless = later.isel(presentation=np.arange(n)).assign(
        spike_count=(("presentation", "unit"), expected), stimulus_index=("presentation", np.arange(n))
    )
    known = compare(loop / "run.nwb", noiseless).own()
    difference = (found.own()["transfer"] - known["transfer"])[["pose", "category"]]
    assert difference.abs().max() < 0.15


def test_counts_are_compared_with_what_was_predicted(found):
    units = found.units
    assert len(units) == sum(UNITS.values()) and (units["measured_unit"] == units["unit"].astype(str)).all()
    assert abs((units["predicted"] - units["ceiling"]).median()) < 0.05  # predictions are the truth
    assert units["same_images"].median() > 0.4
    assert found.rates["measured"].shape == (144, len(units)) and not found.notes


def test_units_sorted_again_are_matched_by_their_responses(loop, tmp_path):
    simulate_next_session(
        tmp_path / "again.nwb",
        loop / "pictures",
        units_of=loop / "first.nwb",
        n_repeats=10,
        sorted_again=True,
    )
    session = read_session(tmp_path / "again.nwb")
    assert any("they may be others" in note for note in compare(loop / "run.nwb", session).notes)
    matched = compare(loop / "run.nwb", session, match="images")
    truth = read_ground_truth(tmp_path / "again.nwb")["earlier_unit"].values
    pairs = matched.units[matched.units["measured_unit"] != ""]
    right = truth[pairs["measured_unit"].astype(int)] == pairs["unit"].to_numpy()
    assert len(pairs) >= 10 and right.mean() > 0.9
    assert f"{len(matched.units) - len(pairs)} of 40 units were not matched" in "".join(matched.notes)


def test_names_of_pictures_can_come_from_a_csv(loop, later, tmp_path):
    results, names = read_results(loop / "run.nwb"), later["stimulus"].values
    called = [f"cond{i}" for i in range(len(names))]
    pd.DataFrame({"stimulus": called, "file": names}).to_csv(tmp_path / "names.csv", index=False)
    renamed = later.assign_coords(stimulus=called)
    with pytest.raises(MigvisError, match="found none of the 144 edits of run 'migvis'"):
        pictures_shown(renamed, results)
    again = pictures_shown(renamed, results, stimuli=tmp_path / "names.csv")
    np.testing.assert_array_equal(again.edit, pictures_shown(later, results).edit)
    assert (again.edit >= 0).all() and (again.real >= 0).sum() > 30


def test_other_pictures_of_the_same_names_are_noticed(loop, later):
    results = read_results(loop / "run.nwb")
    shown = pictures_shown(later, results)
    assert picture_note(later, results, shown) is None
    other = later.assign(image=(later["image"].dims, 255 - later["image"].values))
    assert "64 of 64 pictures" in picture_note(other, results, shown)


def test_sessions_that_do_not_fit_end_in_one_line(loop, later, pristine):
    is_edit = np.array([not name.startswith("real") for name in later["stimulus"].values])
    edits = later.isel(presentation=is_edit[later["stimulus_index"].values])
    with pytest.raises(MigvisError, match="found 0 held-out real images"):
        compare(loop / "run.nwb", edits)
    with pytest.raises(MigvisError, match="found none of the run's 40 units by id"):
        compare(loop / "run.nwb", later.assign_coords(unit=later["unit"].values + 500))
    with pytest.raises(MigvisError, match="match: found 'names'"):
        compare(loop / "run.nwb", later, match="names")
    with pytest.raises(MigvisError, match="do not respond to pixels"):
        simulate_next_session(loop / "x.nwb", loop / "pictures", units_of=pristine)
    with pytest.raises(MigvisError, match="it is a further session itself"):
        simulate_next_session(loop / "x.nwb", loop / "pictures", units_of=loop / "next.nwb", seed=5)
    with pytest.raises(MigvisError, match="that of the first session"):
        simulate_next_session(loop / "x.nwb", loop / "pictures", units_of=loop / "first.nwb", seed=0)


def test_the_commands(loop, tmp_path, call):
    run = shutil.copy(loop / "run.nwb", tmp_path / "run.nwb")
    code, out, errors = call(
        "export-stimuli", run, "--out", tmp_path / "out", "--group", "pose", "--pairs", 2
    )
    assert code == 0, errors
    table = pd.read_csv(tmp_path / "out" / "stimuli.csv", keep_default_na=False)
    assert (table["kind"] != "real").sum() == 6 and "compare" in out
    code, _, errors = call("export-stimuli", run, "--out", tmp_path / "out")
    assert code == 1 and "expected a new or an empty folder" in errors
    words = ("--csv", tmp_path / "tables", "--figure", tmp_path / "figure.png")
    code, out, errors = call("compare", run, loop / "next.nwb", "--json", *words)
    assert code == 0, errors
    assert json.loads(out)["following"] == ["pose", "category"]
    assert len(pd.read_csv(tmp_path / "tables" / "cells.csv")) == 3 * 9
    with Image.open(tmp_path / "figure.png") as figure:
        assert figure.size[0] > 800


def test_pictures_of_traversals_and_strange_names():
    results = mock_results()
    table = picture_table(results, np.arange(7))
    assert table.loc[6, "expected"].startswith("latents of pose moved by +2 SD along ones")
    assert table.loc[1, "expected"] == f"all latents as in {table.loc[1, 'source_file']}"
    assert not table["file"].duplicated().any() and list(table["target_file"][5:7]) == ["", ""]
    assert chosen_edits(results, role="traversal").tolist() == [5, 6]
    with pytest.raises(MigvisError, match="found group = 'pse'"):
        chosen_edits(results, group="pse")
    with pytest.raises(MigvisError, match="no edits to show"):
        chosen_edits(results, method="shuffled", role="dose")


def test_units_are_matched_where_responses_tell_them_apart():
    rng = np.random.default_rng(0)
    first = rng.standard_normal((60, 12))
    order = rng.permutation(12)
    second = first[:, order] + 0.5 * rng.standard_normal((60, 12))
    second[:, 3] = rng.standard_normal(60)  # another unit
    match = match_by_responses(first, second)
    assert match[order[3]] == -1
    others = np.delete(np.arange(12), 3)
    assert (match[order[others]] == others).all()
    strangers = [match_by_responses(first, rng.standard_normal((60, 12)), seed=i) for i in range(20)]
    assert np.mean([(match >= 0).any() for match in strangers]) <= 0.2
