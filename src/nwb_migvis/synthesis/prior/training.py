"""Training the prior, with checkpoints that a killed training resumes from."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn
from torch.optim.swa_utils import get_ema_multi_avg_fn

from nwb_migvis.config import PriorConfig
from nwb_migvis.networks.checkpoints import Checkpoint, digest_of
from nwb_migvis.networks.muon import Muon
from nwb_migvis.networks.ranks import ALONE, Ranks, ranks
from nwb_migvis.networks.training import Descent, State, train
from nwb_migvis.synthesis.conditions import Conditions
from nwb_migvis.synthesis.prior.autoencoder import Autoencoder
from nwb_migvis.synthesis.prior.autoencoder_training import autoencoder_for
from nwb_migvis.synthesis.prior.model import (
    PRECISIONS,
    SYMMETRIC,
    Denoiser,
    PixelScale,
    Prior,
    cosine_alpha_bar,
    n_channels_of,
    new_denoiser,
)
from nwb_migvis.synthesis.prior.noising import draw_steps, noised, signal_and_noise
from nwb_migvis.synthesis.prior.others import OtherDenoiser
from nwb_migvis.synthesis.prior.predictions import target
from nwb_migvis.synthesis.prior.training_images import TrainingImages, checked_images, scale_of

CHECKPOINT_EVERY = 500
MAX_BYTES_ON_DEVICE = 2**31
"""Training images that take more than this stay in the computer's memory."""


_LATER = ("images", "images_share", "train", "autoencoder", "autoencoder_steps", "optimiser")
"""Settings that came later: where they are unset, the digest of a training is what it was before them."""


class _Passes(nn.Module):
    """A denoiser whose passes can be recorded without changing the denoiser itself."""

    def __init__(self, denoiser: Denoiser | OtherDenoiser):
        super().__init__()
        self.denoiser = denoiser

    def forward(self, *examples: torch.Tensor) -> torch.Tensor:
        return self.denoiser(*examples)


class PriorTraining(Descent):
    """A prior in training, which takes one batch after another.

    Parameters
    ----------
    shape : tuple of int
        (y, x) or (y, x, channel) of the images.
    scale : PixelScale or Autoencoder
        What the network works on: pixels on a scale, or the latents of an autoencoder. What `start` has takes
        its place.
    config : PriorConfig
    seed : int
    device : str
    start : Prior, optional
        Trained already: its network is trained on, with its schedule and pixel scale.
    conditions : Conditions, optional
        Their groups and scale are those of all that it will be conditioned on.
    """

    def __init__(
        self,
        shape: tuple[int, ...],
        scale: PixelScale | Autoencoder,
        *,
        config: PriorConfig,
        seed: int,
        device: str = "cpu",
        start: Prior | None = None,
        conditions: Conditions | None = None,
    ):
        config = replace(config, size_px=max(shape[:2]))
        self.shape, self.config = shape, config
        if start is not None:
            self.scale, self.autoencoder = start.scale, start.to(device).autoencoder
        elif isinstance(scale, Autoencoder):
            self.scale, self.autoencoder = SYMMETRIC, scale.to(device)
        else:
            self.scale, self.autoencoder = scale, None
        self.predicts = "v_prediction" if start is None else start.predicts
        alpha_bar = cosine_alpha_bar(config.n_timesteps) if start is None else start.alpha_bar
        self.alpha_bar = alpha_bar.to(device)
        self.ranks = ranks()
        sizes = None if conditions is None else conditions.groups.sizes
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            denoiser: Denoiser | OtherDenoiser = (
                new_denoiser(self._x_shape[0], config, sizes=sizes)
                if start is None
                else start.denoiser.with_conditioning(sizes)
            )
        self.denoiser = denoiser.to(device)
        self.denoiser.train(isinstance(denoiser, Denoiser))  # dropout of others draws from no generator
        self.denoiser.requires_grad_(config.train == "all")
        if self.denoiser.latents is not None:
            self.denoiser.latents.requires_grad_(True)
        learned = [parameter for parameter in self.denoiser.parameters() if parameter.requires_grad]
        optimiser = _optimiser(learned, config)
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: _warm_cosine(step, config.n_steps)
        )
        generator = torch.Generator(device=device).manual_seed(seed)
        super().__init__(self.denoiser, optimiser, schedule, generator, max_norm=1.0)
        if conditions is not None and self.denoiser.latents is not None:
            self.denoiser.latents.set_scale(conditions.scale)
        live = self.denoiser.state_dict()
        self.average = {name: tensor.clone() for name, tensor in live.items()}
        self._live, self._averaged = list(live.values()), list(self.average.values())
        self._passes: Callable[..., torch.Tensor] = self.denoiser
        if self.alpha_bar.is_cuda:
            self._passes = self._recorded()

    @property
    def _x_shape(self) -> tuple[int, ...]:
        if self.autoencoder is not None:
            return self.autoencoder.shape_of(self.shape)
        return (n_channels_of(self.shape), *self.shape[:2])

    def _recorded(self) -> Callable[..., torch.Tensor]:
        """Return the denoiser with its passes, forward and backward, recorded as CUDA graphs.

        Otherwise most of a step would be spent on launching a thousand small kernels or so.
        """
        part = self.ranks.part(self.config.batch_size)
        size, latents = len(range(self.config.batch_size)[part]), self.denoiser.latents
        device = self.alpha_bar.device
        examples = [
            torch.zeros(size, *self._x_shape, device=device),
            torch.zeros(size, dtype=torch.long, device=device),
        ]
        if latents is not None:
            examples.append(torch.zeros(size, self.denoiser.width, requires_grad=True, device=device))
        graphed: Callable[..., torch.Tensor] = torch.cuda.make_graphed_callables(
            _Passes(self.denoiser), tuple(examples), allow_unused_input=True
        )  # type: ignore[assignment]  # it returns a callable for one network
        return lambda *parts: graphed(*(part for part in parts if part is not None))

    def advance(
        self, x: torch.Tensor, z: torch.Tensor | None = None, told: torch.Tensor | None = None
    ) -> None:
        """Take one training step.

        Parameters
        ----------
        x : torch.Tensor, shape (n, channel, y, x)
            A batch of the settings' size, on the pixel scale or of latents, on the device.
        z : torch.Tensor, shape (n, latent), optional
            Their standardised latents.
        told : torch.Tensor of bool, shape (n,), optional
            Images that have latents; all groups are dropped for the others.
        """
        condition = None
        latents = self.denoiser.latents
        if latents is not None and z is not None:
            noise = torch.randn(z.shape, generator=self.generator, device=z.device)
            keep = _draw_kept(len(z), len(latents.sizes), self.generator)
            keep = keep if told is None else keep * told[:, None]
            condition = latents(z + self.config.latent_noise * noise, keep)
        self.descend(
            lambda: denoising_loss(
                self._passes,
                x,
                self.alpha_bar,
                self.generator,
                condition=condition,
                predicts=self.predicts,
                among=self.ranks,
            )
        )
        decay = min(self.config.ema_decay, (1 + self.n_taken) / (10 + self.n_taken))
        get_ema_multi_avg_fn(decay)(self._averaged, self._live, 0)

    def prior(self) -> Prior:
        """Return the prior so far, with the averaged weights and a network of its own."""
        denoiser = copy.deepcopy(self.denoiser)
        denoiser.load_state_dict(self.average)
        denoiser.eval().requires_grad_(False)
        return Prior(denoiser, self.scale, self.shape, self.alpha_bar, self.predicts, self.autoencoder)

    def weights(self) -> State:
        """Return the averaged weights."""
        return self.average

    def state(self) -> State:
        """Return all that training changes."""
        return {**super().state(), "average": self.average}

    def load_state(self, state: State) -> None:
        """Take back what `state` returned."""
        super().load_state(state)
        for name, tensor in state["average"].items():
            self.average[name].copy_(tensor)


class ImageTraining(PriorTraining):
    """A prior in training on a fixed set of images, of which every step draws a batch.

    Parameters
    ----------
    images : TrainingImages
    config, seed, device, start, conditions
        As for `train_prior`.
    autoencoder : Autoencoder, optional
        Trained on the images: the prior is one of its latents.
    """

    def __init__(
        self,
        images: TrainingImages,
        *,
        config: PriorConfig,
        seed: int,
        device: str = "cpu",
        start: Prior | None = None,
        conditions: Conditions | None = None,
        autoencoder: Autoencoder | None = None,
    ):
        scale = scale_of(images.own) if start is None else start.scale
        super().__init__(
            images.own.shape[1:],
            autoencoder or scale,
            config=config,
            seed=seed,
            device=device,
            start=start,
            conditions=conditions,
        )
        self._z = None
        if conditions is not None:
            self._z = conditions.standardised(device)
        self._images = self._kept(images.own)
        self._further = None if images.further is None else self._kept(images.further)
        self._n_further = images.n_further(config)

    def _kept(self, images: np.ndarray) -> torch.Tensor:
        """Return images, or their latents, as they are kept: on the device where they have room."""
        tensor = torch.as_tensor(images)
        if self.autoencoder is not None:
            tensor = self.autoencoder.encode(self.scale.to_x(tensor).to(self.alpha_bar.device))
        return tensor.to(self.alpha_bar.device) if tensor.nbytes <= MAX_BYTES_ON_DEVICE else tensor

    def _drawn(self, images: torch.Tensor, n: int) -> tuple[torch.Tensor, torch.Tensor]:
        """Draw n images with replacement: which, and their x."""
        device = self.alpha_bar.device
        index = torch.randint(len(images), (n,), generator=self.generator, device=device)
        drawn = images[index.to(images.device)]
        return index, (self.scale.to_x(drawn) if self.autoencoder is None else drawn).to(device)

    def step(self) -> None:
        """Draw a batch, and take one training step."""
        index, x = self._drawn(self._images, self.config.batch_size - self._n_further)
        z = None if self._z is None else self._z[index]
        if self._further is None:
            self.advance(x, z)
            return
        x = torch.cat([x, self._drawn(self._further, self._n_further)[1]])
        order = torch.randperm(len(x), generator=self.generator, device=x.device)
        if z is not None:
            z = torch.cat([z, z.new_zeros(self._n_further, z.shape[1])])[order]
        # Noise levels are stratified over a batch: each image has to take any of its places.
        self.advance(x[order], z, order < len(index))


def train_prior(
    images: np.ndarray | TrainingImages,
    *,
    config: PriorConfig,
    seed: int,
    device: str = "cpu",
    start: Prior | None = None,
    conditions: Conditions | None = None,
    checkpoint: Path | None = None,
) -> Prior:
    """Train the prior on images (Ho et al. 2020; v-prediction: Salimans & Ho 2022).

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n, y, x) or (n, y, x, channel), or TrainingImages
        Training images at the size that the prior works with, with further ones where there are any.
    config : PriorConfig
    seed : int
    device : str
    start : Prior, optional
        Trained already: its network is trained on, with its schedule and pixel scale.
    conditions : Conditions, optional
        Latents of the images to condition on. Whole groups are dropped at random, so that one network learns
        p(x), p(x | z_g) and p(x | z).
    checkpoint : Path, optional
        File that keeps the state of training every 500 steps. Where it exists, training resumes from it and
        ends with the weights of an uninterrupted one. It stays until it is removed, and so does that of an
        autoencoder beside it (`autoencoder_state`).

    Returns
    -------
    Prior
        With the exponential moving average of the weights.

    Raises
    ------
    MigvisError
        If there are too few images, they are all of one value, or the checkpoint belongs to other data or
        settings.
    """
    images = checked_images(images)
    autoencoder = autoencoder_for(images, config, seed=seed, device=device, checkpoint=checkpoint)
    training = ImageTraining(
        images,
        config=config,
        seed=seed,
        device=device,
        start=start,
        conditions=conditions,
        autoencoder=autoencoder,
    )
    state = None
    if checkpoint is not None:
        digest = training_digest(images, config, seed=seed, start=start, conditions=conditions)
        state = Checkpoint(checkpoint, digest, CHECKPOINT_EVERY, stays=True)
    train(training, config.n_steps, what="prior", checkpoint=state)
    return training.prior()


def training_digest(
    images: np.ndarray | TrainingImages,
    config: PriorConfig,
    *,
    seed: int,
    start: Prior | None,
    conditions: Conditions | None,
) -> str:
    """Return the digest of all that decides the weights, but for kind of device and versions of diffusers."""
    images = images if isinstance(images, TrainingImages) else TrainingImages(images)
    settings = {field.name: getattr(config, field.name) for field in fields(config)}
    further: list[Any] = [] if images.further is None else [config.images_share, images.further]
    further += [] if config.train == "all" else [config.train]
    further += ["autoencoder", config.autoencoder_steps] if config.autoencoder else []
    optimiser, settings["learning_rate"] = config.chosen_optimiser
    further += [] if optimiser == "adamw" else [optimiser]
    settings = {name: value for name, value in settings.items() if name not in _LATER}
    if ranks().n > 1:
        further.append(ranks().n)
    start_bytes = None if start is None else start.to_bytes()
    return digest_of(settings, seed, images.own, start_bytes, conditions, *further)


def _optimiser(learned: list[nn.Parameter], config: PriorConfig) -> torch.optim.Optimizer:
    name, rate = config.chosen_optimiser
    if name == "muon":
        return Muon(learned, lr=rate, weight_decay=0.01, dtype=PRECISIONS[config.precision])
    return torch.optim.AdamW(learned, lr=rate, weight_decay=0.01)


def _draw_kept(n: int, n_groups: int, generator: torch.Generator) -> torch.Tensor:
    """Draw the groups that images are conditioned on: none (15 %), all (30 %), or each by a coin."""
    device = generator.device
    which = torch.rand((n, 1), generator=generator, device=device)
    coin = (torch.rand((n, n_groups), generator=generator, device=device) < 0.5).float()
    return torch.where(which < 0.15, 0.0, torch.where(which < 0.45, 1.0, coin))


def _warm_cosine(step: int, n_steps: int) -> float:
    """Return the learning rate's factor: linear warm-up (200 steps or a tenth), then a cosine to zero."""
    n_warm = min(200, max(1, n_steps // 10))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))


def denoising_loss(
    denoiser: Callable[..., torch.Tensor],
    x: torch.Tensor,
    alpha_bar: torch.Tensor,
    generator: torch.Generator,
    *,
    condition: torch.Tensor | None = None,
    predicts: str = "v_prediction",
    among: Ranks = ALONE,
) -> torch.Tensor:
    """Return the squared error of the prediction at time steps stratified over the batch.

    Of several processes each draws the whole batch, and returns what its own rows add to the mean.
    """
    n = len(x)
    stratum = torch.arange(n, device=x.device)
    t = draw_steps(stratum, n, n_timesteps=alpha_bar.numel(), generator=generator)
    x_t, eps = noised(x, t, alpha_bar, generator)
    wanted = target(x, eps, *signal_and_noise(alpha_bar, t), predicts=predicts)
    part = among.part(n)
    own = None if condition is None else condition[part]
    return among.share_of_mean((denoiser(x_t[part], t[part], own) - wanted[part]).square().mean(), n)
