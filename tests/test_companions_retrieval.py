"""Retrieval of held-out images, on planted truth."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis import MigvisError, Study, read_results, read_session
from nwb_migvis.companions.held import held_sessions
from nwb_migvis.companions.images import principal_components, prior_layers
from nwb_migvis.companions.retrieval import Rows, _curve, _score, _scores, first_repeats, image_ranks
from nwb_migvis.levels import Exchange
from nwb_migvis.testing import mock_session, tiny_config, write_tiny_session

ROWS = Rows(np.arange(200), np.arange(200, 250), np.arange(250, 350))


def _planted(noise, seed=0):
    rng = np.random.default_rng(seed)
    x = rng.normal(size=(350, 20))
    return x @ rng.normal(size=(20, 8)) + noise * rng.normal(size=(350, 8)), x


def _held(n_permutations=199):
    evidence = SimpleNamespace(n_permutations=n_permutations, n_bootstrap=99)
    return SimpleNamespace(
        config=SimpleNamespace(evidence=evidence), rng=lambda *s: np.random.default_rng([0, *s])
    )


def test_a_linear_code_is_identified_and_its_ranks_are_those_of_the_gaussian_likelihood():
    z, x = _planted(noise=0.01)
    ranks = image_ranks(z, x, ROWS)
    assert np.diagonal(ranks).tolist() == [0] * 100
    assert (np.sort(ranks, axis=1) == np.arange(100)).all()


def test_correlated_noise_is_whitened():
    rng = np.random.default_rng(1)
    z, x = _planted(noise=0.3)
    shared = z + 20 * rng.normal(size=(350, 1)) * np.ones(8) / np.sqrt(8)
    assert np.diagonal(image_ranks(shared, x, ROWS)).mean() < 10


def test_scores_by_hand():
    rank = np.array([[0, 4, 5, 9]])
    assert _score("top1", rank, 10).tolist() == [[1, 0, 0, 0]]
    assert _score("top5", rank, 10).tolist() == [[1, 1, 0, 0]]
    assert _score("percentile", rank, 10).tolist() == [[1, 1 - 4 / 9, 1 - 5 / 9, 0]]


def test_intervals_hold_the_estimate_and_the_null_is_chance():
    z, x = _planted(noise=3)
    data = _scores([image_ranks(z, x, ROWS)], Exchange.singles(100), _held(), shape=(1, 1))
    values = {name: float(array[1].item()) for name, array in data.items()}
    assert values["percentile_low"] < values["percentile"] < values["percentile_high"]
    assert values["percentile_null"] == pytest.approx(0.5, abs=0.01)
    assert values["top1_null"] == pytest.approx(0.01, abs=0.003)
    assert values["percentile_p"] == values["percentile_q"] == 1 / 200


def test_images_of_one_object_are_exchanged_together():
    level = np.repeat(np.arange(20), 5)
    rank = np.where(level[:, None] == level, 0, 50)
    data = _scores([rank], Exchange(level), _held(999), shape=(1, 1))
    assert data["percentile_null"][1].item() == pytest.approx(1 - 50 / 99 * 19 / 20, abs=0.01)


def test_p_values_are_uniform_where_responses_are_shuffled():
    p = []
    for seed in range(60):
        z, x = _planted(noise=1, seed=seed)
        order = np.random.default_rng(seed).permutation(350)
        data = _scores([image_ranks(z[order], x, ROWS)], Exchange.singles(100), _held(99), shape=(1, 1))
        p.append(data["percentile_p"][1].item())
    assert 0.35 < np.mean(p) < 0.65 and np.mean(np.array(p) < 0.1) < 0.25


def test_so_many_repeats_are_averaged():
    index = np.array([0, 0, 0, 1, 1, 2])
    counts = np.array([[1.0], [2.0], [3.0], [5.0], [7.0], [9.0]])
    all_of_them = first_repeats(counts, index, 3, k=5, rng=np.random.default_rng(0))
    assert all_of_them[:, 0].tolist() == [2, 6, 9]
    one = first_repeats(counts, index, 3, k=1, rng=np.random.default_rng(0))
    assert one[0, 0] in (1, 2, 3) and one[1, 0] in (5, 7) and one[2, 0] == 9


def test_components_are_white_on_the_training_rows_and_omit_what_is_constant():
    x = np.random.default_rng(0).normal(size=(60, 6)) * [1, 2, 3, 4, 5, 0]
    reduced = principal_components(x, train=np.arange(40), seed=0)
    np.testing.assert_allclose(np.cov(reduced[:40], rowvar=False), np.eye(5), atol=1e-8)


def test_curves_are_means_over_subsets_with_intervals_over_images():
    ranks = [np.array([[0, 4, 9, 0], [0, 9, 9, 9]]), np.array([[0, 0, 0, 9]])]
    weight = np.array([[4.0, 0, 0, 0], [0, 0, 0, 2.0]])
    curve = _curve(ranks, "_by_x", dim="x", text="of y.", weight=weight)
    data = {name: values for name, (_, values, _) in curve.items()}
    assert data["top1_by_x"].tolist() == [3 / 8, 3 / 4]
    np.testing.assert_allclose(data["top1_by_x_low"], [0.5 + 0.025 * 0.5, 0.025])
    np.testing.assert_allclose(data["top1_by_x_high"], [1 - 0.025 * 0.5, 0.975])
    assert data["percentile_by_x"][1] == pytest.approx((3 + 1 - 9 / 3) / 4)


def _study(session, **changes):
    options = {"companions": {"network": "prior"}, "latents": {"n_steps": 10}, "split": {"by": "stimulus"}}
    study = Study(session, tiny_config(**options | changes))
    study.fit_latents()
    return study


def test_the_blocks_of_the_studys_prior_describe_images():
    study = _study(session := mock_session(n_stimuli=120))
    with pytest.raises(MigvisError, match=r"found network = 'prior' and no prior.*first call train_prior"):
        study.compute("retrieval")
    study.train_prior()
    found = study.compute("retrieval")
    assert found["layer"].values.tolist() == ["edges", "block 1", "block 2", "block 3"]
    low, high = (found[f"percentile_by_units_{end}"] for end in ("low", "high"))
    assert (low <= found["percentile_by_units"]).all() and (found["percentile_by_units"] <= high).all()
    (held,) = held_sessions(study)
    layers = prior_layers(held)
    assert {name: x.shape for name, x in layers.items()} == {
        "block 1": (120, 128),
        "block 2": (120, 256),
        "block 3": (120, 256),
    }
    turned = np.random.default_rng(0).permutation(120)
    again = _study(session.isel(stimulus=turned).assign(stimulus_index=session["stimulus_index"]))
    again.use_prior(study.prior)
    (other,) = held_sessions(again)
    np.testing.assert_allclose(prior_layers(other)["block 2"], layers["block 2"][turned], atol=1e-5)
    with pytest.raises(MigvisError, match="which describes the images of the session alone"):
        study.compute("places")


def test_a_session_without_pixels_needs_no_prior_where_features_are_optional():
    study = _study(mock_session(n_stimuli=120, size_px=None))
    assert "layer" not in study.compute("dimension").dims


def test_the_prior_of_a_written_run_describes_images(tmp_path, call):
    path = write_tiny_session(tmp_path / "session.nwb", n_stimuli=120, n_repeats=2)
    study = _study(read_session(path), companions={"network": "edges"})
    study.train_prior()
    study.train_critic()
    study.edit()
    study.measure()
    run, out = study.write(tmp_path / "run.nwb"), tmp_path / "out.nwb"
    code, _, errors = call("analyse", run, "--with", "dimension", "--network", "prior", "--out", out)
    assert (code, errors) == (0, "")
    found = read_results(out).analyses["dimension"]
    assert found["layer"].values.tolist() == ["edges", "block 1", "block 2", "block 3"]
