"""The critic: how well an image, clean or noisy, goes with a value of each latent group."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Union

import numpy as np
import torch
from torch import nn

from nwb_migvis.groups import LatentScale
from nwb_migvis.networks.dropout import SeededDropout
from nwb_migvis.networks.weights import pack, unpack
from nwb_migvis.synthesis.critic.estimate import EstimateReader, open_estimate, sizes_of
from nwb_migvis.synthesis.critic.features import (
    ESTIMATE,
    N_CODE,
    ConvolutionalFeatures,
    Features,
    open_features,
)
from nwb_migvis.synthesis.prior.model import PRECISIONS, Prior

KIND = "critic"
T_MAX_FRACTION = 0.92
_N_HIDDEN = 256
_FEATURES = "features."
_FROZEN = "features.body."


ReadsLatents = Union["LatentReader", EstimateReader]
"""(x_t, t) -> latents and log precision: the network of a critic."""


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
        with torch.autocast(x_t.device.type, enabled=False):
            return self.head(features.float()), self.log_precision(code.float()).clamp(-4.0, 6.0)

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

    The score of group g is a Gaussian log density of z_g around what the network reads off the image::

        s_g(z_g, x_t) = -1/2 sum_k lambda_k(t) (r_k(x_t) - z_k)^2

    over the group's standardised latents z_k, with readings r_k and precisions lambda_k.

    Attributes
    ----------
    network : LatentReader or EstimateReader
    sizes : tuple of int
        Latents in each group, in order.
    scale : LatentScale
        Standardises latents (training stimuli).
    bank : torch.Tensor, shape (n_negatives, latent)
        Standardised latents of training stimuli that stand for the marginal.
    precision : {"bfloat16", "float32"}
        What `read` computes features in. Guidance has the prior's; what is reported is in single precision.
    """

    network: ReadsLatents
    sizes: tuple[int, ...]
    scale: LatentScale
    bank: torch.Tensor
    precision: str = "float32"

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        return self.bank.device

    def to(self, device: str | torch.device) -> Critic:
        """Return the critic on a device; its network is moved there."""
        return replace(self, network=self.network.to(device), bank=self.bank.to(device))

    def __repr__(self) -> str:
        n_weights = sum(weight.numel() for weight in self.network.parameters())
        return (
            f"Critic: {n_weights:,} weights, groups of {', '.join(map(str, self.sizes))} latents, "
            f"{len(self.bank)} negatives, {self.device}"
        )

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
        dtype = PRECISIONS[self.precision]
        with torch.autocast(x_t.device.type, dtype, enabled=dtype != torch.float32):
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

        log p(z_g | x_t) - log p(z_g), estimated as ``s_g(z_g, x_t) - log(mean over z' in the bank of exp
        s_g(z'_g, x_t))``.

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
        goal = self.scale.standardise(torch.as_tensor(z, dtype=torch.float32, device=self.device))
        squared = 0.5 * log_precision.exp()[None] * (read[None] - goal[:, None]).square()
        return -self._by_group(squared).permute(2, 0, 1).cpu().numpy()

    def to_bytes(self) -> bytes:
        """Return weights, bank and architecture as safetensors bytes, without those of a frozen network."""
        head = {"sizes": list(self.sizes)} | self.network.features.record()
        learned = self.network.learned()
        state = {f"network.{name.removeprefix(_FEATURES)}": tensor for name, tensor in learned.items()}
        mean, std = (torch.as_tensor(part) for part in (self.scale.mean, self.scale.std))
        state |= {"mean": mean, "std": std, "bank": self.bank}
        return pack(KIND, state, head)


def load_critic(weights: bytes, *, prior: Prior | None = None) -> Critic:
    """Rebuild a critic from the bytes that `Critic.to_bytes` returned.

    Parameters
    ----------
    weights : bytes
    prior : Prior, optional
        The one that it was trained with. It is needed where the features are those of a frozen network, which
        is then opened and its digest checked again.

    Raises
    ------
    MigvisError
        If the bytes are not those of a critic, or a frozen network cannot be opened.
    """
    head, state = unpack(KIND, weights)
    mean, std, bank = (state.pop(name) for name in ("mean", "std", "bank"))
    learned = {name.removeprefix("network."): tensor for name, tensor in state.items()}
    network: ReadsLatents
    if head.get("sees") == ESTIMATE:
        network = EstimateReader(open_estimate(head, prior=prior), *sizes_of(learned))
        network.load_learned(learned)
    else:
        network = LatentReader(open_features(head, prior=prior), mean.numel(), dropout=0.0)
        ours = ("head.", "log_precision.")
        network.load_learned({n if n.startswith(ours) else _FEATURES + n: t for n, t in learned.items()})
    scale = LatentScale(mean.numpy(), std.numpy())
    return Critic(network.eval().requires_grad_(False), tuple(head["sizes"]), scale, bank)
