"""A critic's network that knows photographs: it reads latents off the prior's estimate of the clean image.

With some hundred images no features can be learned from nothing, and noise blinds a network for photographs.
So it sees what the prior takes the noisy image for, and the latents are read off its features by ridge
regressions, one for each of a few noise levels.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch
from sklearn.linear_model import Ridge
from sklearn.preprocessing import StandardScaler
from torch import nn

from nwb_migvis.errors import MigvisError
from nwb_migvis.networks.describing import normalised
from nwb_migvis.networks.efficientnet_lite import EfficientNetLite, for_inference
from nwb_migvis.networks.image_networks import ImageNetwork
from nwb_migvis.plain import Json
from nwb_migvis.progress import progress
from nwb_migvis.synthesis.critic.features import open_network
from nwb_migvis.synthesis.prior.model import Prior
from nwb_migvis.synthesis.prior.noising import noised

LEVELS = (0.0, 0.15, 0.3, 0.45, 0.6, 0.75, 0.92)
"""Steps / T at which latents are regressed on features; between them readings are interpolated."""

N_DRAWS = 2
"""Draws of noise for each image and noisy level."""

PENALTIES = np.logspace(-1, 3, 9)
"""Candidate ridge penalties per row, of standardised features; the best one on validation images is used."""

SMALL_PX = 96
"""Side at which EfficientNet-Lite sees images here, a quarter of the cost of its own.

Its sixth stage then reads three groups of latents of V4 (448 training images) with R2 of .50, .17 and .17; at
160 px with .53, .24 and .20, at 64 px with .48, .14 and .11.
"""
_AT_ONCE = 32


class EstimateFeatures(nn.Module):
    """Features that a network for photographs has of the prior's estimate of the clean image.

    The estimate is ``(x_t - sqrt(1 - alpha_bar) eps) / sqrt(alpha_bar)``. Its gradient takes the predicted
    noise eps as given, which saves the prior's backward pass.

    Parameters
    ----------
    network : ImageNetwork
    prior : Prior
    record : dict
        What is needed to open the same network again.
    """

    mean: torch.Tensor
    std: torch.Tensor

    def __init__(self, network: ImageNetwork, prior: Prior, record: Json):
        super().__init__()
        module, self.size_px = network.module, network.size_px
        if isinstance(module, EfficientNetLite):
            module, self.size_px = for_inference(module), SMALL_PX
        self.body = module.eval().requires_grad_(False)
        self._prior, self._record = prior, record
        self.register_buffer("mean", torch.tensor(network.mean)[:, None, None], persistent=False)
        self.register_buffer("std", torch.tensor(network.std)[:, None, None], persistent=False)

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return features (n, k) of noisy images (n, channel, y, x) at steps / T (n,), some at a time."""
        parts = zip(x_t.split(_AT_ONCE), t.split(_AT_ONCE), strict=True)
        return torch.cat([self._of(part, when) for part, when in parts])

    def _of(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        scale = self._prior.scale
        pixels = (self._prior.to_pixels(self._estimate(x_t, t)) * scale.std + scale.mean) / 255
        x = normalised(pixels, self.size_px, mean=self.mean, std=self.std)
        x = x.contiguous(memory_format=torch.channels_last)
        body = self.body
        return (body.sixth_stage(x) if isinstance(body, EfficientNetLite) else body(x)).float()

    def _estimate(self, x_t: torch.Tensor, t: torch.Tensor) -> torch.Tensor:
        """Return the prior's estimate of the clean images, conditioned on nothing; at t = 0 the images."""
        if not bool(t.any()):
            return x_t
        prior = self._prior
        steps = (t * prior.n_timesteps).round().long().clamp_max(prior.n_timesteps - 1)
        with torch.no_grad():
            eps, _ = prior.eps_and_x0_hat(x_t, steps)
        signal = prior.alpha_bar[steps][:, None, None, None]
        return torch.where(
            (t == 0)[:, None, None, None], x_t, (x_t - (1 - signal).sqrt() * eps) / signal.sqrt()
        )

    def record(self) -> Json:
        """Return what the network is."""
        return self._record


class EstimateReader(nn.Module):
    """Reads every latent off the prior's estimate of the clean image, with a precision for each noise level.

    Parameters
    ----------
    features : EstimateFeatures
    n_features, n_latents : int
    """

    levels: torch.Tensor
    weight: torch.Tensor
    intercept: torch.Tensor
    log_precision: torch.Tensor

    def __init__(self, features: EstimateFeatures, n_features: int, n_latents: int):
        super().__init__()
        self.features = features
        n = len(LEVELS)
        self.register_buffer("levels", torch.tensor(LEVELS))
        self.register_buffer("weight", torch.zeros(n, n_features, n_latents))
        self.register_buffer("intercept", torch.zeros(n, n_latents))
        self.register_buffer("log_precision", torch.zeros(n, n_latents))

    def forward(self, x_t: torch.Tensor, t: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the latents read off x_t (n, latent) and the log precision of the reading, same shape.

        Parameters
        ----------
        x_t : torch.Tensor, shape (n, channel, y, x)
        t : torch.Tensor, shape (n,)
            Step / T, in [0, 1].
        """
        share, features = self._shares(t), self.features(x_t, t)
        with torch.autocast(x_t.device.type, enabled=False):
            read = torch.einsum("nf,lfz->nlz", features, self.weight) + self.intercept
            return (share[:, :, None] * read).sum(1), share @ self.log_precision

    def _shares(self, t: torch.Tensor) -> torch.Tensor:
        """Return how much each level counts at steps / T (n,): linear between two levels, (n, level)."""
        t = t.clamp(self.levels[0], self.levels[-1])
        above = torch.searchsorted(self.levels, t.contiguous()).clamp(1, len(self.levels) - 1)
        low, high = self.levels[above - 1], self.levels[above]
        upper = (t - low) / (high - low)
        rows = torch.arange(len(t), device=t.device)
        share = t.new_zeros(len(t), len(self.levels))
        share[rows, above - 1], share[rows, above] = 1 - upper, upper
        return share

    def learned(self) -> dict[str, torch.Tensor]:
        """Return what was fitted: the regressions and their precision."""
        return {name: t for name, t in self.state_dict().items() if not name.startswith("features.")}

    def load_learned(self, state: Mapping[str, torch.Tensor]) -> None:
        """Take back what `learned` returned."""
        for name, tensor in state.items():
            getattr(self, name).copy_(tensor)


@dataclass(frozen=True)
class Examples:
    """Images on the prior's pixel scale (n, channel, y, x), and their standardised latents (n, latent)."""

    x: torch.Tensor
    z: torch.Tensor


def fit_estimate_reader(
    features: EstimateFeatures, training: Examples, validation: Examples, *, prior: Prior, seed: int
) -> EstimateReader:
    """Fit a reader: at each noise level a ridge regression, its penalty and its precision by validation.

    Parameters
    ----------
    features : EstimateFeatures
    training, validation : Examples
    prior : Prior
        Whose noise levels they are.
    seed : int
        Of the noise.

    Returns
    -------
    EstimateReader
        Its log precision at a level is minus the log of the mean squared error on the validation images.
    """
    generator = torch.Generator(device=prior.device).manual_seed(seed)
    fits = []
    for level in progress(LEVELS, what="critic"):
        rows = [
            _described(features, part, level, prior=prior, generator=generator)
            for part in (training, validation)
        ]
        fits.append(_best_ridge(*rows))
    weights, intercepts, log_precisions = (torch.stack(parts) for parts in zip(*fits, strict=True))
    reader = EstimateReader(features, weights.shape[1], weights.shape[2])
    reader.load_learned({"weight": weights, "intercept": intercepts, "log_precision": log_precisions})
    return reader.to(prior.device)


def _described(
    features: EstimateFeatures, part: Examples, level: float, *, prior: Prior, generator: torch.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """Return features and latents of images at a noise level, a row for each image and draw of noise."""
    n_draws = N_DRAWS if level else 1
    found = []
    for _ in range(n_draws):
        for x in part.x.split(_AT_ONCE):
            found.append(features(*_at(x, level, prior, generator)).cpu().numpy())
    return np.concatenate(found), np.tile(part.z.cpu().numpy(), (n_draws, 1))


def _at(
    x: torch.Tensor, level: float, prior: Prior, generator: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor]:
    """Return images at a noise level, and the level of each as step / T."""
    t = torch.full((len(x),), level, device=x.device)
    if not level:
        return x, t
    steps = (t * prior.n_timesteps).round().long().clamp_max(prior.n_timesteps - 1)
    return noised(x, steps, prior.alpha_bar, generator)[0], t


def _best_ridge(
    training: tuple[np.ndarray, np.ndarray], validation: tuple[np.ndarray, np.ndarray]
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return weight (feature, latent), intercept and log precision (latent,) of the best ridge."""
    scaler = StandardScaler().fit(training[0])
    x, x_new = scaler.transform(training[0]), scaler.transform(validation[0])
    candidates = _ridges(x, training[1])
    errors, ridge = min(
        ((np.square(ridge.predict(x_new) - validation[1]).mean(0), ridge) for ridge in candidates),
        key=lambda pair: float(pair[0].sum()),
    )
    weight = (np.atleast_2d(ridge.coef_) / scaler.scale_).T
    intercept = ridge.intercept_ - scaler.mean_ @ weight
    log_precision = -np.log(np.maximum(errors, 1e-6))
    return tuple(torch.as_tensor(part, dtype=torch.float32) for part in (weight, intercept, log_precision))  # type: ignore[return-value]


def _ridges(x: np.ndarray, z: np.ndarray) -> Iterator[Ridge]:
    for penalty in PENALTIES:
        yield Ridge(alpha=float(penalty) * len(x)).fit(x, z)


def open_estimate(record: Json, *, prior: Prior | None) -> EstimateFeatures:
    """Open the network for photographs that a record of features names, to see a prior's estimates.

    Raises
    ------
    MigvisError
        If there is no prior, or the network cannot be opened.
    """
    if prior is None:
        raise MigvisError(
            f"the critic sees estimates of a prior with {record['features']!r}; expected the prior that it "
            "goes with"
        )
    return EstimateFeatures(open_network(record), prior, record).to(prior.device)


def sizes_of(state: Mapping[str, torch.Tensor]) -> Sequence[int]:
    """Return the numbers of features and latents of what `EstimateReader.learned` returned."""
    return state["weight"].shape[1:]
