"""Priors that are kept for later runs: the same bits, one folder for each training, nothing by halves."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import conditions_of
from safetensors.torch import load_file, save_file

from nwb_migvis import MigvisError
from nwb_migvis.cli_options import config_of
from nwb_migvis.config import PriorConfig
from nwb_migvis.synthesis.prior import training as prior_training
from nwb_migvis.synthesis.prior.cache import cache_key, cached_prior
from nwb_migvis.synthesis.prior.folder import open_prior
from nwb_migvis.synthesis.prior.training import denoising_loss, train_prior

IMAGES = np.random.default_rng(0).integers(0, 255, (24, 8, 8), dtype=np.uint8)
TINY = PriorConfig(size_px=8, channels=(8, 16), n_steps=4, batch_size=8, learning_rate=3e-3)
LATENTS = conditions_of(np.random.default_rng(1).normal(size=(24, 2)), (1, 1))


@pytest.fixture
def steps(monkeypatch):
    """Every step of training, as it is made."""
    made = []

    def counted(*arguments, **more):
        made.append(0)
        return denoising_loss(*arguments, **more)

    monkeypatch.setattr(prior_training, "denoising_loss", counted)
    return made


@pytest.mark.parametrize("conditions", [None, LATENTS])
def test_a_prior_is_trained_once_and_comes_back_to_the_bit(conditions, tmp_path, steps):
    training = {"config": replace(TINY, conditional=conditions is not None), "seed": 3}
    training["conditions"] = conditions
    fresh = train_prior(IMAGES, **training)
    first, second = (cached_prior(tmp_path, IMAGES, **training) for _ in range(2))
    assert len(steps) == 2 * TINY.n_steps
    assert fresh.to_bytes() == first.to_bytes() == second.to_bytes()
    x_t = torch.randn(5, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    for one, other in zip(fresh.eps_and_x0_hat(x_t, 400), second.eps_and_x0_hat(x_t, 400), strict=True):
        assert torch.equal(one, other)
    (entry,) = tmp_path.iterdir()
    assert open_prior(str(entry)).to_bytes() == fresh.to_bytes()


def test_whatever_decides_the_weights_decides_the_key():
    given = {"config": TINY, "seed": 0, "device": "cpu", "start": None, "conditions": None}
    key = cache_key(IMAGES, **given)
    assert cache_key(IMAGES.copy(), **given) == key
    start = train_prior(IMAGES, config=TINY, seed=0)
    other = replace(LATENTS, z=LATENTS.z + 1e-6)
    changes = (
        {"config": replace(TINY, n_steps=5)},
        {"seed": 1},
        {"device": "cuda"},
        {"start": start},
        {"conditions": LATENTS},
        {"conditions": other},
    )
    keys = [key, cache_key(IMAGES[::-1], **given), *(cache_key(IMAGES, **given | more) for more in changes)]
    n_threads = torch.get_num_threads()
    try:
        torch.set_num_threads(n_threads + 1)
        keys.append(cache_key(IMAGES, **given))
    finally:
        torch.set_num_threads(n_threads)
    assert len(set(keys)) == len(keys) == 9


@pytest.mark.parametrize("change", [{"learning_rate": 1e-3}, {"optimiser": "adamw"}])
def test_another_training_has_a_folder_of_its_own(tmp_path, steps, change):
    first = cached_prior(tmp_path, IMAGES, config=TINY, seed=0)
    other = cached_prior(tmp_path, IMAGES, config=replace(TINY, **change), seed=0)
    assert len(steps) == 2 * TINY.n_steps
    assert first.to_bytes() != other.to_bytes()
    assert len(list(tmp_path.iterdir())) == 2


def test_a_killed_training_goes_on_where_it_was(tmp_path, monkeypatch):
    whole = train_prior(IMAGES, config=TINY, seed=0).to_bytes()
    monkeypatch.setattr(prior_training, "CHECKPOINT_EVERY", 2)
    made = []

    def killed_at_the_fourth(*arguments, **more):
        made.append(0)
        if len(made) == 4:
            raise KeyboardInterrupt
        return denoising_loss(*arguments, **more)

    monkeypatch.setattr(prior_training, "denoising_loss", killed_at_the_fourth)
    with pytest.raises(KeyboardInterrupt):
        cached_prior(tmp_path, IMAGES, config=TINY, seed=0)
    (left,) = tmp_path.iterdir()
    assert left.name.endswith(".checkpoint.pt")
    assert cached_prior(tmp_path, IMAGES, config=TINY, seed=0).to_bytes() == whole
    assert len(made) == 4 + 2
    (entry,) = tmp_path.iterdir()
    assert left.name.startswith(entry.name)


def test_two_at_a_time_do_not_harm_each_other(tmp_path, monkeypatch):
    whole = train_prior(IMAGES, config=TINY, seed=0).to_bytes()
    monkeypatch.setattr(prior_training, "CHECKPOINT_EVERY", 1)
    made = []

    def meanwhile(*arguments, **more):
        made.append(0)
        if len(made) == 3:
            found.append(cached_prior(tmp_path, IMAGES, config=TINY, seed=0))
        return denoising_loss(*arguments, **more)

    found = []
    monkeypatch.setattr(prior_training, "denoising_loss", meanwhile)
    found.append(cached_prior(tmp_path, IMAGES, config=TINY, seed=0))
    found.append(cached_prior(tmp_path, IMAGES, config=TINY, seed=0))
    assert [prior.to_bytes() for prior in found] == [whole] * 3
    (entry,) = tmp_path.iterdir()
    assert entry.is_dir()


def cut_short(entry):
    weights = entry / "unet" / "diffusion_pytorch_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-100])


def swap_a_weight(entry):
    weights = entry / "unet" / "diffusion_pytorch_model.safetensors"
    state = load_file(weights)
    name = min(state)
    save_file(state | {name: state[name] + 1e-3}, weights, metadata={"format": "pt"})


def lose_the_schedule(entry):
    (entry / "nwb_migvis_prior.safetensors").write_bytes(b"nothing")


def lose_the_scale(entry):
    (entry / "nwb_migvis_prior.json").write_text('{"patch_px": 2, "precision": "float32", "sizes": null}')


def lose_the_digest(entry):
    (entry / "sha256.txt").unlink()


@pytest.mark.parametrize(
    "harm", [cut_short, swap_a_weight, lose_the_schedule, lose_the_scale, lose_the_digest]
)
def test_a_damaged_prior_is_never_used(harm, tmp_path):
    cached_prior(tmp_path, IMAGES, config=TINY, seed=0)
    (entry,) = tmp_path.iterdir()
    harm(entry)
    with pytest.raises(MigvisError, match=r"is damaged.*remove that folder to train") as refused:
        cached_prior(tmp_path, IMAGES, config=TINY, seed=0)
    assert str(entry) in str(refused.value) and "\n" not in str(refused.value)


def test_a_cache_that_vanished(tmp_path):
    with pytest.raises(MigvisError, match="could not be written"):
        cached_prior(tmp_path / "gone", IMAGES, config=TINY, seed=0)


def test_the_command_line_names_the_cache(tmp_path):
    options = dict.fromkeys(("config_path", "preset", "batch_size", "seed", "device"))
    assert config_of(options | {"cache": str(tmp_path)}).checkpoints == tmp_path
    assert config_of(options | {"cache": None}).checkpoints is None
