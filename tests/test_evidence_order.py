import numpy as np
import pytest

from nwb_migvis.evidence.order import (
    CONFOUNDED,
    MIN_READ,
    Order,
    image_from_time,
    label_from_time,
    time_between_images,
    time_nuisances,
    without_drift,
)
from nwb_migvis.labels import Label
from nwb_migvis.levels import Exchange

N, REPEATS = 120, 4


def order_of(index):
    return Order(index, 0.2 * np.arange(len(index)), N)


def shuffled_order(rng):
    return order_of(np.concatenate([rng.permutation(N) for _ in range(REPEATS)]))


def test_images_in_blocks_are_told_from_their_time():
    rng = np.random.default_rng(0)
    blocked, shuffled = order_of(np.repeat(rng.permutation(N), REPEATS)), shuffled_order(rng)
    once, one_order = (
        order_of(rng.permutation(N)),
        order_of(rng.permutation(np.repeat(np.arange(N), REPEATS))),
    )
    assert time_between_images(blocked, blocked.position) > 0.99
    assert time_between_images(shuffled, shuffled.position) < CONFOUNDED
    assert np.isnan(time_between_images(once, once.position))
    assert image_from_time(blocked).startswith("time: the repeats of an image follow each other")
    assert image_from_time(shuffled) == image_from_time(one_order) == image_from_time(once) == ""


def test_images_in_one_order_in_every_cycle_are_told_from_their_place():
    cycle = order_of(np.tile(np.random.default_rng(0).permutation(N), REPEATS))
    assert time_between_images(cycle, cycle.position) < CONFOUNDED
    assert image_from_time(cycle).startswith("time: every cycle has the same order")


def test_halves_are_early_and_late():
    order = shuffled_order(np.random.default_rng(6))
    in_first = order.in_first_half
    assert (np.bincount(order.stimulus_index[in_first], minlength=N) == REPEATS // 2).all()
    assert order.start_time_s[in_first].max() < order.start_time_s[~in_first].min()


@pytest.mark.parametrize("design", ["blocked", "fixed cycle", "once"])
def test_a_label_in_blocks_is_read_from_time(design):
    rng = np.random.default_rng(1)
    kind = rng.integers(0, 3, N)
    in_turn = [np.flatnonzero(kind == k) for k in range(3)]
    index = {
        "blocked": np.concatenate([rng.permutation(np.repeat(rows, REPEATS)) for rows in in_turn]),
        "fixed cycle": np.concatenate([rng.permutation(rows) for _ in range(REPEATS) for rows in in_turn]),
        "once": np.concatenate(in_turn),
    }[design]
    label = Label.of("kind", np.array(list("abc"), dtype=object)[kind])
    score, p_value = label_from_time(
        label, order_of(index), exchange=Exchange.singles(N), n_permutations=39, seed=0
    )
    assert score > 0.8 and p_value == 1 / 40


def test_a_label_in_random_order_is_not():
    scores = []
    for seed in range(20):
        rng = np.random.default_rng([2, seed])
        label = Label.of("x", rng.normal(size=N))
        scores.append(
            label_from_time(
                label, shuffled_order(rng), exchange=Exchange.singles(N), n_permutations=1, seed=0
            )[0]
        )
    assert max(scores) < MIN_READ


def test_drift_is_taken_out_and_tuning_is_not():
    rng = np.random.default_rng(3)
    order = shuffled_order(rng)
    tuning = np.exp(0.6 * rng.normal(size=(N, 6)))
    gain = 1 + 0.5 * np.sin(2 * np.pi * np.arange(N * REPEATS) / (N * REPEATS))
    still = rng.poisson(20 * tuning[order.stimulus_index])
    drifting = rng.poisson(20 * tuning[order.stimulus_index] * gain[:, None])
    for counts in (still, drifting):
        mean = order.mean_of(without_drift(counts, order))
        r = [np.corrcoef(mean[:, i], tuning[:, i])[0, 1] for i in range(6)]
        assert min(r) > 0.97
    corrected = without_drift(drifting, order)
    before, after = (np.corrcoef(x.mean(axis=1), gain)[0, 1] for x in (drifting, corrected))
    assert before > 0.5 and abs(after) < 0.2


def test_suppression_by_repetition_is_taken_out():
    rng = np.random.default_rng(4)
    times = np.where(np.arange(N) < N // 2, 2, 12)
    order = order_of(rng.permutation(np.repeat(np.arange(N), times)))
    counts = rng.poisson(20 * np.exp(-0.3 * np.minimum(order.rank, 5))[:, None] * np.ones(8))
    few = times == 2
    gaps = [
        np.ptp([order.mean_of(x)[few].mean(), order.mean_of(x)[~few].mean()])
        for x in (counts, without_drift(counts, order))
    ]
    assert gaps[0] > 5 and gaps[1] < 0.5


def test_a_silent_unit_stays_silent():
    order = shuffled_order(np.random.default_rng(5))
    counts = np.zeros((N * REPEATS, 2), dtype=np.uint16)
    assert (without_drift(counts, order) == 0).all()


def test_an_order_and_its_mirror_leave_no_time_to_judge_beyond():
    once = np.random.default_rng(6).permutation(N)
    assert time_nuisances(order_of(np.concatenate([once, once[::-1]]))).shape == (N, 0)
    assert time_nuisances(shuffled_order(np.random.default_rng(6))).shape == (N, 1)


def test_units_in_turns_are_corrected_as_all_at_once(monkeypatch):
    from nwb_migvis.evidence import order as module

    rng = np.random.default_rng(5)
    order = shuffled_order(rng)
    counts = rng.poisson(4.0, (N * REPEATS, 5))
    whole = without_drift(counts, order)
    monkeypatch.setattr(module, "MOST_VALUES", 2 * N * REPEATS)
    np.testing.assert_allclose(without_drift(counts, order), whole, rtol=1e-12)
