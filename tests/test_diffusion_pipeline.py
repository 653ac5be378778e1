"""Editing as a pipeline of diffusers: the function core's own bits, and what it refuses."""

import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline
from guides import Adds, Along
from networks import conditions_of, save_other_pipeline, unit_scale
from PIL import Image

from nwb_migvis import MigvisError
from nwb_migvis.config import PriorConfig, SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.synthesis.critic.model import Critic, LatentRegressor
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.critic_guidance import CriticGuidance
from nwb_migvis.synthesis.editing.pipeline import EditingPipeline
from nwb_migvis.synthesis.editing.plan import Push, as_plan, pair_rows
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize
from nwb_migvis.synthesis.prior.ddim import record, sample, time_grid
from nwb_migvis.synthesis.prior.samples import sample_prior
from nwb_migvis.synthesis.prior.training import train_prior

IMAGES = np.random.default_rng(0).integers(0, 255, (24, 8, 8), dtype=np.uint8)
BRIGHT = torch.ones(2, 1, 8, 8)
TINY = PriorConfig(size_px=8, channels=(8, 16), n_steps=2, batch_size=8, learning_rate=3e-3)


@pytest.fixture(scope="module")
def pipeline():
    return EditingPipeline.from_prior(train_prior(IMAGES, config=TINY, seed=0))


@pytest.fixture(scope="module")
def critic():
    torch.manual_seed(0)
    network = LatentRegressor(1, 2, channels=(8, 8), dropout=0.0).eval().requires_grad_(False)
    return Critic(network, (1, 1), unit_scale(2), torch.randn(16, 2))


def guide(pipeline, critic, n, *, length=0.3):
    lengths, ones = torch.full((n,), length), torch.ones(n, 2)
    return CriticGuidance(critic, ones, ones, lengths, pipeline.prior.n_timesteps)


def test_it_is_a_pipeline_of_diffusers(pipeline):
    assert isinstance(pipeline, DiffusionPipeline)
    assert set(pipeline.components) == {"unet", "scheduler"}
    assert pipeline.unet is pipeline.prior.denoiser.unet
    assert pipeline.to("cpu", torch.float32) is pipeline
    with pytest.raises(MigvisError, match="weights stay float32"):
        pipeline.to(torch.float16)
    torch.testing.assert_close(pipeline.scheduler.alphas_cumprod, pipeline.prior.alpha_bar)


def test_without_guidance_it_is_the_reconstruction_to_the_bit(pipeline, critic):
    prior, shown = pipeline.prior, IMAGES[:4]
    made = pipeline(shown, strength=0.6, n_steps=5, output_type="pt").images
    grid = time_grid(prior.n_timesteps, strength=0.6, n_steps=5)
    path = {"alpha_bar": prior.alpha_bar, "grid": grid}
    found = record(prior.eps_and_x0_hat, prior.encode(shown), **path)
    assert torch.equal(made, sample(prior.eps_and_x0_hat, found.start, misses=found.misses, **path))
    still = guide(pipeline, critic, 4, length=0.0)
    zero = pipeline(shown, guidance=still, strength=0.6, n_steps=5, output_type="pt")
    assert torch.equal(zero.images, made)
    rows = pair_rows("a", [(i, 0) for i in range(4)], role="main", push=Push(0.6, 0.0))
    edits = synthesize(
        as_plan(rows).assign(method="none"),
        EditStimuli(np.array(list("wxyz")), shown, np.zeros((4, 2), dtype=np.float32)),
        EditNetworks(prior, critic, LatentGroups(("a", "b"), (1, 1), ((), ()))),
        config=SynthesisConfig(n_steps=5, strength=0.6, batch_size=4),
        seed=0,
    )
    np.testing.assert_array_equal(pipeline(shown, strength=0.6, n_steps=5).images, edits["image"].values)


@pytest.mark.parametrize("conditional", [False, True])
def test_a_saved_pipeline_makes_the_same_bytes(conditional, critic, tmp_path):
    conditions = conditions_of(np.random.default_rng(1).normal(size=(24, 2)), (1, 1)) if conditional else None
    config = replace(TINY, conditional=conditional)
    pipeline = EditingPipeline.from_prior(train_prior(IMAGES, config=config, seed=0, conditions=conditions))
    pipeline.save_pretrained(tmp_path / "saved")
    again = EditingPipeline.from_pretrained(tmp_path / "saved")
    assert again.prior.to_bytes() == pipeline.prior.to_bytes()
    edits = [p(IMAGES[:3], guidance=guide(p, critic, 3), n_steps=5).images for p in (pipeline, again)]
    assert edits[0].tobytes() == edits[1].tobytes()
    assert edits[0].tobytes() != pipeline(IMAGES[:3], n_steps=5).images.tobytes()
    index = json.loads((tmp_path / "saved" / "model_index.json").read_text())
    assert (index["_class_name"], index["unet"]) == ("EditingPipeline", ["diffusers", "UNet2DModel"])
    assert not list((tmp_path / "saved").rglob("*.bin"))
    again.save_pretrained(tmp_path / "copy")
    saved, copied = (
        {path.relative_to(root): path.read_bytes() for path in root.rglob("*") if path.is_file()}
        for root in (tmp_path / "saved", tmp_path / "copy")
    )
    assert saved == copied
    pipeline.save_pretrained(tmp_path / "half", half=True)
    sizes = [
        sum(f.stat().st_size for f in (tmp_path / name / "unet").iterdir()) for name in ("saved", "half")
    ]
    assert sizes[1] < 0.7 * sizes[0]


def test_a_pipeline_of_others(tmp_path):
    theirs = save_other_pipeline(tmp_path / "theirs", size_px=8)
    images = np.repeat(IMAGES[:2, :, :, None], 3, axis=3)
    opened = EditingPipeline.from_pretrained(tmp_path / "theirs")(images, n_steps=5).images
    assert opened.shape == (2, 8, 8, 3)
    composed = EditingPipeline(theirs.unet, theirs.scheduler)(images, n_steps=5).images
    np.testing.assert_array_equal(composed, opened)
    with pytest.raises(MigvisError, match="no such folder"):
        EditingPipeline.from_pretrained(tmp_path / "absent")


def test_only_the_noise_of_samples_is_random(pipeline):
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    edits = pipeline(IMAGES[:2], n_steps=5, generator=generator).images
    assert torch.equal(generator.get_state(), before)
    np.testing.assert_array_equal(edits, pipeline(IMAGES[:2], n_steps=5).images)
    drawn = pipeline(3, n_steps=5, generator=generator).images
    expected = sample_prior(pipeline.prior, 3, n_steps=5, seed=3, size=3)
    np.testing.assert_array_equal(drawn, expected)
    assert (pipeline(3, n_steps=5, generator=generator).images != drawn).any()


def test_the_callback_sees_every_step_and_may_change_it(pipeline):
    seen = []

    def look(its, step, t, held):
        assert its is pipeline
        seen.append((step, t, held["x_t"].shape))

    plain = pipeline(IMAGES[:2], strength=0.5, n_steps=5).images
    watched = pipeline(IMAGES[:2], strength=0.5, n_steps=5, callback_on_step_end=look).images
    np.testing.assert_array_equal(watched, plain)
    assert seen == [(i, 500 - 100 * i, (2, 1, 8, 8)) for i in range(5)]
    erased = pipeline(
        IMAGES[:2],
        n_steps=5,
        output_type="pt",
        callback_on_step_end=lambda its, step, t, held: {"x_t": torch.zeros_like(held["x_t"])},
    )
    assert not erased.images.any()


def test_guidance_is_of_each_image(pipeline):
    plain = pipeline(IMAGES[:2], n_steps=5, output_type="pt").images
    second = Along(BRIGHT, torch.tensor([0.0, 0.4]))
    moved = pipeline(IMAGES[:2], guidance=second, n_steps=5, output_type="pt").images
    assert torch.equal(moved[0], plain[0])
    assert moved[1].mean() > plain[1].mean()
    brighter = Adds(lambda x_t, t, eps, x0_hat: -BRIGHT)
    shifted = pipeline(IMAGES[:2], guidance=brighter, n_steps=5, output_type="pt").images
    assert (shifted.mean((1, 2, 3)) > plain.mean((1, 2, 3))).all()
    both = pipeline(IMAGES[:2], guidance=[second, brighter], n_steps=5, output_type="pt").images
    assert torch.equal(both[0], shifted[0])
    assert both[1].mean() > shifted[1].mean()


def test_pictures_in_and_out(pipeline):
    pictures = [Image.fromarray(image) for image in IMAGES[:2]]
    made = pipeline(pictures, n_steps=5, output_type="pil").images
    expected = pipeline(IMAGES[:2], n_steps=5).images
    np.testing.assert_array_equal(np.stack([np.asarray(picture) for picture in made]), expected)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"images": IMAGES[:2].astype(float)}, "type float64; expected images of shape"),
        ({"images": IMAGES[:2, :4]}, r"shape \(4, 8\)"),
        ({"images": IMAGES[:0]}, "found no image;"),
        ({"images": IMAGES[:2], "strength": 1.2}, "strength is 1.2"),
        ({"images": IMAGES[:2], "n_steps": 951}, "951 steps do not fit"),
        ({"images": IMAGES[:2], "n_steps": 0}, "n_steps is 0; expected at least 1"),
        ({"images": IMAGES[:2], "guidance": Adds(lambda x, *_: x[:1])}, r"the guidance has the shape \(1,"),
        ({"images": IMAGES[:3], "guidance": Along(BRIGHT, torch.ones(2))}, "is for 2 images; expected 3"),
        ({"images": IMAGES[:2], "guidance": Along(BRIGHT, torch.tensor([0.1, torch.nan]))}, "not finite"),
        ({"images": IMAGES[:2], "guidance": Adds(lambda x, *_: x * torch.nan)}, "not finite"),
        ({"images": IMAGES[:2], "guidance": 0.3}, "guidance of the type float"),
        ({"images": IMAGES[:2], "guidance": [None]}, "guidance of the type NoneType"),
        ({"images": IMAGES[:2], "output_type": "latent"}, "expected one of np, pil, pt"),
        ({"images": 1}, "no generator"),
        ({"images": np.int64(2)}, "no generator"),
        ({"images": 0, "generator": torch.Generator()}, "found 0 images to draw"),
    ],
)
def test_what_it_refuses(pipeline, arguments, message):
    with pytest.raises(MigvisError, match=message):
        pipeline(**arguments)
