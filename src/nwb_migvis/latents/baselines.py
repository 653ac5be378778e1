"""Other models of the same responses, under the interface of the group VAE, to compare it with."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from nwb_migvis.config import GroupConfig, LatentsConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.model import GroupVae, LatentModel, kl_divergence
from nwb_migvis.latents.objective import Repeats, draw, initial_vae
from nwb_migvis.latents.task import LatentTask, Recording
from nwb_migvis.latents.training import LatentTraining, optimise


@dataclass(frozen=True)
class LinearGaussianModel:
    """Latents z ~ N(0, 1) that give z-scored root responses x ~ N(W z, diag(noise)).

    Attributes
    ----------
    weight : numpy.ndarray, shape (n_units, n_latents)
        W.
    noise : numpy.ndarray, shape (n_units,)
        Variances.
    mean, scale : numpy.ndarray, shape (n_units,)
        Of the root average counts of the training stimuli.
    excess : numpy.ndarray, shape (n_units,)
        What the square of the predicted root falls short of the average count, on the training stimuli.
    """

    weight: np.ndarray
    noise: np.ndarray
    mean: np.ndarray
    scale: np.ndarray
    excess: np.ndarray

    def encode(self, average: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance of the posterior for average counts (stimulus, unit)."""
        x = (np.sqrt(np.maximum(average, 0)) - self.mean) / self.scale
        weighed = self.weight / self.noise[:, None]
        covariance = np.linalg.inv(np.eye(self.weight.shape[1]) + self.weight.T @ weighed)
        z = x @ weighed @ covariance
        log_var = np.broadcast_to(np.log(np.diag(covariance)), z.shape)
        return z.astype(np.float32), log_var.astype(np.float32)

    def rates(self, z: np.ndarray) -> np.ndarray:
        """Return the expected spike count of a presentation, (stimulus, unit), for latents z."""
        return np.maximum(self._square(z) + self.excess, 1e-3)

    def _square(self, z: np.ndarray) -> np.ndarray:
        return np.maximum(z @ self.weight.T * self.scale + self.mean, 0) ** 2


def fit_linear(average: np.ndarray, *, kind: str, n_latents: int, seed: int = 0) -> LinearGaussianModel:
    """Fit probabilistic PCA (Tipping and Bishop 1999) or factor analysis to average counts.

    Parameters
    ----------
    average : numpy.ndarray, shape (n_stimuli, n_units)
        Mean spike counts of the training stimuli.
    kind : {"pca", "fa"}
    n_latents : int
        Fewer than units and than stimuli.
    seed : int
        Of the randomised decomposition in factor analysis.
    """
    from sklearn.decomposition import PCA, FactorAnalysis

    root = np.sqrt(average)
    mean, scale = root.mean(axis=0), np.maximum(root.std(axis=0), 1e-3)
    x = (root - mean) / scale
    if kind == "pca":
        pca = PCA(n_latents, svd_solver="full").fit(x)
        noise = np.full(x.shape[1], max(pca.noise_variance_, 1e-6))
        beyond = np.maximum(pca.explained_variance_ - noise[0], 0)
        weight = pca.components_.T * np.sqrt(beyond)
    elif kind == "fa":
        fa = FactorAnalysis(n_latents, random_state=seed).fit(x)
        weight, noise = fa.components_.T, np.maximum(fa.noise_variance_, 1e-6)
    else:
        raise ValueError(f"found kind = {kind!r}; expected 'pca' or 'fa'")
    model = LinearGaussianModel(weight, noise, mean, scale, np.zeros(x.shape[1]))
    excess = (average - model._square(model.encode(average)[0])).mean(axis=0)
    return LinearGaussianModel(weight, noise, mean, scale, excess)


def fit_plain_vae(
    recording: Recording,
    *,
    n_latents: int,
    split: np.ndarray,
    config: LatentsConfig,
    seed: int,
    device: str = "cpu",
) -> LatentModel:
    """Fit the group VAE with one group: no labels, no total correlation."""
    task = LatentTask({}, (GroupConfig(name="all", size=n_latents),), split)
    return fit_latents([recording], task, config=config, seed=seed, device=device)[0]


def fit_swap_vae(
    recording: Recording,
    *,
    n_latents: int,
    split: np.ndarray,
    config: LatentsConfig,
    seed: int,
    device: str = "cpu",
    alignment: float = 1.0,
) -> LatentModel:
    """Fit Swap-VAE (Liu et al. 2021, arXiv 2111.02338), two halves of a stimulus's repeats as its views.

    The first half of the latents is the content that the views share, the second the style. Each view is
    predicted from its own style with its own content and with the other view's; the two contents, scaled to
    unit length, are pulled together; KL divergence is charged for the style.

    Parameters
    ----------
    recording : Recording
    split : numpy.ndarray of str, shape (n_stimuli,)
    config, seed, device
        As in `fit_latents`; the Poisson likelihood is used.
    n_latents : int
        Content and style together.
    alignment : float
        Weight of the squared distance between the contents' directions.

    Raises
    ------
    MigvisError
        If fewer than two training stimuli were repeated.
    """
    where = torch.device(device)
    groups = (
        GroupConfig(name="content", size=n_latents - n_latents // 2),
        GroupConfig(name="style", size=n_latents // 2),
    )
    repeats = Repeats.of(recording.spike_count, recording.stimulus_index, split.size, where)
    repeated = (repeats.n >= 2).cpu().numpy()
    train, validation = (
        torch.as_tensor(np.flatnonzero((split == part) & repeated), device=where)
        for part in ("train", "validation")
    )
    if min(train.numel(), validation.numel()) < 2:
        raise MigvisError(
            f"Swap-VAE: found {train.numel()} training and {validation.numel()} validation stimuli with two "
            "presentations; expected two or more of each; it needs repeats of the same image"
        )
    no_targets: list[tuple[torch.Tensor, list[torch.Tensor]]] = [
        (torch.zeros(split.size, 0), []) for _ in groups
    ]
    vae = initial_vae(repeats, groups, no_targets, split=split, config=config, seed=seed).to(where)

    def loss(stimuli: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        return _swap_loss(vae, repeats, stimuli, generator, kl_weight=config.kl_weight, alignment=alignment)

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
    best_step = optimise(training, held_out, what="Swap-VAE")
    return LatentModel(vae.eval(), groups, "poisson", best_step)


def _swap_loss(
    vae: GroupVae,
    repeats: Repeats,
    stimuli: torch.Tensor,
    generator: torch.Generator,
    *,
    kl_weight: float,
    alignment: float,
) -> torch.Tensor:
    """Return the loss of two views, per unit and presentation like the group VAE's."""
    first, total, n_second = repeats.halves(stimuli, generator)
    views = (first, total / n_second)
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
            loss = loss + 0.25 * (rate - views[own] * rate.log()).mean()
        kl = kl_divergence(mean[:, n_content:], log_var[:, n_content:])
        loss = loss + 0.5 * kl_weight * kl / (first.shape[1] * n_second.float().mean())
    directions = [torch.nn.functional.normalize(z[0], dim=-1) for z, _, _ in codes]
    return loss + alignment * (directions[0] - directions[1]).square().sum(-1).mean() / first.shape[1]
