"""One latent space for several sessions, held together by the stimuli that they share."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nwb_migvis.config import GroupConfig, LatentsConfig
from nwb_migvis.latents.checks import check_counts
from nwb_migvis.latents.design import label_targets
from nwb_migvis.latents.fit import Objective, Repeats, check_enough, draw, initial_vae
from nwb_migvis.latents.label_weights import weigh_labels
from nwb_migvis.latents.model import GroupVae, LatentModel, target_tensors
from nwb_migvis.latents.training import VALIDATE_EVERY, LatentTraining, optimise
from nwb_migvis.networks.checkpoints import checkpoint_in

CROSS_WEIGHT = 1.0
"""Weight of predicting one session's responses from another's latents, against a session's own loss."""

ALIGN_WEIGHT = 1.0
"""Weight, per unit, of the divergence between two sessions' posteriors of one stimulus."""


@dataclass(frozen=True)
class Recording:
    """What one session brings to a shared latent space.

    Attributes
    ----------
    name : str
        For messages.
    spike_count : numpy.ndarray of unsigned int, shape (n_presentations, n_units)
    stimulus_index : numpy.ndarray of int, shape (n_presentations,)
        Row of each presentation among the session's own stimuli.
    stimulus_row : numpy.ndarray of int, shape (n_own_stimuli,)
        Row of each of the session's own stimuli among the stimuli of all sessions.
    """

    name: str
    spike_count: np.ndarray
    stimulus_index: np.ndarray
    stimulus_row: np.ndarray


def fit_shared_latents(
    recordings: Sequence[Recording],
    *,
    labels: Mapping[str, np.ndarray],
    groups: tuple[GroupConfig, ...],
    split: np.ndarray,
    pairs: Sequence[tuple[int, int]],
    config: LatentsConfig,
    seed: int,
    device: str = "cpu",
    checkpoints: Path | None = None,
) -> list[LatentModel]:
    """Fit one group VAE to several sessions, each with a read-in and a read-out of its own.

    Parameters
    ----------
    recordings : sequence of Recording
    labels : mapping of str to array, shape (n_stimuli,)
        Of the stimuli of all sessions.
    groups : tuple of GroupConfig
        As `resolve_groups` returned them.
    split : numpy.ndarray of str, shape (n_stimuli,)
        As `split_shared_stimuli` returned it.
    pairs : sequence of (int, int)
        Sessions that are held together, as `linked_pairs` returned them.
    config : LatentsConfig
    seed : int
    device : str
        A torch device.
    checkpoints : Path, optional
        As for `fit_latents`.

    Returns
    -------
    list of LatentModel
        One for each session. The layers between read-in and latents and the label read-outs are the same
        in all of them.

    Raises
    ------
    MigvisError
        If a session has fewer training stimuli than latents need, a label cannot be used, or counts cannot
        (see `check_counts`).

    Notes
    -----
    Loss: that of `fit_latents`, averaged over sessions, plus two terms over stimuli that two sessions
    share, averaged over pairs. Cross-reconstruction: the negative log likelihood of one session's counts
    given a sample of the other's latents (as between the modalities of Shi et al. 2019, arXiv 1911.03393).
    Alignment: half the symmetric KL divergence between the two posteriors.
    """
    for recording in recordings:
        own_split, begin = split[recording.stimulus_row], f"{recording.name}: "
        check_counts(
            recording.spike_count, recording.stimulus_index, training=own_split == "train", where=begin
        )
        check_enough(own_split, groups, where=begin)
    where = torch.device(device)
    targets = target_tensors(
        label_targets(labels, groups, circular=config.circular, training=split == "train"), where
    )
    objectives: list[Objective] = []
    for i, recording in enumerate(recordings):
        rows = torch.as_tensor(recording.stimulus_row, device=where)
        own_split = split[recording.stimulus_row]
        repeats = Repeats.of(recording.spike_count, recording.stimulus_index, own_split.size, where)
        vae = initial_vae(repeats, groups, targets, own_split, config, seed + i).to(where)
        if objectives:
            _share(vae, objectives[0].vae)
        own_targets = [(numeric[rows], [index[rows] for index in classes]) for numeric, classes in targets]
        own_train = torch.as_tensor(np.flatnonzero(own_split == "train"), device=where)
        label_weights = weigh_labels(vae.scaled(repeats.average()), own_targets, own_train)
        objectives.append(Objective(vae, repeats, own_targets, config, label_weights))
    train, validation = (
        _SharedObjective(objectives, recordings, pairs, np.flatnonzero(split == part))
        for part in ("train", "validation")
    )
    training = LatentTraining(
        nn.ModuleList(objective.vae for objective in objectives),
        train,
        config=config,
        n_train=int((split == "train").sum()),
        generator=torch.Generator(device=where).manual_seed(seed),
    )
    decisive = (config, groups, seed, labels, split, pairs, recordings)
    checkpoint = checkpoint_in(checkpoints, "latents", *decisive, every=VALIDATE_EVERY)
    n_steps = optimise(training, lambda: validation.held_out(seed), checkpoint=checkpoint)
    return [LatentModel(o.vae.eval(), groups, config.likelihood, n_steps) for o in objectives]


def _share(vae: GroupVae, common: GroupVae) -> None:
    """Give a network the layers of another, but for its first layer, its decoder and its statistics."""
    vae.trunk = nn.Sequential(vae.trunk[0], *common.trunk[1:])
    vae.posterior = common.posterior
    vae.numeric_heads, vae.class_heads = common.numeric_heads, common.class_heads


class _SharedObjective:
    """The objective of several sessions over some of their stimuli."""

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
        chosen = torch.randperm(len(self.pairs), generator=generator, device=generator.device)
        between = []
        for k in chosen[: len(own)].tolist():
            ends, shared = self.pairs[k]
            cross, apart = _between(ends, draw(shared.T, n, generator).T, generator, sample=True)
            between.append(CROSS_WEIGHT * cross + ALIGN_WEIGHT * apart)
        return torch.stack(own).mean() + torch.stack(between).mean()

    @torch.no_grad()
    def held_out(self, seed: int) -> float:
        """Return the sessions' own held-out loss plus the cross-reconstruction, at posterior means."""
        own = [o.held_out(rows, seed) for o, rows in zip(self.objectives, self.own, strict=True)]
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
    cross = 0.5 * sum(o.all_repeats(z, r) for o, z, r in zip(ends, (z_b, z_a), rows, strict=True))
    squared = (mean_a - mean_b).square()
    divergence = (squared + log_var_a.exp()) / log_var_b.exp() + (squared + log_var_b.exp()) / log_var_a.exp()
    n_units = np.mean([o.repeats.counts.shape[2] for o in ends])
    return cross, 0.25 * (divergence - 2).sum(-1).mean() / n_units
