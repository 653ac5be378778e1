"""Runs of one file beside each other."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from nwb_migvis import MigvisError, read_results
from nwb_migvis.analysis.comparing import compare_runs

FROZEN = Path(__file__).parent / "data" / "frozen_0_1_0.nwb"


def test_runs_of_a_file_are_set_beside_each_other():
    comparison = compare_runs(FROZEN)
    assert list(comparison.groups.index) == [
        *(("migvis", name) for name in ("pose", "category", "free_1")),
        *(("second", name) for name in ("category", "free")),
    ]
    similarity = comparison.similarity
    np.testing.assert_allclose(np.diag(similarity), 1, atol=1e-6)
    np.testing.assert_array_equal(similarity, similarity.T)
    assert similarity["run"].values.tolist() == ["migvis"] * 3 + ["second"] * 2
    settings = comparison.settings
    assert settings.loc["latents.n_steps"].tolist() == [30, 10]
    assert "n_threads" not in settings.index
    assert "n_stimuli" not in settings.index
    assert len(repr(comparison).splitlines()) == 2


def test_latents_of_a_rotated_group_are_alike_and_of_another_are_not():
    results = read_results(FROZEN, "migvis")
    rng = np.random.default_rng(0)
    rotation = np.linalg.qr(rng.normal(size=(3, 3)))[0]
    mean = results.latents["mean"].values.copy()
    mean[:, :3] = mean[:, :3] @ rotation
    mean[:, 3:6] = rng.normal(size=mean[:, 3:6].shape)
    turned = replace(results, latents=results.latents.assign(mean=(("stimulus", "latent"), mean)))
    similarity = compare_runs([results, turned], ["one", "other"]).similarity
    assert similarity.values[0, 3] == pytest.approx(1, abs=1e-5)
    assert similarity.values[1, 4] < 0.5


def test_runs_that_share_no_held_out_stimuli_are_not_compared():
    results = read_results(FROZEN, "migvis")
    split = results.latents["split"].values.copy()
    split[split == "test"] = "train"
    other = replace(results, latents=results.latents.assign_coords(split=("stimulus", split)))
    similarity = compare_runs([results, other], ["one", "other"]).similarity
    assert np.isnan(similarity.values[:3, 3:]).all()


def test_one_run_is_not_a_comparison():
    with pytest.raises(MigvisError, match="found the runs second; expected two or more"):
        compare_runs(FROZEN, ["second"])
    results = read_results(FROZEN, "migvis")
    with pytest.raises(MigvisError, match="of different names"):
        compare_runs([results, results])


def test_runs_are_side_by_side_in_a_table_and_a_figure(call, tmp_path):
    pytest.importorskip("matplotlib")
    comparison = compare_runs(FROZEN)
    wide = comparison.side_by_side()
    assert list(wide.index) == ["pose", "category", "free_1", "free"]
    assert list(wide.columns) == ["migvis", "second"]
    explained = read_results(FROZEN, "second").groups["variance_explained"]["category"]
    assert wide.loc["category", "second"] == explained and np.isnan(wide.loc["pose", "second"])
    with pytest.raises(MigvisError, match="did you mean 'decoding'"):
        comparison.side_by_side("decodin")
    out = tmp_path / "compared.svg"
    code, printed, errors = call("compare-runs", FROZEN, "--out", out)
    assert (code, errors) == (0, "") and out.stat().st_size > 5_000
    assert "settings that differ" in printed and "latents.n_steps" in printed
    assert printed.splitlines()[0] == "variance_explained"
    code, _, errors = call("compare-runs", FROZEN, "--out", tmp_path / "compared.xyz")
    assert code == 1 and "another path" in errors
