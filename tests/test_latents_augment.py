"""Augmentation of what a training step encodes: closed forms, what is off, and what is refused."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nwb_migvis import Config, MigvisError
from nwb_migvis.config import GroupConfig, LatentsConfig
from nwb_migvis.config.commented import commented_toml
from nwb_migvis.config.latents import AUGMENTATIONS
from nwb_migvis.labels import as_labels
from nwb_migvis.latents import LatentTask, Recording
from nwb_migvis.latents.augment import Augmentation
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.objective import Objective, Repeats
from nwb_migvis.latents.protocol import fit_models

CPU = torch.device("cpu")
EVERYTHING = {"unit_dropout": 0.2, "trial_swap": 0.5, "count_thinning": 0.4}


def rng(seed=0):
    return torch.Generator().manual_seed(seed)


def of(counts, *, n_stimuli=None):
    """Arrange counts (stimulus, repeat, unit), NaN where there is none."""
    counts = np.asarray(counts, dtype=float)
    index = np.repeat(np.arange(len(counts)), counts.shape[1])
    return Repeats.of(counts.reshape(-1, counts.shape[2]), index, len(counts), CPU)


def binary(n_stimuli, n_repeats, n_units):
    """Counts whose sum tells which presentations it is of: 2 ** repeat."""
    return np.tile(2.0 ** np.arange(n_repeats)[:, None], (n_stimuli, 1, n_units))


def bits(total, n_repeats):
    """Tell which presentations are in a sum of `binary` counts, (..., repeat) bool."""
    whole = np.rint(np.asarray(total)).astype(int)
    np.testing.assert_allclose(whole, np.asarray(total), atol=1e-3)
    return (whole[..., None] >> np.arange(n_repeats)) & 1 == 1


def halves(repeats, augmentation, *, seed=0, rows=None):
    rows = torch.arange(len(repeats.n)) if rows is None else rows
    return repeats.halves(rows, rng(seed), augmentation=augmentation)


def test_units_are_left_out_at_the_share_asked_for_each_stimulus_anew():
    repeats = of(np.random.default_rng(0).poisson(5, (800, 4, 50)))
    plain, dropped = halves(repeats, None), halves(repeats, Augmentation(unit_dropout=0.3))
    gone = dropped[0].isnan()
    spread = np.sqrt(0.3 * 0.7)
    assert float(gone.float().mean()) == pytest.approx(0.3, abs=4 * spread / np.sqrt(800 * 50))
    by_stimulus, by_unit = (gone.float().mean(axis) for axis in (1, 0))
    assert float(by_stimulus.std()) == pytest.approx(spread / np.sqrt(50), rel=0.1)
    assert float(by_unit.std()) == pytest.approx(spread / np.sqrt(800), rel=0.4)
    assert torch.equal(dropped[0][~gone], plain[0][~gone])
    for one, other in zip(dropped[1:], plain[1:], strict=True):
        assert torch.equal(one, other)


@pytest.mark.parametrize("n_repeats", [1, 4])
def test_thinned_counts_keep_their_mean_and_have_the_variance_of_a_binomial(n_repeats):
    n, share, count = 20_000, 0.6, 6
    repeats = of(np.full((n, n_repeats, 2), count))
    found, second, n_second = halves(repeats, Augmentation(count_thinning=share))
    n_first = max(n_repeats // 2, 1)
    assert float(second.min()) == float(second.max()) == count * n_first
    assert (n_second == n_first).all()
    # Given that a share p is kept, k of n spikes over n p: variance (1 - p) / (n p); p is uniform.
    inverse = -np.log(1 - share) / share
    variance = count * (inverse - 1) / n_first
    assert float(found.mean()) == pytest.approx(count, abs=4 * np.sqrt(variance / n))
    assert float(found.var()) == pytest.approx(variance, rel=0.06)
    # Units are thinned by draws of their own.
    assert abs(float(torch.corrcoef(found.T)[0, 1])) < 0.03


def test_spikes_of_one_stimulus_are_kept_at_one_rate():
    found = halves(of(np.full((300, 2, 400), 50)), Augmentation(count_thinning=0.6))[0]
    # The variance over units is 50 (1 - p) / p, so p can be told; it is uniform from .4 to 1.
    kept = np.sort(1 / (1 + found.var(1).numpy() / 50))
    np.testing.assert_allclose(kept, np.linspace(0.4, 1.0, 300), atol=0.08)


@pytest.mark.parametrize("n_repeats", [2, 3, 4, 9, 10])
def test_units_of_swapped_stimuli_have_their_own_half_of_what_is_encoded(n_repeats):
    repeats = of(binary(300, n_repeats, 12))
    plain, swapped = halves(repeats, None), halves(repeats, Augmentation(trial_swap=1.0))
    n_half = (n_repeats + 1) // 2
    n_own = (n_half + 1) // 2
    encoded = bits(swapped[0] * n_own, n_repeats)
    predicted = bits(swapped[1], n_repeats)
    assert torch.equal(swapped[1], plain[1]) and torch.equal(swapped[2], plain[2])
    assert (encoded.sum(-1) == n_own).all()
    # Nothing that any unit encodes is predicted of any unit, and with what is predicted the half is whole.
    assert not (encoded.any(1) & predicted.any(1)).any()
    half = bits(plain[0] * n_half, n_repeats)
    assert (encoded <= half).all()
    assert (half ^ predicted).all()
    if n_repeats > 2:
        assert (encoded[:, 0] != encoded[:, 1]).any(-1).mean() > 0.4
        assert encoded.mean((0, 1)) == pytest.approx(np.full(n_repeats, n_own / n_repeats), abs=0.1)
    else:
        assert torch.equal(swapped[0], plain[0])


def test_swapping_breaks_what_units_share_in_a_presentation_and_what_is_predicted_never_has_it():
    noise = np.random.default_rng(1).poisson(20, (4000, 8, 1))
    repeats = of(np.repeat(noise, 2, axis=2))
    plain, swapped = (halves(repeats, a) for a in (None, Augmentation(trial_swap=1.0)))
    assert float(torch.corrcoef(plain[0].T)[0, 1]) == pytest.approx(1)
    # Two of four presentations each: the covariance is that of the four, the variance that of two.
    assert float(torch.corrcoef(swapped[0].T)[0, 1]) == pytest.approx(0.5, abs=0.05)
    across = torch.corrcoef(torch.stack([swapped[0][:, 0], swapped[1][:, 1]]))[0, 1]
    assert abs(float(across)) < 4 / np.sqrt(4000)


def test_the_share_of_stimuli_asked_for_is_swapped():
    repeats = of(np.random.default_rng(2).poisson(100, (4000, 8, 6)))
    plain, swapped = halves(repeats, None), halves(repeats, Augmentation(trial_swap=0.25))
    changed = (plain[0] != swapped[0]).any(1).float()
    assert float(changed.mean()) == pytest.approx(0.25, abs=0.03)


@pytest.mark.parametrize(
    "augmentation",
    [Augmentation(trial_swap=1.0), Augmentation(count_thinning=1e-9), Augmentation(unit_dropout=1e-9)],
)
def test_stimuli_shown_once_stay_in_both_halves(augmentation):
    repeats = of(np.random.default_rng(3).poisson(5, (50, 1, 6)))
    plain, found = halves(repeats, None), halves(repeats, augmentation)
    for one, other in zip(found, plain, strict=True):
        np.testing.assert_allclose(one, other, rtol=1e-6)


def test_of_counts_that_are_missing_none_is_encoded():
    counts = binary(400, 6, 5)
    is_there = np.random.default_rng(4).random(counts.shape) < 0.6
    is_there[:10, :, 2] = False
    repeats = of(np.where(is_there, counts, np.nan))
    plain, swapped = halves(repeats, None), halves(repeats, Augmentation(trial_swap=1.0))
    observed = torch.as_tensor(is_there.transpose(0, 2, 1))
    predicted = bits(swapped[1], 6)
    n_encoded = observed.sum(-1) - swapped[2]
    n_own = torch.div(n_encoded + 1, 2, rounding_mode="floor")
    encoded = bits(torch.nan_to_num(swapped[0]) * n_own, 6)
    assert torch.equal(swapped[0].isnan(), n_encoded == 0)
    assert torch.equal(swapped[0].isnan(), plain[0].isnan())
    assert (encoded.sum(-1) == n_own.numpy()).all()
    assert (encoded <= observed.numpy()).all()
    assert not (encoded.any(1) & predicted.any(1)).any()
    for one, other in zip(swapped[1:], plain[1:], strict=True):
        assert torch.equal(one, other)
    thinned = halves(repeats, Augmentation(count_thinning=0.5))
    assert torch.equal(thinned[0].isnan(), plain[0].isnan())
    everything = halves(repeats, Augmentation(**EVERYTHING))
    assert (everything[0].isnan() >= plain[0].isnan()).all()
    assert torch.equal(everything[1], plain[1])


def population(seed=0, *, n_stimuli=160, n_repeats=5):
    rng = np.random.default_rng(seed)
    x = rng.uniform(-1.7, 1.7, n_stimuli)
    rate = 3 * np.exp(np.outer(x, rng.choice([-0.6, 0.6], 14)))
    index = np.repeat(np.arange(n_stimuli), n_repeats)
    split = np.where(np.arange(n_stimuli) % 5 < 3, "train", "validation").astype(object)
    return rng.poisson(rate[index]).astype(np.uint16), index, x, split


GROUPS = (GroupConfig(name="x", size=2, labels=("x",)), GroupConfig(name="free", size=2))
TINY = LatentsConfig(groups=GROUPS, n_steps=110, n_hidden=16, batch_size=32)


def fit(counts, index, x, split, *, config=TINY, seed=0):
    task = LatentTask(as_labels({"x": x}), GROUPS, split)
    return fit_models([Recording.alone(counts, index, split.size)], task, config=config, seed=seed)[0]


def test_what_is_off_is_as_if_it_were_not_there(monkeypatch):
    session = population()
    found = fit(*session).to_bytes()
    assert Augmentation.of(TINY) is None
    # The code path without augmentation, whatever the settings say.
    monkeypatch.setattr(Augmentation, "of", classmethod(lambda cls, config: None))
    assert fit(*session).to_bytes() == found
    monkeypatch.undo()
    for name, value in EVERYTHING.items():
        assert fit(*session, config=replace(TINY, **{name: value})).to_bytes() != found


def test_an_augmentation_that_is_off_draws_nothing():
    repeats = of(np.random.default_rng(5).poisson(5, (20, 4, 6)))
    left = []
    for augmentation in (None, Augmentation()):
        generator = rng()
        first = repeats.halves(torch.arange(20), generator, augmentation=augmentation)[0]
        left.append((generator.get_state(), first))
    assert torch.equal(left[0][0], left[1][0])
    torch.testing.assert_close(left[0][1], left[1][1])


@pytest.mark.parametrize("model", ["group-vae", "plain-vae"])
@pytest.mark.parametrize("missing", [False, True])
def test_everything_on_learns_and_is_the_same_for_a_seed(model, missing):
    counts, index, x, split = population()
    if missing:
        counts = np.where(np.random.default_rng(6).random(counts.shape) < 0.8, counts, np.nan)
    config = replace(TINY, model=model, n_steps=300, **EVERYTHING)
    first, again = (fit(counts, index, x, split, config=config) for _ in range(2))
    assert first.to_bytes() == again.to_bytes()
    assert first.to_bytes() != fit(counts, index, x, split, config=config, seed=1).to_bytes()
    average = np.stack([np.nanmean(counts[index == s], axis=0) for s in range(len(x))])
    z = first.encode(average)[0]
    design = np.column_stack([z, np.ones(len(z))])
    error = x - design @ np.linalg.lstsq(design, x, rcond=None)[0]
    assert (error**2).mean() < 0.15 * x.var()


def test_validation_is_not_augmented():
    counts, index, x, split = population()
    repeats = Repeats.of(counts, index, len(x), CPU)
    targets = [(torch.zeros(len(x), 0), [])] * 2
    plain = fit(counts, index, x, split)
    losses = []
    for config in (TINY, replace(TINY, **EVERYTHING)):
        objective = Objective(plain.vae, repeats, targets, config=config, label_weights=())
        objective._label_loss = lambda z, stimuli: torch.zeros(())
        training = float(objective(torch.arange(20), rng()).detach())
        losses.append([objective.held_out(torch.arange(20), 3), training])
    assert losses[0][0] == losses[1][0]
    assert losses[0][1] != losses[1][1]


def test_two_sessions_train_with_everything_on():
    counts, index, x, split = population(n_stimuli=160)
    rows = np.arange(160)
    other = np.random.default_rng(7).permutation(counts.shape[1])[:9]
    recordings = [Recording("a", counts, index, rows), Recording("b", counts[:, other], index, rows)]
    task = LatentTask(as_labels({"x": x}), GROUPS, split, [(0, 1)])
    config = replace(TINY, **EVERYTHING)
    found = [
        [model.to_bytes() for model in fit_latents(recordings, task, config=c, seed=0)]
        for c in (config, config, TINY)
    ]
    assert found[0] == found[1]
    assert found[0] != found[2]


@pytest.mark.parametrize("model", ["pca", "fa", "swap-vae"])
@pytest.mark.parametrize("name", AUGMENTATIONS)
def test_a_model_without_use_for_it_refuses(model, name):
    config = replace(TINY, model=model, **{name: 0.3})
    with pytest.raises(MigvisError, match=f"found {name} = 0.3 with model = '{model}', .* set it to 0"):
        fit(*population(), config=config)


@pytest.mark.parametrize("name", AUGMENTATIONS)
@pytest.mark.parametrize(
    ("value", "found"),
    [(-0.1, "at least 0"), (1.0, "less than 1"), (float("nan"), "at least 0"), ("much", "expected float")],
)
def test_bad_shares_are_refused(name, value, found):
    with pytest.raises(MigvisError, match=f"latents: .*{name}.*{found}"):
        LatentsConfig(**{name: value})


def test_settings_are_off_and_described():
    config = Config()
    assert [getattr(config.latents, name) for name in AUGMENTATIONS] == [0.0, 0.0, 0.0]
    lines = commented_toml(config).splitlines()
    for name in AUGMENTATIONS:
        assert lines[lines.index(f"{name} = 0.0") - 1].startswith("# ")
