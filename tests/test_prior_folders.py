"""Folders of priors and states of trainings that were made to harm end in one line, before much is built."""

from __future__ import annotations

import io
import json
import os
import shutil
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DDPMScheduler, UNet2DModel

from nwb_migvis import MigvisError
from nwb_migvis.config import PriorConfig
from nwb_migvis.synthesis.prior.cache import cached_prior
from nwb_migvis.synthesis.prior.folder import open_prior, save_prior
from nwb_migvis.synthesis.prior.model import PixelScale, Prior, cosine_alpha_bar, new_denoiser
from nwb_migvis.synthesis.prior.training import train_prior
from nwb_migvis.tensors import read_tensors, write_tensors

IMAGES = np.random.default_rng(0).integers(0, 255, (24, 8, 8), dtype=np.uint8)
TINY = PriorConfig(size_px=8, channels=(8,), n_steps=2, batch_size=2, conditional=False)
on_posix = pytest.mark.skipif(sys.platform == "win32", reason="needs pipes and links")


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    """Two priors: one of ours, conditioned on latents, and one in diffusers' format alone."""
    folder = tmp_path_factory.mktemp("priors")
    torch.manual_seed(0)
    denoiser = new_denoiser(1, TINY, sizes=(2, 1))
    save_prior(Prior(denoiser, PixelScale(100.0, 50.0), (8, 8), cosine_alpha_bar(100)), folder / "ours")
    blocks = {"down_block_types": ("DownBlock2D",), "up_block_types": ("UpBlock2D",), "norm_num_groups": 8}
    unet = UNet2DModel(8, 1, 1, block_out_channels=(8,), layers_per_block=1, **blocks)
    unet.save_pretrained(folder / "theirs" / "unet")
    DDPMScheduler(50).save_pretrained(folder / "theirs" / "scheduler")
    return folder


@pytest.fixture
def folders(whole, tmp_path) -> Path:
    return Path(shutil.copytree(whole, tmp_path / "priors"))


def set_json(file, **values):
    def change(folder):
        path = folder / file
        path.write_text(json.dumps(json.loads(path.read_text()) | values))

    return change


def set_tensor(file, name, change_array):
    def change(folder):
        arrays, metadata = read_tensors((folder / file).read_bytes())
        (folder / file).write_bytes(write_tensors({**arrays, name: change_array(arrays[name])}, metadata))

    return change


def put_bytes(file, data):
    return lambda folder: (folder / file).write_bytes(data)


UNET, WEIGHTS = "unet/config.json", "unet/diffusion_pytorch_model.safetensors"
SCHEDULER = "scheduler/scheduler_config.json"
HEAD, TENSORS = "nwb_migvis_prior.json", "nwb_migvis_prior.safetensors"
OF_BOTH = {
    "65536 channels": (set_json(UNET, block_out_channels=[65536]), "weights by its config.json"),
    "2**40 channels": (set_json(UNET, block_out_channels=[2**40]), "whole numbers from 1 to 65536"),
    "many layers": (set_json(UNET, layers_per_block=10**6), "layers_per_block is 1000000"),
    "many blocks": (
        set_json(UNET, block_out_channels=[8] * 20, down_block_types=["DownBlock2D"] * 20),
        "block_out_channels is ",
    ),
    "text for a number": (set_json(UNET, norm_eps="x"), "norm_eps is 'x'; expected a value like"),
    "an unknown block": (set_json(UNET, down_block_types=["os.system"]), "os.system"),
    "no JSON": (put_bytes(UNET, b"["), "expected the folders 'unet'"),
    "deep JSON": (put_bytes(UNET, b'{"a": ' + b"[" * 20_000 + b"]" * 20_000 + b"}"), "nested too deeply"),
    "10**9 steps": (set_json(SCHEDULER, num_train_timesteps=10**9), "num_train_timesteps is 1000000000"),
    "a million betas": (set_json(SCHEDULER, trained_betas=[0.1] * 10**6), "with 1000000 betas"),
    "weights of NaN": (
        set_tensor(WEIGHTS, "conv_in.bias", lambda a: np.full_like(a, np.nan)),
        "conv_in.bias holds values that are not finite",
    ),
    "weights cut": (set_tensor(WEIGHTS, "conv_in.weight", lambda a: a[:4]), "are stored"),
    "a header of 2**40 bytes": (put_bytes(WEIGHTS, (2**40).to_bytes(8, "little") + b"{}"), "a header of "),
    "parts elsewhere": (
        put_bytes(
            f"{WEIGHTS}.index.json", b'{"metadata": {}, "weight_map": {"a": "../../elsewhere.safetensors"}}'
        ),
        "names files of other folders",
    ),
}
OF_OURS = {
    "patch of 0": (set_json(HEAD, patch_px=0), "patch_px is 0"),
    "images of 10**6 px": (set_json(HEAD, shape=[10**6, 8]), "shape is "),
    "images of colour": (set_json(HEAD, shape=[8, 8, 3]), "in patches of 2 px have 12"),
    "a scale of 0": (set_json(HEAD, scale={"mean": 1, "std": 0}), "scale has std = 0"),
    "groups of 10**9": (set_json(HEAD, sizes=[10**9, 1]), "sizes is "),
    "other groups": (set_json(HEAD, sizes=[3, 1]), "the tensors have"),
    "no groups": (set_json(HEAD, sizes=None), "class_embed_type 'identity'; expected None"),
    "float8": (set_json(HEAD, precision="float8"), "precision is 'float8'"),
    "a schedule of other steps": (
        set_tensor(TENSORS, "alpha_bar", lambda a: a[:5]),
        "alpha_bar of (5,) steps",
    ),
    "a schedule of NaN": (
        set_tensor(TENSORS, "alpha_bar", lambda a: np.full_like(a, np.nan)),
        "alpha_bar holds values that are not finite",
    ),
}
OF_THEIRS = {name: OF_BOTH[name] for name in ("65536 channels", "deep JSON", "10**9 steps", "weights cut")}
HOSTILE = {
    f"{kind}: {name}": (kind, *case)
    for kind, cases in (("ours", OF_BOTH | OF_OURS), ("theirs", OF_THEIRS))
    for name, case in cases.items()
}


def test_unchanged_folders_are_opened(folders):
    assert open_prior(str(folders / "ours")).is_conditional
    assert open_prior(str(folders / "theirs")).shape == (8, 8)


@pytest.mark.parametrize(("kind", "spoil", "message"), HOSTILE.values(), ids=HOSTILE)
def test_a_hostile_folder_is_refused_by_name(folders, kind, spoil, message):
    spoil(folders / kind)
    with pytest.raises(MigvisError) as caught:
        open_prior(str(folders / kind))
    assert message in str(caught.value) and str(folders / kind) in str(caught.value)
    assert "\n" not in str(caught.value)


@on_posix
@pytest.mark.parametrize("file", [UNET, WEIGHTS, SCHEDULER, HEAD, TENSORS])
def test_pipes_and_devices_in_a_folder_are_refused_at_once(folders, file):
    path = folders / "ours" / file
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(MigvisError, match="is a pipe; expected a regular file"):
        open_prior(str(folders / "ours"))
    path.unlink()
    path.symlink_to("/dev/zero")
    with pytest.raises(MigvisError, match="is a device; expected a regular file"):
        open_prior(str(folders / "ours"))
    path.unlink()
    path.symlink_to(path)
    with pytest.raises(MigvisError, match="prior "):
        open_prior(str(folders / "ours"))


def of_pipe(path):
    path.unlink()
    os.mkfifo(path)


def of_bomb(path):
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 10**6)


def of_old_format(path):
    torch.save(torch.load(path, weights_only=True), path, _use_new_zipfile_serialization=False)


def with_state(change):
    def spoil(path):
        content = torch.load(path, weights_only=True)
        change(content)
        torch.save(content, path)

    return spoil


STATES = {
    "a pipe": (of_pipe, "is a pipe"),
    "compressed": (of_bomb, "its parts are compressed"),
    "the old format": (of_old_format, "cannot be read"),
    "no network": (with_state(lambda c: c["training"].pop("network")), "does not fit this training"),
    "steps of -10**12": (
        with_state(lambda c: c["training"].update(n_taken=-(10**12))),
        "steps (-1000000000000",
    ),
    "steps of text": (with_state(lambda c: c["training"].update(n_taken="x")), "steps ('x'"),
    "another optimiser": (
        with_state(lambda c: c["training"]["optimiser"]["state"][0].update(exp_avg=torch.zeros(3))),
        "does not fit this training",
    ),
    "a loss of text": (with_state(lambda c: c["best"].update(loss="x")), "with the loss 'x'"),
    "weights of another": (
        with_state(lambda c: c["best"].update(weights={"x": torch.zeros(3)})),
        "the best weights are of another network",
    ),
}


@on_posix
@pytest.mark.parametrize(("spoil", "message"), STATES.values(), ids=STATES)
def test_a_hostile_state_of_a_training_is_refused_by_name(tmp_path, monkeypatch, spoil, message):
    monkeypatch.setattr("nwb_migvis.synthesis.prior.training.CHECKPOINT_EVERY", 1)
    path = tmp_path / "state.pt"
    saved = []
    monkeypatch.setattr(
        "nwb_migvis.networks.checkpoints.Path.replace",
        lambda self, target: saved.append(self.read_bytes()) or self.rename(target),
    )
    train_prior(IMAGES, config=TINY, seed=0, checkpoint=path)
    path.write_bytes(saved[0])  # after the first of two steps
    spoil(path)
    with pytest.raises(MigvisError, match=r"^checkpoint ") as caught:
        train_prior(IMAGES, config=TINY, seed=0, checkpoint=path)
    assert message in str(caught.value) and "\n" not in str(caught.value)


@on_posix
def test_a_pipe_in_a_cache_is_refused_at_once(tmp_path):
    cached_prior(tmp_path, IMAGES, config=TINY, seed=0)
    (entry,) = tmp_path.iterdir()
    (entry / "sha256.txt").unlink()
    os.mkfifo(entry / "sha256.txt")
    with pytest.raises(MigvisError, match=r"is damaged; remove that folder .*sha256.txt is a pipe"):
        cached_prior(tmp_path, IMAGES, config=TINY, seed=0)


def test_bytes_that_are_kept_are_torchs_own():
    kept = io.BytesIO()
    torch.save({"a": torch.zeros(3)}, kept)
    with zipfile.ZipFile(kept) as archive:
        assert {part.compress_type for part in archive.infolist()} == {zipfile.ZIP_STORED}
