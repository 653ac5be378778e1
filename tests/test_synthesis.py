"""Prior, critic and guided DDIM: analytic denoisers, planted images, exact repeats."""

import copy
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pandas as pd
import pytest
import torch
from guides import Along
from networks import conditions_of

from nwb_migvis import MigvisError
from nwb_migvis.config import CriticConfig, PriorConfig, SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels
from nwb_migvis.pixels import resize_images, target_shape
from nwb_migvis.synthesis.critic.model import Critic, load_critic
from nwb_migvis.synthesis.critic.training import train_critic
from nwb_migvis.synthesis.editing import synthesize as synthesizing
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.critic_guidance import CriticGuidance
from nwb_migvis.synthesis.editing.guidance import GuidedDenoiser
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, goals, synthesize
from nwb_migvis.synthesis.prior import training as prior_training
from nwb_migvis.synthesis.prior.ddim import invert, record, sample, time_grid
from nwb_migvis.synthesis.prior.model import cosine_alpha_bar, load_prior
from nwb_migvis.synthesis.prior.training import denoising_loss, train_prior

ALPHA_BAR = cosine_alpha_bar(1000).double()
SPREAD = 0.5


def gaussian_denoiser(x_t, t):
    """The exact denoiser of images drawn from N(0, SPREAD^2)."""
    a = ALPHA_BAR[t]
    x0_hat = a.sqrt() * SPREAD**2 / (a * SPREAD**2 + 1 - a) * x_t
    return (x_t - a.sqrt() * x0_hat) / (1 - a).sqrt(), x0_hat


def guided_by(*guidance):
    return GuidedDenoiser(gaussian_denoiser, ALPHA_BAR, guidance)


def probability_flow(x, t_from, t_to):
    """The exact solution of the probability flow for that distribution: only the scale changes."""
    variance = [ALPHA_BAR[t] * SPREAD**2 + 1 - ALPHA_BAR[t] for t in (t_from, t_to)]
    return x * (variance[1] / variance[0]).sqrt()


def test_time_grid_spans_the_strength():
    grid = time_grid(1000, strength=0.9, n_steps=25)
    assert (grid[0], grid[-1], len(grid)) == (0, 900, 26)
    assert (np.diff(grid) == 36).all()
    assert time_grid(1000, strength=1.0, n_steps=10)[-1] == 999


@pytest.mark.parametrize("strength", [0.0, -0.1, 1.01, float("nan")])
def test_a_strength_outside_its_range(strength):
    with pytest.raises(MigvisError, match="strength is"):
        time_grid(1000, strength=strength, n_steps=25)


def test_more_steps_than_the_grid_has():
    with pytest.raises(MigvisError, match="30 steps do not fit"):
        time_grid(100, strength=0.2, n_steps=30)


def test_ddim_converges_to_the_probability_flow_at_first_order():
    x = torch.linspace(-2, 2, 9, dtype=torch.float64).reshape(1, 1, 3, 3)
    errors = []
    for n_steps in (25, 50, 100):
        grid = time_grid(1000, strength=0.9, n_steps=n_steps)
        found = sample(gaussian_denoiser, x, alpha_bar=ALPHA_BAR, grid=grid)
        exact = probability_flow(x, 900, 0)
        errors.append(float((found - exact).norm() / exact.norm()))
    assert errors[-1] < 0.02
    orders = np.log2(np.array(errors[:-1]) / errors[1:])
    assert ((orders > 0.8) & (orders < 1.3)).all()


def test_inversion_and_sampling_undo_each_other():
    x0 = SPREAD * torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = time_grid(1000, strength=0.9, n_steps=25)
    errors = []
    search = {"alpha_bar": ALPHA_BAR, "grid": grid, "tolerance": 1e-6}
    for n_corrections in (0, 2, 8):
        there = invert(gaussian_denoiser, x0, n_corrections=n_corrections, **search)
        back = sample(gaussian_denoiser, there, alpha_bar=ALPHA_BAR, grid=grid)
        errors.append(float((back - x0).norm() / x0.norm()))
    assert errors[1] < 0.2 * errors[0]
    assert errors[2] < 1e-4


@pytest.mark.parametrize("n_steps", [1, 3, 25])
def test_what_is_recorded_leads_back_whatever_the_steps(n_steps):
    x0 = SPREAD * torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    path = {"alpha_bar": ALPHA_BAR, "grid": time_grid(1000, strength=0.9, n_steps=n_steps)}
    found = record(gaussian_denoiser, x0, **path)
    assert found.misses.shape == (4, n_steps, 1, 8, 8)
    back = sample(gaussian_denoiser, found.start, misses=found.misses, **path)
    torch.testing.assert_close(back, x0, rtol=0, atol=1e-12)


def test_what_is_recorded_starts_where_the_flow_leads_and_misses_less_by_the_cube_of_the_steps():
    x0 = SPREAD * torch.randn(4, 1, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    exact, errors, misses = probability_flow(x0, 0, 900), [], []
    for n_steps in (25, 50, 100):  # which divide 900: all steps of a grid are equally long
        grid = time_grid(1000, strength=0.9, n_steps=n_steps)
        found = record(gaussian_denoiser, x0, alpha_bar=ALPHA_BAR, grid=grid)
        errors.append(float((found.start - exact).norm() / exact.norm()))
        misses.append(float(torch.linalg.vector_norm(found.misses, dim=(0, 2, 3, 4)).median()))
    assert errors[-1] < 0.02
    assert all(first > 1.7 * then for first, then in pairwise(errors))
    assert all(7 < first / then < 10 for first, then in pairwise(misses))


def test_an_inversion_evaluates_the_denoiser_once_per_step_and_twice_near_the_images():
    seen = []

    def counted(x, t):
        seen.append(t)
        return gaussian_denoiser(x, t)

    grid = time_grid(1000, strength=0.9, n_steps=10)
    record(counted, torch.ones(1, 1, 2, 2, dtype=torch.float64), alpha_bar=ALPHA_BAR, grid=grid)
    assert seen == [grid[0], *np.repeat(grid[1:4], 2), *grid[4:]]


def test_guidance_moves_along_the_gradient_by_its_relative_length():
    x = torch.randn(3, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    grid = time_grid(1000, strength=0.5, n_steps=20)
    direction = torch.ones_like(x)
    scale = torch.tensor([0.0, 0.1, 0.2], dtype=torch.float64)
    guided = sample(guided_by(Along(direction, scale)), x, alpha_bar=ALPHA_BAR, grid=grid)
    plain = sample(gaussian_denoiser, x, alpha_bar=ALPHA_BAR, grid=grid)
    torch.testing.assert_close(guided[0], plain[0], rtol=0, atol=0)
    moved = (guided - plain).mean((1, 2, 3))
    assert 0 < moved[1] < moved[2]
    longer = sample(guided_by(Along(7 * direction, scale)), x, alpha_bar=ALPHA_BAR, grid=grid)
    torch.testing.assert_close(longer, guided)


def test_guidance_that_is_not_finite():
    x = torch.ones(1, 1, 2, 2, dtype=torch.float64)
    denoise = guided_by(Along(x * torch.nan, torch.ones(1)))
    with pytest.raises(MigvisError, match="not finite"):
        sample(denoise, x, alpha_bar=ALPHA_BAR, grid=time_grid(1000, strength=0.5, n_steps=5))


@pytest.mark.parametrize(
    ("size", "expected"),
    [((112, 112), (32, 32)), ((100, 50), (32, 16)), ((20, 30), (20, 30)), ((32, 1), (32, 1))],
)
def test_images_are_scaled_down_but_never_up(size, expected):
    assert target_shape(*size, 32) == expected


def test_resizing_keeps_flat_images_and_channels():
    images = np.full((2, 20, 10, 3), 77, np.uint8)
    assert (resize_images(images, (10, 5)) == 77).all()
    assert resize_images(images, (20, 10)) is images


def blobs(n, *, seed, size=(16, 16)):
    """Images of one bright blob: column position (group one) and brightness (group two) are the latents."""
    rng = np.random.default_rng(seed)
    z = rng.uniform(-1, 1, (n, 2))
    y, x = np.mgrid[: size[0], : size[1]]
    centre = size[1] / 2 + z[:, 0] * size[1] / 4
    bump = np.exp(-((x - centre[:, None, None]) ** 2 + (y - size[0] / 2) ** 2) / 8)
    images = 40 + (110 + 80 * z[:, 1, None, None]) * bump
    return images.round().astype(np.uint8), z


TINY_PRIOR = PriorConfig(size_px=16, channels=(16, 32), n_steps=60, batch_size=16, learning_rate=2e-3)
TINY_CRITIC = CriticConfig(channels=(16, 16, 32, 32), n_steps=300, batch_size=64, dropout=0.0, n_negatives=64)
GROUPS = LatentGroups(("place", "light"), (1, 1), ((), ()))


@pytest.fixture(scope="module")
def trained():
    images, z = blobs(400, seed=0)
    split = np.array(["train"] * 300 + ["validation"] * 50 + ["test"] * 50)
    prior = train_prior(images[:300], config=TINY_PRIOR, seed=0)
    critic = train_critic(
        images,
        conditions_of(z, (1, 1), n_train=300),
        split=split,
        prior=prior,
        config=TINY_CRITIC,
        seed=0,
    )
    return images, z, split, prior, critic


def _v_error(prior, images):
    x = prior.encode(images)
    generator = torch.Generator().manual_seed(5)
    t = torch.full((len(x),), 500)
    a, s = prior.alpha_bar[500].sqrt(), (1 - prior.alpha_bar[500]).sqrt()
    eps = torch.randn(x.shape, generator=generator)
    return float((prior.denoiser(a * x + s * eps, t) - (a * eps - s * x)).square().mean())


def test_training_the_prior_denoises_held_out_images(trained):
    images, *_, prior, _ = trained
    fresh = train_prior(images[:300], config=replace(TINY_PRIOR, n_steps=1), seed=0)
    assert _v_error(prior, images[300:]) < 0.6 * _v_error(fresh, images[300:])


def test_prior_predictions_fit_together(trained):
    *_, prior, _ = trained
    x_t = torch.randn(2, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    for t in (0, 300, 999):
        eps, x0_hat = prior.eps_and_x0_hat(x_t, t)
        a = prior.alpha_bar[t]
        torch.testing.assert_close(a.sqrt() * x0_hat + (1 - a).sqrt() * eps, x_t, rtol=1e-4, atol=1e-4)


def test_prior_and_critic_come_back_from_their_bytes(trained):
    images, z, _, prior, critic = trained
    prior_again, critic_again = load_prior(prior.to_bytes()), load_critic(critic.to_bytes())
    x = prior.encode(images[:3])
    t = torch.tensor([1, 400, 900])
    torch.testing.assert_close(prior_again.denoiser(x, t), prior.denoiser(x, t), rtol=0, atol=0)
    assert (prior_again.scale, prior_again.shape) == (prior.scale, prior.shape)
    goal = critic.scale.standardise(torch.as_tensor(z[:3]))
    torch.testing.assert_close(critic_again.pmi(x, 0.3, goal), critic.pmi(x, 0.3, goal), rtol=0, atol=0)
    with pytest.raises(MigvisError, match="expected a 'prior'"):
        load_prior(critic.to_bytes())
    with pytest.raises(MigvisError, match="not a prior"):
        load_prior(b"nothing of the kind")


def test_the_same_seed_trains_the_same_bytes():
    images, _ = blobs(40, seed=1)
    config = replace(TINY_PRIOR, n_steps=3)
    first, second, other = (train_prior(images, config=config, seed=s).to_bytes() for s in (3, 3, 4))
    assert first == second
    assert first != other


def test_a_killed_training_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    images, _ = blobs(40, seed=1)
    config = replace(TINY_PRIOR, n_steps=6)
    whole = train_prior(images, config=config, seed=3).to_bytes()
    checkpoint = tmp_path / "prior.pt"
    monkeypatch.setattr(prior_training, "CHECKPOINT_EVERY", 2)
    done = []

    def killed_after_five(*arguments, **more):
        if len(done) == 5:
            raise KeyboardInterrupt
        done.append(0)
        return denoising_loss(*arguments, **more)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(prior_training, "denoising_loss", killed_after_five)
        train_prior(images, config=config, seed=3, checkpoint=checkpoint)
    assert train_prior(images, config=config, seed=3, checkpoint=checkpoint).to_bytes() == whole
    assert [path.name for path in tmp_path.iterdir()] == ["prior.pt"]

    with pytest.raises(MigvisError, match="other data or settings"):
        train_prior(images, config=config, seed=4, checkpoint=checkpoint)
    checkpoint.write_bytes(b"cut short")
    with pytest.raises(MigvisError, match="cannot be read"):
        train_prior(images, config=config, seed=3, checkpoint=checkpoint)


@pytest.mark.parametrize("shape", [(12, 20), (15, 9, 3)])
def test_any_size_and_colour(shape):
    images = np.random.default_rng(0).integers(0, 255, (24, *shape), dtype=np.uint8)
    prior = train_prior(images, config=replace(TINY_PRIOR, n_steps=2), seed=0)
    back = prior.decode(prior.encode(images))
    np.testing.assert_array_equal(back, images)
    eps, _ = prior.eps_and_x0_hat(prior.encode(images[:2]), 10)
    assert eps.shape == (2, 3 if len(shape) == 3 else 1, *shape[:2])


def test_images_that_no_prior_can_learn():
    with pytest.raises(MigvisError, match="3 training images"):
        train_prior(np.zeros((3, 8, 8), np.uint8), config=TINY_PRIOR, seed=0)
    with pytest.raises(MigvisError, match="every pixel"):
        train_prior(np.full((30, 8, 8), 9, np.uint8), config=TINY_PRIOR, seed=0)


def test_critic_prefers_true_pairs_group_by_group(trained):
    images, z, split, prior, critic = trained
    test = split == "test"
    scores = critic.score_matrix(z[test], prior.encode(images[test]))
    assert scores.shape == (2, 50, 50)
    for matrix in scores:
        rank = (matrix > np.diag(matrix)[None]).sum(0)
        assert np.median(rank) <= 8


def test_pmi_is_the_score_against_the_bank(trained):
    images, z, _, prior, critic = trained
    x, goal = prior.encode(images[:5]), critic.scale.standardise(torch.as_tensor(z[:5]))
    read, log_precision = critic.network(x, torch.full((5,), 0.2))
    for g in range(2):
        precision = log_precision[:, g].exp()
        positive = -0.5 * precision * (read[:, g] - goal[:, g]) ** 2
        negative = -0.5 * precision[:, None] * (read[:, g, None] - critic.bank[None, :, g]) ** 2
        expected = positive - torch.log(torch.exp(negative).mean(1))
        torch.testing.assert_close(critic.pmi(x, 0.2, goal)[:, g], expected, rtol=1e-4, atol=1e-5)


def test_preservation_weighs_the_other_groups(trained):
    images, z, _, prior, critic = trained
    x, goal = prior.encode(images[:4]), torch.as_tensor(critic.scale.standardise(z[4:8].astype(np.float32)))

    def ascent(*weight, t=400):
        guidance = CriticGuidance(critic, goal, torch.tensor([weight] * 4), torch.ones(4), 1000)
        return guidance.ascent(x, t)

    both, one, two = ascent(1.0, 0.3), ascent(1.0, 0.0), ascent(0.0, 1.0)
    torch.testing.assert_close(both, one + 0.3 * two, rtol=1e-3, atol=1e-5)
    assert not ascent(1.0, 1.0, t=950).any()


def test_a_critic_that_guides_in_bfloat16_points_where_it_does_in_single_precision(trained):
    images, z, _, prior, critic = trained
    x, goal = prior.encode(images[:8]), torch.as_tensor(critic.scale.standardise(z[8:16].astype(np.float32)))
    weight = torch.tensor([[1.0, 0.2]] * 8)
    for t in (100, 500, 800):
        exact, fast = (
            CriticGuidance(replace(critic, precision=how), goal, weight, torch.ones(8), 1000)
            .ascent(x, t)
            .flatten(1)
            for how in ("float32", "bfloat16")
        )
        assert not torch.equal(exact, fast)
        assert torch.nn.functional.cosine_similarity(exact, fast).min() > 0.98


@pytest.mark.parametrize("precision", ["bfloat16", "float32"])
def test_the_critic_guides_in_the_priors_precision_and_scores_in_single(trained, monkeypatch, precision):
    images, z, _, prior, critic = trained
    prior = replace(prior, denoiser=copy.deepcopy(prior.denoiser))
    prior.denoiser.precision = precision
    seen, read = [], Critic.read

    def watched(self, x_t, t):
        seen.append((self.precision, t > 0))
        return read(self, x_t, t)

    monkeypatch.setattr(Critic, "read", watched)
    plan = _plan(SynthesisConfig(n_pairs=1, n_dose=0, n_traversal=0, n_steps=4, methods=("pmi",)), n=20)
    config = SynthesisConfig(n_steps=4, source_guidance=0, guidance_scale=0)
    stimuli = EditStimuli(
        np.arange(len(images)).astype(str), images, critic.scale.standardise(z.astype(np.float32))
    )
    synthesize(plan, stimuli, EditNetworks(prior, critic, GROUPS), config=config, seed=0)
    assert set(seen) == {(precision, True), ("float32", False)}


def _plan(config=None, *, labels=None, n=50, seed=0):
    config = config or SynthesisConfig(n_pairs=20, n_dose=3, n_traversal=2, n_steps=10)
    test = np.arange(350, 350 + n)
    labels = as_labels(labels or {})
    return plan_edits(test, GROUPS, labels=labels, config=config, rng=np.random.default_rng(seed))


def test_plan_draws_held_out_pairs_that_differ():
    kinds = np.array(list("abcd"), dtype=object)[np.arange(400) % 4]
    plan = _plan(labels={"kind": kinds, "size": np.arange(400.0)})
    assert plan["source"].between(350, 399).all()
    main = plan[plan["role"] == "main"]
    assert (kinds[main["source"]] != kinds[main["target"]]).all()
    shuffled = main[main["method"] == "shuffled"]
    assert (kinds[shuffled["guiding_stimulus"]] != kinds[shuffled["source"]]).all()
    pmi = main[main["method"] == "pmi"]
    assert (pmi["guiding_stimulus"] == pmi["target"]).all()
    by_group = [frame[["source", "target"]].to_numpy() for _, frame in pmi.groupby("group")]
    np.testing.assert_array_equal(by_group[0], by_group[1])
    assert pmi[pmi["group"] == "place"]["source"].is_unique
    pd.testing.assert_frame_equal(plan, _plan(labels={"kind": kinds, "size": np.arange(400.0)}))


def test_goals_move_one_group_and_hold_the_rest(trained):
    _, z, _, _, critic = trained
    plan = _plan()
    own = critic.scale.standardise(z.astype(np.float32))
    goal = goals(plan, torch.as_tensor(own), GROUPS).numpy()
    place = (plan["group"] == "place").to_numpy()
    pairs = place & (plan["method"] == "pmi").to_numpy() & (plan["role"] == "main").to_numpy()
    np.testing.assert_array_equal(goal[pairs, 0], own[plan["target"][pairs], 0])
    np.testing.assert_array_equal(goal[pairs, 1], own[plan["source"][pairs], 1])
    moved = place & (plan["role"] == "traversal").to_numpy()
    np.testing.assert_allclose(
        goal[moved, 0], own[plan["source"][moved], 0] + plan["gamma"][moved], rtol=1e-5
    )


def _given(images, z, prior, critic):
    """What edits are made of and with."""
    name = np.array([f"im{i}" for i in range(len(images))])
    stimuli = EditStimuli(name, images, critic.scale.standardise(z.astype(np.float32)))
    return stimuli, EditNetworks(prior, critic, GROUPS)


@pytest.fixture(scope="module")
def edited(trained):
    images, z, _, prior, critic = trained
    config = SynthesisConfig(
        n_pairs=20,
        n_dose=3,
        n_traversal=2,
        n_steps=10,
        strength=0.9,
        guidance=0.3,
        source_guidance=0.0,
        guidance_scale=0.0,
        critic_stop=1.0,
        batch_size=16,
    )
    stimuli, networks = _given(images, z, prior, critic)
    arguments = {"stimuli": stimuli, "networks": networks, "config": config, "seed": 0}
    plan = _plan(config)
    return plan, arguments, synthesize(plan, **arguments)


def test_edits_move_the_place_of_the_blob_towards_the_target(trained, edited):
    _, z, *_ = trained
    plan, _, made = edited
    columns = np.arange(16)
    weight = (made["image"].values.astype(float) - 40).clip(0).sum(1)
    found = (weight * columns).sum(1) / weight.sum(1)

    def slope(group, method):
        rows = ((plan["group"] == group) & (plan["method"] == method) & (plan["role"] == "main")).to_numpy()
        x = np.column_stack([z[plan["target"][rows], 0], z[plan["source"][rows], 0], np.ones(rows.sum())])
        return np.linalg.lstsq(x, found[rows] / 4, rcond=None)[0]

    moved, kept = slope("place", "pmi"), slope("light", "pmi")
    unguided = slope("place", "none")
    assert moved[0] > 0.3
    assert abs(kept[0]) < 0.15
    assert abs(unguided[0]) < 0.15
    assert kept[1] > 0.3


def test_scores_rise_under_guidance_and_unguided_edits_are_reconstructions(edited):
    plan, _, made = edited
    guided = (plan["method"] == "pmi").to_numpy()
    gain = made["score_after"].values - made["score_before"].values
    assert np.mean(gain[guided]) > 0.2
    plain = made.isel(edit=np.flatnonzero(plan["method"] == "none"))
    by_group = [part["image"].values for _, part in plain.groupby("group")]
    np.testing.assert_array_equal(by_group[0], by_group[1])


def test_edits_that_come_out_the_same_are_made_once(trained, edited):
    critic = trained[-1]
    plan, arguments, made = edited
    rows = np.flatnonzero((plan["method"] == "pmi") & (plan["role"] == "main"))[:12]
    twice = pd.concat([plan.iloc[rows], plan.iloc[rows].assign(role="dose")], ignore_index=True)
    seen = []
    hook = critic.network.register_forward_hook(lambda _net, given, _out: seen.append(float(given[1][0])))
    again = synthesize(twice, **arguments)
    hook.remove()
    assert sum(t > 0 for t in seen) == arguments["config"].n_steps  # one batch of 16, not two
    assert again["role"].values.tolist() == ["main"] * 12 + ["dose"] * 12
    np.testing.assert_array_equal(again["image"][:12], again["image"][12:])
    np.testing.assert_array_equal(again["image"][:12], made["image"][rows])


def test_edits_do_not_depend_on_how_many_sources_are_kept_at_once(edited, monkeypatch):
    plan, arguments, made = edited
    monkeypatch.setattr(synthesizing, "MOST_BYTES", 1)
    rows, source = np.arange(len(plan)), plan["source"].to_numpy()
    config, prior = arguments["config"], arguments["networks"].prior
    parts = synthesizing._together(rows, source, prior, config)
    assert len(parts) == -(-len(np.unique(source)) // config.batch_size) > 1
    assert np.array_equal(np.sort(np.concatenate(parts)), rows)
    assert made.identical(synthesize(plan, **arguments))


def test_unguided_edits_are_the_sources_where_the_way_there_was_recorded(trained):
    images, z, _, prior, critic = trained
    shifts, few = {}, {"n_pairs": 4, "n_dose": 0, "n_traversal": 0, "n_steps": 4}
    by_critic = {"source_guidance": 0.0, "guidance_scale": 0.0, "methods": ("pmi", "none")}
    for inversion in ("recorded", "searched"):
        config = SynthesisConfig(**few, **by_critic, inversion=inversion, inversion_tolerance=0.5)
        stimuli, networks = _given(images, z, prior, critic)
        made = synthesize(_plan(config), stimuli, networks, config=config, seed=0)
        unguided = made.isel(edit=(made["method"] == "none").values)
        rows = [stimuli.name.tolist().index(name) for name in unguided["source"].values]
        shifts[inversion] = np.abs(unguided["image"].values.astype(int) - stimuli.image[rows].astype(int))
    assert shifts["recorded"].max() <= 1
    assert shifts["searched"].max() > 1


def test_edits_are_the_same_twice_and_zero_guidance_is_the_reconstruction(trained, edited):
    images, z, _, prior, critic = trained
    plan, arguments, made = edited
    again = synthesize(plan, **arguments)
    assert made.identical(again)
    grid = time_grid(1000, strength=0.6, n_steps=10)
    x0 = prior.encode(images[350:354])
    start = invert(prior.eps_and_x0_hat, x0, alpha_bar=prior.alpha_bar, grid=grid)
    plain = sample(prior.eps_and_x0_hat, start, alpha_bar=prior.alpha_bar, grid=grid)
    zero_length = CriticGuidance(
        critic,
        torch.as_tensor(critic.scale.standardise(z[:4].astype(np.float32))),
        torch.ones(4, 2),
        torch.zeros(4),
        1000,
    )
    guided = GuidedDenoiser(prior.eps_and_x0_hat, prior.alpha_bar, (zero_length,))
    zero = sample(guided, start, alpha_bar=prior.alpha_bar, grid=grid)
    torch.testing.assert_close(zero, plain, rtol=0, atol=0)


@pytest.mark.parametrize(("method", "n"), [("pmi", 5), ("published", 10)])
def test_the_critic_guides_the_noisiest_steps_only_where_it_is_asked_to(trained, method, n):
    images, z, _, prior, critic = trained
    few = {"n_pairs": 2, "n_dose": 0, "n_traversal": 0, "n_steps": 10}
    how = {"critic_stop": 0.5, "strength": 0.9, "guidance_scale": 0.0, "source_guidance": 0.0}
    config = SynthesisConfig(**few, **how, methods=("pmi", "published"))
    plan = _plan(config)
    rows = plan[plan["method"] == method].reset_index(drop=True)
    stimuli, networks = _given(images, z, prior, critic)
    seen = []
    hook = critic.network.register_forward_hook(lambda _net, given, _out: seen.append(float(given[1][0])))
    synthesize(rows, stimuli, networks, config=config, seed=0)
    hook.remove()
    guided = [t for t in seen if t > 0]  # the scores that are stored are of clean images
    np.testing.assert_allclose(guided, [0.9 - 0.09 * i for i in range(n)], atol=1e-6)


def test_contrast_is_taken_back_of_edits_and_not_of_what_was_published(edited):
    plan, arguments, _ = edited
    rows = plan[(plan["method"] == "pmi") & (plan["role"] == "main")].head(8)
    rows = pd.concat([rows, rows.assign(method="published")], ignore_index=True)
    taken_back = replace(arguments["config"], contrast_rescale=1.0)
    found = synthesize(rows, **arguments | {"config": taken_back})
    before = synthesize(rows, **arguments)
    is_pmi = rows["method"].to_numpy() == "pmi"
    assert (found["image"].values[~is_pmi] == before["image"].values[~is_pmi]).all()
    contrast = [each["image"].values[is_pmi].std((1, 2)).mean() for each in (before, found)]
    assert contrast[1] < contrast[0]


def test_edits_carry_their_provenance(edited):
    plan, arguments, made = edited
    stimulus = arguments["stimuli"].name
    assert made["image"].dtype == np.uint8
    traversal = made.isel(edit=np.flatnonzero(made["role"].values == "traversal"))
    assert set(traversal["target"].values) == {""}
    assert set(traversal["direction"].values) == {"ones"}
    assert sorted(set(traversal["gamma"].values)) == [-2.0, -1.0, 1.0, 2.0]
    main = (plan["role"] == "main").to_numpy()
    np.testing.assert_array_equal(made["target"].values[main], stimulus[plan["target"][main]])
    assert (made["guidance"].values[(plan["method"] == "none").to_numpy()] == 0).all()
