"""One training loop: steps, selection of the best weights by validation, and resuming after a kill."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch

from nwb_migvis.errors import MigvisError
from nwb_migvis.networks.checkpoints import Checkpoint
from nwb_migvis.networks.ranks import ALONE
from nwb_migvis.progress import note_curve, progress

State = Mapping[str, Any]
"""Tensors, numbers and state dictionaries of torch, by name."""


class Trainable(Protocol):
    """What the loop trains."""

    n_taken: int
    """Steps taken so far."""

    def step(self) -> None:
        """Take one step."""
        ...

    def weights(self) -> State:
        """Return the weights that training would end with now: the live ones, not copies."""
        ...

    def load_weights(self, weights: State) -> None:
        """Take back what `weights` returned."""
        ...

    def state(self) -> State:
        """Return all that training changes."""
        ...

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""
        ...


@dataclass(frozen=True)
class Selection:
    """How the best weights are chosen.

    Parameters
    ----------
    held_out : callable
        Returns the loss of the weights so far on the validation stimuli.
    every : int
        Steps between two validations; there is one more after the last step.
    patience : int, optional
        Training stops after this many validations without gain.
    """

    held_out: Callable[[], float]
    every: int
    patience: int | None = None


@dataclass
class Best:
    """The best weights so far: those of the least loss on the validation stimuli.

    Attributes
    ----------
    weights : mapping or None
        None before the first validation.
    loss : float
    step : int
        Steps that these weights took.
    n_waited : int
        Validations since, without gain.
    steps, losses : list
        Of all validations.
    """

    weights: State | None = None
    loss: float = math.inf
    step: int = 0
    n_waited: int = 0
    steps: list[int] = field(default_factory=list)
    losses: list[float] = field(default_factory=list)

    def check(self, training: Trainable, n_steps: int) -> None:
        """Refuse what was read from a file and cannot be of a training of `n_steps` steps.

        Raises
        ------
        ValueError
        """
        counts = (training.n_taken, self.step, self.n_waited)
        if not all(type(n) is int and 0 <= n <= n_steps for n in counts) or not isinstance(
            self.loss, int | float
        ):
            raise ValueError(f"steps {counts!r:.60} of {n_steps}, with the loss {self.loss!r:.40}")
        if not all(isinstance(x, int | float) for x in (*self.steps, *self.losses)):
            raise ValueError("the losses of earlier validations are not numbers")
        shapes = {name: tensor.shape for name, tensor in training.weights().items()}
        if self.weights is not None and shapes != {n: t.shape for n, t in self.weights.items()}:
            raise ValueError("the best weights are of another network")

    def offer(self, loss: float, training: Trainable) -> None:
        """Take the weights of a training if their loss is less."""
        self.n_waited += 1
        self.steps.append(training.n_taken)
        self.losses.append(float(loss))
        if loss < self.loss:
            self.weights = copy.deepcopy(training.weights())
            self.loss, self.step, self.n_waited = loss, training.n_taken, 0


class Descent:
    """Networks that go down a loss by an optimiser under a schedule: the base of what the loop trains.

    Parameters
    ----------
    network : torch.nn.Module
        All networks that are trained, under one module.
    optimiser : torch.optim.Optimizer
    schedule : torch.optim.lr_scheduler.LRScheduler
    generator : torch.Generator
        Of everything that a step draws.
    max_norm : float, optional
        Of the gradient of all parameters together.

    Attributes
    ----------
    ranks : Ranks
        The processes whose gradients add up; this one alone, unless a training sets others.
    """

    ranks = ALONE

    def __init__(
        self,
        network: torch.nn.Module,
        optimiser: torch.optim.Optimizer,
        schedule: torch.optim.lr_scheduler.LRScheduler,
        generator: torch.Generator,
        *,
        max_norm: float | None = None,
    ):
        self.network, self.optimiser, self.schedule = network, optimiser, schedule
        self._parameters = list(network.parameters())
        self.generator, self.max_norm, self.n_taken = generator, max_norm, 0

    def descend(self, loss: Callable[[], torch.Tensor]) -> None:
        """Take one step down the gradient of a loss."""
        self.optimiser.zero_grad(set_to_none=True)
        loss().backward()
        self.ranks.add_up_gradients(self._parameters)
        if self.max_norm is not None:
            torch.nn.utils.clip_grad_norm_(self._parameters, self.max_norm)
        self.optimiser.step()
        self.schedule.step()
        self.n_taken += 1

    def learned(self) -> State:
        """Return all of the network that training changes."""
        return self.network.state_dict()

    def load_learned(self, learned: State) -> None:
        """Take back what `learned` returned."""
        self.network.load_state_dict(learned)

    def weights(self) -> State:
        """Return the weights of the network."""
        return self.learned()

    def load_weights(self, weights: State) -> None:
        """Take back what `weights` returned."""
        self.load_learned(weights)

    def state(self) -> State:
        """Return all that training changes."""
        return {
            "n_taken": self.n_taken,
            "network": self.learned(),
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
        }

    def load_state(self, state: State) -> None:
        """Take back what `state` returned.

        Raises
        ------
        ValueError
            If the optimiser's state is of other parameters. Where it works on all at once (`fused`), it would
            write beyond their memory.
        """
        self.load_learned(state["network"])
        self.optimiser.load_state_dict(state["optimiser"])
        for parameter, own in self.optimiser.state.items():
            for name, value in own.items():
                expected = torch.Size() if name == "step" else parameter.shape
                if getattr(value, "shape", None) != expected:
                    raise ValueError(f"{name} of the optimiser is of another network")
        self.schedule.load_state_dict(state["schedule"])
        self.generator.set_state(state["generator"])
        self.n_taken = state["n_taken"]


def train(
    training: Trainable,
    n_steps: int,
    *,
    what: str,
    selection: Selection | None = None,
    checkpoint: Checkpoint | None = None,
) -> int:
    """Train, leaving the weights that were selected, or the last ones without a selection.

    Parameters
    ----------
    training : Trainable
    n_steps : int
        Most steps.
    what : str
        What is trained, for the progress and for messages.
    selection : Selection, optional
    checkpoint : Checkpoint, optional
        Where its file exists, training resumes from it and ends with the weights of an uninterrupted one.

    Returns
    -------
    int
        The steps that the weights took.

    Raises
    ------
    MigvisError
        If the loss on the validation stimuli is not a number at every validation, or the checkpoint
        belongs to other data or settings, or cannot be read or written.
    """
    best = Best()
    resuming: AbstractContextManager[None] = nullcontext()
    if checkpoint is not None and (before := checkpoint.load()):
        resuming = checkpoint.resuming()
        with checkpoint.resuming():
            training.load_state(before["training"])
            best = Best(**before["best"])
            best.check(training, n_steps)
    bar = progress(range(training.n_taken + 1, n_steps + 1), what=what)
    for step in bar:
        with resuming:
            training.step()
        resuming = nullcontext()
        if selection is not None and (step % selection.every == 0 or step == n_steps):
            best.offer(selection.held_out(), training)
            bar.show_loss(step, best.losses[-1])
            if selection.patience is not None and best.n_waited >= selection.patience:
                break
        if checkpoint is not None and (step % checkpoint.every == 0 or step == n_steps):
            checkpoint.save({"training": training.state(), "best": vars(best)})
    note_curve(what, best.steps, best.losses)
    if selection is not None:
        if best.weights is None:
            raise MigvisError(
                f"training of the {what}: the loss on the validation stimuli is not a number; expected one "
                "that falls; lower the learning rate in the settings"
            )
        training.load_weights(best.weights)
    if checkpoint is not None:
        checkpoint.finish()
    return training.n_taken if selection is None else best.step
