"""Prior, critic and one guided edit at sizes and colours beyond those of the preset `quick`."""

import numpy as np
import pytest
import torch
from networks import conditions_of
from torch.nn import functional as F

from nwb_migvis.config import CriticConfig, PriorConfig, SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.synthesis.critic.training import train_critic
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.plan import Push, as_plan, pair_rows
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize
from nwb_migvis.synthesis.prior.model import new_denoiser
from nwb_migvis.synthesis.prior.training import train_prior

N = 24
GROUPS = LatentGroups(("a", "b"), (1, 1), ((), ()))
CRITIC = CriticConfig(channels=(8, 8, 8, 8), n_steps=2, batch_size=8, n_negatives=8)
EDITS = SynthesisConfig(n_steps=2, source_guidance=1.0, batch_size=2, maps=True)


@pytest.mark.parametrize("colour", [(), (3,)], ids=["grayscale", "RGB"])
@pytest.mark.parametrize(
    ("size_px", "patch_px", "channels"), [(64, 2, (8, 16, 16)), (128, 1, (8, 8, 16, 16))], ids=["64", "128"]
)
def test_larger_images_in_grayscale_and_colour(size_px, patch_px, channels, colour):
    rng = np.random.default_rng(0)
    images = rng.integers(0, 255, (N, size_px, size_px, *colour), dtype=np.uint8)
    z = rng.normal(size=(N, 2)).astype(np.float32)
    split = np.array(["train"] * 20 + ["validation"] * 2 + ["test"] * 2)
    config = PriorConfig(
        size_px=size_px, patch_px=patch_px, channels=channels, n_steps=2, batch_size=4, conditional=True
    )
    conditions = conditions_of(z, (1, 1), n_train=20)
    prior = train_prior(images[:20], config=config, seed=0, conditions=conditions[:20])
    critic = train_critic(
        images,
        conditions,
        split=split,
        prior=prior,
        config=CRITIC,
        seed=0,
    )
    rows = [
        row
        for guidance in (0.0, EDITS.guidance, 0.0)
        for row in pair_rows("a", [(22, 23)], role="main", push=Push(0.9, guidance))
    ]
    plan = as_plan(rows)
    plan.loc[0, "method"] = "none"
    stimuli = EditStimuli(np.arange(N).astype(str), images, critic.scale.standardise(z))
    made = synthesize(plan, stimuli, EditNetworks(prior, critic, GROUPS), config=EDITS, seed=0)
    free, guided, still = made["image"].values
    assert (free.shape, free.dtype) == ((size_px, size_px, *colour), np.uint8)
    assert (free != guided).any()
    np.testing.assert_array_equal(free, still)
    assert np.isfinite(made["score_after"].values).all()
    assert made["map"].shape == (3, size_px, size_px)


def test_a_size_that_does_not_halve_evenly_is_padded_and_cut_again():
    torch.manual_seed(0)
    config = PriorConfig(channels=(8, 8, 8), patch_px=2, precision="float32")
    denoiser = new_denoiser(1, config).eval()
    x, t = torch.randn(2, 1, 30, 27), torch.tensor([10, 500])
    with torch.no_grad():
        found = denoiser(x, t)
        whole = denoiser(F.pad(x, (0, 5, 0, 2), mode="replicate"), t)
    assert found.shape == x.shape
    torch.testing.assert_close(found, whole[..., :30, :27], rtol=0, atol=0)
