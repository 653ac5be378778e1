"""The optimiser Muon, for networks whose weights are matrices and convolutions."""

from __future__ import annotations

import math
from collections.abc import Iterable
from typing import Any

import torch

_COEFFICIENTS = (3.4445, -4.7750, 2.0315)
"""Of the odd polynomial that takes singular values from 0.02 to 1 near 1 in `_N_ITERATIONS` iterations."""

_N_ITERATIONS = 5

_RMS = 0.2
"""Root mean square of an update per learning rate: that of AdamW's (Liu et al. 2025, arXiv 2502.16982)."""


class Muon(torch.optim.Optimizer):
    """Momentum whose matrices are made orthogonal (Jordan et al. 2024, kellerjordan.github.io/posts/muon).

    The update of a weight matrix has all its singular values near one: directions that gradients hardly point
    in are learned as fast as the others. A convolution is the matrix (output, input * height * width), which
    `torch.optim.Muon` does not take. Weights with one dimension are updated as by Adam. Updates are of the
    size of AdamW's, so that learning rate and decay of weights mean the same.

    Parameters
    ----------
    params : iterable of torch.Tensor
    lr : float
    weight_decay : float
        Of matrices, per unit of learning rate.
    momentum : float
        Of matrices, by Nesterov.
    betas : (float, float)
        Decay of the averages of the gradient and of its square, of all else.
    dtype : torch.dtype
        Of the arithmetic that makes updates orthogonal.
    """

    def __init__(
        self,
        params: Iterable[torch.Tensor],
        lr: float,
        *,
        weight_decay: float = 0.01,
        momentum: float = 0.95,
        betas: tuple[float, float] = (0.9, 0.999),
        dtype: torch.dtype = torch.bfloat16,
    ):
        self._dtype = dtype
        defaults = {"lr": lr, "weight_decay": weight_decay, "momentum": momentum, "betas": betas}
        super().__init__(params, defaults)

    @torch.no_grad()
    def step(self, closure: Any = None) -> None:  # type: ignore[override]
        """Update all weights that have a gradient; `closure` is not used."""
        for group in self.param_groups:
            by_shape: dict[tuple[int, int], list[tuple[torch.Tensor, torch.Tensor]]] = {}
            for weight in group["params"]:
                if weight.grad is None:
                    continue
                if weight.ndim < 2:
                    self._adam(weight, weight.grad, group)
                else:
                    shape = (len(weight), weight[0].numel())
                    by_shape.setdefault(shape, []).append((weight, weight.grad))
            for shape, pairs in by_shape.items():
                self._orthogonal(shape, pairs, group)

    def _adam(self, weight: torch.Tensor, gradient: torch.Tensor, group: dict[str, Any]) -> None:
        state = self.state[weight]
        if not state:
            state["step"] = torch.tensor(0.0)
            state["exp_avg"], state["exp_avg_sq"] = torch.zeros_like(weight), torch.zeros_like(weight)
        state["step"] += 1
        n, (first, second) = float(state["step"]), group["betas"]
        mean = state["exp_avg"].lerp_(gradient, 1 - first) / (1 - first**n)
        square = state["exp_avg_sq"].lerp_(gradient.square(), 1 - second) / (1 - second**n)
        weight.addcdiv_(mean, square.sqrt() + 1e-8, value=-group["lr"])

    def _orthogonal(
        self, shape: tuple[int, int], pairs: list[tuple[torch.Tensor, torch.Tensor]], group: dict[str, Any]
    ) -> None:
        """Update weights that are matrices of one shape, given with their gradients."""
        updates = []
        for weight, gradient in pairs:
            state = self.state[weight]
            if not state:
                state["momentum"] = torch.zeros_like(weight)
            momentum = state["momentum"].lerp_(gradient, 1 - group["momentum"])
            updates.append(gradient.lerp(momentum, group["momentum"]).reshape(shape))
        size = -group["lr"] * _RMS * math.sqrt(max(shape))
        for (weight, _), update in zip(pairs, orthogonal(torch.stack(updates), self._dtype), strict=True):
            weight.mul_(1 - group["lr"] * group["weight_decay"])
            weight.add_(update.view(weight.shape), alpha=size)


def orthogonal(matrices: torch.Tensor, dtype: torch.dtype = torch.bfloat16) -> torch.Tensor:
    """Return matrices (n, rows, columns) with the same singular vectors and singular values near 1.

    By iteration of a polynomial, which takes them to 0.7 to 1.2. A matrix of zeros stays one.
    """
    a, b, c = _COEFFICIENTS
    is_tall = matrices.shape[1] > matrices.shape[2]
    x = (matrices.mT if is_tall else matrices).to(dtype)
    x = x / x.flatten(1).norm(dim=1)[:, None, None].clamp_min(1e-7)
    for _ in range(_N_ITERATIONS):
        square = x @ x.mT
        x = a * x + (b * square + c * square @ square) @ x
    return (x.mT if is_tall else x).to(matrices.dtype)
