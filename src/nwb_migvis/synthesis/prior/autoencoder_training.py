"""Training the autoencoder of a prior on the same images, before the prior."""

from __future__ import annotations

import math
from pathlib import Path

import torch
from torch.nn import functional as F

from nwb_migvis.config import PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.networks.checkpoints import Checkpoint, digest_of
from nwb_migvis.networks.ranks import ranks
from nwb_migvis.networks.training import Descent, train
from nwb_migvis.synthesis.prior.autoencoder import Autoencoder, new_autoencoder
from nwb_migvis.synthesis.prior.model import PRECISIONS, SYMMETRIC, n_channels_of
from nwb_migvis.synthesis.prior.training_images import TrainingImages, scale_of

CHECKPOINT_EVERY = 250
CROP_PX = 32
"""Side of the cuts of images that it trains on, whatever their size: steps stay cheap, and cuts differ."""

_LEARNING_RATE = 2e-3
_EDGES = 1.0
"""Weight of the differences between neighbours, beside that of the pixels."""
_NOISE, _LENGTH = 0.05, 1e-3
"""Standard deviation of the noise that the decoder has to bear, and weight of the squared latents."""
_MOST_SCALED = 2048
"""Images that the scale of the latents is measured on."""


class AutoencoderTraining(Descent):
    """An autoencoder in training, of which every step draws cuts of images.

    The squared error of pixels and of differences between neighbours falls, with a little noise on latents
    that are kept short. Up to a constant that is the bound of a variational autoencoder (Kingma & Welling
    2014, arXiv 1312.6114) of one fixed variance, with a tiny weight of the divergence as in Rombach et al.
    2022 (arXiv 2112.10752).

    Parameters
    ----------
    images : TrainingImages
    config : PriorConfig
        Its `autoencoder_steps`, `batch_size`, `images_share` and `precision` are used.
    seed : int
    device : str
    """

    def __init__(self, images: TrainingImages, *, config: PriorConfig, seed: int, device: str = "cpu"):
        self.shape, self.config, self.device = images.own.shape[1:], config, device
        self.ranks = ranks()
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            self.autoencoder = new_autoencoder(n_channels_of(self.shape)).to(device)
        network = self.autoencoder.network.train()
        optimiser = torch.optim.AdamW(network.parameters(), lr=_LEARNING_RATE, betas=(0.9, 0.99))
        schedule = torch.optim.lr_scheduler.LambdaLR(
            optimiser, lambda step: _warm_cosine(step, config.autoencoder_steps)
        )
        generator = torch.Generator(device=device).manual_seed(seed)
        super().__init__(network, optimiser, schedule, generator, max_norm=1.0)
        self._images = torch.as_tensor(images.own)
        self._further = None if images.further is None else torch.as_tensor(images.further)
        self._n_further = images.n_further(config)

    def _pixels(self, images: torch.Tensor) -> torch.Tensor:
        return SYMMETRIC.to_x(images.to(self.device))

    def _drawn(self, images: torch.Tensor, n: int) -> torch.Tensor:
        index = torch.randint(len(images), (n,), generator=self.generator, device=self.device)
        return self._pixels(images[index.to(images.device)])

    def _cut(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return a part of each image (n, channel, y, x), at one place for all."""
        for dim in (2, 3):
            side = min(CROP_PX, pixels.shape[dim])
            most = pixels.shape[dim] - side
            first = torch.randint(most + 1, (), generator=self.generator, device=self.device)
            pixels = pixels.narrow(dim, int(first), side)
        return pixels

    def step(self) -> None:
        """Draw a batch, and take one training step."""
        pixels = self._drawn(self._images, self.config.batch_size - self._n_further)
        if self._further is not None:
            pixels = torch.cat([pixels, self._drawn(self._further, self._n_further)])
        pixels = self._cut(pixels).contiguous(memory_format=torch.channels_last)
        n, (_, height, width) = len(pixels), self.autoencoder.shape_of(tuple(pixels.shape[2:]))
        noise = torch.randn(
            (n, self.autoencoder.shape_of(self.shape)[0], height, width),
            generator=self.generator,
            device=self.device,
        )
        part = self.ranks.part(n)
        self.descend(lambda: self.ranks.share_of_mean(self._loss(pixels[part], noise[part]), n))

    def _loss(self, pixels: torch.Tensor, noise: torch.Tensor) -> torch.Tensor:
        """Return the loss of pixels (n, channel, y, x) with noise on their latents."""
        dtype, like = PRECISIONS[self.config.precision], tuple(pixels.shape[2:])
        with torch.autocast(pixels.device.type, dtype, enabled=dtype != torch.float32):
            latents = self.autoencoder.from_pixels(pixels).float()
            made = self.autoencoder.to_pixels(latents + _NOISE * noise, like=like).float()
        loss = F.mse_loss(made, pixels) + _LENGTH * latents.square().mean()
        for dim in (2, 3):
            if pixels.shape[dim] > 1:
                loss = loss + _EDGES * F.mse_loss(made.diff(dim=dim), pixels.diff(dim=dim))
        return loss

    def trained(self) -> Autoencoder:
        """Return the autoencoder, its latents scaled to unit variance over the training images.

        Raises
        ------
        MigvisError
            If training left latents that are not finite, or all one value.
        """
        self.network.eval().requires_grad_(False)
        every = math.ceil(len(self._images) / _MOST_SCALED)
        latents = self.autoencoder.encode(self._pixels(self._images[::every]))
        std = float(latents.double().std())
        if not 0 < std < math.inf:
            raise MigvisError(
                f"training of the autoencoder: its latents have the standard deviation {std}; expected a "
                "number above 0; set another seed, or prior.autoencoder = false"
            )
        return self.autoencoder.with_std(std)


def train_autoencoder(
    images: TrainingImages,
    *,
    config: PriorConfig,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
) -> Autoencoder:
    """Train an autoencoder on the images of a prior.

    Parameters
    ----------
    images : TrainingImages
    config : PriorConfig
    seed : int
    device : str
    checkpoint : Path, optional
        File that keeps the state of training every 250 steps, and stays: as for `train_prior`.

    Returns
    -------
    Autoencoder
        Its latents have unit variance over the training images.

    Raises
    ------
    MigvisError
        If a side does not fit, the images have no contrast, training fails, or the checkpoint is of another.
    """
    config.check_side(max(images.own.shape[1:3]))
    scale_of(images.own)  # refuses images without contrast
    training = AutoencoderTraining(images, config=config, seed=seed, device=device)
    state = None
    if checkpoint is not None:
        state = Checkpoint(checkpoint, _digest(images, config, seed=seed), CHECKPOINT_EVERY, stays=True)
    train(training, config.autoencoder_steps, what="autoencoder", checkpoint=state)
    return training.trained()


def autoencoder_for(
    images: TrainingImages, config: PriorConfig, *, seed: int, device: str, checkpoint: Path | None
) -> Autoencoder | None:
    """Train the autoencoder that the settings ask for; none where they ask for none.

    `checkpoint` is the prior's: the autoencoder's lies beside it.
    """
    if not config.autoencoder:
        return None
    state = None if checkpoint is None else autoencoder_state(checkpoint)
    return train_autoencoder(images, config=config, seed=seed, device=device, checkpoint=state)


def autoencoder_state(checkpoint: Path) -> Path:
    """Return the file that keeps the state of an autoencoder's training, beside that of its prior."""
    return checkpoint.with_name(f"autoencoder-{checkpoint.name}")


def _digest(images: TrainingImages, config: PriorConfig, *, seed: int) -> str:
    """Return the digest of all that decides the weights."""
    settings = [config.autoencoder_steps, config.batch_size, config.precision, config.images_share]
    return digest_of("autoencoder", settings, seed, ranks().n, images.own, images.further)


def _warm_cosine(step: int, n_steps: int) -> float:
    """Return the learning rate's factor: linear warm-up (100 steps or a tenth), then a cosine to zero."""
    n_warm = min(100, max(1, n_steps // 10))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))
