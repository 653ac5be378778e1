"""Priors of others in every layout that is read: told nothing, inverted, conditioned, edited, kept."""

from __future__ import annotations

import copy
import json
from dataclasses import dataclass, replace
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
import xarray as xr
from diffusers import (
    AutoencoderDC,
    AutoencoderKL,
    AutoencoderTiny,
    DDIMScheduler,
    DDPMScheduler,
    DiTTransformer2DModel,
    FlowMatchEulerDiscreteScheduler,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from networks import conditions_of

from nwb_migvis import MigvisError
from nwb_migvis.config import CriticConfig, PriorConfig, SynthesisConfig
from nwb_migvis.networks import checkpoints
from nwb_migvis.store.weights import _check_prior, _Network
from nwb_migvis.synthesis.critic.training import train_critic
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize
from nwb_migvis.synthesis.prior import training as prior_training
from nwb_migvis.synthesis.prior.autoencoder import Autoencoder
from nwb_migvis.synthesis.prior.cache import cached_prior
from nwb_migvis.synthesis.prior.ddim import invert, record, sample, time_grid
from nwb_migvis.synthesis.prior.folder import open_prior, save_prior
from nwb_migvis.synthesis.prior.model import Prior, load_prior
from nwb_migvis.synthesis.prior.predictions import PREDICTS, eps_and_x0, flow_alpha_bar, flow_sigma, target
from nwb_migvis.synthesis.prior.training import train_prior
from nwb_migvis.tensors import parse_json, read_header

TEXT = 6


def unet(channels=4, **options):
    blocks = {"down_block_types": ("DownBlock2D",) * 2, "up_block_types": ("UpBlock2D",) * 2}
    settings = {"sample_size": 8, "in_channels": channels, "out_channels": channels, "layers_per_block": 1}
    return UNet2DModel(block_out_channels=(8, 8), norm_num_groups=4, **blocks, **(settings | options))


def text_unet():
    return UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 8),
        layers_per_block=1,
        norm_num_groups=4,
        cross_attention_dim=TEXT,
        attention_head_dim=2,
        down_block_types=("CrossAttnDownBlock2D", "DownBlock2D"),
        up_block_types=("UpBlock2D", "CrossAttnUpBlock2D"),
    )


def transformer(**options):
    settings = {"num_attention_heads": 2, "attention_head_dim": 4, "num_layers": 2, "sample_size": 8}
    settings |= {"in_channels": 4, "num_embeds_ada_norm": 5, "norm_num_groups": 4}
    return DiTTransformer2DModel(**settings | options)


def kl():
    """An autoencoder whose latents have about unit scale, as those of trained ones have; so `tiny`."""
    blocks = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    return AutoencoderKL(
        block_out_channels=(8, 8), norm_num_groups=4, scaling_factor=3.0, shift_factor=0.1, **blocks
    )


def dc():
    blocks = {
        f"{part}_{name}": value
        for part in ("encoder", "decoder")
        for name, value in (
            ("block_types", "ResBlock"),
            ("block_out_channels", (8, 8)),
            ("layers_per_block", (0, 1)),
            ("qkv_multiscales", ((), ())),
        )
    }
    return AutoencoderDC(latent_channels=4, scaling_factor=3.0, **blocks)


def tiny():
    widths, blocks = (8, 8), {"num_encoder_blocks": (1, 1), "num_decoder_blocks": (1, 1)}
    settings = {"encoder_block_out_channels": widths, "decoder_block_out_channels": widths}
    return AutoencoderTiny(scaling_factor=16.0, **settings, **blocks)


@dataclass(frozen=True)
class Layout:
    """How one of the models is made, and what is expected of it."""

    network: object
    scheduler: object
    vae: object = None
    flat: bool = False
    predicts: str = "epsilon"
    n_channels: int = 4


def betas(predicts="epsilon", kind=DDPMScheduler):
    return lambda: kind(100, prediction_type=predicts)


def flow():
    return FlowMatchEulerDiscreteScheduler(100, shift=2.0)


LAYOUTS = {
    "classes, flat": Layout(lambda: unet(3, num_class_embeds=4), betas(), flat=True, n_channels=3),
    "gray": Layout(lambda: unet(1), betas("v_prediction"), flat=True, predicts="v_prediction", n_channels=1),
    "variance": Layout(lambda: unet(3, out_channels=6), betas(kind=DDIMScheduler), n_channels=3),
    "sample": Layout(lambda: unet(3), betas("sample"), predicts="sample", n_channels=3),
    "flow": Layout(lambda: unet(3), flow, predicts="flow_prediction", n_channels=3),
    "latents": Layout(unet, betas(), kl),
    "latents, flat": Layout(
        lambda: unet(num_class_embeds=3), betas("v_prediction"), tiny, True, "v_prediction"
    ),
    "text": Layout(text_unet, betas(kind=DDIMScheduler), kl),
    "latents, dc": Layout(unet, betas(), dc),
    "transformer": Layout(lambda: transformer(out_channels=8), betas(), kl),
    "transformer, flow": Layout(transformer, flow, tiny, True, "flow_prediction"),
}


def save(layout: Layout, folder):
    torch.manual_seed(0)
    network = layout.network()
    for parameter in network.parameters():  # a transformer's gates begin at zero
        parameter.data.add_(0.05 * torch.randn_like(parameter))
    name = "transformer" if isinstance(network, DiTTransformer2DModel) else "unet"
    network.save_pretrained(folder if layout.flat else folder / name)
    layout.scheduler().save_pretrained(folder if layout.flat else folder / "scheduler")
    if layout.vae is not None:
        layout.vae().save_pretrained(folder / "vae")
    return folder


RNG = np.random.default_rng(0)
Z = RNG.normal(size=(40, 3)).astype(np.float32)
CONFIG = PriorConfig(start="given", n_steps=2, batch_size=4, learning_rate=1e-3)


def images_for(prior: Prior, n=40):
    smooth = np.repeat(np.repeat(RNG.integers(0, 255, (n, 4, 4, 3)), 4, axis=1), 4, axis=2)
    images = smooth.astype(np.uint8)[:, : prior.shape[0], : prior.shape[1]]
    return np.ascontiguousarray(images if len(prior.shape) == 3 else images[..., 0])


@pytest.fixture(scope="module")
def opened(tmp_path_factory):
    """Each model, opened once."""
    made: dict[str, Prior] = {}

    def of(name: str) -> Prior:
        if name not in made:
            made[name] = open_prior(str(save(LAYOUTS[name], tmp_path_factory.mktemp("model"))))
        return made[name]

    return of


@pytest.fixture(scope="module")
def grown(opened):
    """Each model, trained on with latents."""
    made: dict[str, Prior] = {}

    def of(name: str) -> Prior:
        if name not in made:
            prior = opened(name)
            how = {"seed": 0, "start": prior, "conditions": conditions_of(Z, (2, 1))}
            made[name] = train_prior(images_for(prior), config=CONFIG, **how)
        return made[name]

    return of


each = pytest.mark.parametrize("name", LAYOUTS)


@each
def test_it_opens_and_round_trips(name, opened):
    prior, layout = opened(name), LAYOUTS[name]
    assert (prior.predicts, prior.n_timesteps) == (layout.predicts, 100)
    size = 8 if layout.vae is None else 16
    assert prior.shape == ((size, size) if layout.n_channels == 1 else (size, size, 3))
    assert prior.x_shape == (layout.n_channels, 8, 8)
    x0 = prior.encode(images_for(prior, 2))
    assert tuple(x0.shape[1:]) == prior.x_shape and x0.dtype == torch.float32
    path = {"alpha_bar": prior.alpha_bar, "grid": time_grid(100, strength=0.9, n_steps=25)}
    with torch.no_grad():
        back = sample(prior.eps_and_x0_hat, invert(prior.eps_and_x0_hat, x0, **path), **path)
        found = record(prior.eps_and_x0_hat, x0, **path)
        source = sample(prior.eps_and_x0_hat, found.start, misses=found.misses, **path)
    assert float((back - x0).norm() / x0.norm()) <= 0.012
    assert float((source - x0).norm() / x0.norm()) <= 1e-4
    assert prior.decode(x0).shape == (2, *prior.shape) and prior.decode(x0).dtype == np.uint8


@each
def test_noise_and_image_make_the_noisy_image_and_nothing_told_is_the_network_itself(name, opened):
    prior = opened(name)
    x_t = torch.randn(3, *prior.x_shape, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        eps, x0 = prior.eps_and_x0_hat(x_t, 40)
        a, s = prior.alpha_bar[40].sqrt(), (1 - prior.alpha_bar[40]).sqrt()
        torch.testing.assert_close(a * x0 + s * eps, x_t, atol=1e-4, rtol=1e-4)
        told, network, about = {}, prior.denoiser.unet, prior.denoiser.unet.config
        x, t = x_t, torch.full((3,), 40.0)
        if prior.predicts == "flow_prediction":
            sigma = flow_sigma(prior.alpha_bar)[40]
            x, t = x_t / (a + s), torch.full((3,), float(sigma * 100))
        if isinstance(network, DiTTransformer2DModel):
            told["class_labels"] = torch.full((3,), 5)
        elif about.get("num_class_embeds"):
            told["class_labels"] = torch.full((3,), about["num_class_embeds"] - 1)
        if isinstance(network, UNet2DConditionModel):
            told["encoder_hidden_states"] = torch.zeros(3, 7, TEXT)
        out = network(x, timestep=t, **told).sample[:, : prior.x_shape[0]]
        expected = eps_and_x0(out, x_t, a, s, predicts=prior.predicts)
    torch.testing.assert_close(eps, expected[0], atol=2e-4, rtol=2e-4)
    torch.testing.assert_close(x0, expected[1], atol=2e-4, rtol=2e-4)


@each
def test_latents_are_added_to_the_time_embedding_and_nothing_told_changes_nothing(name, opened, grown):
    before, prior = opened(name), grown(name)
    x_t = torch.randn(2, *prior.x_shape, generator=torch.Generator().manual_seed(0))
    latents = prior.denoiser.latents
    nothing = latents(torch.ones(2, 3), torch.zeros(2, 2))
    with torch.no_grad():
        unconditional = prior.eps_and_x0_hat(x_t, 40)[0]
        assert torch.equal(unconditional, prior.eps_and_x0_hat(x_t, 40, nothing)[0])
        assert not torch.equal(unconditional, before.eps_and_x0_hat(x_t, 40)[0])
        told = prior.eps_and_x0_hat(x_t, 40, 30 * latents(torch.ones(2, 3), torch.ones(2, 2)))[0]
    assert float((told - unconditional).abs().max()) > 1e-4


@each
def test_it_comes_back_from_bytes_and_folders_to_the_bit(name, grown, tmp_path):
    prior = grown(name)
    save_prior(prior, tmp_path / "kept")
    for again in (load_prior(prior.to_bytes()), open_prior(str(tmp_path / "kept"))):
        assert again.to_bytes() == prior.to_bytes()
        x_t = torch.randn(2, *prior.x_shape, generator=torch.Generator().manual_seed(0))
        told = prior.denoiser.latents(torch.ones(2, 3), torch.ones(2, 2))
        for one, other in zip(
            again.eps_and_x0_hat(x_t, 30, told), prior.eps_and_x0_hat(x_t, 30, told), strict=True
        ):
            assert torch.equal(one, other)
        assert np.array_equal(again.decode(x_t), prior.decode(x_t))


@each
def test_its_weights_pass_the_checks_of_a_written_file(name, grown):
    def header(prior):
        tensors, metadata, _ = read_header(prior.to_bytes())
        return _Network(parse_json(metadata["nwb-migvis"]), tensors)

    prior = grown(name)
    edits = xr.Dataset(
        {"image": (("edit", "y", "x", "channel")[: 1 + len(prior.shape)], np.zeros((1, *prior.shape)))}
    )
    groups = pd.DataFrame({"size": [2, 1]}, index=["free_0", "free_1"])
    results = SimpleNamespace(synthesized=edits, groups=groups, provenance={})
    _check_prior(header(prior), results)
    network = header(prior)
    for part, change in (("unet", {"sample_size": 2**40}), ("autoencoder", {"class": "os.system"})):
        if part in network.settings and ("network" in network.settings or part == "autoencoder"):
            wrong = {**network.settings, part: network.settings[part] | change}
            with pytest.raises(ValueError, match=r"sample_size is|autoencoder is a"):
                _check_prior(_Network(wrong, network.tensors), results)


@pytest.mark.parametrize("name", ["classes, flat", "latents, flat", "text", "transformer, flow"])
def test_killed_training_goes_on_to_the_same_bits(name, opened, grown, tmp_path, monkeypatch):
    start = opened(name)
    images = images_for(start)
    how = {"config": replace(CONFIG, n_steps=3), "seed": 0, "start": start}
    how["conditions"] = conditions_of(Z, (2, 1))
    whole = train_prior(images, **how)
    monkeypatch.setattr(prior_training, "CHECKPOINT_EVERY", 2)
    kill = checkpoints.Checkpoint.save

    def killed(self, content):
        kill(self, content)
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        cached_prior(tmp_path, images, **how)
    monkeypatch.setattr(checkpoints.Checkpoint, "save", kill)
    assert cached_prior(tmp_path, images, **how).to_bytes() == whole.to_bytes()
    assert cached_prior(tmp_path, images, **how).to_bytes() == whole.to_bytes()


@pytest.mark.parametrize("name", ["classes, flat", "latents", "text", "transformer", "gray"])
def test_the_embedding_alone_is_trained_where_that_is_asked_for(name, opened):
    start = opened(name)
    config = replace(CONFIG, train="embedding")
    prior = train_prior(
        images_for(start), config=config, seed=0, start=start, conditions=conditions_of(Z, (2, 1))
    )
    before = start.denoiser.unet.state_dict()
    assert all(torch.equal(tensor, before[n]) for n, tensor in prior.denoiser.unet.state_dict().items())
    assert any(group[2].weight.any() for group in prior.denoiser.latents.groups)


@each
def test_edits_are_made_and_zero_guidance_is_the_reconstruction_to_the_bit(name, grown):
    prior = grown(name)
    images, conditions = images_for(prior), conditions_of(Z, (2, 1))
    split = np.array(["train"] * 24 + ["validation"] * 6 + ["test"] * 10)
    own = {"prior": prior, "seed": 0, "split": split}
    features = "prior" if "transformer" in name or name == "text" else "trained"
    settings = CriticConfig(n_steps=2, batch_size=8, channels=(8, 8), n_negatives=8, features=features)
    critic = train_critic(images, conditions, config=settings, **own)
    networks = EditNetworks(prior, critic, conditions.groups)
    config = SynthesisConfig(
        n_steps=3, n_pairs=4, n_dose=0, n_traversal=0, batch_size=4, methods=("pmi", "activation"), maps=True
    )
    config = replace(config, guidance=1.0, guidance_scale=2.0, source_guidance=1.0)
    plan = plan_edits(
        np.arange(30, 40), conditions.groups, labels={}, config=config, rng=np.random.default_rng(0)
    )
    stimuli = EditStimuli(np.arange(40).astype(str), images, critic.scale.standardise(Z))

    def made(plan, config=config):
        return synthesize(plan, stimuli, networks, config=config, seed=0)

    edits = made(plan)
    assert edits["image"].shape[1:] == prior.shape and np.isfinite(edits["critic_map"]).all()
    assert edits["critic_map"].shape[1:] == prior.shape[:2] and float(edits["critic_map"].max()) > 0
    pmi = plan[plan["method"] == "pmi"].reset_index(drop=True)
    rebuilt = made(pmi.assign(guidance=0.0))["image"].values
    still = replace(config, guidance_scale=0.0, source_guidance=0.0)
    nothing = made(pmi.assign(guidance=1e-300), still)["image"].values  # guided, by a shift of zero
    np.testing.assert_array_equal(nothing, rebuilt)
    assert (edits["image"].values[: len(pmi)] != rebuilt).any()


@pytest.mark.parametrize("name", ["latents", "latents, flat"])
def test_gradients_through_the_decoder_agree_with_finite_differences(name, opened):
    prior = opened(name)
    double = Autoencoder(copy.deepcopy(prior.autoencoder.network).double())
    x = prior.encode(images_for(prior, 2)).double()
    generator = torch.Generator().manual_seed(0)
    to, along = (torch.randn(s, generator=generator, dtype=x.dtype) for s in ((2, 3, 16, 16), x.shape))

    def value(x):
        return (double.to_pixels(x, like=prior.shape) * to).sum()

    gradient = torch.autograd.grad(value(x.requires_grad_(True)), x)[0]
    with torch.no_grad():
        numeric = (value(x + 1e-6 * along) - value(x - 1e-6 * along)) / 2e-6
    assert float(gradient.abs().max()) > 1e-3
    torch.testing.assert_close((gradient * along).sum(), numeric, rtol=1e-5, atol=1e-7)


@pytest.mark.parametrize("predicts", PREDICTS)
def test_the_target_stands_for_the_noise_and_the_image_that_were_mixed(predicts):
    x, eps = torch.randn(2, 5, 1, 4, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(0))
    alpha_bar = flow_alpha_bar(10, shift=3.0).double()
    for signal in alpha_bar:
        a, s = signal.sqrt(), (1 - signal).sqrt()
        out = target(x, eps, a, s, predicts=predicts)
        found = eps_and_x0(out, a * x + s * eps, a, s, predicts=predicts)
        torch.testing.assert_close(torch.stack(found), torch.stack([eps, x]))
    sigma = 3 * (torch.arange(10) + 0.5) / 10 / (1 + 2 * (torch.arange(10) + 0.5) / 10)
    torch.testing.assert_close(flow_sigma(alpha_bar), sigma.float(), atol=1e-5, rtol=1e-4)


def wrong_vae(folder):
    VQModel(block_out_channels=(8,), norm_num_groups=4).save_pretrained(folder / "vae")


def without_safetensors(folder):
    file = folder / "unet" / "diffusion_pytorch_model.safetensors"
    file.rename(file.with_suffix(".bin"))


def with_setting(file, **values):
    def change(folder):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


WRONG = {
    "another autoencoder": ("latents", wrong_vae, r"lies vae \(VQModel\); expected AutoencoderKL"),
    "a pickle": ("latents", without_safetensors, r"\.bin in unet; expected safetensors"),
    "other latents": ("latents", lambda f: unet(9).save_pretrained(f / "unet"), "9 channels for 4 of its"),
    "another network": (
        "latents",
        with_setting("unet/config.json", _class_name="SD3Transformer2DModel"),
        "its network is a SD3Transformer2DModel",
    ),
    "many blocks": (
        "transformer",
        with_setting("transformer/config.json", num_layers=10**6),
        "num_layers is 1000000",
    ),
    "many places": (
        "transformer",
        with_setting("transformer/config.json", sample_size=10**5),
        "sample_size is 100000 in patches of 2",
    ),
    "a wide autoencoder": (
        "latents",
        with_setting("vae/config.json", block_out_channels=[8, 4096]),
        "are stored",
    ),
    "times beside text": (
        "text",
        with_setting("unet/config.json", time_cond_proj_dim=8),
        "weights by its config.json|told more than a text",
    ),
    "no text encoder's package": (
        "text",
        lambda f: (f / "text_encoder").mkdir(),
        "needs transformers, which is not installed|text_encoder",
    ),
    "another text encoder": ("text", lambda f: (f / "text_encoder_2").mkdir(), "lies text_encoder_2"),
    "an older transformer": (
        "transformer",
        with_setting(
            "transformer/config.json", _class_name="Transformer2DModel", norm_type="ada_norm_single"
        ),
        "its network is a Transformer2DModel",
    ),
}


@pytest.mark.parametrize(("name", "spoil", "message"), WRONG.values(), ids=WRONG)
def test_anything_else_is_refused_as_what_it_is_in_one_line(name, spoil, message, tmp_path):
    folder = save(LAYOUTS[name], tmp_path / "model")
    spoil(folder)
    with pytest.raises(MigvisError, match=message) as refused:
        open_prior(str(folder))
    assert "\n" not in str(refused.value) and str(folder) in str(refused.value)


def test_a_transformer_under_its_earlier_name_is_read(tmp_path):
    folder = save(LAYOUTS["transformer"], tmp_path / "model")
    before = open_prior(str(folder))
    with_setting("transformer/config.json", _class_name="Transformer2DModel")(folder)
    assert open_prior(str(folder)).to_bytes() == before.to_bytes()


def test_training_the_embedding_alone_needs_a_prior_that_is_there():
    for wrong in ({}, {"start": "renders", "conditional": False}, {"start": "renders", "images": "a"}):
        with pytest.raises(MigvisError, match="expected a prior to start from"):
            PriorConfig(train="embedding", **wrong)
