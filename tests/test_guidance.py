"""A guided denoiser: closed forms of its predictions, and what it refuses."""

import numpy as np
import pytest
import torch
from guides import Adds, Along
from networks import untrained_networks

from nwb_migvis import MigvisError
from nwb_migvis.synthesis.editing.critic_guidance import CriticGuidance, contrast
from nwb_migvis.synthesis.editing.guidance import GuidedDenoiser, rescale_to
from nwb_migvis.synthesis.editing.prior_guidance import PriorGuidance, embed_condition
from nwb_migvis.synthesis.prior.model import cosine_alpha_bar

ALPHA_BAR = cosine_alpha_bar(1000).double()
SHAPE = (3, 1, 4, 4)
X_T, FIRST, SECOND = torch.randn(3, *SHAPE, dtype=torch.float64, generator=torch.Generator().manual_seed(0))


def denoise(x_t, t):
    """The exact denoiser of images drawn from N(0, 1/4)."""
    a = ALPHA_BAR[t]
    x0_hat = a.sqrt() / 4 / (a / 4 + 1 - a) * x_t
    return (x_t - a.sqrt() * x0_hat) / (1 - a).sqrt(), x0_hat


def adds(shift):
    return Adds(lambda x_t, t, eps, x0_hat: shift)


def guided(*guidance, of=denoise):
    return GuidedDenoiser(of, ALPHA_BAR, guidance)


@pytest.mark.parametrize("t", [0, 400, 999])
def test_without_guidance_the_predictions_are_the_denoisers_bit_for_bit(t):
    for one, other in zip(guided()(X_T, t), denoise(X_T, t), strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("t", [1, 400, 950])
def test_shifts_add_to_the_noise_and_the_clean_image_follows(t):
    eps, x0_hat = guided(adds(FIRST), adds(SECOND))(X_T, t)
    torch.testing.assert_close(eps, denoise(X_T, t)[0] + FIRST + SECOND)
    a = ALPHA_BAR[t]
    torch.testing.assert_close(x0_hat, (X_T - (1 - a).sqrt() * eps) / a.sqrt())


@pytest.mark.parametrize("how_far", [0.0, 0.35, 1.0])
def test_contrast_that_guidance_adds_is_taken_back_around_the_image_s_mean(how_far):
    t, over = 700, (1, 2, 3)
    _, before = denoise(X_T, t)
    _, free = guided(adds(FIRST), adds(SECOND))(X_T, t)
    eps, found = GuidedDenoiser(denoise, ALPHA_BAR, (adds(FIRST), adds(SECOND)), how_far)(X_T, t)
    torch.testing.assert_close(found.mean(over), free.mean(over))
    expected = (1 - how_far) * free.std(over) + how_far * before.std(over)
    torch.testing.assert_close(found.std(over), expected)
    assert not torch.allclose(free.std(over), before.std(over), rtol=0.01)
    a = ALPHA_BAR[t]
    torch.testing.assert_close(found, (X_T - (1 - a).sqrt() * eps) / a.sqrt())
    assert (how_far > 0) == ("taken back" in repr(GuidedDenoiser(denoise, ALPHA_BAR, (), how_far)))


@pytest.mark.parametrize("bad", [-0.1, 1.5, float("nan")])
def test_contrast_is_taken_back_by_no_more_than_all_of_it(bad):
    with pytest.raises(MigvisError, match="expected 0 to 1"):
        GuidedDenoiser(denoise, ALPHA_BAR, (), bad)


def test_every_guidance_sees_the_predictions_without_guidance():
    calls = []

    def look(*given):
        calls.append(given)
        return FIRST

    guided(Adds(look), Adds(look))(X_T, 300)
    assert len(calls) == 2
    for x_t, t, eps, x0_hat in calls:
        assert x_t is X_T and t == 300
        assert torch.equal(eps, denoise(X_T, 300)[0]) and torch.equal(x0_hat, denoise(X_T, 300)[1])


def test_a_guided_denoiser_can_be_guided_again():
    seen = []

    def double(x_t, t, eps, x0_hat):
        seen.append(eps)
        return eps

    inner = guided(adds(FIRST))
    for one, other in zip(
        guided(adds(SECOND), of=inner)(X_T, 300), guided(adds(FIRST), adds(SECOND))(X_T, 300), strict=True
    ):
        torch.testing.assert_close(one, other)
    eps, _ = guided(Adds(double), of=inner)(X_T, 300)
    assert torch.equal(seen[0], inner(X_T, 300)[0])
    torch.testing.assert_close(eps, 2 * (denoise(X_T, 300)[0] + FIRST))


@pytest.mark.parametrize(
    ("shift", "message"),
    [
        (FIRST[:1], r"the guidance has the shape \(1, 1, 4, 4\); expected the images', \(3, 1, 4, 4\)"),
        (FIRST.mean(), r"the guidance has the shape \(\);"),
        (FIRST / 0, "the guidance is not finite"),
        (FIRST * torch.nan, "the guidance is not finite"),
    ],
)
def test_shifts_that_no_image_can_have(shift, message):
    with pytest.raises(MigvisError, match=message):
        guided(adds(SECOND), adds(shift))(X_T, 300)


def test_what_is_no_guidance_is_refused_before_anything_is_computed():
    with pytest.raises(MigvisError, match="guidance of the type float; expected objects with a method"):
        guided(adds(FIRST), 0.3)


def test_a_direction_is_scaled_image_by_image_and_none_stays_none():
    length = torch.tensor([0.0, 0.5, 2.0], dtype=torch.float64)
    direction = torch.stack([FIRST[0], FIRST[1], torch.zeros_like(FIRST[2])])
    scaled = rescale_to(direction, X_T, length)
    ratio = scaled.flatten(1).norm(dim=1) / X_T.flatten(1).norm(dim=1)
    np.testing.assert_allclose(ratio, [0.0, 0.5, 0.0])
    shift = Along(FIRST, length).shift(X_T, 300, SECOND, X_T)
    for i in (1, 2):
        cosine = torch.cosine_similarity(shift[i].flatten(), -FIRST[i].flatten(), dim=0)
        assert float(cosine) == pytest.approx(1)
        assert float(shift[i].norm() / SECOND[i].norm()) == pytest.approx(float(length[i]))


@pytest.fixture(scope="module")
def networks():
    return untrained_networks((8, 8), conditional=True)


def of_critic(critic, *, length=(0.25, 0.25), score=contrast, t_min=300):
    ones = torch.ones(2, 2)
    return CriticGuidance(critic, ones, ones, torch.tensor(length), 1000, score, t_min)


def test_the_critic_guides_where_it_was_trained_and_until_it_is_stopped(networks):
    guidance = of_critic(networks[1])
    x = torch.randn(2, 1, 8, 8, generator=torch.Generator().manual_seed(0))
    shifts = {t: guidance.shift(x, t, x, x) for t in (299, 300, 920, 921)}
    assert {t: bool(shift.any()) for t, shift in shifts.items()} == {
        299: False,
        300: True,
        920: True,
        921: False,
    }


def test_guidance_of_another_number_of_images(networks):
    prior, critic = networks
    x = torch.zeros(3, 1, 8, 8)
    at = embed_condition(prior, torch.zeros(2, 2))
    for guidance in (of_critic(critic), PriorGuidance(prior, at, at, guidance_scale=1.0)):
        with pytest.raises(MigvisError, match="the guidance is for 2 images; expected 3"):
            guidance.shift(x, 400, x, x)
    with pytest.raises(MigvisError, match="is for 3 images; expected 2"):
        of_critic(critic, length=(0.1, 0.2, 0.3))
    with pytest.raises(MigvisError, match="is for 1 image; expected 2"):
        PriorGuidance(prior, at, at[:1])


def test_a_prior_that_was_not_trained_with_latents_does_not_guide():
    prior, _ = untrained_networks((8, 8))
    with pytest.raises(MigvisError, match="the prior is not conditional"):
        embed_condition(prior, torch.zeros(2, 2))


def test_guidance_says_what_it_does(networks):
    prior, critic = networks
    assert repr(of_critic(critic)) == (
        "CriticGuidance: raises contrast of 2 images, |shift| = 0.25 |eps|, from 0.92 T down to step 300 of "
        "1000"
    )
    assert "|shift| = (0 to 0.5) |eps|" in repr(of_critic(critic, length=(0.5, 0.0)))
    assert repr(of_critic(critic, t_min=1000)).endswith("|shift| = 0.25 |eps|, at no step of 1000")
    at = embed_condition(prior, torch.zeros(2, 2))
    by_prior = PriorGuidance(prior, at, at, source_guidance=2.5, guidance_scale=3.0, guidance_rescale=0.7)
    assert repr(by_prior) == (
        "PriorGuidance of 2 images: 2.5 * (eps(x_t, z_goal) - eps(x_t, z_source)) + 3 * (eps(x_t, z_goal) - "
        "eps(x_t)), contrast taken back by 0.7"
    )
