"""Population states: planted clusters are found, continua have none."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from sklearn.metrics import adjusted_mutual_info_score
from sklearn.mixture import GaussianMixture

from nwb_migvis import Study
from nwb_migvis.companions.states import Adjusted, standing_apart, valley_p
from nwb_migvis.testing import mock_session, tiny_config


def _clusters(n, seed, spread=0.25):
    rng = np.random.default_rng(seed)
    centre = np.array([[0, 0, 0], [3, 0, 0], [0, 3, 0], [0, 0, 3]])
    of = rng.integers(0, 4, n)
    return centre[of] + spread * rng.normal(size=(n, 3)), of


def test_planted_clusters_are_found():
    (x, _), (new, of) = _clusters(600, 0), _clusters(400, 1)
    found = standing_apart(x, new, levels=np.arange(400), rng=np.random.default_rng(0))
    assert found.n_states == 4 and adjusted_mutual_info_score(of, found.state) > 0.95
    assert (np.diff(np.bincount(found.state)) <= 0).all()


@pytest.mark.parametrize("kind", ["gaussian", "cube", "ring", "skewed", "heavy"])
def test_a_continuum_is_one_state(kind):
    rng = np.random.default_rng(3)
    turn = rng.uniform(0, 2 * np.pi, 1000)
    x = {
        "gaussian": rng.normal(size=(1000, 4)),
        "cube": rng.uniform(size=(1000, 3)),
        "ring": np.stack([np.cos(turn), np.sin(turn)], 1) + 0.1 * rng.normal(size=(1000, 2)),
        "skewed": rng.gamma(2, size=(1000, 3)),
        "heavy": rng.standard_t(3, size=(1000, 3)),
    }[kind]
    found = standing_apart(x[:600], x[600:], levels=np.arange(400), rng=np.random.default_rng(0))
    assert found.n_states == 1


def test_trials_of_one_image_count_once():
    x, _ = _clusters(600, 0)
    few = np.repeat(_clusters(6, 1)[0], 60, axis=0)
    found = standing_apart(x, few, levels=np.repeat(np.arange(6), 60), rng=np.random.default_rng(0))
    assert found.n_states == 1


def test_the_valley_test_is_two_binomial_tests():
    mixture = GaussianMixture(2)
    mixture.means_, mixture.covariances_ = np.array([[0.0], [1.0]]), np.ones((2, 1, 1))
    x = np.array([0.0] * 5 + [0.5] * 1 + [1.0] * 7)[:, None]
    component = (x[:, 0] > 0.4).astype(int)
    assert valley_p(x, component, (1, 0), mixture=mixture) == pytest.approx(7 / 64)
    assert valley_p(x[:5], component[:5], (1, 0), mixture=mixture) == 1


def test_the_valley_test_is_exact_at_its_limit():
    rng, mixture, p = np.random.default_rng(0), GaussianMixture(2), []
    mixture.means_, mixture.covariances_ = np.array([[0.0], [1.0]]), np.ones((2, 1, 1))
    for _ in range(400):
        x = rng.uniform(-1 / 6, 7 / 6, 120)[:, None]
        p.append(valley_p(x, (x[:, 0] > 0.5).astype(int), (1, 0), mixture=mixture))
    assert np.mean(np.array(p) < 0.05) < 0.05


def test_information_is_adjusted_as_scikit_learn_does():
    rng = np.random.default_rng(0)
    x = rng.integers(0, 5, 200)
    y = np.where(rng.random(200) < 0.5, x % 3, rng.integers(0, 3, 200))
    score = Adjusted.of(x, y)
    assert score.value(x, y) == pytest.approx(adjusted_mutual_info_score(x, y))
    assert score.of_weights(np.ones((1, 200)))[0] == pytest.approx(adjusted_mutual_info_score(x, y))
    assert abs(np.mean([score.value(x, rng.permutation(y)) for _ in range(200)])) < 0.01


def _study(by_category):
    session = mock_session(n_stimuli=400, size_px=None)
    category = session["category"].values
    rng = np.random.default_rng(0)
    place = np.unique(category, return_inverse=True)[1] % 4
    centre = np.eye(4) * 4 if by_category else np.zeros((4, 4))
    study = Study(session, tiny_config(evidence={"n_permutations": 199}, split={"by": "stimulus"}))
    study.use_latents(centre[place] + 0.4 * rng.normal(size=(400, 4)))
    return study


def test_states_that_follow_a_category_are_set_against_it():
    found = _study(by_category=True).compute("states")
    assert int(found["n_states"]) == 4
    assert float(found["agreement"].sel({"with": "category"})) > 0.6
    assert float(found["agreement_q"].sel({"with": "category"})) < 0.05
    assert float(found["agreement"].sel({"with": "size"})) < 0.1
    assert found["share"].sum() == pytest.approx(1)


def test_without_states_nothing_is_said_of_labels():
    found = _study(by_category=False).compute("states")
    assert int(found["n_states"]) == 1 and np.isnan(found["agreement"]).all()
    assert "no cluster of trials stands apart" in found.attrs["note"]
