"""The group VAE and its parts against closed forms and planted structure."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from nwb_migvis import MigvisError
from nwb_migvis.config import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.labels import as_labels
from nwb_migvis.latents import (
    LatentTask,
    Recording,
    check_circular,
    label_targets,
    resolve_groups,
    split_stimuli,
)
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.label_weights import N_PRESUMED, LabelWeights, weigh_labels
from nwb_migvis.latents.likelihood import poisson_error
from nwb_migvis.latents.model import GroupVae, kl_divergence
from nwb_migvis.latents.objective import Objective, Repeats, initial_vae
from nwb_migvis.latents.protocol import load_latent_model
from nwb_migvis.latents.total_correlation import gaussian_total_correlation, total_correlation
from nwb_migvis.latents.training import LatentTraining, optimise
from nwb_migvis.networks.training import Descent

NO_LABELS = [LabelWeights(torch.zeros(0), ())]


def _posteriors(covariance, *, n, noise, seed):
    """Means and samples whose aggregate is a Gaussian with this covariance."""
    generator = torch.Generator().manual_seed(seed)
    d = len(covariance)
    root = torch.linalg.cholesky(torch.as_tensor(covariance - noise**2 * np.eye(d), dtype=torch.float32))
    mean = torch.randn(n, d, generator=generator) @ root.T
    z = mean + noise * torch.randn(n, d, generator=generator)
    return z, mean, torch.full((n, d), 2 * float(np.log(noise)))


def _equicorrelated(d, rho):
    return np.full((d, d), rho) + (1 - rho) * np.eye(d)


def test_total_correlation_of_two_gaussians_is_known():
    assert gaussian_total_correlation(_equicorrelated(2, 0.6), sizes=[1, 1]) == pytest.approx(
        -0.5 * np.log(1 - 0.36)
    )


def test_total_correlation_agrees_with_the_gaussian_closed_form():
    covariance = _equicorrelated(4, 0.5)
    estimates = [
        float(total_correlation(*_posteriors(covariance, n=1500, noise=0.5, seed=s), sizes=[1, 1, 1, 1]))
        for s in range(3)
    ]
    truth = gaussian_total_correlation(covariance, sizes=[1, 1, 1, 1])
    assert np.mean(estimates) == pytest.approx(truth, rel=0.05)


def test_total_correlation_counts_only_what_is_between_groups():
    covariance = np.eye(4)
    covariance[:2, :2] = _equicorrelated(2, 0.7)
    covariance[2:, 2:] = _equicorrelated(2, -0.6)
    z, mean, log_var = _posteriors(covariance, n=1000, noise=0.5, seed=0)
    assert float(total_correlation(z, mean, log_var, sizes=[2, 2])) == pytest.approx(0, abs=0.05)
    assert float(total_correlation(z, mean, log_var, sizes=[1, 1, 1, 1])) > 0.4


def test_total_correlation_saturates_without_gradient_where_posteriors_are_narrow():
    mean = torch.randn(64, 6, generator=torch.Generator().manual_seed(0)).requires_grad_(True)
    narrow = torch.full((64, 6), -16.0)
    estimate = total_correlation(mean, mean, narrow, sizes=[2, 2, 2])
    assert estimate.item() == pytest.approx(2 * np.log(64), rel=1e-4)
    wide = torch.full((64, 6), -1.0)
    z = mean + 0.6 * torch.randn(64, 6, generator=torch.Generator().manual_seed(1))
    (gradient,) = torch.autograd.grad(total_correlation(z, mean, wide, sizes=[2, 2, 2]), mean)
    assert float(gradient.norm()) > 1e-3


def test_kl_takes_the_log_of_the_variance():
    mean, log_var = torch.tensor([[0.3, -1.0]]), torch.tensor([[0.5, -2.0]])
    normal = torch.distributions.Normal(mean, torch.exp(0.5 * log_var))
    truth = torch.distributions.kl_divergence(normal, torch.distributions.Normal(0.0, 1.0)).sum()
    assert float(kl_divergence(mean, log_var)) == pytest.approx(float(truth), rel=1e-6)


def test_split_is_a_partition_of_the_asked_sizes():
    split = split_stimuli(200, SplitConfig(), rng=np.random.default_rng(3))
    assert {part: int((split == part).sum()) for part in ("train", "validation", "test")} == {
        "train": 140,
        "validation": 20,
        "test": 40,
    }
    again = split_stimuli(200, SplitConfig(), rng=np.random.default_rng(3))
    np.testing.assert_array_equal(split, again)
    with pytest.raises(MigvisError, match="12 stimuli"):
        split_stimuli(12, SplitConfig(), rng=np.random.default_rng(0))


LABELS = {
    "size": np.array([1.0, 2.0, 3.0, np.nan]),
    "kind": np.array(["a", "b", "", "a"], dtype=object),
}


def test_default_groups_follow_the_labels():
    groups = resolve_groups(as_labels(LABELS), LatentsConfig())
    assert [(g.name, g.size, g.labels) for g in groups] == [
        ("numeric", 6, ("size",)),
        ("kind", 6, ("kind",)),
        ("free_1", 6, ()),
        ("free_2", 6, ()),
    ]
    assert [g.name for g in resolve_groups({}, LatentsConfig())] == ["free_1", "free_2"]


def test_labels_named_like_default_groups_get_groups_of_their_own():
    text = np.array(["a", "b"], dtype=object)
    groups = resolve_groups(as_labels({"free_1": text, "c/d": text, "c_d": text}), LatentsConfig())
    names = [group.name for group in groups]
    assert names == ["free_1_", "c_d", "c_d_", "free_1", "free_2"]
    assert [group.labels for group in groups][:3] == [("free_1",), ("c/d",), ("c_d",)]


@pytest.mark.parametrize(
    ("groups", "found"),
    [
        ((GroupConfig(name="a"), GroupConfig(name="a")), "used twice"),
        ((GroupConfig(name="a", labels=("shade",)),), "'shade'"),
    ],
)
def test_groups_that_cannot_be(groups, found):
    with pytest.raises(MigvisError, match=found):
        resolve_groups(as_labels(LABELS), LatentsConfig(groups=groups))


def test_targets_are_standardised_on_the_training_stimuli():
    groups = (GroupConfig(name="g", labels=("size", "kind")),)
    training = np.array([True, True, False, True])
    (target,) = label_targets(as_labels(LABELS), groups, training=training)
    np.testing.assert_allclose(target.numeric[:, 0], [-1, 1, 3, np.nan])
    ((n_classes, index),) = target.classes
    assert n_classes == 2
    np.testing.assert_array_equal(index, [0, 1, -1, 0])


def test_an_angle_that_wraps_is_declared_or_refused():
    labels = {"yaw": np.linspace(0, 359, 50)}
    groups = (GroupConfig(name="g", labels=("yaw",)),)
    training = np.ones(50, dtype=bool)
    with pytest.raises(MigvisError, match="looks like an angle"):
        check_circular(as_labels(labels), {})
    period = {"yaw": 360.0}
    check_circular(as_labels(labels, circular=period), period)
    (wrapped,) = label_targets(as_labels(labels, circular=period), groups, training=training)
    np.testing.assert_allclose((wrapped.numeric**2).sum(1), 2)
    angle = 2 * np.pi * labels["yaw"] / 360
    np.testing.assert_allclose(wrapped.numeric, np.sqrt(2) * np.stack([np.sin(angle), np.cos(angle)], 1))
    check_circular(as_labels(labels), {"yaw": 0.0})
    (straight,) = label_targets(as_labels(labels), groups, training=training)
    assert straight.numeric.shape == (50, 1)
    with pytest.raises(MigvisError, match="'roll'"):
        check_circular(as_labels(labels), {"roll": 360.0, "yaw": 0.0})


def test_halves_share_no_presentation_and_lose_none():
    counts = np.array([[1], [10], [100], [1000], [7], [5], [50]], dtype=np.uint16)
    index = np.array([0, 0, 0, 0, 1, 2, 2])
    repeats = Repeats.of(counts, index, 3, torch.device("cpu"))
    first, second, n = repeats.halves(torch.tensor([0, 1, 2]), torch.Generator().manual_seed(0))
    assert n.ravel().tolist() == [2, 1, 1]
    assert float(first[0, 0] * 2 + second[0, 0]) == 1111
    assert float(first[1, 0]) == float(second[1, 0]) == 7
    assert float(first[2, 0] + second[2, 0]) == 55


def _population(seed=0, *, n_stimuli=600, n_repeats=6):
    """Poisson units of which a third follows a number, a third a category, a third something unlabelled."""
    rng = np.random.default_rng(seed)
    size, hidden = rng.uniform(-1.7, 1.7, (2, n_stimuli))
    kind = rng.integers(0, 3, n_stimuli)
    log_rate = np.concatenate(
        [
            size[:, None] * rng.choice([-0.6, 0.6], 12),
            rng.normal(0, 0.6, (3, 12))[kind],
            hidden[:, None] * rng.choice([-0.6, 0.6], 12),
        ],
        axis=1,
    )
    rate = 3 * np.exp(log_rate)
    index = np.repeat(np.arange(n_stimuli), n_repeats)
    order = rng.permutation(index.size)
    counts = rng.poisson(rate[index]).astype(np.uint16)
    labels = {"size": size, "kind": np.array(["x", "y", "z"], dtype=object)[kind]}
    return counts[order], index[order], labels, hidden, rate


GROUPS = (
    GroupConfig(name="size", size=2, labels=("size",)),
    GroupConfig(name="kind", size=2, labels=("kind",)),
    GroupConfig(name="free", size=2),
)


@pytest.fixture(scope="module")
def fitted():
    counts, index, labels, hidden, rate = _population()
    split = split_stimuli(600, SplitConfig(), rng=np.random.default_rng(0))
    config = LatentsConfig(groups=GROUPS, n_steps=1000, n_hidden=64, batch_size=128)
    arguments = {"labels": labels, "groups": GROUPS, "split": split, "seed": 1}
    model = fit(counts, index, config=config, **arguments)
    return counts, index, labels, hidden, rate, split, config, arguments, model


def fit(counts, index, *, labels, groups, split, **how):
    task = LatentTask(as_labels(labels, circular=how["config"].circular), groups, split)
    return fit_latents([Recording.alone(counts, index, split.size)], task, **how)[0]


def _r2(x, y, train, test):
    design = np.column_stack([x, np.ones(len(x))])
    weights = np.linalg.lstsq(design[train], y[train], rcond=None)[0]
    return 1 - ((y[test] - design[test] @ weights) ** 2).sum() / ((y[test] - y[test].mean()) ** 2).sum()


def test_planted_factors_land_in_their_own_groups(fitted):
    counts, index, labels, hidden, _, split, _, _, model = fitted
    total = np.zeros((600, counts.shape[1]))
    np.add.at(total, index, counts)
    mean, _ = model.encode(total / 6)
    train, test = split == "train", split == "test"
    own = {name: mean[:, 2 * g : 2 * g + 2] for g, name in enumerate(("size", "kind", "free"))}
    assert _r2(own["size"], labels["size"], train, test) > 0.85
    assert _r2(own["free"], hidden, train, test) > 0.75
    assert _r2(own["kind"], (labels["kind"] == "x").astype(float), train, test) > 0.75
    for other in ("kind", "free"):
        assert _r2(own[other], labels["size"], train, test) < 0.2


def test_rates_of_held_out_stimuli_are_predicted(fitted):
    counts, index, _, _, rate, split, _, _, model = fitted
    total = np.zeros((600, counts.shape[1]))
    np.add.at(total, index, counts)
    mean, _ = model.encode(total / 6)
    with torch.no_grad():
        predicted = model.vae.rate(torch.as_tensor(mean)).numpy()
    test = split == "test"
    error = ((np.log(predicted) - np.log(rate))[test] ** 2).mean()
    assert error < 0.15 * np.log(rate)[test].var()


def test_the_same_seed_gives_the_same_bytes(fitted):
    counts, index, *_, config, arguments, _ = fitted
    short = replace(config, n_steps=20)
    first = fit(counts, index, config=short, **arguments).to_bytes()
    second = fit(counts, index, config=short, **arguments).to_bytes()
    other = fit(counts, index, config=short, **(arguments | {"seed": 2})).to_bytes()
    assert first == second
    assert first != other


def test_the_loss_is_the_negative_evidence_lower_bound(fitted):
    counts, index, *_, config, arguments, _ = fitted
    where, stimuli = torch.device("cpu"), torch.arange(40)
    repeats = Repeats.of(counts, index, 600, where)
    plain = replace(config, kl_weight=1.0, tc_weight=0.0, label_weight=0.0, free_dropout=0.0)
    targets = [(torch.zeros(600, 0), []) for _ in GROUPS]
    vae = initial_vae(repeats, GROUPS, targets, split=arguments["split"], config=plain, seed=0)
    objective = Objective(vae, repeats, targets, config=plain, label_weights=NO_LABELS * len(GROUPS))
    loss = objective(stimuli, torch.Generator().manual_seed(3))
    z, mean, log_var, total, n = objective.encode_half(stimuli, torch.Generator().manual_seed(3), sample=True)
    given = torch.distributions.Poisson(n * vae.rate(z)).log_prob(total) - (
        total * n.log() - torch.lgamma(total + 1)
    )
    posterior = torch.distributions.Normal(mean, torch.exp(0.5 * log_var))
    kl = torch.distributions.kl_divergence(posterior, torch.distributions.Normal(0.0, 1.0)).sum(1)
    expected = (kl - given.sum(1)).mean() / (3 * counts.shape[1])
    assert (n == 3).all()
    assert float(loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_the_derivative_of_the_likelihood_is_that_of_the_formula():
    generator = torch.Generator().manual_seed(0)
    drive = 3 * torch.randn(30, 4, generator=generator, dtype=torch.float64)
    drive[0] = -60.0  # the rate is at its least
    mean_rate = torch.tensor([0.1, 1.0, 3.0, 20.0], dtype=torch.float64)
    average = torch.rand(30, 4, generator=generator, dtype=torch.float64) * mean_rate
    weight = torch.randn(30, 4, generator=generator, dtype=torch.float64)
    found, plain = (drive.clone().requires_grad_(True) for _ in range(2))
    error = poisson_error(found, mean_rate, average)
    rate = (mean_rate * torch.nn.functional.softplus(plain + 1) / np.log(1 + np.e)).clamp_min(1e-6)
    expected = (
        average
        - average * average.log()
        - torch.distributions.kl_divergence(
            torch.distributions.Poisson(average), torch.distributions.Poisson(rate)
        ).neg()
    )
    torch.testing.assert_close(error, expected)
    slopes = [torch.autograd.grad((weight * e).sum(), x)[0] for e, x in ((error, found), (expected, plain))]
    torch.testing.assert_close(*slopes)
    assert (slopes[0][0] == 0).all() and (slopes[0][1:] != 0).all()


def test_a_label_counts_as_far_as_responses_tell_it_of_stimuli_left_out():
    rng = np.random.default_rng(0)
    x, n = torch.as_tensor(rng.normal(size=(60, 5))), 40
    told = x @ torch.as_tensor(rng.normal(size=5)) + 0.6 * torch.as_tensor(rng.normal(size=60))
    other = torch.as_tensor(rng.normal(size=60))
    told[3] = torch.nan
    rows = torch.arange(n)
    kind = (x[:, 0] > 0).long()
    targets = [(torch.stack([told, other], dim=1), [kind]), (torch.zeros(60, 0), [])]
    weights = weigh_labels(x, targets, rows)
    known = np.flatnonzero(np.isfinite(told[:n].numpy()))
    best = max(_left_out(x[known].numpy(), told[known].numpy(), p) for p in (1e-3, 1e-2, 1e-1, 1.0))
    assert float(weights[0].numeric[0]) == pytest.approx(
        (39 * best + N_PRESUMED) / (39 + N_PRESUMED), abs=1e-6
    )
    assert weights[0].numeric[1] < N_PRESUMED / (n + N_PRESUMED) + 0.1
    assert 0.4 < weights[0].classes[0] < 1
    assert weights[1].classes == () and weights[1].numeric.numel() == 0
    spoiled = [(torch.where(torch.arange(60)[:, None] < n, targets[0][0], 1e6), [kind]), targets[1]]
    torch.testing.assert_close(weigh_labels(x, spoiled, rows)[0].numeric, weights[0].numeric)


def test_a_label_that_no_training_stimulus_has_does_not_count():
    x = torch.randn(30, 4, generator=torch.Generator().manual_seed(0))
    kind = torch.where(torch.arange(30) < 25, -1, torch.arange(30) % 2)
    size = torch.where(torch.arange(30) < 25, torch.nan, 1.0)[:, None]
    (weights,) = weigh_labels(x, [(size, [kind])], torch.arange(20))
    assert weights.classes == (0.0,) and weights.numeric.tolist() == [0.0]


def _left_out(x, y, penalty):
    """Explained fraction of y, each row predicted from a ridge regression of all others, centred on all."""
    x, y = x - x.mean(0), y - y.mean()
    rows = np.arange(len(x))
    error = 0.0
    for row in rows:
        a, b = x[rows != row], y[rows != row]
        design = np.column_stack([a, np.ones(len(a))])
        ridge = design.T @ design + penalty * len(x) * np.diag([1.0] * x.shape[1] + [0.0])
        weight = np.linalg.solve(ridge, design.T @ b)
        error += (y[row] - np.append(x[row], 1) @ weight) ** 2
    return 1 - error / (y**2).sum()


def test_training_keeps_averaged_weights_and_decays_matrices_alone():
    network = torch.nn.Linear(2, 1)
    first = {name: weight.clone() for name, weight in network.state_dict().items()}
    config = LatentsConfig(n_steps=100, learning_rate=0.01, weight_decay=50.0)
    seen = []

    def flat(generator):
        seen.append(float(network.weight.detach()[0, 0]))
        return 0.0 * (network.weight.sum() + network.bias.sum())

    def optimised(n_train):
        generator = torch.Generator().manual_seed(0)
        training = LatentTraining(network, flat, config=config, n_train=n_train, generator=generator)
        return optimise(training, lambda: 0.0)

    assert optimised(200) == 100
    assert network.bias.item() == first["bias"].item()
    shrunk = first["weight"][0, 0].item() * np.cumprod(
        [1 - 0.25 * (0.01 / 20 + 0.475 * 0.01 * (1 + np.cos(np.pi * k / 100))) for k in range(100)]
    )
    assert seen[1:] == pytest.approx(shrunk[:-1].tolist(), rel=1e-4)
    average = first["weight"][0, 0].item()
    for step, weight in enumerate(shrunk, start=1):
        kept = min(0.99, step / (10 + step))
        average = kept * average + (1 - kept) * weight
    assert network.weight[0, 0].item() == pytest.approx(average, rel=1e-4)


def test_free_groups_are_left_out_from_the_last():
    groups = (GroupConfig(name="a", size=2), *(GroupConfig(name=f"f{k}", size=1) for k in range(3)))
    targets = [(torch.zeros(1, 1), [])] + [(torch.zeros(1, 0), [])] * 3
    vae = GroupVae(4, groups, n_hidden=8, n_layers=1, n_targets=[(1, ())] + [(0, ())] * 3)
    objective = Objective(
        vae, None, targets, config=LatentsConfig(free_dropout=0.5), label_weights=NO_LABELS * 4
    )
    kept = objective._order(torch.ones(2000, 5), torch.Generator().manual_seed(0))
    assert (kept[:, :3] == 1).all()
    assert (kept[:, 3] >= kept[:, 4]).all()
    assert [float(kept[:, k].mean()) for k in (3, 4)] == pytest.approx([0.75, 0.5], abs=0.04)


def test_a_killed_fit_goes_on_and_ends_with_the_same_weights(fitted, tmp_path, monkeypatch):
    counts, index, *_, config, arguments, _ = fitted
    config = replace(config, n_steps=300)
    expected = fit(counts, index, config=config, **arguments).to_bytes()
    descend = Descent.descend

    def killed(self, loss):
        if self.n_taken == 230:
            raise KeyboardInterrupt
        descend(self, loss)

    monkeypatch.setattr(Descent, "descend", killed)
    with pytest.raises(KeyboardInterrupt):
        fit(counts, index, config=config, checkpoints=tmp_path, **arguments)
    steps = []
    monkeypatch.setattr(
        Descent, "descend", lambda self, loss: (steps.append(self.n_taken), descend(self, loss))
    )
    other = {**arguments, "seed": 2}
    fit(counts, index, config=replace(config, n_steps=100), checkpoints=tmp_path, **other)
    assert steps[0] == 0
    steps.clear()
    found = fit(counts, index, config=config, checkpoints=tmp_path, **arguments)
    assert found.to_bytes() == expected
    assert steps[0] == 200
    assert not list(tmp_path.iterdir())


def test_a_model_comes_back_from_its_bytes(fitted):
    *_, model = fitted
    again = load_latent_model(model.to_bytes())
    average = np.random.default_rng(0).uniform(0, 9, (5, 36))
    for a, b in zip(model.encode(average), again.encode(average), strict=True):
        np.testing.assert_array_equal(a, b)
    assert again.groups == model.groups
    assert model.loading().shape == (36, 6)


def test_test_stimuli_have_no_say_in_the_fit(fitted):
    counts, index, labels, _, _, split, config, arguments, _ = fitted
    short = replace(config, n_steps=20)
    changed = counts.copy()
    changed[np.isin(index, np.flatnonzero(split == "test"))] = 0
    spoiled = {"size": np.where(split == "test", 1e6, labels["size"]), "kind": labels["kind"]}
    first = fit(counts, index, config=short, **arguments)
    second = fit(changed, index, config=short, **(arguments | {"labels": spoiled}))
    assert first.to_bytes() == second.to_bytes()


def test_too_few_stimuli_for_the_latents():
    counts, index, labels, *_ = _population(n_stimuli=30)
    split = split_stimuli(30, SplitConfig(), rng=np.random.default_rng(0))
    groups = (GroupConfig(name="free", size=20),)
    with pytest.raises(MigvisError, match="21 training stimuli for 20 latents"):
        fit(counts, index, labels=labels, groups=groups, split=split, config=LatentsConfig(), seed=0)


def test_gaussian_likelihood_and_single_repeats():
    counts, index, labels, *_ = _population(n_stimuli=200, n_repeats=1)
    split = split_stimuli(200, SplitConfig(), rng=np.random.default_rng(0))
    config = LatentsConfig(likelihood="gaussian", n_steps=150, n_hidden=32)
    model = fit(counts, index, labels=labels, groups=GROUPS, split=split, config=config, seed=0)
    mean, log_var = model.encode(counts[np.argsort(index)])
    train, test = split == "train", split == "test"
    assert np.isfinite(log_var).all()
    assert _r2(mean[:, :2], labels["size"], train, test) > 0.3
