"""How latent models are trained: averaged weights, of which those best on validation stimuli stay."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch

from nwb_migvis.config import LatentsConfig
from nwb_migvis.networks.checkpoints import Checkpoint
from nwb_migvis.networks.training import Descent, Selection, State, train

VALIDATE_EVERY = 100
AVERAGING = 0.99
"""Share of the averaged weights that a step keeps, once there were enough steps."""

Loss = Callable[[torch.Generator], torch.Tensor]
"""The training loss of one step, which draws from the generator that it is given."""


class LatentTraining(Descent):
    """A latent model in training, whose weights are running averages over steps.

    Matrices decay by `weight_decay` / n_train, whatever the gradient (Loshchilov & Hutter 2019, arXiv
    1711.05101). With few stimuli, weights are thus pulled to zero more strongly.

    Parameters
    ----------
    network : torch.nn.Module
    loss : callable
    config : LatentsConfig
    n_train : int
        Number of training stimuli.
    generator : torch.Generator
    """

    def __init__(
        self,
        network: torch.nn.Module,
        loss: Loss,
        *,
        config: LatentsConfig,
        n_train: int,
        generator: torch.Generator,
    ):
        matrices = [weight for weight in network.parameters() if weight.ndim > 1]
        vectors = [weight for weight in network.parameters() if weight.ndim <= 1]
        optimiser = torch.optim.AdamW(
            [
                {"params": matrices, "weight_decay": min(config.weight_decay / n_train, 1.0)},
                {"params": vectors, "weight_decay": 0.0},
            ],
            lr=config.learning_rate,
            fused=True,
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, config.n_steps, config.learning_rate / 20
        )
        super().__init__(network, optimiser, schedule, generator, max_norm=5.0)
        self.loss, self.config = loss, config
        self.average = copy.deepcopy(network.state_dict())
        weights: dict[str, torch.Tensor] = dict(network.named_parameters(remove_duplicate=False))
        self._weights, self._averaged = list(weights.values()), [self.average[name] for name in weights]

    def step(self) -> None:
        """Take one step, and take the weights into the average."""
        self.descend(lambda: self.loss(self.generator))
        left = min(AVERAGING, self.n_taken / (10 + self.n_taken))
        with torch.no_grad():
            torch._foreach_lerp_(self._averaged, self._weights, 1 - left)

    def weights(self) -> State:
        """Return the averaged weights."""
        return self.average

    def of_average(self, held_out: Callable[[], float]) -> float:
        """Return what a function of the network gives with the averaged weights in it."""
        now = copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(self.average)
        value = held_out()
        self.network.load_state_dict(now)
        return value

    def state(self) -> State:
        """Return all that training changes."""
        return {**super().state(), "average": self.average}

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""
        super().load_state(state)
        for name, tensor in state["average"].items():
            self.average[name].copy_(tensor)


def optimise(
    training: LatentTraining,
    held_out: Callable[[], float],
    *,
    checkpoint: Checkpoint | None = None,
    what: str = "latents",
) -> int:
    """Train a latent model, leaving it with the weights of the least loss on the validation stimuli.

    Parameters
    ----------
    training : LatentTraining
    held_out : callable
        The loss on the validation stimuli.
    checkpoint : Checkpoint, optional
    what : str
        What is shown with the progress.

    Returns
    -------
    int
        The steps that those weights took.
    """
    config = training.config
    selection = Selection(lambda: training.of_average(held_out), VALIDATE_EVERY, config.patience)
    with _one_thread():
        return train(training, config.n_steps, what=what, selection=selection, checkpoint=checkpoint)


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: a step is many small operations, which several threads only slow down."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)
