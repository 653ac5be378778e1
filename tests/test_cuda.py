"""Every stage on a GPU: it runs, repeats itself bit for bit, and agrees with the CPU."""

from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
import torch
from networks import conditions_of

from nwb_migvis import read_results, run, simulate_session, synthesize_more
from nwb_migvis.config import (
    METHODS,
    CriticConfig,
    SynthesisConfig,
)
from nwb_migvis.groups import LatentGroups
from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.simulate.render import POSE
from nwb_migvis.synthesis.critic.training import train_critic
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.pipeline import EditingPipeline
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize
from nwb_migvis.synthesis.prior import training as prior_training
from nwb_migvis.synthesis.prior.folder import open_prior
from nwb_migvis.synthesis.prior.training import PriorTraining, train_prior
from nwb_migvis.testing import tiny_config

pytestmark = [
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device"),
]

TINY = tiny_config(
    device="cuda",
    n_threads=0,
    latents={"n_steps": 100, "n_hidden": 16},
    prior={"n_steps": 30, "batch_size": 16},
    critic={"n_steps": 60},
    synthesis={
        "n_steps": 5,
        "guidance_scale": 1.0,
        "source_guidance": 1.0,
        "n_pairs": 8,
        "n_dose": 8,
        "n_samples": 5,
        "gammas": [-1.0, 1.0],
        "directions": ["ones", "pc1", "size"],
        "methods": METHODS,
        "maps": True,
        "batch_size": 8,
    },
    evidence={"n_permutations": 9, "n_bootstrap": 9, "stability_seeds": 0, "reader_steps": 3},
)


@pytest.fixture(scope="module")
def session(tmp_path_factory):
    path = tmp_path_factory.mktemp("cuda") / "session.nwb"
    units = {"pose": 4, "category": 4, "content": 2, "mixed": 2}
    return simulate_session(path, seed=1, n_stimuli=100, n_repeats=2, size_px=16, units=units)


@pytest.fixture(scope="module")
def written(session):
    results = run(session, out=session.with_name("one.nwb"), config=TINY)
    return session.with_name("one.nwb"), results


def test_the_same_run_twice_gives_the_same_bytes(session, written):
    _, first = written
    again = run(session, out=session.with_name("two.nwb"), config=TINY)
    assert again.provenance["weights"] == first.provenance["weights"]
    assert again.synthesized.identical(first.synthesized)
    assert again.latents.identical(first.latents)


def test_results_of_a_gpu_are_read_and_edited_further_without_one(written):
    path, results = written
    assert read_results(path).synthesized.identical(results.synthesized)
    more = {}
    for device in ("cuda", "cpu"):
        out = path.with_name(f"more_{device}.nwb")
        more[device] = synthesize_more(path, group="category", n=4, out=out, device=device).synthesized
    new = slice(results.synthesized.sizes["edit"], None)
    images = [edits["image"].values[new].astype(float) for edits in more.values()]
    assert len(images[0]) == 4
    assert np.abs(images[0] - images[1]).mean() < 1.0


def test_a_killed_training_on_a_gpu_ends_with_the_same_weights(tmp_path, monkeypatch):
    images = np.random.default_rng(0).integers(0, 256, (64, 16, 16), dtype=np.uint8)
    z = np.random.default_rng(1).normal(size=(64, 3)).astype(np.float32)
    given = {"seed": 0, "device": "cuda", "conditions": conditions_of(z, (1, 2))}
    config = replace(TINY.prior, n_steps=12)
    whole = train_prior(images, config=config, **given).to_bytes()
    assert train_prior(images, config=config, **given).to_bytes() == whole
    monkeypatch.setattr(prior_training, "CHECKPOINT_EVERY", 4)
    advance = PriorTraining.advance

    def killed(training, *batch):
        if training.n_taken == 9:
            raise KeyboardInterrupt
        advance(training, *batch)

    with monkeypatch.context() as context, pytest.raises(KeyboardInterrupt):
        context.setattr(PriorTraining, "advance", killed)
        train_prior(images, config=config, checkpoint=tmp_path / "checkpoint.pt", **given)
    again = train_prior(images, config=config, checkpoint=tmp_path / "checkpoint.pt", **given)
    assert again.to_bytes() == whole


@pytest.fixture(scope="module")
def renders():
    factors = draw_factors(400, seed=11)
    category = pd.get_dummies(factors["category"]).to_numpy(float)
    pose = factors[list(POSE)].to_numpy()
    latents = np.concatenate([(pose - pose.mean(0)) / pose.std(0), 2 * category], axis=1)
    split = np.repeat(["train", "validation", "test"], [300, 50, 50])
    return render_stimuli(factors, seed=11), latents.astype(np.float32), split


def edited(renders, device, precision):
    """Edit ten pairs with the shipped prior and a critic trained on a CPU."""
    images, latents, split = renders
    prior = open_prior("renders")
    prior.denoiser.precision = precision
    critic = train_critic(
        images,
        conditions_of(latents, (6, 8), n_train=300),
        split=split,
        prior=prior,
        config=CriticConfig(n_steps=40, channels=(16, 32, 32)),
        seed=0,
    )
    prior, critic = prior.to(device), critic.to(device)
    groups = LatentGroups(("pose", "category"), (6, 8), ((), ()))
    config = SynthesisConfig(
        n_pairs=10, methods=("pmi",), n_dose=0, n_traversal=0, source_guidance=0.0, guidance_scale=0.0
    )
    plan = plan_edits(
        np.flatnonzero(split == "test"), groups, labels={}, config=config, rng=np.random.default_rng(0)
    )
    name = np.array([f"image_{i}" for i in range(len(images))])
    stimuli = EditStimuli(name, images, critic.scale.standardise(latents.astype(np.float32)))
    made = synthesize(plan, stimuli, EditNetworks(prior, critic, groups), config=config, seed=0)
    return made["image"].values.astype(float)


@pytest.mark.parametrize(("precision", "most"), [("float32", 1.0), ("bfloat16", 4.0)])
def test_edits_of_cpu_and_gpu_agree(renders, precision, most):
    here, there = (edited(renders, device, precision) for device in ("cpu", "cuda"))
    assert np.abs(here - there).mean() < most


def test_the_pipeline_moves_to_a_gpu_and_back(renders):
    images = renders[0][:4]
    pipe = EditingPipeline.from_prior(open_prior("renders"))
    here = np.asarray(pipe(images, strength=0.9, n_steps=25).images, dtype=float)
    there = np.asarray(pipe.to("cuda")(images, strength=0.9, n_steps=25).images, dtype=float)
    assert np.abs(here - there).mean() < 1.0
    assert np.abs(there - images).mean() < 2.0
