"""Baselines under the interface of the group VAE."""

import numpy as np
import pytest

from nwb_migvis import MigvisError
from nwb_migvis.config import LatentsConfig, SplitConfig
from nwb_migvis.evidence.likelihood import bits_per_spike
from nwb_migvis.latents import Recording, split_stimuli
from nwb_migvis.latents.baselines import fit_linear, fit_plain_vae, fit_swap_vae

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


def _fit(kind, planted):
    _, _, counts, split = planted
    if kind in ("pca", "fa"):
        return fit_linear(counts.mean(0)[split == "train"], kind=kind, n_latents=2)
    flat, index = counts.reshape(-1, 24).astype(np.uint16), np.tile(np.arange(300), 6)
    make = {"plain": fit_plain_vae, "swap": fit_swap_vae}[kind]
    n_latents = 4 if kind == "swap" else 2
    return make(Recording.alone(flat, index, 300), n_latents=n_latents, split=split, config=CONFIG, seed=0)


@pytest.mark.parametrize("kind", ["pca", "fa", "plain", "swap"])
def test_two_planted_latents_predict_other_repeats(kind, planted):
    z, rate, counts, split = planted
    model = _fit(kind, planted)
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
    model = fit_linear(average, kind="pca", n_latents=1)
    # A loading of 2 and noise of 1 before scaling to unit variance.
    np.testing.assert_allclose(model.noise, 1 / 5, rtol=0.05)
    np.testing.assert_allclose(np.abs(model.weight[:, 0]), np.sqrt(4 / 5), rtol=0.05)
    _, log_var = model.encode(average[:3])
    np.testing.assert_allclose(np.exp(log_var), 1 / (1 + 12 * 4), rtol=0.05)
    np.testing.assert_allclose(model.rates(model.encode(average)[0]).mean(0), average.mean(0), rtol=0.01)


def test_swap_vae_needs_repeats(planted):
    _, _, counts, split = planted
    with pytest.raises(MigvisError, match="needs repeats of the same image"):
        once = Recording.alone(counts[0].astype(np.uint16), np.arange(300), 300)
        fit_swap_vae(once, n_latents=4, split=split, config=CONFIG, seed=0)


def test_an_unknown_kind_is_refused(planted):
    with pytest.raises(ValueError, match="expected 'pca' or 'fa'"):
        fit_linear(planted[2].mean(0), kind="ica", n_latents=2)
