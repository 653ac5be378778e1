"""One training in several processes: each takes its part of the same drawn batch, and gradients add up."""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING

from nwb_migvis.extras import require

if TYPE_CHECKING:
    import torch


@dataclass(frozen=True)
class Ranks:
    """The processes of a training, and which of them this is.

    Attributes
    ----------
    n : int
        Number of processes.
    index : int
        Of this one, from 0. Only the first writes.
    """

    n: int = 1
    index: int = 0

    @property
    def is_first(self) -> bool:
        """Whether this process writes files."""
        return self.index == 0

    def part(self, n_rows: int) -> slice:
        """Return the rows of a batch that this process takes."""
        if self.n == 1:
            return slice(None)
        return slice(self.index * n_rows // self.n, (self.index + 1) * n_rows // self.n)

    def share_of_mean(self, mean: torch.Tensor, n_rows: int) -> torch.Tensor:
        """Return what the mean over this process's rows adds to that over all rows of a batch."""
        if self.n == 1:
            return mean
        part = self.part(n_rows)
        return mean * ((part.stop - part.start) / n_rows)

    def add_up_gradients(self, parameters: Iterable[torch.nn.Parameter]) -> None:
        """Replace gradients by their sums over processes; nothing is done where there is one."""
        if self.n == 1:
            return
        import torch
        from accelerate.utils import reduce

        own = [p.grad for p in parameters if p.grad is not None]
        total = reduce(torch.cat([grad.reshape(-1) for grad in own]), reduction="sum")
        for grad, summed in zip(own, total.split([grad.numel() for grad in own]), strict=True):
            grad.copy_(summed.view_as(grad))

    def as_first(self, value: bool) -> bool:
        """Return what the first process has for a value, in all of them."""
        if self.n == 1:
            return value
        from accelerate.utils import broadcast_object_list

        return bool(broadcast_object_list([value])[0])


ALONE = Ranks()
"""One process."""


@cache
def ranks() -> Ranks:
    """Return the processes that accelerate started together; one where it did not.

    They meet at the first call: `accelerate launch -m nwb_migvis run ...` sets what tells of them.
    """
    launched = any(name.startswith("ACCELERATE_") for name in os.environ)
    if not launched or int(os.environ.get("WORLD_SIZE", "1")) < 2:
        return ALONE
    require(("accelerate",), what="a run in several processes", extra="cluster")
    from accelerate import PartialState
    from accelerate.utils import parse_flag_from_env

    state = PartialState(cpu=parse_flag_from_env("ACCELERATE_USE_CPU"))
    return Ranks(state.num_processes, state.process_index)
