"""The critic: how well an image, clean or noisy, goes with a value of each latent group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from nwb_migvis.config import CriticConfig
from nwb_migvis.networks.checkpoints import checkpoint_in
from nwb_migvis.networks.dropout import SeededDropout
from nwb_migvis.networks.training import Descent, Selection, State, train
from nwb_migvis.networks.weights import pack, unpack
from nwb_migvis.synthesis.critic.features import (
    N_CODE,
    ConvolutionalFeatures,
    Features,
    features_record,
    open_features,
)
from nwb_migvis.synthesis.prior.model import Prior
from nwb_migvis.synthesis.prior.noising import draw_steps, noised

KIND = "critic"
T_MAX_FRACTION = 0.92
VALIDATE_EVERY = 50
_N_HIDDEN = 256
_FEATURES = "features."
_FROZEN = "features.body."


class LatentReader(nn.Module):
    """A network that reads every latent off features of a noisy image, with a precision for each step.

    Parameters
    ----------
    features : Features
    n_latents : int
    dropout : float
    generator : torch.Generator, optional
        What dropout draws from, on the device of the training.
    """

    def __init__(
        self, features: Features, n_latents: int, *, dropout: float, generator: torch.Generator | None = None
    ):
        super().__init__()
        self.features = features
        self.head = nn.Sequential(
            SeededDropout(dropout, generator),
            nn.Linear(features.n_features, _N_HIDDEN),
            nn.SiLU(),
            SeededDropout(dropout, generator),
            nn.Linear(_N_HIDDEN, n_latents),
        )
        self.log_precision = nn.Linear(N_CODE, n_latents)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents read off x_t (n, latent) and the log precision of the reading, same shape.

        Parameters
        ----------
        x_t : torch.Tensor, shape (n, channel, y, x)
        t : torch.Tensor, shape (n,)
            Step / T, in [0, 1].
        """
        features, code = self.features(x_t, t)
        return self.head(features), self.log_precision(code).clamp(-4.0, 6.0)

    def learned(self) -> dict[str, torch.Tensor]:
        """Return the tensors that are trained with the critic: all but those of a frozen network."""
        return {n: tensor for n, tensor in self.state_dict().items() if not n.startswith(_FROZEN)}

    def load_learned(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back what `learned` returned."""
        frozen = {n: tensor for n, tensor in self.state_dict().items() if n.startswith(_FROZEN)}
        self.load_state_dict({**frozen, **state})


class LatentRegressor(LatentReader):
    """A reader whose features are convolutions that are trained with it.

    Parameters
    ----------
    n_channels : int
        Of the images.
    n_latents : int
    channels : sequence of int
        Width of each convolution; every second one halves the resolution.
    dropout : float
    """

    def __init__(self, n_channels: int, n_latents: int, *, channels: Sequence[int], dropout: float):
        super().__init__(ConvolutionalFeatures(n_channels, channels=channels), n_latents, dropout=dropout)


@dataclass(frozen=True)
class Critic:
    """A trained critic with its fixed bank of negatives.

    The score of group g is a Gaussian log density of z_g around what the network reads off the image,
    s_g(z_g, x_t) = -1/2 sum_k lambda_k(t) (r_k(x_t) - z_k)^2, over standardised latents.

    Attributes
    ----------
    network : LatentReader
    sizes : tuple of int
        Latents in each group, in order.
    mean, std : torch.Tensor, shape (latent,)
        Standardise latents (training stimuli).
    bank : torch.Tensor, shape (n_negatives, latent)
        Standardised latents of training stimuli that stand for the marginal.
    """

    network: LatentReader
    sizes: tuple[int, ...]
    mean: torch.Tensor
    std: torch.Tensor
    bank: torch.Tensor

    def standardise(self, z: np.ndarray) -> torch.Tensor:
        """Return standardised latents (n, latent) on the critic's device."""
        return (torch.as_tensor(z, dtype=torch.float32, device=self.mean.device) - self.mean) / self.std

    def _by_group(self, squared: torch.Tensor) -> torch.Tensor:
        return torch.stack([part.sum(-1) for part in squared.split(list(self.sizes), dim=-1)], dim=-1)

    def read(self, x_t: torch.Tensor, t: float) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the standardised latents read off images at step t / T and their log precision.

        Parameters
        ----------
        x_t : torch.Tensor, shape (n, channel, y, x)
        t : float
            Step / T.

        Returns
        -------
        read, log_precision : torch.Tensor, shape (n, latent)
        """
        return self.network(x_t, torch.full((x_t.shape[0],), t, device=x_t.device))

    def scores(
        self, read: torch.Tensor, log_precision: torch.Tensor, goal: torch.Tensor
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the scores of what was read with a goal (n, group) and with the bank (n, negative, group).

        In nats. A group's score depends on what was read of that group alone.
        """
        weight = 0.5 * log_precision.exp()
        positive = -self._by_group(weight * (read - goal).square())
        negative = -self._by_group(weight[:, None] * (read[:, None] - self.bank[None]).square())
        return positive, negative

    def pmi(self, x_t: torch.Tensor, t: float, goal: torch.Tensor) -> torch.Tensor:
        """Return the pointwise mutual information of each image with a goal for each group, in nats.

        log p(z_g | x_t) - log p(z_g), estimated as s_g(z_g, x_t) minus the log mean over the bank of
        exp s_g.

        Parameters
        ----------
        x_t : torch.Tensor, shape (n, channel, y, x)
        t : float
            Step / T.
        goal : torch.Tensor, shape (n, latent)
            Standardised latents.

        Returns
        -------
        torch.Tensor, shape (n, group)
        """
        positive, negative = self.scores(*self.read(x_t, t), goal)
        return positive - torch.logsumexp(negative, dim=1) + math.log(len(self.bank))

    @torch.no_grad()
    def score_matrix(self, z: np.ndarray, x: torch.Tensor) -> np.ndarray:
        """Return scores of every stimulus's latents against every clean image, per group.

        Parameters
        ----------
        z : numpy.ndarray, shape (n, latent)
        x : torch.Tensor, shape (n, channel, y, x)

        Returns
        -------
        numpy.ndarray, shape (group, n latents, n images)
        """
        read, log_precision = self.network(x, torch.zeros(x.shape[0], device=x.device))
        squared = 0.5 * log_precision.exp()[None] * (read[None] - self.standardise(z)[:, None]).square()
        return -self._by_group(squared).permute(2, 0, 1).cpu().numpy()

    def to_bytes(self) -> bytes:
        """Return weights, bank and architecture as safetensors bytes, without those of a frozen network."""
        head = {"sizes": list(self.sizes)} | self.network.features.record()
        learned = self.network.learned()
        state = {f"network.{name.removeprefix(_FEATURES)}": tensor for name, tensor in learned.items()}
        state |= {"mean": self.mean, "std": self.std, "bank": self.bank}
        return pack(KIND, state, head)


def load_critic(weights: bytes, *, prior: Prior | None = None) -> Critic:
    """Rebuild a critic from the bytes that `Critic.to_bytes` returned.

    Parameters
    ----------
    weights : bytes
    prior : Prior, optional
        The one that it was trained with; needed where its features are those of a frozen network, which is
        opened, and its digest checked, again.

    Raises
    ------
    MigvisError
        If the bytes are no critic's, or a frozen network cannot be opened.
    """
    head, state = unpack(KIND, weights)
    mean, std, bank = (state.pop(name) for name in ("mean", "std", "bank"))
    network = LatentReader(open_features(head, prior=prior), mean.numel(), dropout=0.0)
    learned = {name.removeprefix("network."): tensor for name, tensor in state.items()}
    ours = ("head.", "log_precision.")
    network.load_learned({n if n.startswith(ours) else _FEATURES + n: t for n, t in learned.items()})
    return Critic(network.eval().requires_grad_(False), tuple(head["sizes"]), mean, std, bank)


def train_critic(
    x: torch.Tensor,
    latents: np.ndarray,
    *,
    sizes: Sequence[int],
    split: np.ndarray,
    alpha_bar: torch.Tensor,
    config: CriticConfig,
    seed: int,
    prior: Prior | None = None,
    checkpoints: Path | None = None,
) -> Critic:
    """Train the critic on images of training stimuli at every noise level.

    Maximises the Gaussian log likelihood of each stimulus's latents given its noised image; the weights
    kept are the best on the validation stimuli, the groups counting alike.

    Parameters
    ----------
    x : torch.Tensor, shape (n_stimuli, channel, y, x)
        Images on the prior's pixel scale.
    latents : numpy.ndarray, shape (n_stimuli, n_latents)
        Posterior means.
    sizes : sequence of int
        Latents in each group, in order.
    split : numpy.ndarray of str, shape (n_stimuli,)
    alpha_bar : torch.Tensor, shape (T,)
    config : CriticConfig
    seed : int
    prior : Prior, optional
        Whose noise levels and pixel scale these are; needed for features that are not trained with the
        critic.
    checkpoints : Path, optional
        Folder that keeps the state of training while it lasts: a training that was killed goes on from it
        and ends with the weights of an uninterrupted one.

    Raises
    ------
    MigvisError
        If the network that the features are taken from cannot be opened.
    """
    device = x.device
    train_rows = np.flatnonzero(split == "train")
    z_all = torch.as_tensor(latents, dtype=torch.float32, device=device)
    mean, std = z_all[train_rows].mean(0), z_all[train_rows].std(0).clamp_min(1e-6)
    z_all = (z_all - mean) / std
    generator = torch.Generator(device=device).manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = open_features(features_record(config, x.shape[1]), prior=prior)
        network = LatentReader(features, z_all.shape[1], dropout=config.dropout, generator=generator)
    network = network.to(device)
    validation = torch.as_tensor(np.flatnonzero(split == "validation"), device=device)
    rows = torch.as_tensor(train_rows, device=device)
    training = _CriticTraining(
        network, x, z_all, rows, alpha_bar=alpha_bar, config=config, generator=generator
    )
    of_prior = None if prior is None else prior.to_bytes()
    decisive = (config, tuple(sizes), split, seed, x, z_all, alpha_bar, of_prior)
    train(
        training,
        config.n_steps,
        what="critic",
        selection=Selection(
            lambda: _held_out(network, x[validation], z_all[validation], alpha_bar, seed), VALIDATE_EVERY
        ),
        checkpoint=checkpoint_in(checkpoints, "critic", *decisive, every=VALIDATE_EVERY),
    )
    chosen = np.random.default_rng(seed).permutation(train_rows)[: config.n_negatives]
    bank = z_all[torch.as_tensor(np.sort(chosen), device=device)]
    return Critic(network.eval().requires_grad_(False), tuple(sizes), mean, std, bank)


class _CriticTraining(Descent):
    """A critic's network in training, of which every step draws a batch of stimuli and noises it."""

    network: LatentReader

    def __init__(
        self,
        network: LatentReader,
        x: torch.Tensor,
        z: torch.Tensor,
        rows: torch.Tensor,
        *,
        alpha_bar: torch.Tensor,
        config: CriticConfig,
        generator: torch.Generator,
    ):
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, config.n_steps, config.learning_rate / 20
        )
        super().__init__(network, optimiser, schedule, generator, max_norm=1.0)
        self._x, self._z, self._rows, self._alpha_bar, self._config = x, z, rows, alpha_bar, config

    def step(self) -> None:
        """Take one step."""
        config, generator, device = self._config, self.generator, self._x.device
        drawn = torch.randint(len(self._rows), (config.batch_size,), generator=generator, device=device)
        batch = self._rows[drawn]
        z = self._z[batch]
        z = z + config.latent_noise * torch.randn(z.shape, generator=generator, device=device)
        self.descend(
            lambda: _negative_log_likelihood(self.network, self._x[batch], z, self._alpha_bar, generator)
        )

    def learned(self) -> State:
        """Return the tensors that are trained: all but those of a frozen network."""
        return self.network.learned()

    def load_learned(self, learned: State) -> None:
        """Take back what `learned` returned."""
        self.network.load_learned(learned)


def _negative_log_likelihood(
    network: LatentReader,
    x: torch.Tensor,
    z: torch.Tensor,
    alpha_bar: torch.Tensor,
    generator: torch.Generator,
) -> torch.Tensor:
    """Return the negative log likelihood of latents given noised images, per latent (nats, no constant)."""
    n, n_timesteps = len(x), alpha_bar.numel()
    t = draw_steps(
        torch.arange(n, device=x.device),
        n,
        n_timesteps=n_timesteps,
        generator=generator,
        fraction=T_MAX_FRACTION,
    )
    x_t, _ = noised(x, t, alpha_bar, generator)
    read, log_precision = network(x_t, t / n_timesteps)
    return 0.5 * (log_precision.exp() * (read - z).square() - log_precision).mean()


@torch.no_grad()
def _held_out(
    network: LatentReader, x: torch.Tensor, z: torch.Tensor, alpha_bar: torch.Tensor, seed: int
) -> float:
    network.eval()
    generator = torch.Generator(device=x.device).manual_seed(seed)
    loss = float(
        np.mean([float(_negative_log_likelihood(network, x, z, alpha_bar, generator)) for _ in range(4)])
    )
    network.train()
    return loss
