"""What a training step encodes in place of the plain half of the repeats: augmentation of responses."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from nwb_migvis.config import LatentsConfig
from nwb_migvis.config.latents import AUGMENTATIONS
from nwb_migvis.errors import MigvisError


@dataclass(frozen=True)
class EncodedHalf:
    """The half of some stimuli's repeats that a step encodes.

    Attributes
    ----------
    counts : torch.Tensor, shape (stimulus, repeat, unit)
        Of all repeats.
    present : torch.Tensor of float, shape (stimulus, repeat, 1), or (stimulus, repeat, unit)
        1 for a count of this half, 0 for one of the other or for none.
    """

    counts: torch.Tensor
    present: torch.Tensor

    def summed(self) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the summed counts (stimulus, unit), and their number (stimulus, unit)."""
        total = (self.counts * self.present).sum(1)
        return total, self.present.sum(1).expand_as(total)

    def of(self, rows: torch.Tensor) -> EncodedHalf:
        """Return the half of some of the stimuli."""
        return EncodedHalf(self.counts[rows], self.present[rows])


@dataclass(frozen=True)
class Augmentation:
    """Random changes of what is encoded; what is predicted from it stays as it is.

    Trials are swapped first, spikes thinned then, and units left out last. What is off draws nothing.

    Attributes
    ----------
    unit_dropout : float
        Probability that a unit of a stimulus is not seen.
    trial_swap : float
        Probability that the units of a stimulus have presentations of their own.
    count_thinning : float
        Largest share of spikes that are lost.
    """

    unit_dropout: float = 0.0
    trial_swap: float = 0.0
    count_thinning: float = 0.0

    @classmethod
    def of(cls, config: LatentsConfig) -> Augmentation | None:
        """Return the augmentation that the settings ask for; None if they ask for none."""
        asked = {name: getattr(config, name) for name in AUGMENTATIONS}
        return cls(**asked) if any(asked.values()) else None

    def average(self, half: EncodedHalf, generator: torch.Generator) -> torch.Tensor:
        """Return the mean count of a presentation, (stimulus, unit); NaN where none is seen."""
        total, n = half.summed()
        if self.trial_swap:
            is_swapped = _rand((len(total),), generator) < self.trial_swap
            total, n = total.clone(), n.clone()
            total[is_swapped], n[is_swapped] = own_part(half.of(is_swapped), generator).summed()
        if self.count_thinning:
            keep = 1 - self.count_thinning * _rand((len(total), 1), generator)
            total = torch.binomial(total, keep.expand_as(total), generator=generator) / keep
        average = total / n
        if self.unit_dropout:
            is_left_out = _rand(tuple(total.shape), generator) < self.unit_dropout
            average = average.masked_fill(is_left_out, torch.nan)
        return average


def own_part(half: EncodedHalf, generator: torch.Generator) -> EncodedHalf:
    """Give each unit a random half of its own of the counts to encode, rounded up.

    Repeats of the other half stay out. If units drew from all repeats, one could encode a presentation in
    which another is predicted, and the noise that they share in it would pay.
    """
    present = half.present.expand_as(half.counts)
    draw = _rand(tuple(present.shape), generator).masked_fill(present == 0, 2.0)
    n_own = torch.div(present.sum(1, keepdim=True) + 1, 2, rounding_mode="floor")
    place = torch.arange(present.shape[1], device=present.device)[None, :, None]
    is_own = torch.zeros_like(present).scatter(1, draw.argsort(dim=1), (place < n_own).to(present.dtype))
    return EncodedHalf(half.counts, is_own)


def refuse_augmentation(config: LatentsConfig) -> None:
    """Raise `MigvisError` if a model that has no use for an augmentation is asked for one."""
    for name in AUGMENTATIONS:
        if value := getattr(config, name):
            raise MigvisError(
                f"latents: found {name} = {value:g} with model = {config.model!r}, which does not use it; "
                "set it to 0, or latents.model to 'group-vae' or 'plain-vae'"
            )


def _rand(shape: tuple[int, ...], generator: torch.Generator) -> torch.Tensor:
    """Draw from [0, 1) on the generator's device."""
    return torch.rand(shape, generator=generator, device=generator.device)
