"""The loop that trains every network: selection, patience, and going on after a kill, to the bit."""

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from networks import conditions_of

from nwb_migvis import MigvisError
from nwb_migvis.config import CriticConfig, GroupConfig, LatentsConfig, PriorConfig
from nwb_migvis.evidence.readers.protocol import Examples, fit_readers
from nwb_migvis.labels import as_labels
from nwb_migvis.latents import LatentTask, Recording
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.networks.checkpoints import Checkpoint, checkpoint_in, digest_of
from nwb_migvis.networks.training import Best, Descent, Selection, train
from nwb_migvis.synthesis.critic import training as critic_training
from nwb_migvis.synthesis.critic.training import train_critic
from nwb_migvis.synthesis.prior.cache import cached_prior
from nwb_migvis.synthesis.prior.training import train_prior

RNG = np.random.default_rng(0)
IMAGES = RNG.integers(0, 256, (60, 8, 8), dtype=np.uint8)
LATENTS = RNG.normal(size=(60, 2)).astype(np.float32)
SPLIT = np.repeat(["train", "validation", "test"], [40, 10, 10])
COUNTS, INDEX = RNG.poisson(3, (180, 6)).astype(np.uint16), np.tile(np.arange(60), 3)


class Towards(Descent):
    """A number that is pulled towards noisy goals around zero."""

    def __init__(self, *, rate=0.1, fused=False):
        network = torch.nn.Linear(1, 1, bias=False)
        torch.nn.init.ones_(network.weight)
        optimiser = torch.optim.SGD(network.parameters(), lr=rate, momentum=0.5)
        if fused:
            optimiser = torch.optim.AdamW(network.parameters(), fused=True)
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimiser, 20)
        super().__init__(network, optimiser, schedule, torch.Generator().manual_seed(0))

    @property
    def value(self):
        return self.network.weight.item()

    def step(self):
        goal = 0.1 * torch.randn((), generator=self.generator)
        self.descend(lambda: (self.network.weight - goal).square().sum())


def test_without_a_selection_the_last_weights_stay():
    training, values = Towards(rate=0.25), []
    step = training.step
    training.step = lambda: (step(), values.append(training.value))
    assert train(training, 6, what="number") == 6
    assert training.value == values[-1] and len(values) == 6


def test_the_weights_of_the_least_loss_stay():
    losses, values, training = [3.0, 1.0, 2.0, 1.0], [], Towards()

    def held_out():
        values.append(training.value)
        return losses[len(values) - 1]

    assert train(training, 8, what="number", selection=Selection(held_out, every=2)) == 4
    assert training.value == values[1] and training.n_taken == 8


def test_there_is_a_validation_after_the_last_step():
    seen, training = [], Towards()
    selection = Selection(lambda: seen.append(training.n_taken) or -training.n_taken, every=4)
    assert train(training, 10, what="number", selection=selection) == 10
    assert seen == [4, 8, 10]


@pytest.mark.parametrize(
    "spoiled", [{"exp_avg": torch.zeros(3)}, {"exp_avg_sq": torch.zeros(2, 1)}, {"step": torch.zeros(2)}]
)
def test_a_state_of_other_parameters_is_refused_before_a_step_writes_beyond_them(spoiled):
    training, other = Towards(fused=True), Towards(fused=True)
    training.step()
    state = training.state()
    other.load_state(state)
    state["optimiser"]["state"][0].update(spoiled)
    with pytest.raises(ValueError, match=f"{next(iter(spoiled))} of the optimiser is of another network"):
        other.load_state(state)


def test_patience_ends_a_training():
    losses, training = iter([2.0, 1.0, 1.5, 1.5, 0.0]), Towards()
    selection = Selection(lambda: next(losses), every=1, patience=2)
    assert train(training, 5, what="number", selection=selection) == 2
    assert training.n_taken == 4


def test_a_loss_that_is_never_a_number_is_refused():
    with pytest.raises(MigvisError, match=r"training of the number: .* not a number.*lower the learning"):
        train(Towards(), 3, what="number", selection=Selection(lambda: float("nan"), every=1))


def test_a_checkpoint_of_another_training_or_cut_short_is_refused(tmp_path):
    path = tmp_path / "state.pt"
    train(Towards(), 3, what="number", checkpoint=Checkpoint(path, "one", every=2, stays=True))
    assert [found.name for found in tmp_path.iterdir()] == ["state.pt"]
    with pytest.raises(MigvisError, match="other data or settings"):
        train(Towards(), 3, what="number", checkpoint=Checkpoint(path, "other", every=2))
    path.write_bytes(path.read_bytes()[:100])
    with pytest.raises(MigvisError, match=r"cannot be read.*remove it"):
        train(Towards(), 3, what="number", checkpoint=Checkpoint(path, "one", every=2))
    with pytest.raises(MigvisError, match="could not be written"):
        train(Towards(), 3, what="number", checkpoint=Checkpoint(tmp_path / "gone" / "x", "one", every=2))


def test_whatever_decides_a_training_decides_its_digest():
    given = [
        (LatentsConfig(),),
        (LatentsConfig(n_steps=5),),
        (IMAGES,),
        (IMAGES.astype(np.int16),),
        (IMAGES.reshape(60, 64),),
        (torch.as_tensor(LATENTS),),
        ({"a": LATENTS},),
        ({"b": LATENTS},),
        (LATENTS, LATENTS),
        (np.array(["x", "yz"], dtype=object),),
        (np.array(["xy", "z"], dtype=object),),
        ("ab",),
        ("a", "b"),
        (b"ab",),
        (None,),
        (),
    ]
    assert len({digest_of(*values) for values in given}) == len(given)
    assert digest_of(IMAGES.copy(), {"a": 1}) == digest_of(IMAGES, {"a": 1})
    assert checkpoint_in(None, "number", every=1) is None


def a_number(folder):
    training = Towards()
    checkpoint = None if folder is None else Checkpoint(folder / "state.pt", "", every=20)
    train(
        training, 130, what="number", selection=Selection(lambda: training.value, 10), checkpoint=checkpoint
    )
    return repr(training.value).encode()


def a_latent_model(folder):
    config = LatentsConfig(n_steps=130, n_hidden=8, batch_size=16)
    task = LatentTask({}, (GroupConfig(name="free", size=2),), SPLIT)
    recordings = [Recording.alone(COUNTS, INDEX, 60)]
    return fit_latents(recordings, task, config=config, seed=0, checkpoints=folder)[0].to_bytes()


def two_latent_models(folder):
    config = LatentsConfig(n_steps=130, n_hidden=8, batch_size=16)
    labels = as_labels({"a": LATENTS[:, 0], "b": np.array(["x", "y"])[np.arange(60) % 2]})
    groups = (GroupConfig(name="own", size=2, labels=("a", "b")), GroupConfig(name="free", size=2))
    second = Recording("second", COUNTS[90:, :4], INDEX[90:] % 30, np.arange(15, 45))
    recordings = [replace(Recording.alone(COUNTS, INDEX, 60), name="first"), second]
    task = LatentTask(
        labels, groups, np.array(["train", "train", "validation", "test"])[np.arange(60) % 4], [(0, 1)]
    )
    models = fit_latents(recordings, task, config=config, seed=0, checkpoints=folder)
    return b"".join(model.to_bytes() for model in models)


def a_prior(folder):
    config = PriorConfig(size_px=8, channels=(8,), n_steps=130, batch_size=4)
    if folder is None:
        return train_prior(IMAGES[:40], config=config, seed=0).to_bytes()
    return cached_prior(folder, IMAGES[:40], config=config, seed=0).to_bytes()


def a_critic(folder):
    prior = train_prior(
        IMAGES[:40], config=PriorConfig(size_px=8, channels=(8,), n_steps=1, batch_size=4), seed=0
    )
    config = CriticConfig(channels=(8, 8), n_steps=130, batch_size=16, n_negatives=8)
    return train_critic(
        IMAGES,
        conditions_of(LATENTS, (1, 1), n_train=40),
        split=SPLIT,
        config=config,
        seed=0,
        prior=prior,
        checkpoints=folder,
    ).to_bytes()


def a_reader(folder):
    (reader,) = fit_readers(
        *(
            Examples(IMAGES[part], as_labels({"a": LATENTS[part, 0]}))
            for part in (slice(40), slice(40, None))
        ),
        seed=0,
        n_steps=130,
        kinds=("conv",),
        checkpoints=folder,
    )
    return reader.read(IMAGES)["a"].tobytes() + reader.features(IMAGES).tobytes()


@pytest.mark.parametrize("made", [a_number, a_latent_model, two_latent_models, a_prior, a_critic, a_reader])
def test_a_killed_training_ends_with_the_weights_of_an_uninterrupted_one(made, tmp_path, monkeypatch):
    monkeypatch.setattr("nwb_migvis.synthesis.prior.training.CHECKPOINT_EVERY", 50)
    offer = Best.offer  # the newest weights are the best, so that every step after the kill counts
    monkeypatch.setattr(Best, "offer", lambda self, loss, given: offer(self, -given.n_taken, given))
    whole, descend, steps = made(None), Descent.descend, []
    killed_at = 117 if made is not a_critic else 1 + 117

    def until_killed(self, loss):
        steps.append(self.n_taken)
        if len(steps) == killed_at:
            raise KeyboardInterrupt
        descend(self, loss)

    monkeypatch.setattr(Descent, "descend", until_killed)
    with pytest.raises(KeyboardInterrupt):
        made(tmp_path)
    assert len(list(tmp_path.glob("*.pt"))) == 1
    steps.clear()
    killed_at = None
    assert made(tmp_path) == whole
    assert 100 in steps and len(steps) <= 31
    assert not list(tmp_path.glob("*.pt"))


def test_a_critic_on_other_images_does_not_go_on_from_it(tmp_path, monkeypatch):
    seen = []

    def recorded(folder, what, *decisive, every):
        seen.append(digest_of(*decisive))

    monkeypatch.setattr(critic_training, "checkpoint_in", recorded)
    monkeypatch.setattr("test_training.LATENTS", LATENTS)
    a_critic(None)
    monkeypatch.setattr("test_training.IMAGES", np.roll(IMAGES, 1))
    a_critic(None)
    monkeypatch.setattr("test_training.LATENTS", LATENTS + 1e-3 * LATENTS**2)
    a_critic(None)
    assert len(set(seen)) == 3


@pytest.mark.parametrize(("n", "n_draws"), [(10, 4), (341, 4), (600, 2), (1500, 1)])
def test_a_critic_is_validated_on_every_image_alike(n, n_draws, monkeypatch):
    seen = []

    def mean_of_x(network, stimuli, generator):
        assert not network.training
        seen.append(stimuli.x)
        return stimuli.x.mean()

    monkeypatch.setattr(critic_training, "negative_log_likelihood", mean_of_x)
    x = torch.arange(n, dtype=torch.float32)
    stimuli = critic_training._Stimuli(x, torch.zeros(n, 2), torch.ones(10))
    training = SimpleNamespace(network=torch.nn.Identity())
    loss = critic_training.CriticTraining.held_out(training, stimuli, 0)
    assert loss == pytest.approx((n - 1) / 2)
    assert torch.bincount(torch.cat(seen).long()).tolist() == [n_draws] * n
    assert max(map(len, seen)) <= 64 and training.network.training
