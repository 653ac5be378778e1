"""Other models of the same responses, as `LatentModel`s, to compare the group VAE with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path

import numpy as np
import torch

from nwb_migvis.config import GroupConfig, LatentsConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.latents.augment import refuse_augmentation
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.linear import KINDS, LinearGaussianModel, fit_linear, load_linear
from nwb_migvis.latents.model import GroupVae, GroupVaeModel, kl_divergence, load_group_vae
from nwb_migvis.latents.objective import Repeats, draw, initial_vae, mean_of_counted
from nwb_migvis.latents.protocol import LatentModelKind
from nwb_migvis.latents.task import LatentTask, Recording
from nwb_migvis.latents.training import VALIDATE_EVERY, LatentTraining, optimise
from nwb_migvis.networks.checkpoints import checkpoint_in

PLAIN_VAE = "plain-vae"
SWAP_VAE = "swap-vae"

ALIGNMENT = 1.0
"""Weight of the squared distance between the directions of the contents of two views."""


def fit_average(
    recordings: Sequence[Recording],
    task: LatentTask,
    *,
    kind: str,
    config: LatentsConfig,
    seed: int,
    device: str = "cpu",
    checkpoints: Path | None = None,
) -> list[LinearGaussianModel]:
    """Fit PCA or factor analysis to the average counts of the training stimuli; see `fit_linear`.

    Solved in one step on the CPU: of `config`, nothing is used, and augmentation is refused.
    """
    recording = _only(recordings, kind)
    refuse_augmentation(config)
    cpu = torch.device("cpu")
    repeats = Repeats.of(recording.spike_count, recording.stimulus_index, task.split.size, cpu)
    average = (repeats.total.double() / repeats.n_counts).numpy()[task.split == "train"]
    return [fit_linear(average, kind=kind, groups=task.groups, seed=seed)]


def fit_plain_vae(
    recordings: Sequence[Recording],
    task: LatentTask,
    *,
    config: LatentsConfig,
    seed: int,
    device: str = "cpu",
    checkpoints: Path | None = None,
) -> list[GroupVaeModel]:
    """Fit the group VAE with one group: no labels, no total correlation.

    Parameters as in `fit_latents`; the groups of `task` divide the latents once they are fitted.
    """
    recording = _only(recordings, PLAIN_VAE)
    n_latents = sum(group.size for group in task.groups)
    (whole,) = fit_latents(
        [recording],
        LatentTask({}, (GroupConfig(name="all", size=n_latents),), task.split),
        config=config,
        seed=seed,
        device=device,
        checkpoints=checkpoints,
    )
    vae = GroupVae(
        whole.vae.decoder.out_features,
        task.groups,
        n_hidden=config.n_hidden,
        n_layers=config.n_layers,
        n_targets=[(0, ())] * len(task.groups),
    )
    vae.load_state_dict(whole.vae.state_dict())
    return [replace(whole, vae=vae.to(device).eval(), groups=task.groups, kind=PLAIN_VAE)]


def fit_swap_vae(
    recordings: Sequence[Recording],
    task: LatentTask,
    *,
    config: LatentsConfig,
    seed: int,
    device: str = "cpu",
    checkpoints: Path | None = None,
) -> list[GroupVaeModel]:
    """Fit Swap-VAE (Liu et al. 2021, arXiv 2111.02338), two halves of a stimulus's repeats as its views.

    The first half of the latents is the content that the views share, the second the style. Each view is
    predicted from its own style with its own content and with the other view's; the two contents, scaled to
    unit length, are pulled together (`ALIGNMENT`); KL divergence is charged for the style.

    Parameters
    ----------
    recordings : sequence of Recording
        One.
    task : LatentTask
        Its groups say how many latents there are; its labels are not used.
    config, seed, device, checkpoints
        As in `fit_latents`; the Poisson likelihood is used.

    Raises
    ------
    MigvisError
        If fewer than two training or validation stimuli were repeated, there is one latent alone, or the
        settings ask for augmentation.
    """
    refuse_augmentation(config)
    recording, split, where = _only(recordings, SWAP_VAE), task.split, torch.device(device)
    groups = content_and_style(sum(group.size for group in task.groups))
    repeats = Repeats.of(recording.spike_count, recording.stimulus_index, split.size, where)
    train, validation = _repeated(repeats, split)
    no_targets: list[tuple[torch.Tensor, list[torch.Tensor]]] = [
        (torch.zeros(split.size, 0), []) for _ in groups
    ]
    vae = initial_vae(repeats, groups, no_targets, split=split, config=config, seed=seed).to(where)

    def loss(stimuli: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return _swap_loss(vae, repeats, stimuli, generator, kl_weight=config.kl_weight)

    @torch.no_grad()
    def held_out() -> float:
        return float(loss(validation, torch.Generator(device=where).manual_seed(seed)))

    training = LatentTraining(
        vae,
        lambda generator: loss(draw(train, config.batch_size, generator), generator),
        config=config,
        n_train=len(train),
        generator=torch.Generator(device=where).manual_seed(seed),
    )
    checkpoint = checkpoint_in(checkpoints, SWAP_VAE, config, seed, task, recording, every=VALIDATE_EVERY)
    best_step = optimise(training, held_out, checkpoint=checkpoint, what="Swap-VAE")
    return [GroupVaeModel(vae.eval(), groups, "poisson", best_step, SWAP_VAE)]


def content_and_style(n_latents: int) -> tuple[GroupConfig, ...]:
    """Return the two groups of Swap-VAE, of which the content has the odd latent."""
    if n_latents < 2:
        raise MigvisError(
            f"latents.model = {SWAP_VAE!r}: found {n_latents} latent; expected two or more, for content and "
            "style; raise the size of the groups in latents.groups"
        )
    n_style = n_latents // 2
    return (
        GroupConfig(name="content", size=n_latents - n_style),
        GroupConfig(name="style", size=n_style),
    )


def _repeated(repeats: Repeats, split: np.ndarray) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the training and the validation stimuli that were repeated."""
    is_repeated = (repeats.n >= 2).cpu().numpy()
    train, validation = (
        torch.as_tensor(np.flatnonzero((split == part) & is_repeated), device=repeats.n.device)
        for part in ("train", "validation")
    )
    if min(train.numel(), validation.numel()) < 2:
        raise MigvisError(
            f"Swap-VAE: found {train.numel()} training and {validation.numel()} validation stimuli with two "
            "presentations; expected two or more of each; it needs repeats of the same image"
        )
    return train, validation


def _only(recordings: Sequence[Recording], kind: str) -> Recording:
    """Return the one recording that a baseline is fitted to."""
    if len(recordings) > 1:
        raise MigvisError(
            f"latents.model = {kind!r} is fitted to one session; found {len(recordings)}; run each session "
            "by itself, or set latents.model to 'group-vae'"
        )
    return recordings[0]


def _swap_loss(
    vae: GroupVae,
    repeats: Repeats,
    stimuli: torch.Tensor,
    generator: torch.Generator,
    *,
    kl_weight: float,
) -> torch.Tensor:
    """Return the loss of two views, per unit and presentation like the group VAE's."""
    first, total, n_second = repeats.halves(stimuli, generator)
    views = (first, total / n_second)
    counted = [torch.isfinite(view) for view in views]
    codes = []
    for view in views:
        mean, log_var = vae.encode(view)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device)
        z = mean + noise * torch.exp(0.5 * log_var)
        codes.append((z.split(vae.sizes, dim=-1), mean, log_var))
    loss = first.new_zeros(())
    n_content = vae.sizes[0]
    for own, other in ((0, 1), (1, 0)):
        (content, style), mean, log_var = codes[own]
        for chosen in (content, codes[other][0][0]):
            rate = vae.rate(torch.cat([chosen, style], dim=-1))
            error = rate - torch.nan_to_num(views[own]) * rate.log()
            loss = loss + 0.25 * mean_of_counted(error, counted[own])
        kl = kl_divergence(mean[:, n_content:], log_var[:, n_content:])
        loss = loss + 0.5 * kl_weight * kl / (first.shape[1] * n_second.float().mean())
    directions = [torch.nn.functional.normalize(z[0], dim=-1) for z, _, _ in codes]
    return loss + ALIGNMENT * (directions[0] - directions[1]).square().sum(-1).mean() / first.shape[1]


pca, fa = (
    LatentModelKind(partial(fit_average, kind=kind), partial(load_linear, kind=kind)) for kind in KINDS
)
plain_vae = LatentModelKind(fit_plain_vae, partial(load_group_vae, kind=PLAIN_VAE))
swap_vae = LatentModelKind(fit_swap_vae, partial(load_group_vae, kind=SWAP_VAE))
