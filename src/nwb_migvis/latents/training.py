"""Training with early stopping, which a killed training resumes."""

from __future__ import annotations

import copy
import hashlib
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nwb_migvis.config import LatentsConfig
from nwb_migvis.networks.checkpoints import load_state, save_state
from nwb_migvis.progress import progress

VALIDATE_EVERY = 100
AVERAGING = 0.99
"""Share of the averaged weights that a step leaves, once there were enough steps."""


@dataclass
class _Training:
    """Everything that training changes."""

    network: torch.nn.Module
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    average: dict[str, torch.Tensor]
    step: int = 0
    best: dict[str, Any] = field(default_factory=dict)
    best_loss: float = float("inf")
    best_step: int = 0
    n_waited: int = 0

    def advance(self, loss: Callable[[torch.Generator], torch.Tensor]) -> None:
        """Take one step."""
        self.optimiser.zero_grad(set_to_none=True)
        loss(self.generator).backward()
        torch.nn.utils.clip_grad_norm_(self.network.parameters(), 5.0)
        self.optimiser.step()
        self.schedule.step()
        self.step += 1
        kept = min(AVERAGING, self.step / (10 + self.step))
        with torch.no_grad():
            weights = dict(self.network.named_parameters(remove_duplicate=False))
            torch._foreach_lerp_([self.average[name] for name in weights], list(weights.values()), 1 - kept)

    def judge(self, held_out: Callable[[], float]) -> None:
        """Keep the averaged weights if their loss on the validation stimuli is the least so far."""
        now = copy.deepcopy(self.network.state_dict())
        self.network.load_state_dict(self.average)
        loss = held_out()
        self.network.load_state_dict(now)
        self.n_waited += 1
        if loss < self.best_loss:
            self.best = copy.deepcopy(self.average)
            self.best_loss, self.best_step, self.n_waited = loss, self.step, 0

    def save(self, path: Path) -> None:
        """Write everything to a file whose name tells the training from others."""
        content = {name: getattr(self, name) for name in _PLAIN}
        content |= {name: getattr(self, name).state_dict() for name in _STATEFUL}
        save_state(path, content | {"generator": self.generator.get_state()}, digest=path.name)

    def restore(self, path: Path) -> None:
        """Take everything from such a file."""
        content = load_state(path, digest=path.name)
        for name in _PLAIN:
            setattr(self, name, content[name])
        for name in _STATEFUL:
            getattr(self, name).load_state_dict(content[name])
        self.generator.set_state(content["generator"])


_PLAIN = ("average", "step", "best", "best_loss", "best_step", "n_waited")
_STATEFUL = ("network", "optimiser", "schedule")


@contextmanager
def _one_thread() -> Iterator[None]:
    """Compute on one thread: a step is many small operations, which several threads only slow down."""
    n_threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(n_threads)


def optimise(
    network: torch.nn.Module,
    loss: Callable[[torch.Generator], torch.Tensor],
    held_out: Callable[[], float],
    *,
    config: LatentsConfig,
    n_train: int,
    generator: torch.Generator,
    checkpoint: Path | None = None,
    what: str = "latents",
) -> int:
    """Train a network, leaving it with the weights of the least loss on the validation stimuli.

    The weights are running averages over steps. Matrices decay by `weight_decay` / n_train, whatever the
    gradient (Loshchilov & Hutter 2019, arXiv 1711.05101): what few stimuli say counts less against zero.

    Parameters
    ----------
    network : torch.nn.Module
    loss : callable
        The training loss of one step, which draws from the generator that it is given.
    held_out : callable
        The loss on the validation stimuli.
    config : LatentsConfig
    n_train : int
        Number of training stimuli.
    generator : torch.Generator
    checkpoint : Path, optional
        File that keeps the state of training at every validation and is removed at the end. Where it exists,
        training goes on from it.
    what : str
        What is shown with the progress.

    Returns
    -------
    int
        The step of those weights.
    """
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
    average = copy.deepcopy(network.state_dict())
    training = _Training(network, optimiser, schedule, generator, average)
    if checkpoint is not None and checkpoint.exists():
        training.restore(checkpoint)
    with _one_thread():
        for step in progress(range(training.step + 1, config.n_steps + 1), what=what):
            training.advance(loss)
            if step % VALIDATE_EVERY == 0 or step == config.n_steps:
                training.judge(held_out)
                if training.n_waited >= config.patience:
                    break
                if checkpoint is not None:
                    training.save(checkpoint)
    network.load_state_dict(training.best)
    if checkpoint is not None:
        checkpoint.unlink(missing_ok=True)
    return training.best_step


def checkpoint_path(folder: Path | None, *parts: Any) -> Path | None:
    """Return the file of a training's state, named by all that decides how it ends; None without a folder.

    The last bits of the weights depend on the number of threads and the version of torch.
    """
    if folder is None:
        return None
    parts = (*parts, torch.get_num_threads(), torch.__version__)
    digest = hashlib.sha256(b"".join(_bytes_of(part) for part in parts)).hexdigest()
    return folder / f"latents-{digest}.checkpoint.pt"


def _bytes_of(part: Any) -> bytes:
    if isinstance(part, Mapping):
        return b"".join(name.encode() + _bytes_of(values) for name, values in part.items())
    if isinstance(part, np.ndarray) and part.dtype.kind not in "OU":
        return np.ascontiguousarray(part).tobytes()
    return repr(part.tolist() if isinstance(part, np.ndarray) else part).encode()
