"""Information from denoising errors, against the closed form of jointly Gaussian images and latents."""

import numpy as np
import pytest
import torch
from torch import nn

from nwb_migvis.evidence.information import paired_mean
from nwb_migvis.synthesis.prior.information import denoising_information
from nwb_migvis.synthesis.prior.model import PixelScale, Prior, cosine_alpha_bar

SIZES = (2, 1, 1)
N_PIXELS = 4
READ_OUT = np.array(
    [[0.9, 0.2, 0.1, 0.0], [-0.3, 0.5, 0.3, 0.0], [0.1, -0.4, 0.5, 0.0], [0.6, 0.3, -0.2, 0.0]]
)
"""How an image follows from four independent standard normal latents; the last group has no part in it."""

NOISE = 0.4
ALL = READ_OUT @ READ_OUT.T + NOISE**2 * np.eye(N_PIXELS)


def given(g):
    """Mean's matrix and covariance of the image, told the latents of group g."""
    edges = np.cumsum([0, *SIZES])
    own = READ_OUT[:, edges[g] : edges[g + 1]]
    return own, ALL - own @ own.T


class ExactLatents:
    """Passes latents on, with which of their groups are kept."""

    sizes = SIZES

    def standardise(self, z):
        return z

    def __call__(self, z, keep):
        return torch.cat([z, keep.expand(len(z), -1)], dim=1)


class ExactDenoiser(nn.Module):
    """The exact noise prediction for images of that distribution, told at most one group."""

    latents = ExactLatents()

    def __init__(self, alpha_bar):
        super().__init__()
        self.alpha_bar = alpha_bar

    def forward(self, x_t, t, condition):
        z, keep = condition.split([sum(SIZES), len(SIZES)], dim=1)
        x, a = x_t.flatten(1).double(), self.alpha_bar[t].double()[:, None]
        eps = torch.empty_like(x)
        for g in (None, *range(len(SIZES))):
            rows = ~keep.bool().any(1) if g is None else keep[:, g].bool()
            matrix, covariance = (np.zeros((N_PIXELS, 1)), ALL) if g is None else given(g)
            part = z[:, :1] if g is None else z.split(SIZES, dim=1)[g]
            mean = part[rows].double() @ torch.as_tensor(matrix).T
            variance, vectors = np.linalg.eigh(covariance)
            along = torch.as_tensor(vectors)
            off = (x[rows] - a[rows].sqrt() * mean) @ along
            share = (1 - a[rows]).sqrt() / (a[rows] * torch.as_tensor(variance) + 1 - a[rows])
            eps[rows] = (share * off) @ along.T
        return eps.reshape(x_t.shape).float()


def log_density(x, mean, covariance):
    off = x - mean
    quadratic = np.einsum("...i,ij,...j->...", off, np.linalg.inv(covariance), off)
    return -0.5 * (quadratic + np.linalg.slogdet(covariance)[1])


@pytest.fixture(scope="module")
def gaussian():
    rng = np.random.default_rng(0)
    z = rng.normal(size=(600, sum(SIZES)))
    x = z @ READ_OUT.T + NOISE * rng.normal(size=(600, N_PIXELS))
    alpha_bar = cosine_alpha_bar(1000)
    prior = Prior(ExactDenoiser(alpha_bar), PixelScale(0.0, 1.0), (2, 2), alpha_bar, "epsilon")
    return prior, x, z


def estimate(gaussian, **changes):
    prior, x, z = gaussian
    images = torch.as_tensor(x, dtype=torch.float32).reshape(-1, 1, 2, 2)
    how = {"n_draws": 16, "n_crossed": 0, "seed": 0, "size": 300} | changes
    return denoising_information(prior, images, z, **how)


def test_the_mutual_information_of_a_joint_gaussian(gaussian):
    found = estimate(gaussian, n_draws=32).own.mean(0)
    _, x, z = gaussian
    edges = np.cumsum([0, *SIZES])
    for g, nats in enumerate(found):
        matrix, covariance = given(g)
        true = 0.5 * (np.linalg.slogdet(ALL)[1] - np.linalg.slogdet(covariance)[1])
        mean = z[:, edges[g] : edges[g + 1]] @ matrix.T
        of_sample = np.mean(log_density(x, mean, covariance) - log_density(x, 0.0, ALL))
        assert nats == pytest.approx(of_sample, abs=0.05)
        assert nats == pytest.approx(true, abs=0.15)


def test_the_information_of_single_images_with_anyones_latents(gaussian):
    prior, x, z = gaussian
    found = estimate((prior, x[:3], z[:3]), n_draws=150, n_crossed=3, size=9)
    edges = np.cumsum([0, *SIZES])
    for g, pairs in enumerate(found.crossed):
        matrix, covariance = given(g)
        mean = z[:3, edges[g] : edges[g + 1]] @ matrix.T
        true = log_density(x[None, :3], mean[:, None], covariance) - log_density(x[:3], 0.0, ALL)
        np.testing.assert_allclose(pairs, true, rtol=0.1, atol=0.8)
        np.testing.assert_allclose(np.diag(pairs), found.own[:, g], atol=1e-4)


def test_groups_that_images_know_of_are_told_from_one_that_they_do_not(gaussian):
    crossed = estimate(gaussian, n_draws=4, n_crossed=24).crossed
    p = [paired_mean(pairs, n_permutations=199, seed=0)[1] for pairs in crossed]
    assert p[0] == p[1] == 1 / 200
    assert p[2] > 0.2


def test_the_null_is_uniform_where_latents_are_anothers(gaussian):
    prior, x, z = gaussian
    p = []
    for first in range(0, 160, 8):
        rows = slice(first, first + 8)
        pairs = estimate((prior, x[rows], z[300:][rows]), n_draws=2, n_crossed=8, size=24).crossed[0]
        p.append(paired_mean(pairs, n_permutations=99, seed=first)[1])
    assert 0.3 < np.mean(p) < 0.7
    assert np.mean(np.array(p) <= 0.1) < 0.3


def test_the_same_seed_gives_the_same_numbers(gaussian):
    first, again, other = (estimate(gaussian, n_draws=2, seed=seed).own for seed in (3, 3, 4))
    assert np.array_equal(first, again)
    assert not np.array_equal(first, other)
