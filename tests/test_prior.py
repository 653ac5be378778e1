"""Priors that start from others, that are conditioned on latents, and their folders."""

import copy
import hashlib
import json
from dataclasses import replace
from importlib.resources import files

import numpy as np
import pytest
import torch
from diffusers import (
    DDIMScheduler,
    DDPMScheduler,
    EulerDiscreteScheduler,
    PNDMScheduler,
    ScoreSdeVeScheduler,
    UNet2DModel,
)
from networks import conditions_of, save_other_pipeline, unit_scale

from nwb_migvis import Config, MigvisError
from nwb_migvis.config import PriorConfig, SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.synthesis.critic.model import Critic, LatentRegressor
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.guidance import GuidedDenoiser, with_contrast_of
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.prior_guidance import PriorGuidance, embed_condition
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, goals, synthesize
from nwb_migvis.synthesis.prior.ddim import record, sample, time_grid
from nwb_migvis.synthesis.prior.folder import open_prior, save_prior
from nwb_migvis.synthesis.prior.model import load_prior
from nwb_migvis.synthesis.prior.training import _draw_kept, train_prior

TINY = PriorConfig(size_px=8, channels=(8, 16), n_steps=2, batch_size=16, learning_rate=1e-2)


def shades(n, *, seed):
    """Images of one shade each, and that shade as their only latent."""
    shade = np.random.default_rng(seed).normal(size=(n, 1)).astype(np.float32)
    pixels = np.clip(128 + 50 * shade, 0, 255).astype(np.uint8)
    return np.broadcast_to(pixels[:, :, None], (n, 8, 8)).copy(), shade


@pytest.fixture(scope="module")
def conditional():
    images, shade = shades(300, seed=0)
    z = np.concatenate([shade, np.random.default_rng(1).normal(size=(300, 2)).astype(np.float32)], axis=1)
    config = replace(TINY, n_steps=150, ema_decay=0.9, latent_noise=0.1)
    return train_prior(images, config=config, seed=0, conditions=conditions_of(z, (1, 2)))


@pytest.fixture(scope="module")
def blank():
    """A critic that only says how latents are standardised."""
    network = LatentRegressor(1, 3, channels=(8, 8), dropout=0.0).eval()
    return Critic(network, (1, 2), unit_scale(3), torch.zeros(4, 3))


def guide(prior, goal, own, **weights):
    """Guidance from latents `own` to `goal`, standardised as the prior does."""
    return PriorGuidance(prior, *(embed_condition(prior, z) for z in (goal, own)), **weights)


def _x0_hat(prior, z, keep, t=700):
    x_t = torch.zeros(len(z), 1, 8, 8)
    latents = prior.denoiser.latents
    told = latents(latents.standardise(torch.as_tensor(z)), torch.as_tensor(keep))
    return prior.eps_and_x0_hat(x_t, t, told)[1].mean((1, 2, 3))


def test_a_conditional_prior_draws_what_it_is_told(conditional):
    z = np.array([[-1.5, 0, 0], [1.5, 0, 0], [-1.5, 0, 0], [1.5, 0, 0]], dtype=np.float32)
    both, neither = [1.0, 1.0], [0.0, 0.0]
    dark, light, *free = _x0_hat(conditional, z, np.array([both, both, neither, neither], np.float32))
    assert light > dark + 0.5
    assert free[0] == free[1]


def test_told_nothing_is_unconditional_to_the_bit(conditional):
    x_t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    nothing = conditional.denoiser.latents(torch.ones(2, 3), torch.zeros(2, 2))
    for one, other in zip(
        conditional.eps_and_x0_hat(x_t, 500), conditional.eps_and_x0_hat(x_t, 500, nothing), strict=True
    ):
        assert torch.equal(one, other)


def test_weights_converted_beforehand_predict_the_same_to_the_bit(conditional):
    before = conditional.to_bytes()
    x = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    condition = embed_condition(conditional, torch.randn(5, 3, generator=torch.Generator().manual_seed(1)))
    converted = conditional.for_inference()
    types = {weight.dtype for weight in converted.denoiser.unet.parameters()}
    assert types == {torch.bfloat16, torch.float32}
    for told in (None, condition):
        found, expected = (p.eps_and_x0_hat(x, 400, told)[0] for p in (converted, conditional))
        torch.testing.assert_close(found, expected, rtol=0, atol=0)
    assert conditional.to_bytes() == before
    exact = replace(conditional, denoiser=copy.deepcopy(conditional.denoiser))
    exact.denoiser.precision = "float32"
    assert exact.for_inference().denoiser is exact.denoiser


def test_groups_are_dropped_as_often_as_said():
    keep = _draw_kept(20_000, 3, torch.Generator().manual_seed(0)).numpy().astype(int)
    counts = np.bincount(keep @ [1, 2, 4], minlength=8) / len(keep)
    each = 0.55 / 8
    expected = np.array([0.15 + each, *[each] * 6, 0.30 + each])
    np.testing.assert_allclose(counts, expected, atol=0.012)


def test_the_difference_points_from_the_source_to_the_goal(conditional):
    goal, own = torch.tensor([[1.5, 0.0, 0.0]] * 2), torch.tensor([[-1.5, 0.0, 0.0], [1.5, 0.0, 0.0]])
    x_t = torch.zeros(2, 1, 8, 8)
    unguided = conditional.eps_and_x0_hat(x_t, 700)
    change = guide(conditional, goal, own, source_guidance=2.0).shift(x_t, 700, *unguided)
    assert change[0].mean() < -0.05
    assert not change[1].any()
    once = guide(conditional, goal, own, source_guidance=1.0).shift(x_t, 700, *unguided)
    torch.testing.assert_close(change, 2 * once)


def test_the_guidance_scale_adds_the_difference_from_the_prediction_that_was_told_nothing(conditional):
    goal, own = torch.tensor([[1.5, 0.0, 0.0]] * 2), torch.zeros(2, 3)
    x_t = torch.zeros(2, 1, 8, 8)
    unguided = conditional.eps_and_x0_hat(x_t, 700)
    at_goal, _ = conditional.eps_and_x0_hat(x_t, 700, embed_condition(conditional, goal))

    def shift(**weights):
        return guide(conditional, goal, own, **weights).shift(x_t, 700, *unguided)

    alone = shift(guidance_scale=3.0)
    torch.testing.assert_close(alone, 3 * (at_goal - unguided[0]))
    both = shift(source_guidance=1.0, guidance_scale=3.0)
    difference = shift(source_guidance=1.0)
    torch.testing.assert_close(both, alone + difference, atol=1e-5, rtol=1e-4)
    assert alone.abs().max() > 0.05


@pytest.mark.parametrize("t", [400, 900])
@pytest.mark.parametrize("weights", [(20.0, 30.0), (0.0, 40.0), (-40.0, 40.0)])
@pytest.mark.parametrize("how_far", [0.5, 1.0])
def test_rescaled_guidance_has_the_contrast_of_the_prediction_at_the_goal(conditional, t, weights, how_far):
    goal, own = torch.tensor([[1.5, 0.0, 0.0], [-1.0, 0.5, 0.0], [0.5, 1.0, 1.0]]), torch.zeros(3, 3)
    x_t = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    a, s = conditional.alpha_bar[t].sqrt(), (1 - conditional.alpha_bar[t]).sqrt()
    unguided = conditional.eps_and_x0_hat(x_t, t)
    at_goal, _ = conditional.eps_and_x0_hat(x_t, t, embed_condition(conditional, goal))
    source_guidance, guidance_scale = weights

    def led_to(**how):
        weights = {"source_guidance": source_guidance, "guidance_scale": guidance_scale}
        shift = guide(conditional, goal, own, **weights, **how).shift(x_t, t, *unguided)
        return (x_t - s * (unguided[0] + shift)) / a

    plain, rescaled = led_to(), led_to(guidance_rescale=how_far)
    over = {"dim": (1, 2, 3), "keepdim": True}
    before, wanted = plain.std(**over), ((x_t - s * at_goal) / a).std(**over)
    assert ((before / wanted - 1).abs() > 0.02).all()
    expected = how_far * wanted + (1 - how_far) * before
    near = {"atol": 1e-4, "rtol": 1e-3}
    torch.testing.assert_close(rescaled.std(**over), expected, **near)
    torch.testing.assert_close(rescaled.mean(**over), plain.mean(**over), **near)
    shapes = [(x0 - x0.mean(**over)) / x0.std(**over) for x0 in (plain, rescaled)]
    torch.testing.assert_close(*shapes, atol=1e-3, rtol=1e-2)


def test_contrast_is_of_an_image_not_of_its_channels_and_flat_images_stay_flat():
    x0 = torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    x0 = x0 * torch.tensor([1.0, 2.0, 4.0])[:, None, None]
    other = 3 * torch.randn(2, 3, 8, 8, generator=torch.Generator().manual_seed(1))
    found = with_contrast_of(other, x0)
    torch.testing.assert_close(found.std((1, 2, 3)), other.std((1, 2, 3)))
    by_channel = found.std((2, 3)) / x0.std((2, 3))
    torch.testing.assert_close(by_channel, by_channel[:, :1].expand(-1, 3))
    flat = torch.full((2, 3, 8, 8), 0.25)
    torch.testing.assert_close(with_contrast_of(other, flat), flat)


def test_rescaling_without_guidance_changes_nothing(conditional):
    goal, own = torch.ones(2, 3), torch.zeros(2, 3)
    x_t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    unguided = conditional.eps_and_x0_hat(x_t, 700)
    assert not guide(conditional, goal, own, guidance_rescale=1.0).shift(x_t, 700, *unguided).any()
    for bad in (-0.1, 1.5, float("nan")):
        with pytest.raises(MigvisError, match="expected 0 to 1"):
            guide(conditional, goal, own, guidance_rescale=bad)


def test_a_run_guides_by_every_setting_of_the_conditional_prior(conditional, blank):
    images, shade = shades(40, seed=3)
    latents = np.concatenate([shade, np.zeros((40, 2), dtype=np.float32)], axis=1)
    groups = LatentGroups(("shade", "rest"), (1, 2), ((), ()))
    weights = {"source_guidance": 1.0, "guidance_scale": 2.0, "guidance_rescale": 0.7}
    only_pairs = {"n_pairs": 10, "methods": ("pmi",), "n_dose": 0, "n_traversal": 0}
    config = SynthesisConfig(n_steps=6, critic_stop=0.0, batch_size=32, **only_pairs, **weights)
    plan = plan_edits(np.arange(40), groups, labels={}, config=config, rng=np.random.default_rng(0))
    stimuli = EditStimuli(np.arange(40).astype(str), images, blank.scale.standardise(latents))
    made = synthesize(plan, stimuli, EditNetworks(conditional, blank, groups), config=config, seed=0)
    source = plan["source"].to_numpy(copy=True)
    path = {"alpha_bar": conditional.alpha_bar}
    path["grid"] = time_grid(conditional.n_timesteps, strength=config.strength, n_steps=6)
    there = record(conditional.eps_and_x0_hat, conditional.encode(images[source]), **path)
    # `blank` leaves latents as they are: they have to be put on the prior's scale.
    goal, own = (
        conditional.denoiser.latents.standardise(z)
        for z in (goals(plan, torch.as_tensor(stimuli.z), groups), torch.as_tensor(latents)[source])
    )

    def guided(**weights):
        guidance = (guide(conditional, goal, own, **weights),)
        denoise = GuidedDenoiser(conditional.eps_and_x0_hat, conditional.alpha_bar, guidance)
        found = conditional.decode(sample(denoise, there.start, misses=there.misses, **path))
        return np.abs(found.astype(int) - made["image"].values).max()

    assert guided(**weights) <= 1
    for name in weights:
        assert guided(**weights | {name: 0.0}) > 3


def test_the_difference_alone_carries_an_edit_to_its_goal(conditional):
    own = torch.tensor([[0.0, 0.0, 0.0]] * 3)
    goal = torch.tensor([[-1.5, 0.0, 0.0], [0.0, 0.0, 0.0], [1.5, 0.0, 0.0]])
    guidance = (guide(conditional, goal, own, source_guidance=1.0),)
    denoise = GuidedDenoiser(conditional.eps_and_x0_hat, conditional.alpha_bar, guidance)
    x = torch.randn(1, 1, 8, 8, generator=torch.Generator().manual_seed(0)).expand(3, -1, -1, -1)
    grid = time_grid(1000, strength=0.9, n_steps=10)
    made = sample(denoise, x, alpha_bar=conditional.alpha_bar, grid=grid)
    dark, same, light = made.mean((1, 2, 3))
    assert dark < same - 0.1 and same + 0.1 < light


def test_conditional_priors_come_back_from_bytes_and_folders(conditional, tmp_path):
    x_t = torch.randn(3, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    told = conditional.denoiser.latents(torch.ones(3, 3), torch.ones(3, 2))
    expected = conditional.eps_and_x0_hat(x_t, 300, told)
    again = load_prior(conditional.to_bytes())
    assert all(map(torch.equal, again.eps_and_x0_hat(x_t, 300, told), expected))
    save_prior(conditional, tmp_path / "prior")
    opened = open_prior(str(tmp_path / "prior"))
    assert (opened.scale, opened.shape, opened.denoiser.latents.sizes) == (
        conditional.scale,
        conditional.shape,
        (1, 2),
    )
    torch.testing.assert_close(opened.alpha_bar, conditional.alpha_bar)
    for one, other in zip(opened.eps_and_x0_hat(x_t, 300, told), expected, strict=True):
        torch.testing.assert_close(one, other, rtol=0.05, atol=0.05)


def test_training_goes_on_from_a_prior():
    images, shade = shades(60, seed=2)
    first = train_prior(images, config=TINY, seed=0)
    untouched = train_prior(
        images, config=replace(TINY, start="given", n_steps=0, conditional=False), seed=1, start=first
    )
    x_t = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    expected = first.eps_and_x0_hat(x_t, 400)
    assert all(map(torch.equal, untouched.eps_and_x0_hat(x_t, 400), expected))
    config = replace(TINY, start="given", conditional=True)
    grown = train_prior(images, config=config, seed=1, start=first, conditions=conditions_of(shade, (1,)))
    assert grown.scale == first.scale
    assert grown.is_conditional and not first.is_conditional
    assert not torch.equal(grown.eps_and_x0_hat(x_t, 400)[0], expected[0])
    assert all(map(torch.equal, first.eps_and_x0_hat(x_t, 400), expected))


def test_an_unconditional_pipeline_of_diffusers_is_a_prior(tmp_path):
    unet = save_other_pipeline(tmp_path / "theirs", size_px=16).unet
    prior = open_prior(str(tmp_path / "theirs"))
    assert (prior.shape, prior.predicts, prior.n_timesteps) == ((16, 16, 3), "epsilon", 100)
    x_t = torch.randn(2, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    eps, x0_hat = prior.eps_and_x0_hat(x_t, 50)
    with torch.no_grad():
        torch.testing.assert_close(eps, unet(x_t, 50).sample)
    save_prior(prior, tmp_path / "ours")
    torch.testing.assert_close(open_prior(str(tmp_path / "ours")).alpha_bar, prior.alpha_bar)
    a = prior.alpha_bar[50]
    torch.testing.assert_close(a.sqrt() * x0_hat + (1 - a).sqrt() * eps, x_t, rtol=1e-4, atol=1e-4)
    assert prior.encode(np.array([[[[0, 255, 0]]]], np.uint8)).flatten().tolist() == [-1.0, 1.0, -1.0]


def test_folders_that_hold_no_prior(tmp_path):
    with pytest.raises(MigvisError, match="no such folder"):
        open_prior(str(tmp_path / "absent"))
    with pytest.raises(MigvisError, match="expected the folders 'unet'"):
        open_prior(str(tmp_path))
    DDPMScheduler(100, prediction_type="x").save_pretrained(tmp_path / "scheduler")
    small = {"block_out_channels": (8,), "down_block_types": ("DownBlock2D",), "norm_num_groups": 8}
    UNet2DModel(up_block_types=("UpBlock2D",), **small).save_pretrained(tmp_path / "unet")
    with pytest.raises(MigvisError, match="predicts 'x'"):
        open_prior(str(tmp_path))
    DDPMScheduler(100).save_pretrained(tmp_path / "scheduler")
    with pytest.raises(MigvisError, match="sample_size None"):
        open_prior(str(tmp_path))
    settings = json.loads((tmp_path / "unet" / "config.json").read_text())
    settings["block_out_channels"] = [16]
    (tmp_path / "unet" / "config.json").write_text(json.dumps(settings))
    with pytest.raises(MigvisError, match="expected the folders 'unet'"):
        open_prior(str(tmp_path))


def test_settings_that_do_not_fit_together():
    unconditional = PriorConfig(conditional=False)
    with pytest.raises(MigvisError, match=r"without prior\.conditional"):
        Config(prior=unconditional, synthesis=SynthesisConfig(source_guidance=2.0))
    with pytest.raises(MigvisError, match=r"guidance_scale = 2 without prior\.conditional"):
        Config(prior=unconditional, synthesis=SynthesisConfig(guidance_scale=2.0))
    with pytest.raises(MigvisError, match="n_steps"):
        PriorConfig(n_steps=0)
    with pytest.raises(MigvisError, match="conditional"):
        PriorConfig(n_steps=0, start="renders")
    assert PriorConfig(n_steps=0, start="renders", conditional=False).n_steps == 0


def test_the_shipped_prior_knows_the_renders():
    images = render_stimuli(draw_factors(48, seed=11), size_px=32, seed=11)
    prior = open_prior("renders")
    assert prior.shape == images.shape[1:]
    x = prior.encode(images)
    eps = torch.randn(x.shape, generator=torch.Generator().manual_seed(0))
    a = prior.alpha_bar[500]
    x_t = a.sqrt() * x + (1 - a).sqrt() * eps
    found, x0_hat = prior.eps_and_x0_hat(x_t, 500)
    assert float((x0_hat - x).square().mean()) < 0.1
    assert float((found - eps).square().mean()) < 0.25
    folder = files("nwb_migvis.synthesis.prior") / "shipped" / "renders"
    weights = (folder / "unet" / "diffusion_pytorch_model.safetensors").read_bytes()
    said = (folder.parent / "README.md").read_text(encoding="utf-8")
    assert hashlib.sha256(weights).hexdigest() in said
    assert len(weights) < 12_000_000


def _save_model(folder, *, scheduler=None, parts=None, **unet):
    """Write a tiny model in diffusers' format, with its own index."""
    settings = {"sample_size": 16, "in_channels": 3, "out_channels": 3, "norm_num_groups": 8, **unet}
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",)}
    own = {
        "unet": UNet2DModel(block_out_channels=(8,), layers_per_block=1, **blocks, **settings),
        "scheduler": scheduler or DDPMScheduler(100),
    }
    index = {"_class_name": "DDPMPipeline"}
    for name, part in own.items():
        part.save_pretrained(folder / name)
        index[name] = ["diffusers", type(part).__name__]
    (folder / "model_index.json").write_text(json.dumps(index | (parts or {})))
    return folder


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"out_channels": 1}, "gives 1 channels for 3"),
        ({"in_channels": 4, "out_channels": 4}, "sample_size 16 and 4 channels"),
        (
            {"num_class_embeds": 2, "parts": {"labels": {"0": "cat", "1": "dog"}}},
            r"no null class \(num_class_embeds 2 for 2 labels\)",
        ),
        ({"class_embed_type": "timestep"}, "conditioned on classes .*class_embed_type timestep"),
        ({"time_embedding_type": "fourier"}, "takes noise levels"),
        ({"center_input_sample": True}, "takes pixels from 0 to 1"),
        (
            {"scheduler": ScoreSdeVeScheduler()},
            "its scheduler is a ScoreSdeVeScheduler; expected one of a network",
        ),
        ({"scheduler": DDPMScheduler(9, rescale_betas_zero_snr=True)}, "no signal at the last of 9 steps"),
        ({"scheduler": DDIMScheduler(9, prediction_type="x")}, "predicts 'x'"),
        ({"parts": {"vqvae": ["diffusers", "VQModel"]}}, r"beside its network lies vqvae \(VQModel\)"),
        (
            {"parts": {"text_encoder": ["transformers", "CLIPTextModel"]}},
            r"lies text_encoder \(CLIPTextModel\); expected a network of pixels",
        ),
    ],
)
def test_models_of_another_kind_are_refused_as_what_they_are(model, message, tmp_path):
    with pytest.raises(MigvisError, match=message) as refused:
        open_prior(str(_save_model(tmp_path / "model", **model)))
    assert "\n" not in str(refused.value)


def test_a_text_network_and_a_part_that_no_index_names_are_refused(tmp_path):
    folder = _save_model(tmp_path / "model")
    (folder / "vae").mkdir()
    with pytest.raises(MigvisError, match=r"beside its network lies vae \(model\)"):
        open_prior(str(folder))
    (folder / "vae").rmdir()
    config = folder / "unet" / "config.json"
    named = json.loads(config.read_text()) | {"_class_name": "UNet1DModel"}
    config.write_text(json.dumps(named))
    with pytest.raises(MigvisError, match="its network is a UNet1DModel; expected one of UNet2DModel"):
        open_prior(str(folder))


@pytest.mark.parametrize("scheduler", [DDIMScheduler, PNDMScheduler, EulerDiscreteScheduler])
def test_a_scheduler_of_the_same_betas_gives_their_noise_levels(scheduler, tmp_path):
    given = {"beta_schedule": "scaled_linear", "prediction_type": "v_prediction", "num_train_timesteps": 50}
    prior = open_prior(str(_save_model(tmp_path / "model", scheduler=scheduler(**given))))
    betas = torch.linspace(1e-4**0.5, 0.02**0.5, 50, dtype=torch.float64) ** 2
    torch.testing.assert_close(prior.alpha_bar.double(), (1 - betas).cumprod(0), rtol=1e-5, atol=1e-6)
    assert prior.predicts == "v_prediction"
