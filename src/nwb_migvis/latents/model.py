"""The group-wise variational autoencoder of a population's responses."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nwb_migvis.config import GroupConfig
from nwb_migvis.latents.design import LabelTargets
from nwb_migvis.latents.label_weights import LabelWeights
from nwb_migvis.latents.likelihood import rate_of
from nwb_migvis.latents.total_correlation import total_correlation
from nwb_migvis.networks.weights import pack, unpack

KIND = "group VAE"


class GroupVae(nn.Module):
    """Gaussian latents in groups, an MLP encoder, a linear decoder and linear read-outs of the labels.

    The encoder sees square roots of the average spike counts of some repeats, z-scored with training
    statistics. With the Poisson likelihood the decoder gives the drive of each unit; the softplus of the
    drive, times the unit's mean rate, is its rate. With the Gaussian likelihood it gives the z-scored root
    average.

    Parameters
    ----------
    n_units : int
    groups : sequence of GroupConfig
    n_hidden, n_layers : int
        Of the encoder.
    n_targets : sequence of (int, tuple of int)
        For each group, the number of numeric targets and of classes of each categorical label.
    """

    input_mean: torch.Tensor
    input_std: torch.Tensor
    mean_rate: torch.Tensor

    def __init__(
        self,
        n_units: int,
        groups: Sequence[GroupConfig],
        *,
        n_hidden: int,
        n_layers: int,
        n_targets: Sequence[tuple[int, tuple[int, ...]]],
    ):
        super().__init__()
        self.sizes = [group.size for group in groups]
        n_latents = sum(self.sizes)
        widths = [n_units, *[n_hidden] * n_layers]
        layers: list[nn.Module] = []
        for n_in, n_out in pairwise(widths):
            layers += [nn.Linear(n_in, n_out), nn.LayerNorm(n_out), nn.SiLU()]
        self.trunk = nn.Sequential(*layers)
        self.posterior = nn.Linear(widths[-1], 2 * n_latents)
        self.decoder = nn.Linear(n_latents, n_units)
        self.numeric_heads = nn.ModuleList(
            nn.Linear(size, k) if k else nn.Identity()
            for size, (k, _) in zip(self.sizes, n_targets, strict=True)
        )
        self.class_heads = nn.ModuleList(
            nn.ModuleList(nn.Linear(size, n) for n in classes)
            for size, (_, classes) in zip(self.sizes, n_targets, strict=True)
        )
        self.register_buffer("input_mean", torch.zeros(n_units))
        self.register_buffer("input_std", torch.ones(n_units))
        self.register_buffer("mean_rate", torch.ones(n_units))

    def scaled(self, average: torch.Tensor) -> torch.Tensor:
        """Return z-scored square roots of average counts, 0 (the training mean) where there is none (NaN)."""
        scaled = (average.clamp_min(0).sqrt() - self.input_mean) / self.input_std
        return torch.where(scaled.isnan(), 0.0, scaled)

    def encode(self, average: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return mean and log variance of the posterior for average counts (stimulus, unit)."""
        mean, log_var = self.posterior(self.trunk(self.scaled(average))).chunk(2, dim=-1)
        return mean, log_var.clamp(-8.0, 4.0)

    def rate(self, z: torch.Tensor) -> torch.Tensor:
        """Return the expected spike count of a presentation, (stimulus, unit); the mean at a drive of 0."""
        return rate_of(self.decoder(z), self.mean_rate)

    def label_loss(
        self,
        z: torch.Tensor,
        targets: Sequence[tuple[torch.Tensor, list[torch.Tensor]]],
        weights: Sequence[LabelWeights],
    ) -> torch.Tensor:
        """Return squared error plus cross entropy of the label read-outs, averaged over known labels.

        Both are relative to guessing, at 1: numeric targets are standardised, and the cross entropy is
        divided by the log of the number of classes.

        Parameters
        ----------
        z : torch.Tensor, shape (stimulus, latent)
        targets : sequence of (torch.Tensor, list of torch.Tensor)
            For each group, as `target_tensors` returned them.
        weights : sequence of LabelWeights
            For each group.
        """
        loss = z.new_zeros(())
        parts = z.split(self.sizes, dim=-1)
        for part, (numeric, classes), head, heads, label_weights in zip(
            parts, targets, self.numeric_heads, self.class_heads, weights, strict=True
        ):
            if numeric.shape[1]:
                is_finite = torch.isfinite(numeric)
                error = torch.where(is_finite, head(part) - torch.nan_to_num(numeric), 0.0)
                by_column = error.square().sum(0) / is_finite.sum(0).clamp_min(1)
                loss = loss + (label_weights.numeric * by_column).mean()
            of_label = cast(Iterable[nn.Linear], heads)
            for index, class_head, weight in zip(classes, of_label, label_weights.classes, strict=True):
                if (index >= 0).any():
                    cross_entropy = F.cross_entropy(class_head(part), index, ignore_index=-1)
                    loss = loss + weight * cross_entropy / math.log(class_head.out_features)
        return loss


@dataclass(frozen=True)
class GroupVaeModel:
    """A fitted group VAE, as a `LatentModel`.

    Attributes
    ----------
    vae : GroupVae
    groups : tuple of GroupConfig
    likelihood : str
    n_steps : int
        Steps that training actually took.
    kind : str
        What its bytes call it.
    """

    vae: GroupVae
    groups: tuple[GroupConfig, ...]
    likelihood: str
    n_steps: int
    kind: str = KIND

    def encode(self, average: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """See `LatentModel.encode`; a count that is NaN is taken as the unit's mean in training."""
        device = self.vae.input_mean.device
        with torch.no_grad():
            x = torch.as_tensor(np.asarray(average, dtype=np.float32), device=device)
            mean, log_var = self.vae.encode(x)
        return mean.cpu().numpy(), log_var.cpu().numpy()

    def rates(self, z: np.ndarray) -> np.ndarray:
        """See `LatentModel.rates`; with the Gaussian likelihood it is the square of the expected root."""
        vae = self.vae
        with torch.no_grad():
            latents = torch.as_tensor(z, dtype=torch.float32, device=vae.input_mean.device)
            if self.likelihood == "poisson":
                rate = vae.rate(latents)
            else:
                root = vae.decoder(latents) * vae.input_std + vae.input_mean
                rate = root.clamp_min(0).square().clamp_min(1e-3)
        return rate.cpu().numpy().astype(np.float64)

    def loading(self) -> np.ndarray:
        """See `LatentModel.loading`."""
        return self.vae.decoder.weight.detach().cpu().numpy().astype(np.float32)

    def to_bytes(self) -> bytes:
        """See `LatentModel.to_bytes`."""
        head = {
            "groups": [[g.name, g.size, list(g.labels)] for g in self.groups],
            "likelihood": self.likelihood,
            "n_steps": self.n_steps,
            "n_units": self.vae.decoder.out_features,
            "n_hidden": self.vae.trunk[0].out_features,
            "n_layers": len(self.vae.trunk) // 3,
            "n_targets": [
                [
                    getattr(numeric, "out_features", 0),
                    [head.out_features for head in cast(Iterable[nn.Linear], classes)],
                ]
                for numeric, classes in zip(self.vae.numeric_heads, self.vae.class_heads, strict=True)
            ],
        }
        return pack(self.kind, self.vae.state_dict(), head)


def load_group_vae(weights: bytes, *, kind: str = KIND) -> GroupVaeModel:
    """Rebuild a model from the bytes that `GroupVaeModel.to_bytes` returned."""
    head, state = unpack(kind, weights)
    groups = tuple(GroupConfig(name=n, size=s, labels=tuple(labels)) for n, s, labels in head["groups"])
    vae = GroupVae(
        head["n_units"],
        groups,
        n_hidden=head["n_hidden"],
        n_layers=head["n_layers"],
        n_targets=[(k, tuple(classes)) for k, classes in head["n_targets"]],
    )
    vae.load_state_dict(state)
    return GroupVaeModel(vae.eval(), groups, head["likelihood"], head["n_steps"], kind)


def target_tensors(
    targets: Sequence[LabelTargets], device: torch.device
) -> list[tuple[torch.Tensor, list[torch.Tensor]]]:
    """Return label targets as tensors on a device."""
    return [
        (
            torch.as_tensor(t.numeric, dtype=torch.float32, device=device),
            [torch.as_tensor(index, device=device) for _, index in t.classes],
        )
        for t in targets
    ]


def kl_divergence(mean: torch.Tensor, log_var: torch.Tensor) -> torch.Tensor:
    """Return KL(N(mean, exp(log_var)) || N(0, 1)) in nats, averaged over the batch."""
    return 0.5 * (mean.square() + log_var.exp() - 1 - log_var).sum(-1).mean()


def regularisers(
    vae: GroupVae, z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the KL divergence and the total correlation between groups, both in nats."""
    tc = total_correlation(z, mean, log_var, sizes=vae.sizes) if len(vae.sizes) > 1 else z.new_zeros(())
    return kl_divergence(mean, log_var), tc
