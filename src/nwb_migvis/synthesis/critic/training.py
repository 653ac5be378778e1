"""Training the critic on images of training stimuli at every noise level."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from nwb_migvis.config import CriticConfig
from nwb_migvis.networks.checkpoints import Checkpoint, checkpoint_in
from nwb_migvis.networks.training import Descent, Selection, State, train
from nwb_migvis.plain import Json
from nwb_migvis.synthesis.conditions import Conditions
from nwb_migvis.synthesis.critic.estimate import Examples, fit_estimate_reader, open_estimate
from nwb_migvis.synthesis.critic.features import ESTIMATE, features_record, open_features
from nwb_migvis.synthesis.critic.model import T_MAX_FRACTION, Critic, LatentReader, ReadsLatents
from nwb_migvis.synthesis.prior.model import Prior
from nwb_migvis.synthesis.prior.noising import draw_steps, noised

VALIDATE_EVERY = 100
_AT_ONCE = 64
"""Validation images per pass: small passes stay in the processor's memory."""

_N_VALIDATED, _MOST_DRAWS = 1024, 4
"""Noised validation images that are enough, and how often each is noised at most."""


def train_critic(
    images: np.ndarray,
    conditions: Conditions,
    *,
    split: np.ndarray,
    prior: Prior,
    config: CriticConfig,
    seed: int,
    checkpoints: Path | None = None,
) -> Critic:
    """Train the critic on images of training stimuli at every noise level.

    Maximises the Gaussian log likelihood of each stimulus's latents given its noised image. It keeps the
    weights that are best on the validation stimuli, where all groups count alike.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n_stimuli, y, x (, channel))
        At the prior's size.
    conditions : Conditions
        Their latents.
    split : numpy.ndarray of str, shape (n_stimuli,)
    prior : Prior
        Whose noise levels and pixel scale the critic goes with; features may be taken from it.
    config : CriticConfig
    seed : int
    checkpoints : Path, optional
        Folder that keeps the state of training while it lasts. Training that was killed resumes from it and
        ends with the weights of an uninterrupted one.

    Raises
    ------
    MigvisError
        If the network that the features are taken from cannot be opened.
    """
    device = prior.device
    n_channels, *places = prior.x_shape
    record = features_record(config, (*places, n_channels))
    stimuli, validation = (
        _Stimuli(prior.encode(images[rows]), conditions[rows].standardised(device), prior.alpha_bar)
        for rows in (np.flatnonzero(split == part) for part in ("train", "validation"))
    )
    network: ReadsLatents
    if config.sees == ESTIMATE:
        parts = (Examples(part.x, part.z) for part in (stimuli, validation))
        network = fit_estimate_reader(open_estimate(record, prior=prior), *parts, prior=prior, seed=seed)
    else:
        decisive = (
            config,
            conditions,
            images,
            split,
            seed,
            None if checkpoints is None else prior.to_bytes(),
        )
        checkpoint = checkpoint_in(checkpoints, "critic", *decisive, every=VALIDATE_EVERY)
        network = _train(
            record, stimuli, validation, prior=prior, config=config, seed=seed, checkpoint=checkpoint
        )
    chosen = np.random.default_rng(seed).permutation(len(stimuli.z))[: config.n_negatives]
    bank = stimuli.z[torch.as_tensor(np.sort(chosen), device=device)]
    return Critic(network.eval().requires_grad_(False), conditions.groups.sizes, conditions.scale, bank)


def _train(
    record: Json,
    stimuli: _Stimuli,
    validation: _Stimuli,
    *,
    prior: Prior,
    config: CriticConfig,
    seed: int,
    checkpoint: Checkpoint | None,
) -> LatentReader:
    """Train a network by gradient descent."""
    device = prior.device
    generator = torch.Generator(device=device).manual_seed(seed)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        features = open_features(record, prior=prior)
        network = LatentReader(features, stimuli.z.shape[1], dropout=config.dropout, generator=generator)
    training = CriticTraining(network.to(device), stimuli, config=config, generator=generator)
    train(
        training,
        config.n_steps,
        what="critic",
        selection=Selection(lambda: training.held_out(validation, seed), VALIDATE_EVERY),
        checkpoint=checkpoint,
    )
    return network


@dataclass(frozen=True)
class _Stimuli:
    """Images on the prior's pixel scale, their standardised latents, and the noise levels."""

    x: torch.Tensor
    z: torch.Tensor
    alpha_bar: torch.Tensor

    def __getitem__(self, rows: torch.Tensor) -> _Stimuli:
        return _Stimuli(self.x[rows], self.z[rows], self.alpha_bar)


class CriticTraining(Descent):
    """A critic's network in training, of which every step draws a batch of stimuli and noises it.

    Parameters
    ----------
    network : LatentReader
    stimuli : _Stimuli
        The training stimuli.
    config : CriticConfig
    generator : torch.Generator
    """

    network: LatentReader

    def __init__(
        self, network: LatentReader, stimuli: _Stimuli, *, config: CriticConfig, generator: torch.Generator
    ):
        optimiser = torch.optim.AdamW(
            network.parameters(), lr=config.learning_rate, weight_decay=config.weight_decay
        )
        schedule = torch.optim.lr_scheduler.CosineAnnealingLR(
            optimiser, config.n_steps, config.learning_rate / 20
        )
        super().__init__(network, optimiser, schedule, generator, max_norm=1.0)
        self._stimuli, self._config = stimuli, config

    def step(self) -> None:
        """Take one step."""
        n, size = len(self._stimuli.x), (self._config.batch_size,)
        device = self._stimuli.x.device
        batch = self._stimuli[torch.randint(n, size, generator=self.generator, device=device)]
        noise = torch.randn(batch.z.shape, generator=self.generator, device=device)
        z = batch.z + self._config.latent_noise * noise
        noisy = _Stimuli(batch.x, z, batch.alpha_bar)
        self.descend(lambda: negative_log_likelihood(self.network, noisy, self.generator))

    @torch.no_grad()
    def held_out(self, stimuli: _Stimuli, seed: int) -> float:
        """Return the loss on stimuli, over fixed draws of noise."""
        self.network.eval()
        generator = torch.Generator(device=stimuli.x.device).manual_seed(seed)
        rows = torch.arange(len(stimuli.x), device=stimuli.x.device)
        rows = rows.repeat(min(_MOST_DRAWS, math.ceil(_N_VALIDATED / len(rows))))
        total = sum(
            len(part) * float(negative_log_likelihood(self.network, stimuli[part], generator))
            for part in rows.split(_AT_ONCE)
        )
        self.network.train()
        return total / len(rows)

    def learned(self) -> State:
        """Return the tensors that are trained: all but those of a frozen network."""
        return self.network.learned()

    def load_learned(self, learned: State) -> None:
        """Take back what `learned` returned."""
        self.network.load_learned(learned)


def negative_log_likelihood(
    network: LatentReader, stimuli: _Stimuli, generator: torch.Generator
) -> torch.Tensor:
    """Return the negative log likelihood of latents given noised images, per latent (nats, no constant)."""
    x, alpha_bar, n = stimuli.x, stimuli.alpha_bar, len(stimuli.x)
    t = draw_steps(
        torch.arange(n, device=x.device),
        n,
        n_timesteps=alpha_bar.numel(),
        generator=generator,
        fraction=T_MAX_FRACTION,
    )
    x_t, _ = noised(x, t, alpha_bar, generator)
    read, log_precision = network(x_t, t / alpha_bar.numel())
    return 0.5 * (log_precision.exp() * (read - stimuli.z).square() - log_precision).mean()
