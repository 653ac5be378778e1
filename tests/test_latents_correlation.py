"""The total correlation between independent groups, and in a fit with the default weights."""

import math

import numpy as np
import pytest
import torch

from nwb_migvis.config import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.latents import LatentTask, Recording, split_stimuli
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.total_correlation import total_correlation


def _samples(covariance, *, n, noise, seed):
    """Means and samples whose aggregate is a Gaussian with this covariance."""
    generator = torch.Generator().manual_seed(seed)
    d = len(covariance)
    root = torch.linalg.cholesky(torch.as_tensor(covariance - noise**2 * np.eye(d), dtype=torch.float32))
    mean = torch.randn(n, d, generator=generator) @ root.T
    z = mean + noise * torch.randn(n, d, generator=generator)
    return z, mean, torch.full((n, d), 2 * float(np.log(noise)))


def test_independent_groups_have_none_but_its_bias():
    runs = [_samples(np.eye(4), n=1000, noise=0.6, seed=s) for s in range(4)]
    found = np.array([float(total_correlation(*run, sizes=[1, 1, 1, 1])) for run in runs])
    # A finite batch leaves a bias of a few hundredths of a nat.
    assert abs(found.mean()) < 0.03


def _written_plainly(z, mean, log_var, sizes):
    density = torch.distributions.Normal(mean, (0.5 * log_var).exp()).log_prob(z[:, None])
    by_group = torch.stack([part.sum(-1) for part in density.split(sizes, dim=-1)])
    joint = torch.logsumexp(by_group.sum(0), dim=-1) - math.log(len(z))
    marginals = torch.logsumexp(by_group, dim=-1) - math.log(len(z))
    return (joint - marginals.sum(0)).mean()


@pytest.mark.parametrize("log_var", [0.5, -1.0, -7.0])
def test_value_and_derivatives_are_those_of_the_formula(log_var):
    generator = torch.Generator().manual_seed(0)
    mean, noise, width = (torch.randn(40, 6, generator=generator, dtype=torch.float64) for _ in range(3))
    inputs = [(mean + math.exp(0.5 * log_var) * noise), mean, log_var + 0.3 * width]
    found, expected = [], []
    for function, results in ((total_correlation, found), (_written_plainly, expected)):
        leaves = [part.clone().requires_grad_(True) for part in inputs]
        value = function(*leaves, sizes=[1, 3, 2])
        results += [value.detach(), *torch.autograd.grad(2.5 * value, leaves)]
    for ours, theirs in zip(found, expected, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-7, atol=1e-9)
    single = [part.float().requires_grad_(True) for part in inputs]
    gradient = torch.autograd.grad(total_correlation(*single, sizes=[1, 3, 2]), single)
    for ours, theirs in zip(gradient, expected[1:], strict=True):
        assert ours.dtype == torch.float32
        largest = float(theirs.abs().max())
        torch.testing.assert_close(2.5 * ours.double(), theirs, rtol=1e-3, atol=1e-3 * largest)


def test_the_estimate_is_not_saturated_at_the_default_weights():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(400, 3))
    rate = 3 * np.exp(z @ rng.normal(0, 0.4, (3, 30)))
    counts = rng.poisson(rate, (6, 400, 30)).astype(np.uint16)
    split = split_stimuli(400, SplitConfig(), rng=rng)
    groups = tuple(GroupConfig(name=name, size=2) for name in "abcd")
    (model,) = fit_latents(
        [Recording.alone(counts.reshape(-1, 30), np.tile(np.arange(400), 6), 400)],
        LatentTask({}, groups, split),
        config=LatentsConfig(n_hidden=16, n_layers=1, n_steps=120, batch_size=96, learning_rate=1e-2),
        seed=0,
    )
    mean, log_var = (torch.as_tensor(x[:192]) for x in model.encode(counts.mean(0)))
    mean.requires_grad_(True)
    noise = torch.randn(mean.shape, generator=torch.Generator().manual_seed(0))
    estimate = total_correlation(mean + noise * (0.5 * log_var).exp(), mean, log_var, sizes=[2] * 4)
    (gradient,) = torch.autograd.grad(estimate, mean)
    assert float(estimate.detach()) < 0.7 * 3 * np.log(192)
    assert float(gradient.norm()) > 1e-2
