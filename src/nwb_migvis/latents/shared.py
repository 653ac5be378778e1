"""The training objective of sessions around one latent space, held together by stimuli that they share."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import nn

from nwb_migvis.latents.model import GroupVae
from nwb_migvis.latents.objective import Objective, draw
from nwb_migvis.latents.task import Recording

CROSS_WEIGHT = 1.0
"""Weight of predicting one session's responses from another's latents, against a session's own loss."""

ALIGN_WEIGHT = 1.0
"""Weight, per unit, of the divergence between two sessions' posteriors of one stimulus."""


def share(vae: GroupVae, common: GroupVae) -> None:
    """Give a network the layers of another, but for its first layer, its decoder and its statistics."""
    vae.trunk = nn.Sequential(vae.trunk[0], *list(common.trunk)[1:])
    vae.posterior = common.posterior
    vae.numeric_heads, vae.class_heads = common.numeric_heads, common.class_heads


class SharedObjective:
    """The objective of one session or several over some of their stimuli.

    Parameters
    ----------
    objectives : sequence of Objective
        Of each session.
    recordings : sequence of Recording
    pairs : sequence of (int, int)
        Sessions that are held together.
    stimuli : numpy.ndarray of int
        Among those of all sessions.
    """

    def __init__(
        self,
        objectives: Sequence[Objective],
        recordings: Sequence[Recording],
        pairs: Sequence[tuple[int, int]],
        stimuli: np.ndarray,
    ):
        device = objectives[0].repeats.n.device
        rows = [recording.stimulus_row for recording in recordings]
        self.objectives = objectives
        self.own = [torch.as_tensor(np.flatnonzero(np.isin(r, stimuli)), device=device) for r in rows]
        self.pairs: list[tuple[tuple[Objective, Objective], torch.Tensor]] = []
        for a, b in pairs:
            both, in_a, in_b = np.intersect1d(rows[a], rows[b], return_indices=True)
            used = np.isin(both, stimuli)
            shared = torch.as_tensor(np.stack([in_a[used], in_b[used]]), device=device)
            self.pairs.append(((objectives[a], objectives[b]), shared))

    def __call__(self, generator: torch.Generator) -> torch.Tensor:
        """Return the training loss of one step over at most as many pairs as there are sessions."""
        n = self.objectives[0].config.batch_size
        own = [
            o(draw(rows, n, generator), generator) for o, rows in zip(self.objectives, self.own, strict=True)
        ]
        loss = torch.stack(own).mean()
        if not self.pairs:
            return loss
        chosen = torch.randperm(len(self.pairs), generator=generator, device=generator.device)
        between = []
        for k in chosen[: len(own)].tolist():
            ends, shared = self.pairs[k]
            cross, apart = _between(ends, draw(shared.T, n, generator).T, generator, sample=True)
            between.append(CROSS_WEIGHT * cross + ALIGN_WEIGHT * apart)
        return loss + torch.stack(between).mean()

    @torch.no_grad()
    def held_out(self, seed: int) -> float:
        """Return the sessions' own held-out loss plus the cross-reconstruction, at posterior means."""
        own = [o.held_out(rows, seed) for o, rows in zip(self.objectives, self.own, strict=True)]
        if not self.pairs:
            return float(np.mean(own))
        cross = []
        for ends, shared in self.pairs:
            generator = torch.Generator(device=shared.device).manual_seed(seed)
            cross.append(float(_between(ends, shared, generator, sample=False)[0]))
        return float(np.mean(own) + CROSS_WEIGHT * np.mean(cross))


def _between(
    ends: tuple[Objective, Objective], rows: torch.Tensor, generator: torch.Generator, *, sample: bool
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return cross-reconstruction and alignment of two sessions over stimuli that both saw.

    Parameters
    ----------
    ends : (Objective, Objective)
    rows : torch.Tensor, shape (2, n)
        The stimuli among those of either session.
    generator : torch.Generator
    sample : bool
        Whether latents are drawn from the posteriors, or their means taken.
    """
    (z_a, mean_a, log_var_a, *_), (z_b, mean_b, log_var_b, *_) = (
        o.encode_half(r, generator, sample=sample) for o, r in zip(ends, rows, strict=True)
    )
    a, b = (o.all_repeats(z, r) for o, z, r in zip(ends, (z_b, z_a), rows, strict=True))
    cross = 0.5 * (a + b)
    squared = (mean_a - mean_b).square()
    divergence = (squared + log_var_a.exp()) / log_var_b.exp() + (squared + log_var_b.exp()) / log_var_a.exp()
    n_units = float(np.mean([o.repeats.counts.shape[2] for o in ends]))
    return cross, 0.25 * (divergence - 2).sum(-1).mean() / n_units
