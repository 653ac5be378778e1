"""Baselines under the interface of the group VAE."""

from dataclasses import replace

import numpy as np
import pytest

from nwb_migvis import MigvisError
from nwb_migvis.config import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.evidence.likelihood import bits_per_spike
from nwb_migvis.latents import LatentTask, Recording, split_stimuli
from nwb_migvis.latents.baselines import content_and_style
from nwb_migvis.latents.linear import fit_linear
from nwb_migvis.latents.protocol import fit_models, load_latent_model

MODELS = ("pca", "fa", "plain-vae", "swap-vae")
CONFIG = LatentsConfig(n_steps=250, n_hidden=32, n_layers=1, batch_size=64, learning_rate=1e-2)


@pytest.fixture(scope="module")
def planted():
    """Counts of 24 units that follow two latents; six repeats of 300 stimuli."""
    rng = np.random.default_rng(0)
    z = rng.normal(size=(300, 2))
    rate = 4 * np.exp(z @ rng.normal(0, 0.45, (2, 24)))
    counts = rng.poisson(rate, (6, 300, 24))
    split = split_stimuli(300, SplitConfig(), rng=np.random.default_rng(0))
    return z, rate, counts, split


def whole(n_latents):
    return (GroupConfig(name="all", size=n_latents),)


def _fit(kind, counts, split, *, groups=None, n_sessions=1):
    """Fit a model to counts (repeat, stimulus, unit)."""
    n_repeats, n_stimuli, n_units = counts.shape
    flat = counts.reshape(-1, n_units).astype(np.uint16)
    recording = Recording.alone(flat, np.tile(np.arange(n_stimuli), n_repeats), n_stimuli)
    task = LatentTask({}, groups or whole(4 if kind == "swap-vae" else 2), split)
    return fit_models([recording] * n_sessions, task, config=replace(CONFIG, model=kind), seed=0)


@pytest.mark.parametrize("kind", MODELS)
def test_two_planted_latents_predict_other_repeats(kind, planted):
    z, rate, counts, split = planted
    (model,) = _fit(kind, counts, split)
    test, train = split == "test", split == "train"
    mean, log_var = model.encode(counts[:3].mean(0))
    assert mean.shape == log_var.shape and np.isfinite(log_var).all()
    design = np.column_stack([mean, np.ones(300)])
    weight = np.linalg.lstsq(design[train], z[train], rcond=None)[0]
    error = ((z - design @ weight)[test] ** 2).sum() / (z[test] ** 2).sum()
    assert error < 0.3
    spikes, base = counts[3:].sum(0)[test], counts[:, train].mean((0, 1))
    three = np.full(test.sum(), 3)
    bits = bits_per_spike(spikes, three, model.rates(mean[test]), base_rate=base)
    assert bits > 0.7 * bits_per_spike(spikes, three, rate[test], base_rate=base)


def test_probabilistic_pca_shrinks_the_components_and_knows_its_noise():
    rng = np.random.default_rng(1)
    average = (10 + 2 * rng.normal(size=(4000, 1)) @ np.ones((1, 12)) + rng.normal(size=(4000, 12))) ** 2
    model = fit_linear(average, kind="pca", groups=whole(1))
    # A loading of 2 and noise of 1 before scaling to unit variance.
    np.testing.assert_allclose(model.noise, 1 / 5, rtol=0.05)
    np.testing.assert_allclose(np.abs(model.weight[:, 0]), np.sqrt(4 / 5), rtol=0.05)
    _, log_var = model.encode(average[:3])
    np.testing.assert_allclose(np.exp(log_var), 1 / (1 + 12 * 4), rtol=0.05)
    np.testing.assert_allclose(model.rates(model.encode(average)[0]).mean(0), average.mean(0), rtol=0.01)


@pytest.mark.parametrize("kind", MODELS)
def test_a_baseline_comes_back_from_its_bytes_with_groups_in_the_order_of_their_sizes(kind, planted):
    _, _, counts, split = planted
    groups = (GroupConfig(name="a", size=2, labels=()), GroupConfig(name="b", size=3))
    (model,) = _fit(kind, counts, split, groups=groups)
    again = load_latent_model(model.to_bytes())
    expected = content_and_style(5) if kind == "swap-vae" else groups
    assert again.groups == model.groups == expected
    assert again.loading().shape == (24, 5)
    np.testing.assert_array_equal(again.loading(), model.loading())
    average = counts.mean(0)
    for one, other in zip(again.encode(average), model.encode(average), strict=True):
        np.testing.assert_array_equal(one, other)
    z = model.encode(average)[0]
    np.testing.assert_array_equal(again.rates(z), model.rates(z))
    assert again.to_bytes() == model.to_bytes()


@pytest.mark.parametrize("kind", MODELS)
def test_several_sessions_are_refused(kind, planted):
    _, _, counts, split = planted
    message = f"latents.model = '{kind}' is fitted to one session; found 2; run each session by itself"
    with pytest.raises(MigvisError, match=message):
        _fit(kind, counts, split, n_sessions=2)


@pytest.mark.parametrize("kind", ["pca", "fa"])
def test_as_many_latents_as_units_are_refused(kind, planted):
    _, _, counts, split = planted
    with pytest.raises(MigvisError, match=r"found 24 latents for 24 units .*; expected fewer than 24; lower"):
        _fit(kind, counts, split, groups=whole(24))


def test_swap_vae_needs_repeats_and_two_latents(planted):
    _, _, counts, split = planted
    with pytest.raises(MigvisError, match="needs repeats of the same image"):
        _fit("swap-vae", counts[:1], split)
    with pytest.raises(MigvisError, match="found 1 latent; expected two or more"):
        _fit("swap-vae", counts, split, groups=whole(1))


def test_an_unknown_kind_is_refused(planted):
    with pytest.raises(ValueError, match="expected 'pca' or 'fa'"):
        fit_linear(planted[2].mean(0), kind="ica", groups=whole(2))
