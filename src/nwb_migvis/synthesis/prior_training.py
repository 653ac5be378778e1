"""Training the prior, with checkpoints that a killed training resumes from."""

from __future__ import annotations

import hashlib
import json
import math
import os
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from nwb_migvis.config import PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.progress import progress
from nwb_migvis.synthesis.prior import Denoiser, PixelScale, Prior, cosine_alpha_bar, n_channels_of

MIN_IMAGES = 20
CHECKPOINT_EVERY = 500


@dataclass
class _State:
    """Everything that training changes."""

    denoiser: Denoiser
    average: dict[str, torch.Tensor]
    optimiser: torch.optim.Optimizer
    schedule: torch.optim.lr_scheduler.LRScheduler
    generator: torch.Generator
    step: int = 0

    def save(self, path: Path, digest: str) -> None:
        """Write a checkpoint: whole or not at all."""
        content = {
            "digest": digest,
            "step": self.step,
            "denoiser": self.denoiser.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
        }
        temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
        try:
            torch.save(content, temporary)
            temporary.replace(path)
        except (OSError, RuntimeError) as error:
            raise MigvisError(f"checkpoint {path} could not be written: {error}") from None
        finally:
            temporary.unlink(missing_ok=True)

    def restore(self, path: Path, digest: str) -> None:
        """Go on from a checkpoint of the same images, settings and seed."""
        try:
            content: dict[str, Any] = torch.load(path, map_location="cpu", weights_only=True)
            found = content["digest"]
        except Exception as error:
            what = " ".join(str(error).split())[:120]
            raise MigvisError(
                f"checkpoint {path} cannot be read ({what}); remove it to start afresh"
            ) from None
        if found != digest:
            raise MigvisError(
                f"checkpoint {path} is of other images or settings; remove it, or train with those it is of"
            )
        self.denoiser.load_state_dict(content["denoiser"])
        for name, tensor in content["average"].items():
            self.average[name].copy_(tensor)
        self.optimiser.load_state_dict(content["optimiser"])
        self.schedule.load_state_dict(content["schedule"])
        self.generator.set_state(content["generator"])
        self.step = content["step"]


def train_prior(
    images: np.ndarray,
    *,
    config: PriorConfig,
    seed: int,
    device: str = "cpu",
    checkpoint: Path | None = None,
) -> Prior:
    """Train the prior on images (Ho et al. 2020; v-prediction: Salimans & Ho 2022).

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n, y, x) or (n, y, x, channel)
        Training images at the size that the prior works with.
    config : PriorConfig
    seed : int
    device : str
    checkpoint : Path, optional
        File that keeps the state of training every 500 steps. Where it exists, training goes on from it and
        ends with the weights of an uninterrupted one; it stays until it is removed.

    Returns
    -------
    Prior
        With the exponential moving average of the weights.

    Raises
    ------
    MigvisError
        If there are too few images, they are all of one value, or the checkpoint is of another training.
    """
    if len(images) < MIN_IMAGES:
        raise MigvisError(f"{len(images)} training images; a prior needs at least {MIN_IMAGES}")
    scale = PixelScale(float(images.mean()), float(images.std()))
    if scale.std == 0:
        raise MigvisError(
            f"every pixel of the {len(images)} training images is {scale.mean:g}; expected pictures"
        )
    shape = images.shape[1:]
    state = _start(n_channels_of(shape), config, seed, device)
    digest = _digest(images, config, seed)
    if checkpoint is not None and checkpoint.exists():
        state.restore(checkpoint, digest)
    alpha_bar = cosine_alpha_bar(config.n_timesteps).to(device)
    for step in progress(range(state.step + 1, config.n_steps + 1), what="prior"):
        index = torch.randint(
            len(images), (config.batch_size,), generator=state.generator, device=state.generator.device
        )
        _step(state, scale.to_x(images[index.cpu().numpy()]).to(device), alpha_bar, config)
        state.step = step
        if checkpoint is not None and (step % CHECKPOINT_EVERY == 0 or step == config.n_steps):
            state.save(checkpoint, digest)
    state.denoiser.load_state_dict(state.average)
    state.denoiser.eval().requires_grad_(False)
    return Prior(state.denoiser, config, scale, shape, alpha_bar)


def _start(n_channels: int, config: PriorConfig, seed: int, device: str) -> _State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        denoiser = Denoiser(n_channels, config).to(device)
    denoiser.unet.to(memory_format=torch.channels_last)
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=config.learning_rate, weight_decay=0.01)
    return _State(
        denoiser,
        {name: tensor.clone() for name, tensor in denoiser.state_dict().items()},
        optimiser,
        torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warm_cosine(step, config.n_steps)),
        torch.Generator(device=device).manual_seed(seed),
    )


def _digest(images: np.ndarray, config: PriorConfig, seed: int) -> str:
    head = json.dumps({"config": asdict(config), "seed": seed, "shape": images.shape}, sort_keys=True)
    return hashlib.sha256(head.encode() + np.ascontiguousarray(images).tobytes()).hexdigest()


def _step(state: _State, batch: torch.Tensor, alpha_bar: torch.Tensor, config: PriorConfig) -> None:
    state.optimiser.zero_grad(set_to_none=True)
    denoising_loss(state.denoiser, batch, alpha_bar, state.generator).backward()
    torch.nn.utils.clip_grad_norm_(state.denoiser.parameters(), 1.0)
    state.optimiser.step()
    state.schedule.step()
    n_done = state.step + 1
    decay = min(config.ema_decay, (1 + n_done) / (10 + n_done))
    with torch.no_grad():
        for name, tensor in state.denoiser.state_dict().items():
            state.average[name].lerp_(tensor, 1 - decay)


def _warm_cosine(step: int, n_steps: int) -> float:
    """Return the learning rate's factor: linear warm-up (200 steps or a tenth), then a cosine to zero."""
    n_warm = min(200, max(1, n_steps // 10))
    if step < n_warm:
        return (step + 1) / n_warm
    return 0.5 * (1 + math.cos(math.pi * (step - n_warm) / max(1, n_steps - n_warm)))


def denoising_loss(
    denoiser: Denoiser, x: torch.Tensor, alpha_bar: torch.Tensor, generator: torch.Generator
) -> torch.Tensor:
    """Return the squared error of v at time steps stratified over the batch."""
    n, n_timesteps = x.shape[0], alpha_bar.numel()
    u = (torch.arange(n, device=x.device) + torch.rand(n, generator=generator, device=x.device)) / n
    t = (u * n_timesteps).long().clamp_max(n_timesteps - 1)
    a = alpha_bar[t].sqrt()[:, None, None, None]
    s = (1 - alpha_bar[t]).sqrt()[:, None, None, None]
    eps = torch.randn(x.shape, generator=generator, device=x.device)
    v = denoiser(a * x + s * eps, t)
    return (v - (a * eps - s * x)).square().mean()
