"""The planted population: who depends on what, how reliably, and spike trains that hold the drawn counts."""

import numpy as np
import pytest

from nwb_migvis.errors import MigvisError
from nwb_migvis.simulate.population import (
    GAIN_VARIANCE,
    PLANTED_GROUPS,
    SHARED_GAIN_VARIANCE,
    draw_counts,
    draw_population,
)
from nwb_migvis.simulate.render import POSE, SHAPE, draw_factors
from nwb_migvis.simulate.spikes import SAMPLING_HZ, draw_schedule, place_spikes, spike_trains

KINDS = {"pose": list(POSE), "category": ["category"], "content": list(SHAPE)}


def moved_by(kind):
    """Return which units' rates change when one kind of factors changes."""
    factors, other = draw_factors(60, seed=1), draw_factors(60, seed=2)
    population = draw_population(seed=0)
    before = population.rate_hz(factors)
    after = population.rate_hz(factors.assign(**{name: other[name] for name in KINDS[kind]}))
    return population.planted_group, np.abs(after - before).max(0) > 1e-9


@pytest.mark.parametrize("kind", KINDS)
def test_a_planted_group_depends_on_its_own_factors_alone(kind):
    planted, moved = moved_by(kind)
    np.testing.assert_array_equal(moved, (planted == kind) | (planted == "mixed"))


def test_a_population_without_pose_and_mixed_units_is_blind_to_pose():
    factors, other = draw_factors(60, seed=1), draw_factors(60, seed=2)
    population = draw_population({"pose": 0, "category": 5, "content": 5}, seed=0)
    assert list(population.planted_group) == ["category"] * 5 + ["content"] * 5
    turned = factors.assign(**{name: other[name] for name in POSE})
    np.testing.assert_array_equal(population.rate_hz(turned), population.rate_hz(factors))


def test_a_rate_does_not_depend_on_the_other_stimuli():
    factors = draw_factors(50, seed=1)
    population = draw_population(seed=0)
    np.testing.assert_allclose(population.rate_hz(factors)[:3], population.rate_hz(factors[:3]), rtol=1e-12)


def test_pose_units_are_not_linear_in_pose():
    factors = draw_factors(2000, seed=1)
    rate = draw_population({"pose": 40}, seed=0).rate_hz(factors)
    pose = factors[list(POSE)].to_numpy()
    design = np.column_stack([np.ones(len(pose)), (pose - pose.mean(0)) / pose.std(0)])
    residual = rate - design @ np.linalg.lstsq(design, rate, rcond=None)[0]
    assert np.median(residual.var(0) / rate.var(0)) > 0.12


def test_rates_span_a_wide_range_around_the_stated_means():
    population = draw_population(seed=0)
    rate = population.rate_hz(draw_factors(4000, seed=1))
    np.testing.assert_allclose(rate.mean(0), population.mean_hz, rtol=0.05)
    assert rate.min() > 0
    assert rate.mean(0).min() < 4
    assert rate.mean(0).max() > 45


def test_reliability_is_like_inferior_temporal_cortex():
    n, repeats = 800, 20
    rate = draw_population(seed=0).rate_hz(draw_factors(n, seed=1))
    counts = draw_counts(rate, np.tile(np.arange(n), repeats), 0.1, seed=0).reshape(repeats, n, -1)
    first, second = counts[::2].mean(0), counts[1::2].mean(0)
    r = np.array([np.corrcoef(a, b)[0, 1] for a, b in zip(first.T, second.T, strict=True)])
    reliability = 2 * r / (1 + r)
    assert 0.7 < np.median(reliability) < 0.82
    assert np.mean((reliability > 0.3) & (reliability < 0.95)) > 0.97


def test_counts_are_poisson_with_the_stated_gains():
    rate = np.full((1, 2), 60.0)
    counts = draw_counts(rate, np.zeros(60_000, np.int64), 0.1, seed=0).astype(float)
    mean = 6.0
    gain = (1 + GAIN_VARIANCE) * (1 + SHARED_GAIN_VARIANCE) - 1
    np.testing.assert_allclose(counts.mean(0), mean, rtol=0.01)
    np.testing.assert_allclose(counts.var(0), mean + gain * mean**2, rtol=0.03)
    assert np.cov(counts.T)[0, 1] == pytest.approx(SHARED_GAIN_VARIANCE * mean**2, rel=0.15)


def test_every_repeat_shows_every_image_once():
    order, onset = draw_schedule(50, 3, seed=0)
    for block in order.reshape(3, 50):
        np.testing.assert_array_equal(np.sort(block), np.arange(50))
    assert (order[:50] != order[50:100]).any()
    gaps = np.diff(onset) / SAMPLING_HZ
    assert gaps.min() > 0.1999
    assert (gaps > 0.39).sum() == 14


@pytest.mark.parametrize("window_s", [(0.07, 0.17), (0.0, 0.2), (0.05, 0.06)])
def test_spikes_fall_in_their_windows_in_the_drawn_numbers(window_s):
    rng = np.random.default_rng(0)
    onset = draw_schedule(100, 2, seed=0)[1]
    counts = rng.poisson(3, len(onset)).astype(np.uint16)
    counts[7] = 40
    samples = place_spikes(counts, onset, window_s, rng)
    assert (np.diff(samples) > 0).all()
    start_s, spike_s = onset / SAMPLING_HZ, samples / SAMPLING_HZ
    edges = [np.searchsorted(spike_s, start_s + edge) for edge in window_s]
    np.testing.assert_array_equal(edges[1] - edges[0], counts)


def test_spikes_are_uniform_in_the_window_and_a_millisecond_apart():
    onset = draw_schedule(20_000, 1, seed=0)[1]
    counts = np.full(len(onset), 2, np.uint16)
    samples = place_spikes(counts, onset, (0.07, 0.17), np.random.default_rng(0)).reshape(-1, 2)
    assert np.diff(samples, axis=1).min() >= 0.001 * SAMPLING_HZ - 1
    late = (samples - onset[:, None]).ravel() / SAMPLING_HZ
    np.testing.assert_allclose(np.quantile(late, [0.25, 0.5, 0.75]), [0.095, 0.12, 0.145], atol=0.001)


def test_trains_come_through_the_sorting_unchanged():
    onset = draw_schedule(30, 2, seed=0)[1]
    counts = np.random.default_rng(1).poisson(1, (60, 20)).astype(np.uint16)
    counts[:, 4] = 0
    trains = list(spike_trains(counts, onset, (0.07, 0.17), seed=0))
    assert [len(train) for train in trains] == counts.sum(0).tolist()
    assert all(float(t * SAMPLING_HZ).is_integer() for train in trains for t in train)
    again = spike_trains(counts, onset, (0.07, 0.17), seed=0)
    assert all(np.array_equal(a, b) for a, b in zip(trains, again, strict=True))


@pytest.mark.parametrize(
    ("units", "message"),
    [
        ({"pose": -1}, "found -1; expected 0 or more"),
        ({"pose": 1.5}, "found 1.5; expected 0 or more"),
        ({"colour": 3}, f"'colour' is unknown; expected {', '.join(PLANTED_GROUPS)}"),
        ({"pose": 0}, "no unit"),
    ],
)
def test_an_impossible_population_is_refused(units, message):
    with pytest.raises(MigvisError, match=message):
        draw_population(units, seed=0)
