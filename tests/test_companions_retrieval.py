"""Retrieval of held-out images, on planted truth."""

from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis.companions.images import principal_components
from nwb_migvis.companions.retrieval import Rows, _score, _scores, first_repeats, image_ranks
from nwb_migvis.levels import Exchange

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
