"""Fitting the group VAE to one session, or to several around one latent space."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nwb_migvis.config import LatentsConfig
from nwb_migvis.latents.checks import check_recordings
from nwb_migvis.latents.design import label_targets
from nwb_migvis.latents.label_weights import weigh_labels
from nwb_migvis.latents.model import GroupVaeModel, load_group_vae, target_tensors
from nwb_migvis.latents.objective import Objective, Repeats, initial_vae
from nwb_migvis.latents.protocol import LatentModelKind
from nwb_migvis.latents.shared import SharedObjective, share
from nwb_migvis.latents.task import LatentTask, Recording
from nwb_migvis.latents.training import VALIDATE_EVERY, LatentTraining, optimise
from nwb_migvis.networks.checkpoints import checkpoint_in


def fit_latents(
    recordings: Sequence[Recording],
    task: LatentTask,
    *,
    config: LatentsConfig,
    seed: int,
    device: str = "cpu",
    checkpoints: Path | None = None,
) -> list[GroupVaeModel]:
    """Fit the group VAE on the training stimuli, stopping early on the validation stimuli.

    With several sessions, each has a read-in and a read-out of its own.

    Parameters
    ----------
    recordings : sequence of Recording
        One or more.
    task : LatentTask
        Several recordings need pairs that link them.
    config : LatentsConfig
    seed : int
    device : str
        A torch device.
    checkpoints : Path, optional
        Folder that keeps the state of training while it lasts. A fit that was killed resumes from it and ends
        with the weights of an uninterrupted one.

    Returns
    -------
    list of GroupVaeModel
        One per recording. The layers between read-in and latents and the label read-outs are the same in all
        of them.

    Raises
    ------
    MigvisError
        If a session has fewer training stimuli than twice the latents, a label cannot be used, or the counts
        cannot (see `check_counts`).

    Notes
    -----
    The loss per stimulus is::

        (kl_weight * KL - log p(second half | z)) / n
        + (tc_weight * total correlation + label_weight * error of the label read-outs) / sqrt(n)

    The second half of the repeats is predicted from z, a sample of the first half's latents; n is units x
    presentations of the second half. Thanks to the square root the last two terms may move latents by as many
    standard deviations of the posterior whatever the data. Twice the data make the posterior narrower by
    sqrt(2) and hold a latent twice as fast. A label's error is relative to guessing. It counts as much as the
    responses of the training stimuli predict the label (`weigh_labels`). With a `kl_weight` of 1 and nothing
    else the loss is the negative evidence lower bound over n. With the Gaussian likelihood that holds where
    the noise of one presentation has the variance of the averages. For a random share `free_dropout` of the
    stimuli only the first free groups, any number of them, are decoded (nested dropout: Rippel et al. 2014,
    arXiv 1402.0915). `unit_dropout`, `trial_swap` and `count_thinning` change what is encoded (see
    `Augmentation`), in training alone.

    With several sessions the loss is averaged over sessions, plus two terms over stimuli that two sessions
    share, averaged over pairs. Cross-reconstruction: the negative log likelihood of one session's counts
    given a sample of the other's latents (as between the modalities of Shi et al. 2019, arXiv 1911.03393).
    Alignment: half the symmetric KL divergence between the two posteriors.
    """
    check_recordings(recordings, task)
    objectives = _objectives(recordings, task, config=config, seed=seed, device=torch.device(device))
    train, validation = (
        SharedObjective(objectives, recordings, task.pairs, np.flatnonzero(task.split == part))
        for part in ("train", "validation")
    )
    training = LatentTraining(
        nn.ModuleList(objective.vae for objective in objectives),
        train,
        config=config,
        n_train=int((task.split == "train").sum()),
        generator=torch.Generator(device=device).manual_seed(seed),
    )
    checkpoint = checkpoint_in(
        checkpoints, "latents", config, seed, task, list(recordings), every=VALIDATE_EVERY
    )
    n_steps = optimise(training, lambda: validation.held_out(seed), checkpoint=checkpoint)
    return [GroupVaeModel(o.vae.eval(), task.groups, config.likelihood, n_steps) for o in objectives]


def _objectives(
    recordings: Sequence[Recording],
    task: LatentTask,
    *,
    config: LatentsConfig,
    seed: int,
    device: torch.device,
) -> list[Objective]:
    """Return the objective of each recording, on networks that share what is common to all."""
    targets = target_tensors(label_targets(task.labels, task.groups, training=task.split == "train"), device)
    objectives: list[Objective] = []
    for i, recording in enumerate(recordings):
        own_split = task.split[recording.stimulus_row]
        rows = torch.as_tensor(recording.stimulus_row, device=device)
        own_targets = [(numeric[rows], [index[rows] for index in classes]) for numeric, classes in targets]
        counts = recording.spike_count, recording.stimulus_index
        repeats = Repeats.of(*counts, own_split.size, device)
        vae = initial_vae(repeats, task.groups, targets, split=own_split, config=config, seed=seed + i)
        vae = vae.to(device)
        if objectives:
            share(vae, objectives[0].vae)
        own_train = torch.as_tensor(np.flatnonzero(own_split == "train"), device=device)
        label_weights = weigh_labels(vae.scaled(repeats.average()), own_targets, own_train)
        objectives.append(Objective(vae, repeats, own_targets, config=config, label_weights=label_weights))
    return objectives


group_vae = LatentModelKind(fit_latents, load_group_vae)
