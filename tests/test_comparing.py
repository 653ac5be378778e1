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
