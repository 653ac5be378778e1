"""Dimension of what repeats, on planted manifolds."""

import numpy as np
import pytest

pytest.importorskip("sklearn")
from nwb_migvis import Study
from nwb_migvis.companions.dimension import (
    repeatable,
    signal_participation_ratio,
    spectrum,
    with_jackknife,
)
from nwb_migvis.testing import mock_session, tiny_config


def _halves(d, *, n=300, units=60, noise=1.0, seed=0):
    """Two halves of two repeats each of a linear manifold with d equal variances."""
    rng = np.random.default_rng(seed)
    axes = np.linalg.qr(rng.normal(size=(units, d)))[0].T * np.sqrt(units)
    signal = rng.normal(size=(n, d)) @ axes
    return [signal + noise * rng.normal(size=(n, units)) / np.sqrt(2) for _ in range(2)], signal


@pytest.mark.parametrize("d", [2, 5, 10])
def test_planted_linear_manifolds_have_their_dimension_whatever_the_noise(d):
    ratios = [signal_participation_ratio(*_halves(d, noise=3.0, seed=seed)[0]) for seed in range(8)]
    assert np.mean(ratios) == pytest.approx(d, rel=0.1)


def test_noise_alone_would_be_taken_for_dimensions():
    drawn = [_halves(3, noise=5.0, seed=seed)[0] for seed in range(8)]
    noisy = [signal_participation_ratio((a + b) / 2, (a + b) / 2) for a, b in drawn]
    assert min(noisy) > 10
    assert np.mean([signal_participation_ratio(a, b) for a, b in drawn]) == pytest.approx(3, rel=0.1)


def test_both_terms_are_unbiased_for_few_images():
    rng = np.random.default_rng(0)
    covariance = np.diag([4.0, 1.0, 1.0])
    shared = [
        repeatable(x, x)
        for x in (rng.normal(size=(8, 3)) * np.sqrt(np.diag(covariance)) for _ in range(4000))
    ]
    assert np.mean(shared) == pytest.approx(6, rel=0.02)
    x = rng.normal(size=(2000, 3)) * np.sqrt(np.diag(covariance))
    assert signal_participation_ratio(x, x) == pytest.approx(36 / 18, rel=0.05)


def test_independent_halves_have_no_dimension():
    rng = np.random.default_rng(1)
    values = [signal_participation_ratio(*rng.normal(size=(2, 50, 4))) for _ in range(20)]
    assert np.isnan(values).any()


def test_intervals_of_the_jackknife_hold_the_truth():
    hits = 0
    for seed in range(20):
        (a, b), _ = _halves(4, n=200, seed=seed)
        ratio, low, high = with_jackknife(a, b, np.arange(200) % 20)
        assert low < ratio < high
        hits += low < 4 < high
    assert hits >= 16


def test_spectra_are_those_of_the_signal():
    rng = np.random.default_rng(2)
    signal = rng.normal(size=(3000, 3)) * [3, 2, 1]
    a, b = (signal + rng.normal(size=signal.shape) for _ in range(2))
    shares = spectrum(a, b, train=np.arange(1000), test=np.arange(1000, 3000))
    np.testing.assert_allclose(shares, np.array([9, 4, 1]) / 14, atol=0.03)


def test_areas_are_compared_at_as_many_units():
    session = mock_session(n_repeats=4).assign_coords(area=("unit", ["V4"] * 16 + ["IT"] * 8))
    config = tiny_config(
        companions={"network": "edges", "areas": "area"},
        evidence={"min_reliability": -1.0, "n_permutations": 99},
    )
    study = Study(session, config)
    study.use_latents(np.random.default_rng(0).normal(size=(120, 3)))
    found = study.compute("dimension")
    assert found["space"].values.tolist() == ["counts", "area IT", "area V4"]
    assert found["n_features"].values.tolist() == [24, 8, 8]
    assert float(found["repeatable_q"].sel(space="counts")) < 0.05
    assert found["features_participation_ratio"].dims == ("layer",)
