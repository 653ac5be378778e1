"""The training objective of the group VAE: encode one half of a stimulus's repeats, predict the other."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
import torch
from torch.nn import functional as F

from nwb_migvis.config import GroupConfig, LatentsConfig
from nwb_migvis.latents.augment import Augmentation, EncodedHalf
from nwb_migvis.latents.label_weights import LabelWeights
from nwb_migvis.latents.likelihood import poisson_error
from nwb_migvis.latents.model import GroupVae, regularisers


@dataclass(frozen=True)
class Repeats:
    """Spike counts by stimulus and repeat on a device.

    Attributes
    ----------
    counts : torch.Tensor, shape (stimulus, repeat, unit)
        Padded with zeros where a stimulus has fewer repeats than the largest number; 0 where the unit was
        not observed.
    n : torch.Tensor, shape (stimulus,)
        Presentations of each stimulus.
    observed : torch.Tensor, shape (stimulus, repeat, unit), optional
        1 for a count, 0 for none; None where every unit was observed in every presentation.
    """

    counts: torch.Tensor
    n: torch.Tensor
    observed: torch.Tensor | None = None

    def average(self) -> torch.Tensor:
        """Return the mean count of a presentation, (stimulus, unit); NaN where there is no count."""
        return self.total / self.n_counts

    @cached_property
    def n_counts(self) -> torch.Tensor:
        """Number of counts: (stimulus, 1), or (stimulus, unit) where some are missing."""
        return self.n[:, None] if self.observed is None else self.observed.sum(1)

    @cached_property
    def total(self) -> torch.Tensor:
        """Summed counts of each stimulus, (stimulus, unit)."""
        return self.counts.sum(1)

    @classmethod
    def of(
        cls, spike_count: np.ndarray, stimulus_index: np.ndarray, n_stimuli: int, device: torch.device
    ) -> Repeats:
        """Arrange counts (presentation, unit), NaN where there is none, by the stimulus of a presentation."""
        n = np.bincount(stimulus_index, minlength=n_stimuli)
        order = np.argsort(stimulus_index, kind="stable")
        first = np.concatenate([[0], np.cumsum(n)[:-1]])
        repeat = np.arange(order.size) - first[stimulus_index[order]]
        counts = np.zeros((n_stimuli, int(n.max()), spike_count.shape[1]), dtype=np.float32)
        counts[stimulus_index[order], repeat] = np.nan_to_num(spike_count[order])
        observed = None
        if (missing := np.isnan(spike_count[order])).any():
            observed = np.zeros_like(counts)
            observed[stimulus_index[order], repeat] = ~missing
        return cls(
            torch.as_tensor(counts, device=device),
            torch.as_tensor(n, device=device),
            None if observed is None else torch.as_tensor(observed, device=device),
        )

    def halves(
        self,
        stimuli: torch.Tensor,
        generator: torch.Generator,
        *,
        augmentation: Augmentation | None = None,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Split the repeats of some stimuli at random.

        Returns the mean count of the first half (stimulus, unit), NaN where there is none; the summed count
        of the second; and the number of counts in the second, (stimulus, 1) or (stimulus, unit). A stimulus
        shown once is in both halves. An augmentation changes the first half, never the second.
        """
        n, n_most = self.n[stimuli, None], self.counts.shape[1]
        place = torch.arange(n_most, device=n.device)
        draw = torch.rand((len(stimuli), n_most), generator=generator, device=n.device)
        order = draw.masked_fill(place >= n, 2.0).argsort(dim=1)
        n_first = torch.div(n + 1, 2, rounding_mode="floor")
        repeats = order[:, : (n_most + 1) // 2]
        is_used = (place[: repeats.shape[1]] < n_first).to(self.counts.dtype)
        first = _sum_of(self.counts, stimuli, repeats, is_used)
        second = torch.where(n > 1, self.total[stimuli] - first, first)
        n_counts = n
        if self.observed is not None:
            n_first = _sum_of(self.observed, stimuli, repeats, is_used)
            n_counts = self.n_counts[stimuli]
        n_second = torch.where(n > 1, n_counts - n_first, n_counts)
        if augmentation is None:
            return first / n_first, second, n_second
        present = torch.zeros_like(draw).scatter(1, repeats, is_used)[..., None]
        if self.observed is not None:
            present = present * self.observed[stimuli]
        half = EncodedHalf(self.counts[stimuli], present)
        return augmentation.average(half, generator), second, n_second


def _sum_of(
    values: torch.Tensor, stimuli: torch.Tensor, repeats: torch.Tensor, is_used: torch.Tensor
) -> torch.Tensor:
    """Return the sum of some repeats of values (stimulus, repeat, unit), reading these alone, (n, unit).

    Parameters
    ----------
    values : torch.Tensor, shape (stimulus, repeat, unit)
    stimuli : torch.Tensor of int, shape (n,)
    repeats : torch.Tensor of int, shape (n, k)
    is_used : torch.Tensor, shape (n, k)
        1 for a repeat that is added, 0 for one that is not.
    """
    rows = stimuli[:, None] * values.shape[1] + repeats
    return F.embedding_bag(rows, values.flatten(0, 1), mode="sum", per_sample_weights=is_used)


def mean_of_counted(values: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
    """Average values (stimulus, unit) where there are n > 0 counts; n is (stimulus, 1) if none is missing."""
    if n.shape[1] < values.shape[1] or (n > 0).all():
        return values.mean()
    return torch.where(n > 0, values, 0.0).sum() / (n > 0).sum().clamp_min(1)


def draw(stimuli: torch.Tensor, n: int, generator: torch.Generator) -> torch.Tensor:
    """Draw n rows of an array of stimuli, with replacement."""
    return stimuli[torch.randint(len(stimuli), (n,), generator=generator, device=stimuli.device)]


class Objective:
    """The training objective over a set of stimuli."""

    def __init__(
        self,
        vae: GroupVae,
        repeats: Repeats,
        targets: Sequence[tuple[torch.Tensor, list[torch.Tensor]]],
        *,
        config: LatentsConfig,
        label_weights: Sequence[LabelWeights],
    ):
        self.vae, self.repeats, self.targets, self.config = vae, repeats, targets, config
        self.label_weights = label_weights
        self._augmentation = Augmentation.of(config)
        self._free = [g for g, (numeric, classes) in enumerate(targets) if not (numeric.shape[1] or classes)]

    def __call__(self, stimuli: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return the training loss."""
        z, mean, log_var, second, n = self.encode_half(stimuli, generator, sample=True)
        data = self._negative_log_likelihood(self._order(z, generator), second, n)
        kl, tc = regularisers(self.vae, z, mean, log_var)
        c = self.config
        n_counts = second.shape[1] * n.float().mean()
        soft = c.tc_weight * tc + self._label_loss(z, stimuli)
        return data + c.kl_weight * kl / n_counts + soft / n_counts.sqrt()

    @torch.no_grad()
    def held_out(self, stimuli: torch.Tensor, seed: int) -> float:
        """Return likelihood and label error at the posterior mean, over one fixed split of the repeats."""
        generator = torch.Generator(device=stimuli.device).manual_seed(seed)
        z, _, _, second, n = self.encode_half(stimuli, generator, sample=False)
        labels = self._label_loss(z, stimuli) / (second.shape[1] * n.float().mean()).sqrt()
        return float(self._negative_log_likelihood(z, second, n) + labels)

    def _label_loss(self, z: torch.Tensor, stimuli: torch.Tensor) -> torch.Tensor:
        here = [
            (numeric[stimuli], [index[stimuli] for index in classes]) for numeric, classes in self.targets
        ]
        return self.config.label_weight * self.vae.label_loss(z, here, self.label_weights)

    def _order(self, z: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Take the last of the free groups from some stimuli, so that the first one is filled first."""
        n_free = len(self._free)
        if n_free < 2 or not self.config.free_dropout:
            return z
        u = torch.rand((2, len(z), 1), generator=generator, device=z.device)
        n_kept = torch.where(u[0] < self.config.free_dropout, 1 + (u[1] * (n_free - 1)).long(), n_free)
        parts = list(z.split(self.vae.sizes, dim=-1))
        for place, g in enumerate(self._free):
            parts[g] = parts[g] * (place < n_kept)
        return torch.cat(parts, dim=-1)

    def encode_half(
        self, stimuli: torch.Tensor, generator: torch.Generator, *, sample: bool
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return latents, mean and log variance from half of the repeats; total and number of the others.

        Without a sample, for validation, nothing is augmented.
        """
        augmentation = self._augmentation if sample else None
        first, second, n = self.repeats.halves(stimuli, generator, augmentation=augmentation)
        mean, log_var = self.vae.encode(first)
        noise = torch.randn(mean.shape, generator=generator, device=mean.device) if sample else 0.0
        return mean + noise * torch.exp(0.5 * log_var), mean, log_var, second, n

    def all_repeats(self, z: torch.Tensor, stimuli: torch.Tensor) -> torch.Tensor:
        """Return the negative log likelihood of all repeats of some stimuli given latents from elsewhere."""
        total, n = self.repeats.total[stimuli], self.repeats.n_counts[stimuli]
        return self._negative_log_likelihood(z, total, n)

    def _negative_log_likelihood(self, z: torch.Tensor, total: torch.Tensor, n: torch.Tensor) -> torch.Tensor:
        drive, average = self.vae.decoder(z), total / n.clamp_min(1)
        if self.config.likelihood == "poisson":
            return mean_of_counted(poisson_error(drive, self.vae.mean_rate, average), n)
        z_scored = (average.sqrt() - self.vae.input_mean) / self.vae.input_std
        return 0.5 * mean_of_counted((drive - z_scored).square(), n)


def initial_vae(
    repeats: Repeats,
    groups: tuple[GroupConfig, ...],
    targets: Sequence[tuple[torch.Tensor, list[torch.Tensor]]],
    *,
    split: np.ndarray,
    config: LatentsConfig,
    seed: int,
) -> GroupVae:
    """Build the network with seeded weights, input statistics and base rates of the training stimuli."""
    n_targets = [(numeric.shape[1], tuple(int(i.max()) + 1 for i in classes)) for numeric, classes in targets]
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        vae = GroupVae(
            repeats.counts.shape[2],
            groups,
            n_hidden=config.n_hidden,
            n_layers=config.n_layers,
            n_targets=n_targets,
        )
    train = torch.as_tensor(np.flatnonzero(split == "train"), device=repeats.counts.device)
    average = repeats.average()[train]
    root_mean, root_std = _mean_and_std(average.sqrt())
    vae.input_mean.copy_(root_mean)
    vae.input_std.copy_(root_std.clamp_min(1e-3))
    vae.mean_rate.copy_(_mean_and_std(average)[0].clamp_min(1e-4))
    torch.nn.init.zeros_(vae.decoder.bias)
    return vae


def _mean_and_std(values: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return mean and standard deviation of each column over the values that are there, 0 without any."""
    present = torch.isfinite(values)
    if present.all():
        return values.mean(0), values.std(0)
    n = present.sum(0)
    mean = torch.where(present, values, 0.0).sum(0) / n.clamp_min(1)
    squares = torch.where(present, values - mean, 0.0).square().sum(0)
    return mean, (squares / (n - 1).clamp_min(1)).sqrt()
