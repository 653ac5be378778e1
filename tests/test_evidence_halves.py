"""Halves of the repeats with the latents of each."""

import numpy as np

from nwb_migvis.evidence.halves import Halves


class Doubling:
    def encode(self, responses):
        return 2 * responses, np.zeros_like(responses)


def test_halves_are_encoded_from_their_own_repeats_and_add_up():
    rng = np.random.default_rng(0)
    index = np.concatenate([np.repeat(np.arange(5), 4), [5]])  # the last stimulus was shown once
    counts = rng.poisson(3, (len(index), 3))
    split = np.array(["train"] * 3 + ["validation"] + ["test"] * 2)
    halves = Halves.of(Doubling(), counts, stimulus_index=index, split=split, seed=1)
    means = counts[:20].reshape(5, 4, 3).mean(axis=1)
    np.testing.assert_allclose((halves.half_a + halves.half_b)[:5] / 2, means)
    np.testing.assert_allclose(halves.latents_a[:5], 2 * halves.half_a[:5])
    np.testing.assert_allclose(halves.latents_b[:5], 2 * halves.half_b[:5])
    assert halves.repeated.tolist() == [True] * 5 + [False]
    assert np.flatnonzero(halves.repeated_train).tolist() == [0, 1, 2]
    assert np.flatnonzero(halves.repeated_test).tolist() == [4]


def test_latents_of_one_group_leave_the_responses():
    half = np.arange(12.0).reshape(4, 3)
    train = np.arange(4) < 2
    halves = Halves(half, half + 1, half, -half, train=train, test=~train)
    own = halves.of_latents(slice(1, 3))
    np.testing.assert_array_equal(own.latents_a, half[:, 1:])
    np.testing.assert_array_equal(own.latents_b, -half[:, 1:])
    assert own.half_a is half and own.train is train
