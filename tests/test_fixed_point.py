"""Fixed points: found where plain iteration runs away, image by image; inversion by a sharp prior."""

import numpy as np
import pytest
import torch

from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.synthesis.prior.ddim import invert, sample, time_grid
from nwb_migvis.synthesis.prior.fixed_point import FEW, Search, fixed_point
from nwb_migvis.synthesis.prior.folder import open_prior
from nwb_migvis.synthesis.prior.model import cosine_alpha_bar

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
    found = fixed_point(steep, start, search=Search(n_most=30, tolerance=1e-9))
    torch.testing.assert_close(found, exact.expand(2, 3), rtol=1e-6, atol=1e-6)


def test_no_evaluation_leaves_the_start():
    start = torch.ones(2, 3, dtype=torch.float64)
    assert torch.equal(fixed_point(steep, start, search=Search(n_most=0, tolerance=1e-9)), start)


def test_an_image_does_not_depend_on_how_long_the_others_take():
    def cosine(x):
        return x.cos()

    search = Search(n_most=20, tolerance=1e-3)
    start = torch.tensor([[[0.7]], [[40.0]], [[0.0]]])
    together = fixed_point(cosine, start, search=search)
    alone = [fixed_point(cosine, part.expand(3, 1, 1), search=search)[:1] for part in start]
    assert torch.equal(together, torch.cat(alone))
    torch.testing.assert_close(together, torch.full_like(start, 0.7391), rtol=0, atol=2e-3)


@pytest.mark.parametrize("keeps_best", [False, True])
def test_what_has_not_converged_is_iterated_a_few_at_a_time_and_comes_out_the_same(keeps_best):
    sizes = []

    def cosine(x, offset):
        sizes.append(len(x))
        return x.cos() + offset

    start = torch.linspace(-40, 40, 30, dtype=torch.float64)[:, None]
    offset = torch.where(torch.arange(30) % 3 == 0, 0.3, 0.0).double()[:, None]
    start[offset == 0] = 0.7391
    how = {"n_most": 25, "tolerance": 1e-4, "keeps_best": keeps_best}
    found = fixed_point(cosine, start, offset, search=Search(**how, n_together=2))
    assert sizes[:2] == [30, 30] and set(sizes[2:]) == {FEW}
    torch.testing.assert_close(
        found, fixed_point(cosine, start, offset, search=Search(**how, n_together=None))
    )
    torch.testing.assert_close(found, found.cos() + offset, rtol=0, atol=1e-3)


def test_without_corrections_each_step_takes_the_noise_predicted_at_the_cleaner_image():
    alpha_bar = cosine_alpha_bar(100).double()

    def denoise(x, t):
        eps = (3 + t / 100) * x
        return eps, (x - (1 - alpha_bar[t]).sqrt() * eps) / alpha_bar[t].sqrt()

    x = torch.ones(1, 1, 1, 1, dtype=torch.float64)
    found = invert(denoise, x, alpha_bar=alpha_bar, grid=np.array([0, 10, 30]), n_corrections=0)
    for now, then in ((0, 10), (10, 30)):
        eps, x0_hat = denoise(x, now)
        x = alpha_bar[then].sqrt() * x0_hat + (1 - alpha_bar[then]).sqrt() * eps
    torch.testing.assert_close(found, x)


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
