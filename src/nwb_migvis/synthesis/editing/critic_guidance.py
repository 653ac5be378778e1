"""Guidance by the critic, which raises the scores of the groups with their goals."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nwb_migvis.synthesis.critic.model import T_MAX_FRACTION, Critic
from nwb_migvis.synthesis.editing.guidance import check_count, check_direction, rescale_to

TEMPER = 0.5
"""Factor on the marginal's term of the PMI that guides; the scores that are reported have none."""

ASCENT = 2.0
"""Length of the path of activation maximisation relative to the guidance and the source image's norm."""

Score = Callable[[torch.Tensor, torch.Tensor], torch.Tensor]
"""Scores with the goal (n, group) and with the bank (n, negative, group) -> what guidance raises, in nats."""


def tempered_pmi(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return the PMI with half of the marginal's term, up to a constant."""
    return positive - TEMPER * torch.logsumexp(negative, dim=1)


def contrast(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return the InfoNCE score: log of the goal's share of the softmax over the goal and the bank.

    Up to a constant this is the objective of van den Oord et al. 2018 (arXiv 1807.03748), which the
    published procedure climbs.
    """
    together = torch.cat([positive[:, None], negative], dim=1)
    return positive - torch.logsumexp(together, dim=1)


def likelihood(positive: torch.Tensor, negative: torch.Tensor) -> torch.Tensor:
    """Return the Gaussian log density of the goal around what the critic reads off the image."""
    return positive


@dataclass(frozen=True, eq=False)
class CriticGuidance:
    """Shifts the noise by -length * |eps| * ascent / |ascent|, the norms over each image.

    The length is relative to the prior's own prediction, so that one value serves across image sets.

    Attributes
    ----------
    critic : Critic
    goal : torch.Tensor, shape (n, latent)
        Standardised latents.
    weight : torch.Tensor, shape (n, group)
        One for the edited group, the preservation weight for the others.
    length : torch.Tensor, shape (n,)
    n_timesteps : int
        T of the prior. Above the noise levels that the critic was trained on the shift is zero.
    score : callable
        What is raised: the tempered PMI, or the score of a control.
    t_min : int
        Below this step, too, the shift is zero.

    Raises
    ------
    MigvisError
        If goal, weight and length differ in their number of images, or from the number that is denoised.
    """

    critic: Critic
    goal: torch.Tensor
    weight: torch.Tensor
    length: torch.Tensor
    n_timesteps: int
    score: Score = tempered_pmi
    t_min: int = 0

    def __post_init__(self) -> None:
        for part in (self.weight, self.length):
            check_count(len(part), like=self.goal)

    def ascent(self, x_t: torch.Tensor, t: int) -> torch.Tensor:
        """Return the ascent direction of the scores of all groups with their goals, shape of x_t.

        Each group's ascent is scaled to length one in the space of its standardised latents before it is
        weighted and carried back to the image. A group that is at its goal already, or that the critic reads
        sharply, thus has exactly the influence of its weight.
        """
        if not self.t_min <= t <= T_MAX_FRACTION * self.n_timesteps:
            return torch.zeros_like(x_t)
        sizes = list(self.critic.sizes)
        with torch.enable_grad():
            x = x_t.detach().requires_grad_(True)
            read, log_precision = self.critic.read(x, t / self.n_timesteps)
            at = read.detach().requires_grad_(True)
            raised = self.score(*self.critic.scores(at, log_precision.detach(), self.goal))
            ascent = torch.autograd.grad(raised.sum(), at)[0]
            unit = [part / part.norm(dim=1, keepdim=True).clamp_min(1e-12) for part in ascent.split(sizes, 1)]
            parts = [w * part for w, part in zip(self.weight.split(1, 1), unit, strict=True)]
            return torch.autograd.grad(read, x, torch.cat(parts, 1))[0]

    def shift(self, x_t: torch.Tensor, t: int, eps: torch.Tensor, x0_hat: torch.Tensor) -> torch.Tensor:
        """Return what is added to the predicted noise."""
        check_count(len(self.goal), like=x_t)
        return -rescale_to(self.ascent(x_t, t), eps, self.length)

    def __repr__(self) -> str:
        name = getattr(self.score, "__name__", "a score")
        steps = f"from {T_MAX_FRACTION:g} T down to step {self.t_min}"
        if self.t_min > T_MAX_FRACTION * self.n_timesteps:
            steps = "at no step"
        return (
            f"CriticGuidance: raises {name} of {len(self.goal)} images, |shift| = "
            f"{_range(self.length)} |eps|, {steps} of {self.n_timesteps}"
        )


def _range(values: torch.Tensor) -> str:
    low, high = float(values.min()), float(values.max())
    return f"{low:g}" if low == high else f"({low:g} to {high:g})"


def climb(
    guidance: CriticGuidance, x0: torch.Tensor, *, n_steps: int, bounds: tuple[float, float]
) -> torch.Tensor:
    """Climb from images along the ascent at clean images, without a prior (activation maximisation).

    Every step has the length `ASCENT` * guidance.length * |x0| / n_steps whatever the ascent's, and is
    followed by clipping to the pixels' range.

    Parameters
    ----------
    guidance : CriticGuidance
    x0 : torch.Tensor, shape (n, channel, y, x)
    n_steps : int
    bounds : (float, float)
        x of a black and of a white pixel.
    """
    step = ASCENT * guidance.length / n_steps
    x = x0
    for _ in range(n_steps):
        ascent = guidance.ascent(x, 0)
        check_direction(ascent, like=x0)
        x = (x + rescale_to(ascent, x0, step)).clamp(*bounds)
    return x
