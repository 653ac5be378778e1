"""Further images that the prior alone trains on: read to size, never a held-out one, recorded."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from networks import conditions_of
from PIL import Image

from nwb_migvis import Config, MigvisError, Study, read_session, simulate_session
from nwb_migvis.analysis.further_images import copies
from nwb_migvis.analysis.networks import check_prior
from nwb_migvis.config import PriorConfig
from nwb_migvis.read.pictures import has_colour, picture_files, read_pictures
from nwb_migvis.read.recorded import small_images
from nwb_migvis.synthesis.prior import training as prior_training
from nwb_migvis.synthesis.prior.cache import cache_key
from nwb_migvis.synthesis.prior.training import ImageTraining, TrainingImages, training_digest
from nwb_migvis.testing import tiny_config

TINY = PriorConfig(size_px=8, channels=(8,), n_steps=2, batch_size=8)
RNG = np.random.default_rng(0)
OWN = RNG.integers(0, 100, (24, 8, 8), dtype=np.uint8)
FURTHER = RNG.integers(150, 255, (9, 8, 8), dtype=np.uint8)


def save(folder, name, pixels):
    folder.mkdir(parents=True, exist_ok=True)
    Image.fromarray(pixels).save(folder / name)


def test_pictures_are_cut_resized_and_made_gray_or_coloured(tmp_path):
    ramp = np.repeat(np.arange(0, 200, 10, dtype=np.uint8)[None], 10, axis=0)  # 10 x 20
    save(tmp_path, "a.png", ramp)
    red = np.zeros((16, 8, 3), np.uint8)
    red[..., 0] = 200
    save(tmp_path / "deeper", "b.PNG", red)
    (tmp_path / "notes.txt").write_text("no picture")
    files = picture_files(tmp_path, what="pictures")
    assert [file.name for file in files] == ["a.png", "b.PNG"]
    gray = read_pictures(files, (10, 10), what="pictures")
    np.testing.assert_array_equal(gray[0], ramp[:, 5:15])
    assert set(np.unique(gray[1])) == {round(0.299 * 200)}
    assert gray[1, 0, 0] == np.asarray(Image.fromarray(red).convert("L"))[0, 0]
    colour = read_pictures(files, (5, 10, 3), what="pictures")
    assert colour.shape == (2, 5, 10, 3) and (colour[1] == [200, 0, 0]).all()
    assert (colour[0] == colour[0][..., :1]).all() and colour[0, 0, -1, 0] > 170
    assert has_colour(files) and not has_colour(files[:1])


def test_folders_and_files_that_cannot_be_used(tmp_path):
    with pytest.raises(MigvisError, match="found no such folder"):
        picture_files(tmp_path / "absent", what="pictures")
    with pytest.raises(MigvisError, match=r"prior\.images\) .*found no such folder"):
        check_prior(Config(prior=replace(TINY, images=str(tmp_path / "absent"))))
    with pytest.raises(MigvisError, match="found no image files"):
        picture_files(tmp_path, what="pictures")
    (tmp_path / "a.png").write_bytes(b"no image")
    with pytest.raises(MigvisError, match=r"a\.png is not an image that can be read"):
        read_pictures(picture_files(tmp_path, what="pictures"), (8, 8), what="pictures")
    for wrong in ({"n_steps": 0, "start": "renders", "conditional": False}, {"batch_size": 1}):
        with pytest.raises(MigvisError, match="expected 2 images per batch"):
            PriorConfig(images="somewhere", **wrong)
    for share in (0.0, 1.0):
        with pytest.raises(MigvisError, match="images_share"):
            PriorConfig(images_share=share)


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_batches_hold_the_share_and_further_images_have_no_latents(share, monkeypatch):
    z = conditions_of(RNG.normal(size=(24, 2)), (1, 1))
    config = replace(TINY, images_share=share)
    training = ImageTraining(TrainingImages(OWN, FURTHER), config=config, seed=0, conditions=z)
    for group in training.denoiser.latents.groups:
        torch.nn.init.ones_(group[2].bias)
    places, told = [], []

    def seen(_passes, x, _alpha_bar, _generator, *, condition, **_more):
        is_further = torch.as_tensor(training.scale.to_images(x, grayscale=True).min(axis=(1, 2)) >= 149)
        places.append(is_further.numpy())
        assert not condition[is_further].any()
        told.append(condition[~is_further].detach().any(dim=1).numpy())
        return sum(p.sum() * 0 for p in training.denoiser.parameters())

    monkeypatch.setattr(prior_training, "denoising_loss", seen)
    for _ in range(60):
        training.step()
    n_further = round(share * 8)
    assert (np.sum(places, axis=1) == n_further).all()
    assert (np.abs(np.mean(places, axis=0) - n_further / 8) < 0.25).all()  # any place: any noise level
    assert 0.5 < np.mean(told) < 0.9  # groups are dropped together for 15 % and a quarter of 55 %


def test_without_further_images_digest_and_key_are_what_they_were():
    given = {"seed": 0, "start": None, "conditions": None}
    digest = training_digest(OWN, TINY, **given)
    assert digest == training_digest(TrainingImages(OWN), replace(TINY, images_share=0.3), **given)
    further, named = TrainingImages(OWN, FURTHER), replace(TINY, images="a")
    assert training_digest(further, replace(TINY, images="b"), **given) == training_digest(
        further, named, **given
    )
    others = {
        training_digest(further, named, **given),
        training_digest(further, replace(named, images_share=0.3), **given),
        training_digest(TrainingImages(OWN, FURTHER[:-1]), named, **given),
    }
    assert len(others | {digest}) == 4
    key = {**given, "device": "cpu"}
    assert cache_key(further, config=named, **key) != cache_key(OWN, config=TINY, **key)


def test_copies_are_seen_through_another_format_and_unlike_images_are_not():
    held_out = np.concatenate([OWN[:4], np.full((1, 8, 8), 70, np.uint8)])
    noisy = np.clip(OWN[1].astype(int) + RNG.integers(-2, 3, (8, 8)), 0, 255).astype(np.uint8)
    candidates = np.stack([OWN[0], noisy, OWN[10], held_out[4], np.full((8, 8), 71, np.uint8), FURTHER[0]])
    assert copies(candidates, held_out).tolist() == [True, True, False, True, False, False]
    assert not copies(candidates, held_out[:0]).any()


def test_a_run_leaves_held_out_stimuli_out_and_says_so(tmp_path):
    path = simulate_session(tmp_path / "s.nwb", n_stimuli=80, n_repeats=2, size_px=16, seed=0)
    session, more = read_session(path), tmp_path / "more"
    plain = Study(session, tiny_config())
    plain.fit_latents()
    images, is_train = small_images(session["image"], 16), plain.latents.split == "train"
    held_out, trained = np.flatnonzero(~is_train), np.flatnonzero(is_train)
    for i in (*held_out[:3], *trained[:2]):
        save(more, f"shown{i}.png", images[i])
    for i in range(4):
        save(more, f"new{i}.png", RNG.integers(0, 255, (40, 30, 3), dtype=np.uint8))
    study = Study(session, tiny_config(prior={"images": str(more)}))
    study.fit_latents()
    study.train_prior()
    study.measure()
    results = study.results
    record = results.provenance["prior"]["images"]
    assert (record["folder"], record["n_images"], record["n_held_out"]) == ("more", 6, 3)
    assert len(record["sha256"]) == 64
    said = "3 of 9 images in 'more' (prior.images) are held-out stimuli"
    assert any(said in note for note in results.provenance["notes"])
    assert plain.train_prior().to_bytes() != study.prior.to_bytes()
    for file in more.iterdir():
        if file.stem not in {f"shown{i}" for i in held_out}:
            file.unlink()
    with pytest.raises(MigvisError, match="all 3 are held-out stimuli"):
        study.train_prior()
