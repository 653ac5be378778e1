"""Priors trained on a folder, from which sessions start; ids of the hub; where a prior came from."""

from __future__ import annotations

import json
import shutil
import socket

import numpy as np
import pytest
from huggingface_hub import constants
from networks import save_other_pipeline
from PIL import Image

from nwb_migvis import Config, MigvisError
from nwb_migvis.analysis.networks import PriorRecord, check_prior
from nwb_migvis.cli import main
from nwb_migvis.config import PriorConfig
from nwb_migvis.networks.checkpoints import Checkpoint
from nwb_migvis.runs import Training, train_prior_on, training_priors
from nwb_migvis.synthesis.prior.folder import open_prior
from nwb_migvis.synthesis.prior.hub import downloads, hub_folder
from nwb_migvis.synthesis.prior.origin import MOST_LINE, origin_of

RNG = np.random.default_rng(0)
TINY = {"size_px": 8, "channels": (8,), "n_steps": 4, "batch_size": 4}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def pictures(tmp_path):
    folder = tmp_path / "pictures"
    folder.mkdir()
    for i in range(24):
        Image.fromarray(RNG.integers(0, 255, (12, 16), dtype=np.uint8)).save(folder / f"{i}.png")
    return folder


def training(**options):
    return Training(Config(n_threads=1, prior=PriorConfig(**TINY)), samples_every=2, **options)


def test_killed_training_goes_on_to_the_same_prior_from_which_sessions_start(pictures, tmp_path, monkeypatch):
    whole = open_prior(str(train_prior_on(pictures, tmp_path / "whole", training())))
    assert whole.shape == (8, 8) and not whole.is_conditional
    monkeypatch.setattr(training_priors, "_EVERY", 1)
    save = Checkpoint.save

    def killed(self, content):
        save(self, content)
        if content["training"]["n_taken"] == 3:
            raise KeyboardInterrupt

    monkeypatch.setattr(Checkpoint, "save", killed)
    out = tmp_path / "killed"
    with pytest.raises(KeyboardInterrupt):
        train_prior_on(pictures, out, training())
    with Image.open(out / "samples.png") as first:
        assert first.size == (14 * 35, 14 * 35)
        before = np.asarray(first)
    assert not (out / "training.json").exists()
    with pytest.raises(MigvisError, match="expected the folders 'unet'"):
        open_prior(str(out))
    with pytest.raises(MigvisError, match="belongs to other data or settings"):
        train_prior_on(pictures, out, training(colour=True))
    monkeypatch.setattr(Checkpoint, "save", save)
    train_prior_on(pictures, out, training())
    assert open_prior(str(out)).to_bytes() == whole.to_bytes()
    with Image.open(out / "samples.png") as last:
        assert (np.asarray(last) != before).any()
    record = json.loads((out / "training.json").read_text())
    assert (record["folder"], record["n_images"], record["shape"]) == ("pictures", 24, [8, 8])
    assert sorted(path.name for path in out.iterdir()) == [
        "nwb_migvis_prior.json",
        "nwb_migvis_prior.safetensors",
        "samples.png",
        "scheduler",
        "training.json",
        "unet",
    ]
    with pytest.raises(MigvisError, match="holds a prior that is trained already"):
        train_prior_on(pictures, out, training())
    check_prior(Config(prior=PriorConfig(start=str(out))))
    record = PriorRecord.of(PriorConfig(start=str(out)), None).content["start"]
    assert record["folder"] == "killed" and len(record["sha256"]) == 64
    assert record["sha256"] != origin_of("renders")["sha256"]


def test_the_command_trains_in_colour_and_on(pictures, tmp_path, capsys):
    (tmp_path / "c.toml").write_text("n_threads = 1\n[prior]\nchannels = [8]\nbatch_size = 4\n")
    own = ["train-prior", str(pictures), "--config", str(tmp_path / "c.toml"), "--quiet", "--steps", "2"]
    for out, more in (("a", ["--size", "8", "--colour"]), ("b", ["--start", str(tmp_path / "a")])):
        with pytest.raises(SystemExit) as ended:
            main([*own, "--out", str(tmp_path / out), *more])
        assert ended.value.code == 0
    said = capsys.readouterr().out
    assert f'prior.start = "{tmp_path / "b"}"' in said
    assert open_prior(str(tmp_path / "b")).shape == (8, 8, 3)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.tex").write_text("")
    for out, folder, message in (
        ("other", pictures, "holds 'thesis.tex'; expected a new or an empty folder"),
        ("d", tmp_path / "absent", "found no such folder"),
        ("e", tmp_path / "other", "found no image files"),
    ):
        with pytest.raises(SystemExit) as ended:
            main(["train-prior", str(folder), "--out", str(tmp_path / out), "--steps", "2"])
        error = capsys.readouterr().err
        assert ended.value.code == 1 and message in error and error.count("\n") == 1


@pytest.fixture
def no_network(monkeypatch):
    def refused(*_arguments, **_more):
        raise OSError("no network here")

    for name in ("socket", "create_connection", "getaddrinfo"):
        monkeypatch.setattr(socket, name, refused)


@pytest.fixture
def hub(tmp_path, monkeypatch):
    """A cache of the hub, as it stores a model: blobs, and a snapshot of links to them."""
    cache = tmp_path / "hub"
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    model = cache / "models--lab--faces"
    save_other_pipeline(tmp_path / "model", size_px=16)
    (tmp_path / "model" / "README.md").write_text("---\nlicense: apache-2.0\n---\nFaces.\n")
    (model / "blobs").mkdir(parents=True)
    (model / "refs").mkdir()
    (model / "refs" / "main").write_text(COMMIT)
    for i, path in enumerate(sorted(p for p in (tmp_path / "model").rglob("*") if p.is_file())):
        shutil.copy(path, model / "blobs" / str(i))
        place = model / "snapshots" / COMMIT / path.relative_to(tmp_path / "model")
        place.parent.mkdir(parents=True, exist_ok=True)
        place.symlink_to(model / "blobs" / str(i))
    return model / "snapshots" / COMMIT


@pytest.mark.parametrize("revision", ["main", COMMIT])
def test_a_cached_id_of_the_hub_works_without_network(revision, hub, tmp_path, no_network):
    name = f"lab/faces@{revision}"
    assert open_prior(name).to_bytes() == open_prior(str(tmp_path / "model")).to_bytes()
    check_prior(Config(prior=PriorConfig(start=name)))
    origin = origin_of(name)
    assert (origin["id"], origin["revision"], origin["license"]) == ("lab/faces", COMMIT, ["apache-2.0"])
    assert origin["sha256"] == origin_of(str(tmp_path / "model"))["sha256"]
    (hub / "LICENSE").write_text("Do as you like,\n\n\twith\x07 care.\n" + "x" * 2000 + " \n" * 50_000 + "!")
    assert origin_of(name)["license"] == ["Do as you like,", "with care.", "x" * MOST_LINE]


def test_an_id_that_is_not_cached_ends_in_one_line(hub, no_network, tmp_path, capsys):
    for name in ("lab/other@main", "lab/faces@v2", f"lab/faces@{'f' * 40}"):
        with pytest.raises(MigvisError, match=r"not in the local cache .*--download") as refused:
            open_prior(name)
        assert "\n" not in str(refused.value)
    with downloads(), pytest.raises(MigvisError, match="could not be fetched from the hub") as refused:
        open_prior("lab/other@main")
    assert "\n" not in str(refused.value)
    with pytest.raises(SystemExit) as ended:
        main(["train-prior", str(tmp_path), "--out", str(tmp_path / "o"), "--start", "lab/other@main"])
    error = capsys.readouterr().err
    assert ended.value.code == 1 and "not in the local cache of the hub" in error and error.count("\n") == 1


def test_a_folder_comes_first_and_an_id_needs_a_revision(hub, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "lab").mkdir()
    shutil.copytree(tmp_path / "model", tmp_path / "lab" / "faces@main")
    assert origin_of("lab/faces@main")["folder"] == "faces@main"
    with pytest.raises(MigvisError, match="no such folder"):
        open_prior("lab/faces")
    with pytest.raises(MigvisError, match="expected org/name@REVISION"):
        hub_folder("lab/faces")
    (hub / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(MigvisError, match="expected safetensors"):
        open_prior(f"lab/faces@{COMMIT}")
