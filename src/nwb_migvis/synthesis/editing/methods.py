"""How edits are made: the method proper and its controls, one record each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch

from nwb_migvis.synthesis.editing.batch import EditBatch
from nwb_migvis.synthesis.editing.critic_guidance import climb, contrast, likelihood, tempered_pmi

Editor = Callable[[EditBatch], torch.Tensor]
"""A batch of edits -> the edited images x (n, channel, y, x)."""


@dataclass(frozen=True)
class Method:
    """One way to edit.

    Attributes
    ----------
    edit : callable or None
        Makes a batch of edits; None rebuilds the source without guidance. Methods that share it are batched
        together.
    other_target : bool
        Guided by another draw of a target.
    other_group : bool
        Guided through another group: the next one in order, the first after the last.
    """

    edit: Editor | None
    other_target: bool = False
    other_group: bool = False


def by_information(batch: EditBatch) -> torch.Tensor:
    """Edit by the method proper: PMI with preservation, and the conditional prior where it is asked for."""
    config = batch.config
    critic = batch.critic_guidance(tempered_pmi, preservation=config.preservation, stop=config.critic_stop)
    return batch.denoise(critic, *batch.prior_guidance(), rescale=config.contrast_rescale)


def by_contrast(batch: EditBatch) -> torch.Tensor:
    """Edit as published: the InfoNCE score at every step, without preservation."""
    return batch.denoise(batch.critic_guidance(contrast))


def by_likelihood(batch: EditBatch) -> torch.Tensor:
    """Edit by the density of the goal around what the critic reads, without preservation."""
    return batch.denoise(batch.critic_guidance(likelihood))


def by_ascent(batch: EditBatch) -> torch.Tensor:
    """Climb the InfoNCE score from the source's pixels, without the prior."""
    guidance = batch.critic_guidance(contrast)
    return climb(guidance, batch.image, n_steps=batch.config.n_steps, bounds=batch.networks.prior.bounds)


pmi = Method(by_information)
none = Method(None)
shuffled = Method(by_information, other_target=True)
published = Method(by_contrast)
by_density = Method(by_likelihood)
activation = Method(by_ascent)
wrong_group = Method(by_information, other_group=True)
