import numpy as np
import pytest
from scipy import stats

from nwb_migvis.evidence.information import infonce_bound


def optimal_scores(n, n_dims, rho, *, rng):
    """log p(x | z) - log p(x) of latents z and images x with correlation rho in each dimension."""
    z = rng.normal(size=(n, n_dims))
    x = rho * z + np.sqrt(1 - rho**2) * rng.normal(size=(n, n_dims))
    away = ((x[None] - rho * z[:, None]) ** 2).sum(axis=2) / (1 - rho**2)
    return -0.5 * away + 0.5 * (x**2).sum(axis=1)[None] - 0.5 * n_dims * np.log(1 - rho**2)


def test_optimal_critic_comes_close_to_the_information_of_gaussians_from_below():
    rho, n_dims = 0.6, 2
    information = -0.5 * n_dims * np.log(1 - rho**2)
    bounds = [
        infonce_bound(
            optimal_scores(600, n_dims, rho, rng=np.random.default_rng(seed)), n_permutations=9, seed=0
        )
        for seed in range(12)
    ]
    values = np.array([bound.bound_nats for bound in bounds])
    error = values.std(ddof=1) / np.sqrt(len(values))
    assert abs(values.mean() - information) < 3 * error + 0.01
    assert values.mean() < information + 2 * error
    assert all(bound.p_value == 0.1 for bound in bounds)


def test_bound_is_capped_by_the_number_of_images():
    bound = infonce_bound(optimal_scores(20, 8, 0.99, rng=np.random.default_rng(0)), seed=0)
    information = -4 * np.log(1 - 0.99**2)
    assert bound.cap_nats == pytest.approx(np.log(20))
    assert bound.cap_nats - 0.01 < bound.bound_nats <= bound.cap_nats < information


def test_bound_by_hand_and_its_invariance():
    scores = np.log(np.array([[3.0, 1.0], [2.0, 4.0]]))
    expected = (np.log(3 / 5) + np.log(4 / 5)) / 2 + np.log(2)
    assert infonce_bound(scores, seed=0).bound_nats == pytest.approx(expected)
    shifted = scores + np.array([[5.0, -7.0]])
    assert infonce_bound(shifted, seed=0).bound_nats == pytest.approx(expected)


def test_p_values_are_uniform_without_information():
    p = [
        infonce_bound(
            np.random.default_rng([1, seed]).normal(size=(30, 30)), n_permutations=99, seed=seed
        ).p_value
        for seed in range(100)
    ]
    assert stats.kstest(p, "uniform").pvalue > 0.01


def test_bad_scores():
    with pytest.raises(ValueError, match=r"\(3, 4\)"):
        infonce_bound(np.zeros((3, 4)), seed=0)
    alone = infonce_bound(np.zeros((1, 1)), seed=0)
    assert np.isnan(alone.bound_nats) and np.isnan(alone.p_value) and alone.cap_nats == 0
