"""A prior in the latents of an autoencoder that is trained with it."""

from __future__ import annotations

from dataclasses import fields, replace

import numpy as np
import pytest
import torch
from networks import conditions_of

from nwb_migvis import (
    Config,
    MigvisError,
    Study,
    load_models,
    read_results,
    read_session,
    run,
    simulate_session,
    synthesize_more,
)
from nwb_migvis.analysis import rehearsal
from nwb_migvis.analysis.kept import Kept
from nwb_migvis.analysis.networks import settings_of
from nwb_migvis.analysis.rehearsal import Sizes, estimate_run
from nwb_migvis.config import CriticConfig, PriorConfig, SynthesisConfig
from nwb_migvis.networks import checkpoints
from nwb_migvis.runs import Training, reproduce, train_prior_on
from nwb_migvis.synthesis.critic.training import train_critic
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize
from nwb_migvis.synthesis.prior import autoencoder_training
from nwb_migvis.synthesis.prior.autoencoder_training import autoencoder_state, train_autoencoder
from nwb_migvis.synthesis.prior.cache import cached_prior
from nwb_migvis.synthesis.prior.ddim import invert, sample, time_grid
from nwb_migvis.synthesis.prior.fixed_point import Search
from nwb_migvis.synthesis.prior.folder import open_prior, save_prior
from nwb_migvis.synthesis.prior.model import load_prior
from nwb_migvis.synthesis.prior.training import train_prior, training_digest
from nwb_migvis.synthesis.prior.training_images import TrainingImages
from nwb_migvis.testing import tiny_config

RNG = np.random.default_rng(0)
Z = RNG.normal(size=(60, 3)).astype(np.float32)
CONFIG = PriorConfig(
    size_px=16, channels=(8, 8), n_steps=4, batch_size=8, autoencoder=True, autoencoder_steps=3
)
LONGER = replace(CONFIG, autoencoder_steps=150)


def pictures(shape, n=60):
    """Smooth images of a shape (y, x (, channel))."""
    y, x = np.mgrid[: shape[0], : shape[1]] / max(shape[:2])
    channels = 1 if len(shape) == 2 else 3
    waves = RNG.uniform(-6, 6, (n, channels, 3, 1, 1))
    made = np.sin(waves[:, :, 0] * x + waves[:, :, 1] * y + waves[:, :, 2])
    made = np.moveaxis(127.5 + 100 * made, 1, -1).astype(np.uint8)
    return np.ascontiguousarray(made[..., 0] if len(shape) == 2 else made)


SHAPES = {"gray": (16, 16), "colour": (16, 16, 3), "oblong": (10, 16)}
each = pytest.mark.parametrize("name", SHAPES)


@pytest.fixture(scope="module")
def images():
    return {name: pictures(shape) for name, shape in SHAPES.items()}


@pytest.fixture(scope="module")
def trained(images):
    """A conditional prior of each shape, and what it was trained with."""
    made = {}

    def of(name):
        if name not in made:
            how = {"config": LONGER, "seed": 0, "conditions": conditions_of(Z, (2, 1))[:40]}
            made[name] = train_prior(images[name][:40], **how)
        return made[name]

    return of


def test_it_is_off_unless_asked_for_and_changes_no_digest():
    given = {"seed": 0, "start": None, "conditions": None}
    plain, own = PriorConfig(), pictures((16, 16))
    assert not plain.autoencoder
    assert training_digest(own, plain, **given) == training_digest(
        own, replace(plain, autoencoder_steps=7), **given
    )
    digests = {
        training_digest(own, config, **given)
        for config in (plain, replace(plain, autoencoder=True), replace(LONGER, size_px=64))
    }
    assert len(digests) == 3
    assert {"autoencoder", "autoencoder_steps"} <= {field.name for field in fields(PriorConfig)}


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"start": "renders"}, r"autoencoder = true with start = 'renders'; expected one of them"),
        ({"size_px": 30}, r"images of 30 px; expected a multiple of 4 px .* set size_px = 28"),
        ({"autoencoder_steps": 0}, "autoencoder_steps = 0; expected at least 1"),
    ],
)
def test_settings_that_make_no_sense_are_refused_in_one_line(wrong, message):
    with pytest.raises(MigvisError, match=message) as refused:
        PriorConfig(autoencoder=True, **wrong)
    assert "\n" not in str(refused.value)


def test_images_whose_side_does_not_fit_are_refused(tmp_path):
    path = simulate_session(tmp_path / "s.nwb", n_stimuli=80, n_repeats=2, size_px=18, seed=0)
    study = Study(read_session(path), tiny_config(prior={"autoencoder": True, "size_px": 64}))
    study.fit_latents()
    with pytest.raises(MigvisError, match=r"images of 18 px; expected a multiple of 4 px .*size_px = 16"):
        study.train_prior()
    with pytest.raises(MigvisError, match="every pixel of the 40 training images is 9"):
        train_prior(np.full((40, 16, 16), 9, np.uint8), config=CONFIG, seed=0)


def test_patches_of_latents_leave_as_many_places_as_patches_of_pixels():
    config = PriorConfig(autoencoder=True)
    assert [config.patch_for(side) for side in (4, 32, 64, 68, 128, 256)] == [1, 1, 1, 2, 2, 4]
    assert replace(config, patch_px=4).patch_for(64) == 4


@each
def test_it_reconstructs_held_out_pictures_in_latents_of_unit_variance(name, images, trained):
    prior, held_out = trained(name), images[name][40:]
    assert prior.x_shape == (8, -(-SHAPES[name][0] // 4), 4) and prior.shape == SHAPES[name]
    latents = prior.encode(images[name][:40])
    assert float(latents.std()) == pytest.approx(1, abs=1e-4)
    kept = Kept.of(prior, held_out)
    of_mean = float(np.sqrt(np.mean((held_out - images[name][:40].mean(axis=0)) ** 2)))
    assert kept.record["rms_gray_levels"] < 0.7 * of_mean
    assert kept.record["n_images"] == 20 and kept.record["latents"] == list(prior.x_shape)
    difference = prior.decode(prior.encode(held_out)).astype(float) - held_out
    assert kept.record["rms_gray_levels"] == pytest.approx(float(np.sqrt(np.mean(difference**2))), abs=1e-3)


def test_a_note_says_when_much_is_lost():
    for rms, n_notes in ((4.9, 0), (5.1, 1)):
        notes = Kept({"rms_gray_levels": rms, "sd_gray_levels": 50.0}).notes
        assert len(notes) == n_notes
    assert "edits cannot show what it drops" in notes[0] and "5.1 of 255 gray levels" in notes[0]


def test_the_same_seed_gives_the_same_bits_and_further_images_change_them(images):
    own, further = images["gray"], pictures((16, 16), 9)
    how = {"config": CONFIG, "seed": 0}
    bits = train_prior(own, **how).to_bytes()
    assert train_prior(own, **how).to_bytes() == bits
    assert train_prior(own, config=CONFIG, seed=1).to_bytes() != bits
    state = torch.random.get_rng_state()
    alone = train_autoencoder(TrainingImages(own), **how).network.state_dict()
    assert torch.equal(torch.random.get_rng_state(), state)
    more = train_autoencoder(TrainingImages(own, further), **how).network.state_dict()
    assert any(not torch.equal(tensor, more[name]) for name, tensor in alone.items())
    assert len(bits) < 20_000_000


@pytest.mark.parametrize("stop", ["autoencoder", "prior"])
def test_killed_training_goes_on_to_the_same_bits(stop, images, tmp_path, monkeypatch):
    how = {"config": CONFIG, "seed": 0, "conditions": conditions_of(Z, (2, 1))}
    whole = train_prior(images["gray"], **how).to_bytes()
    monkeypatch.setattr(autoencoder_training, "CHECKPOINT_EVERY", 2)
    save = checkpoints.Checkpoint.save

    def killed(self, content):
        save(self, content)
        if self.path.name.startswith("autoencoder") == (stop == "autoencoder"):
            raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.Checkpoint, "save", killed)
    with pytest.raises(KeyboardInterrupt):
        cached_prior(tmp_path, images["gray"], **how)
    monkeypatch.setattr(checkpoints.Checkpoint, "save", save)
    taken, step = [], autoencoder_training.AutoencoderTraining.step

    def counted(self):
        taken.append(1)
        step(self)

    monkeypatch.setattr(autoencoder_training.AutoencoderTraining, "step", counted)
    assert cached_prior(tmp_path, images["gray"], **how).to_bytes() == whole
    assert len(taken) == (1 if stop == "autoencoder" else 0)
    (entry,) = tmp_path.iterdir()  # no state of training is left
    assert open_prior(str(entry)).to_bytes() == whole
    assert autoencoder_state(tmp_path / "a.pt") == tmp_path / "autoencoder-a.pt"


def test_a_state_of_another_training_is_refused(images, tmp_path):
    path = tmp_path / "state.pt"
    train_prior(images["gray"], config=CONFIG, seed=0, checkpoint=path)
    with pytest.raises(MigvisError, match=r"autoencoder-state\.pt belongs to other data or settings"):
        train_prior(images["gray"], config=replace(CONFIG, autoencoder_steps=4), seed=0, checkpoint=path)


@each
def test_inversion_and_back_in_latents_returns_to_the_start(name, images, trained):
    prior = trained(name)
    assert prior.search == Search()
    x0 = prior.encode(images[name][40:44])
    path = {"alpha_bar": prior.alpha_bar, "grid": time_grid(1000, strength=0.9, n_steps=25)}
    with torch.no_grad():
        back = sample(prior.eps_and_x0_hat, invert(prior.eps_and_x0_hat, x0, **path), **path)
    assert float((back - x0).norm() / x0.norm()) <= 0.02


@each
def test_it_comes_back_from_bytes_and_folders_to_the_bit(name, images, trained, tmp_path):
    prior = trained(name)
    save_prior(prior, tmp_path / "kept")
    for again in (load_prior(prior.to_bytes()), open_prior(str(tmp_path / "kept"))):
        assert again.to_bytes() == prior.to_bytes() and again.search == prior.search
        x = again.encode(images[name][:3])
        assert torch.equal(x, prior.encode(images[name][:3]))
        assert np.array_equal(again.decode(x), prior.decode(x))


@each
def test_edits_are_made_and_zero_guidance_is_the_reconstruction_to_the_bit(name, images, trained):
    prior, conditions = trained(name), conditions_of(Z, (2, 1), n_train=40)
    split = np.array(["train"] * 40 + ["validation"] * 10 + ["test"] * 10)
    settings = CriticConfig(n_steps=2, batch_size=8, channels=(8, 8), n_negatives=8, features="trained")
    critic = train_critic(images[name], conditions, config=settings, prior=prior, seed=0, split=split)
    networks = EditNetworks(prior, critic, conditions.groups)
    few = {"n_steps": 3, "n_pairs": 4, "n_dose": 0, "n_traversal": 0, "batch_size": 4}
    config = SynthesisConfig(
        methods=("pmi",), guidance=1.0, guidance_scale=2.0, source_guidance=1.0, maps=True, **few
    )
    plan = plan_edits(
        np.arange(50, 60), conditions.groups, labels={}, config=config, rng=np.random.default_rng(0)
    ).reset_index(drop=True)
    stimuli = EditStimuli(np.arange(60).astype(str), images[name], critic.scale.standardise(Z))

    def made(plan, config=config):
        return synthesize(plan, stimuli, networks, config=config, seed=0)

    edits = made(plan)
    assert edits["image"].shape[1:] == prior.shape and float(edits["critic_map"].max()) > 0
    rebuilt = made(plan.assign(guidance=0.0))["image"].values
    still = replace(config, guidance_scale=0.0, source_guidance=0.0)
    nothing = made(plan.assign(guidance=1e-300), still)["image"].values  # guided, by a shift of zero
    np.testing.assert_array_equal(nothing, rebuilt)
    assert (edits["image"].values != rebuilt).any()


def test_a_written_run_is_edited_further_rebuilt_and_made_again(tmp_path):
    path = simulate_session(tmp_path / "s.nwb", n_stimuli=80, n_repeats=2, size_px=16, seed=0)
    config = tiny_config(prior={"autoencoder": True, "autoencoder_steps": 5})
    results = run(path, config=config)
    record = results.provenance["prior"]["autoencoder"]
    n_test = int((results.latents["split"] == "test").sum())
    assert record["network"] == "AutoencoderDC" and record["n_images"] == n_test
    assert record["latents"] == [8, 4, 4] and record["rms_gray_levels"] > 0
    assert any("edits cannot show what it drops" in note for note in results.provenance["notes"])
    written = path.with_name("s_migvis.nwb")
    used = Config.from_dict(read_results(written).provenance["config"]).prior
    assert used.autoencoder and (used.autoencoder_steps, used.size_px, used.patch_px) == (5, 16, 1)
    assert reproduce(written).n_different == 0
    models = load_models(written)
    assert models.prior.autoencoder is not None and models.prior.autoencoder.is_ours
    again = synthesize_more(written, group=results.groups.index[0], n=1)
    further = again.synthesized["role"].values == "further"
    assert further.any() and again.synthesized["image"].shape[1:] == (16, 16)
    study = Study(read_session(path), config)
    study.fit_latents()
    study.use_prior(models.prior)
    assert study.config.prior.autoencoder
    pixels = train_prior(pictures((16, 16)), config=replace(CONFIG, autoencoder=False), seed=0)
    assert not settings_of(pixels, CONFIG).autoencoder and settings_of(models.prior, CONFIG).autoencoder


def test_a_folder_of_images_trains_one_that_sessions_start_from(tmp_path):
    from PIL import Image

    (tmp_path / "pictures").mkdir()
    for i, image in enumerate(pictures((16, 16), 24)):
        Image.fromarray(image).save(tmp_path / "pictures" / f"{i}.png")
    training = Training(Config(n_threads=1, prior=CONFIG), samples_every=4)
    out = train_prior_on(tmp_path / "pictures", tmp_path / "out", training)
    assert sorted(path.name for path in out.iterdir()) == [
        "nwb_migvis_prior.json",
        "nwb_migvis_prior.safetensors",
        "samples.png",
        "scheduler",
        "training.json",
        "unet",
        "vae",
    ]
    start = open_prior(str(out))
    assert start.autoencoder is not None and start.search == Search()
    config = PriorConfig(start=str(out), n_steps=2, batch_size=4)
    grown = train_prior(pictures((16, 16)), config=config, seed=0, start=start)
    assert grown.autoencoder is not None and grown.x_shape == start.x_shape


def test_the_estimate_of_a_run_counts_its_steps(monkeypatch):
    sizes = Sizes(1, 12, 400, 100, (16, 16), {})
    step_s = {"latents": 0.0, "prior": 1.0, "autoencoder": 3.0, "critic": 2.0, "edits": 4.0, "inversion": 9.0}
    monkeypatch.setattr(rehearsal, "_rehearse", lambda *_: ({**step_s, "description": 0.1}, 3))
    config = tiny_config(prior={"n_steps": 7, "autoencoder": True, "autoencoder_steps": 5})
    assert estimate_run(sizes, config).seconds["prior"] == pytest.approx(7 * 1.0 + 5 * 3.0)
