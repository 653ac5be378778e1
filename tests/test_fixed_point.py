"""Fixed points: found where plain iteration runs away, image by image; inversion by a sharp prior."""

import numpy as np
import torch

from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.synthesis.prior.ddim import invert, sample, time_grid
from nwb_migvis.synthesis.prior.fixed_point import fixed_point
from nwb_migvis.synthesis.prior.folder import open_prior

SLOPE = torch.tensor([[0.9, 0.2, 0.0], [0.0, -3.0, 0.0], [0.0, 0.0, 1.7]], dtype=torch.float64)
OFFSET = torch.tensor([1.0, 4.0, -0.7], dtype=torch.float64)


def steep(x):
    return x @ SLOPE.T + OFFSET


def test_a_fixed_point_from_which_plain_iteration_runs_away():
    exact = torch.linalg.solve(torch.eye(3, dtype=torch.float64) - SLOPE, OFFSET)
    start = torch.zeros(2, 3, dtype=torch.float64)
    plain = start
    for _ in range(12):
        plain = steep(plain)
    assert (plain - exact).norm() > 1e3
    found = fixed_point(steep, start, n_most=30, tolerance=1e-9)
    torch.testing.assert_close(found, exact.expand(2, 3), rtol=1e-6, atol=1e-6)


def test_no_evaluation_leaves_the_start():
    start = torch.ones(2, 3, dtype=torch.float64)
    assert torch.equal(fixed_point(steep, start, n_most=0, tolerance=1e-9), start)


def test_an_image_does_not_depend_on_how_long_the_others_take():
    def cosine(x):
        return x.cos()

    start = torch.tensor([[[0.7]], [[40.0]], [[0.0]]])
    together = fixed_point(cosine, start, n_most=20, tolerance=1e-3)
    alone = [fixed_point(cosine, part.expand(3, 1, 1), n_most=20, tolerance=1e-3)[:1] for part in start]
    assert torch.equal(together, torch.cat(alone))
    torch.testing.assert_close(together, torch.full_like(start, 0.7391), rtol=0, atol=2e-3)


def test_sampling_undoes_inversion_by_the_shipped_prior():
    # Number 11 is at a fork: with two plain corrections its error is .5.
    images = render_stimuli(draw_factors(96, seed=99), seed=99)[:24]
    prior = open_prior("renders")
    x0 = prior.encode(images)
    path = {"alpha_bar": prior.alpha_bar, "grid": time_grid(prior.n_timesteps, strength=0.9, n_steps=25)}
    back = sample(prior.eps_and_x0_hat, invert(prior.eps_and_x0_hat, x0, **path), **path)
    error = ((back - x0).flatten(1).norm(dim=1) / x0.flatten(1).norm(dim=1)).numpy()
    assert float((back - x0).norm() / x0.norm()) < 0.012
    assert np.median(error) < 0.005 and error.max() < 0.05
