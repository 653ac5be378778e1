"""Guided sampling against independently integrated solutions, and networks at every size."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import unit_scale, untrained_networks
from scipy.integrate import solve_ivp
from torch import nn

from nwb_migvis.config import METHODS, Config, SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.registry import METHODS as RECORDS
from nwb_migvis.synthesis.critic.model import Critic, LatentRegressor
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.critic_guidance import (
    CriticGuidance,
    climb,
    contrast,
    likelihood,
    tempered_pmi,
)
from nwb_migvis.synthesis.editing.guidance import GuidedDenoiser
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize
from nwb_migvis.synthesis.prior.ddim import sample, time_grid
from nwb_migvis.synthesis.prior.model import cosine_alpha_bar, new_denoiser
from nwb_migvis.synthesis.prior.noising import draw_steps, noised

SPREAD, N_PIXELS, N_LATENTS = 0.5, 9, 4
ALPHA_BAR = cosine_alpha_bar(1000).double()
READ_OUT = np.random.default_rng(0).normal(size=(N_PIXELS, N_LATENTS))
PRECISION = np.array([1.0, 3.0, 2.0, 1.0])


class LinearReader(nn.Module):
    """Reads latents off an image linearly, with the same precision at every noise level."""

    def forward(self, x_t, t):
        weight = torch.as_tensor(READ_OUT, dtype=x_t.dtype)
        log_precision = torch.as_tensor(np.log(PRECISION), dtype=x_t.dtype)
        return x_t.flatten(1) @ weight, log_precision.expand(len(x_t), -1)


@pytest.fixture(scope="module")
def quadratic():
    """A critic whose score is a quadratic function of the image."""
    bank = torch.as_tensor(np.random.default_rng(1).normal(size=(32, N_LATENTS)))
    return Critic(LinearReader(), (2, 2), unit_scale(N_LATENTS), bank)


def gaussian_denoiser(x_t, t):
    """The exact denoiser of images drawn from N(0, SPREAD^2)."""
    a = ALPHA_BAR[t]
    x0_hat = a.sqrt() * SPREAD**2 / (a * SPREAD**2 + 1 - a) * x_t
    return (x_t - a.sqrt() * x0_hat) / (1 - a).sqrt(), x0_hat


def integrated(x_start, *, strength, goal, weight, guidance):
    """Integrate the guided probability flow d(x / sqrt a) / d sigma = eps by an independent solver.

    sigma = sqrt((1 - a) / a); for this prior eps = sigma x / (SPREAD^2 + sigma^2) in x / sqrt a, and the
    gradient of the quadratic score in x is written out by hand, each group's part of length one.
    """
    a_start = float(ALPHA_BAR[round(strength * 1000)])
    sigma_start = np.sqrt((1 - a_start) / a_start)
    sigma_end = float(((1 - ALPHA_BAR[0]) / ALPHA_BAR[0]).sqrt())

    def flow(sigma, scaled):
        x = scaled / np.sqrt(1 + sigma**2)
        eps = sigma * scaled / (SPREAD**2 + sigma**2)
        parts = (PRECISION * (goal - x @ READ_OUT)).reshape(2, 2)
        ascent = weight[:, None] * parts / np.linalg.norm(parts, axis=1, keepdims=True)
        gradient = READ_OUT @ ascent.ravel()
        return eps - guidance * np.linalg.norm(eps) * gradient / np.linalg.norm(gradient)

    found = solve_ivp(
        flow, (sigma_start, sigma_end), x_start / np.sqrt(a_start), rtol=1e-10, atol=1e-12, method="DOP853"
    )
    return found.y[:, -1] * np.sqrt(float(ALPHA_BAR[0]))


@pytest.mark.parametrize("guidance", [0.0, 0.15, 0.3])
def test_guided_sampling_converges_to_the_guided_probability_flow_at_first_order(quadratic, guidance):
    rng = np.random.default_rng(2)
    x_start, goal, weight = rng.normal(size=N_PIXELS), np.array([9.0, -7.0, 8.0, -9.0]), np.array([1.0, 0.3])
    exact = integrated(x_start, strength=0.9, goal=goal, weight=weight, guidance=guidance)
    by_critic = CriticGuidance(
        quadratic,
        torch.as_tensor(goal[None]),
        torch.as_tensor(weight[None]),
        torch.tensor([guidance], dtype=torch.float64),
        1000,
        likelihood,
    )
    errors = []
    for n_steps in (50, 100, 300):
        found = sample(
            GuidedDenoiser(gaussian_denoiser, ALPHA_BAR, (by_critic,)),
            torch.as_tensor(x_start).reshape(1, 1, 3, 3),
            alpha_bar=ALPHA_BAR,
            grid=time_grid(1000, strength=0.9, n_steps=n_steps),
        )
        errors.append(np.linalg.norm(found.numpy().ravel() - exact) / np.linalg.norm(exact))
    assert errors[-1] < 0.03
    orders = np.log(np.array(errors[:-1]) / errors[1:]) / np.log([2, 3])
    assert ((orders > 0.85) & (orders < 1.25)).all()


def test_scores_of_the_controls_by_hand(quadratic):
    x = torch.randn(3, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    goal = torch.as_tensor(np.random.default_rng(3).normal(size=(3, N_LATENTS)))
    read = x.flatten(1).numpy() @ READ_OUT

    def by_group(squared):
        return squared.reshape(*squared.shape[:-1], 2, 2).sum(-1)

    positive = -0.5 * by_group(PRECISION * (read - goal.numpy()) ** 2)
    negative = -0.5 * by_group(PRECISION * (read[:, None] - quadratic.bank.numpy()[None]) ** 2)
    scores = quadratic.scores(*quadratic.read(x, 0.3), goal)
    np.testing.assert_allclose(likelihood(*scores), positive)
    np.testing.assert_allclose(tempered_pmi(*scores), positive - 0.5 * np.log(np.exp(negative).sum(1)))
    share = np.exp(positive) / (np.exp(positive) + np.exp(negative).sum(1))
    np.testing.assert_allclose(contrast(*scores), np.log(share))


def test_activation_maximisation_climbs_by_steps_of_stated_length_within_the_pixels_range(quadratic):
    x0 = torch.randn(2, 1, 3, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    goal = -torch.as_tensor(x0.flatten(1).numpy() @ READ_OUT)
    length = torch.tensor([0.3, 0.0], dtype=torch.float64)
    guidance = CriticGuidance(quadratic, goal, torch.tensor([[1.0, 0.0]] * 2), length, 1000, contrast)
    once = climb(guidance, x0, n_steps=1, bounds=(-9.0, 9.0))
    assert float((once - x0)[0].norm() / x0[0].norm()) == pytest.approx(0.6)
    assert torch.equal(once[1], x0[1])
    climbed = climb(guidance, x0, n_steps=20, bounds=(-1.0, 1.0))
    assert climbed[0].abs().max() <= 1.0
    before, after = (contrast(*quadratic.scores(*quadratic.read(x, 0.0), goal))[0, 0] for x in (x0, climbed))
    assert after > before


GROUPS = LatentGroups(("a", "b"), (1, 1), ((), ()))


def make(shape, *, rows=None, **settings):
    """Edits of random images by untrained networks; only some rows of the plan where they are given."""
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (12, *shape), dtype=np.uint8)
    few = {"n_steps": 3, "n_pairs": 3, "n_dose": 1, "n_traversal": 1, "batch_size": 4}
    critic_alone = {"strength": 0.9, "source_guidance": 0.0, "guidance_scale": 0.0, "critic_stop": 1.0}
    config = SynthesisConfig(**few | critic_alone | settings)
    plan = plan_edits(np.arange(12), GROUPS, labels={}, config=config, rng=np.random.default_rng(1))
    plan = plan if rows is None else plan.iloc[rows].reset_index(drop=True)
    prior, critic = untrained_networks(shape)
    z = critic.scale.standardise(rng.normal(size=(12, 2)).astype(np.float32))
    stimuli = EditStimuli(np.array([f"im{i}" for i in range(12)]), images, z)
    directions = {(group, d): np.full(1, 2.0) for group in GROUPS for d in config.directions}
    networks = EditNetworks(prior, critic, GROUPS)
    return plan, synthesize(plan, stimuli, networks, config=config, seed=0, directions=directions)


@pytest.mark.parametrize("shape", [(64, 64), (128, 128), (64, 48, 3), (128, 128, 3)])
def test_editing_works_at_any_size_and_colour(shape):
    _, made = make(shape, n_pairs=1, dose=(), gammas=(1.0,), methods=METHODS, maps=True)
    assert made["image"].shape[1:] == shape
    assert made["map"].shape == made["critic_map"].shape == (made.sizes["edit"], *shape[:2])
    assert np.isfinite(made["score_after"]).all()


def test_an_edit_does_not_depend_on_the_others():
    plan, made = make((16, 16), methods=METHODS, directions=("ones", "pc1"), maps=True)
    rows = np.random.default_rng(2).permutation(len(plan))[:7]
    _, alone = make((16, 16), rows=rows, methods=METHODS, directions=("ones", "pc1"), maps=True)
    assert alone.identical(made.isel(edit=rows))


def test_controls_differ_from_the_method_and_from_one_another():
    plan, made = make((16, 16), methods=METHODS, guidance=0.5)
    main = (plan["role"] == "main").to_numpy() & (plan["group"] == "a").to_numpy()
    by_method = {name: made["image"].values[main & (plan["method"] == name)] for name in METHODS}
    assert len({images.tobytes() for images in by_method.values()}) == len(METHODS)
    through = plan[main].set_index("method")["guiding_group"]
    assert set(through["wrong-group"]) == {"b"}
    assert set(through.drop("wrong-group")) == {"a"}


def test_the_wrong_group_is_scored_as_the_right_one():
    plan, made = make((16, 16), methods=("pmi", "wrong-group"))
    main = plan[plan["role"] == "main"]
    ours, wrong = (main.index[main["method"] == name] for name in ("pmi", "wrong-group"))
    np.testing.assert_array_equal(made["score_before"][ours], made["score_before"][wrong])


def test_zero_guidance_is_the_reconstruction_bit_for_bit():
    plan, made = make((16, 16), guidance=0.0)
    for _, rows in plan.groupby(["source", "strength"]).indices.items():
        assert (made["image"].values[rows] == made["image"].values[rows[0]]).all()


def test_no_guided_steps_turn_off_the_critic():
    plan, made = make((16, 16), critic_stop=0.0, methods=("pmi", "none"))
    main = plan[(plan["role"] == "main") & (plan["group"] == "a")]
    ours, plain = (made["image"].values[main.index[main["method"] == name]] for name in ("pmi", "none"))
    assert np.array_equal(ours, plain)


def test_every_method_has_its_record():
    assert tuple(RECORDS) == METHODS
    one = LatentGroups(("a",), (1,), ((),))
    config = SynthesisConfig(n_pairs=2, methods=METHODS)
    plan = plan_edits(np.arange(6), one, labels={}, config=config, rng=np.random.default_rng(0))
    assert "wrong-group" not in set(plan["method"])


def test_maps_say_where_the_edit_changed_the_image():
    plan, made = make((16, 16, 3), maps=True)
    plain = np.flatnonzero(plan["method"] == "none")
    source = np.random.default_rng(0).integers(0, 255, (12, 16, 16, 3), dtype=np.uint8)[plan["source"]]
    expected = np.abs(made["image"].values.astype(float) - source).mean(3) / 255
    np.testing.assert_allclose(made["map"], expected, atol=1e-6)
    assert made["map"].dtype == np.float32 == made["critic_map"].dtype
    assert (made["critic_map"].values[plain] > 0).any(axis=(1, 2)).all()


def test_the_networks_of_the_paper_preset_take_a_forward_pass():
    config = Config.from_preset("paper")
    with torch.no_grad():
        denoiser = new_denoiser(1, replace(config.prior, precision="float32"))
        side = config.prior.size_px
        x = torch.zeros(1, 1, side, side)
        assert denoiser(x, torch.tensor([5])).shape == x.shape
        network = LatentRegressor(1, 24, channels=config.critic.channels, dropout=0.0)
        read, log_precision = network(x, torch.tensor([0.5]))
    assert read.shape == log_precision.shape == (1, 24)
    assert 10e6 < sum(p.numel() for p in denoiser.parameters()) < 200e6


def test_steps_cover_the_noise_levels_evenly():
    generator = torch.Generator().manual_seed(0)
    t = draw_steps(torch.arange(50), 50, n_timesteps=1000, generator=generator)
    assert (t // 20).tolist() == list(range(50))
    assert len(set((t % 20).tolist())) > 10
    low = draw_steps(torch.arange(50), 50, n_timesteps=1000, generator=generator, fraction=0.5)
    assert (low // 10).tolist() == list(range(50))
    third = draw_steps(torch.full((400,), 2), 4, n_timesteps=1000, generator=generator)
    assert third.min() >= 500 and third.max() < 750 and third.float().std() > 60


def test_noised_images_have_the_signal_and_the_noise_of_their_step():
    alpha_bar = torch.tensor([1.0, 0.64, 0.0])
    x = torch.arange(3.0)[:, None, None, None].expand(3, 1, 40, 40)
    x_t, eps = noised(x, torch.arange(3), alpha_bar, torch.Generator().manual_seed(0))
    assert abs(float(eps.mean())) < 0.05 and float(eps.std()) == pytest.approx(1, abs=0.05)
    torch.testing.assert_close(x_t[0], x[0])
    torch.testing.assert_close(x_t[1], 0.8 * x[1] + 0.6 * eps[1])
    torch.testing.assert_close(x_t[2], eps[2])
