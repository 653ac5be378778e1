"""What guides edits: the method proper and its controls, one record each."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from nwb_migvis.synthesis.prior.ddim import Gradient, push

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


@dataclass(frozen=True)
class Method:
    """How one method guides the edits of a pair.

    Attributes
    ----------
    score : callable or None
        What is raised; None for no guidance.
    preserves : bool
        Whether the other groups are held at the source's own latents by the same score.
    conditioned : bool
        Whether the conditional prior's difference guides too, where the settings ask for it.
    other_target : bool
        Guided by the target of another pair.
    other_group : bool
        Guided through another group: the next one in order, the first after the last.
    from_pixels : bool
        Climbs from the source's pixels, without the prior.
    """

    score: Score | None
    preserves: bool = True
    conditioned: bool = True
    other_target: bool = False
    other_group: bool = False
    from_pixels: bool = False


GUIDANCE: Mapping[str, Method] = {
    "pmi": Method(tempered_pmi),
    "none": Method(None, conditioned=False),
    "shuffled": Method(tempered_pmi, other_target=True),
    "published": Method(contrast, preserves=False, conditioned=False),
    "likelihood": Method(likelihood, preserves=False, conditioned=False),
    "activation": Method(contrast, preserves=False, conditioned=False, from_pixels=True),
    "wrong-group": Method(tempered_pmi, other_group=True),
}
"""The record of every name in `config.METHODS`."""


def ascend(
    gradient: Gradient,
    x0: torch.Tensor,
    *,
    guidance: torch.Tensor,
    n_steps: int,
    bounds: tuple[float, float],
) -> torch.Tensor:
    """Climb from images along the gradient at clean images, without a prior (activation maximisation).

    Every step has the length `ASCENT` * guidance * |x0| / n_steps whatever the gradient's, and is followed by
    clipping to the pixels' range.

    Parameters
    ----------
    gradient : callable
    x0 : torch.Tensor, shape (n, channel, y, x)
    guidance : torch.Tensor, shape (n,)
    n_steps : int
    bounds : (float, float)
        x of a black and of a white pixel.
    """
    step = ASCENT * guidance / n_steps
    x = x0
    for _ in range(n_steps):
        x = (x + push(x0, gradient(x, 0), step)).clamp(*bounds)
    return x
