"""Training the prior, with checkpoints that a killed training resumes from."""

from __future__ import annotations

import hashlib
import json
import math
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import UNet2DModel

from nwb_migvis.config import PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.progress import progress
from nwb_migvis.synthesis.prior import (
    Denoiser,
    PixelScale,
    Prior,
    cosine_alpha_bar,
    n_channels_of,
    new_denoiser,
    unet_settings,
)
from nwb_migvis.training_state import load_state, save_state

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
            "step": self.step,
            "denoiser": self.denoiser.state_dict(),
            "average": self.average,
            "optimiser": self.optimiser.state_dict(),
            "schedule": self.schedule.state_dict(),
            "generator": self.generator.get_state(),
        }
        save_state(path, content, digest=digest)

    def restore(self, path: Path, digest: str) -> None:
        """Go on from a checkpoint of the same images, settings and seed."""
        content = load_state(path, digest=digest)
        self.denoiser.load_state_dict(content["denoiser"])
        for name, tensor in content["average"].items():
            self.average[name].copy_(tensor)
        self.optimiser.load_state_dict(content["optimiser"])
        self.schedule.load_state_dict(content["schedule"])
        self.generator.set_state(content["generator"])
        self.step = content["step"]


@dataclass(frozen=True)
class Conditions:
    """The latents that a prior is conditioned on in training.

    Attributes
    ----------
    z : numpy.ndarray, shape (n, latent)
        Of each training image.
    sizes : tuple of int
        Latents in each group, in order.
    """

    z: np.ndarray
    sizes: tuple[int, ...]


def train_prior(
    images: np.ndarray,
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
    images : numpy.ndarray of uint8, shape (n, y, x) or (n, y, x, channel)
        Training images at the size that the prior works with.
    config : PriorConfig
    seed : int
    device : str
    start : Prior, optional
        Trained already: its network is trained on, with its schedule and pixel scale.
    conditions : Conditions, optional
        Latents to condition on. Whole groups are dropped at random, so that one network learns p(x),
        p(x | z_g) and p(x | z).
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
    scale = PixelScale(float(images.mean()), float(images.std())) if start is None else start.scale
    if scale.std == 0:
        raise MigvisError(
            f"every pixel of the {len(images)} training images is {scale.mean:g}; expected pictures"
        )
    shape = images.shape[1:]
    state = _start(n_channels_of(shape), config, seed, device, start, conditions)
    digest = "" if checkpoint is None else training_digest(images, config, seed, start, conditions)
    if checkpoint is not None and checkpoint.exists():
        state.restore(checkpoint, digest)
    alpha_bar = cosine_alpha_bar(config.n_timesteps) if start is None else start.alpha_bar
    predicts = "v_prediction" if start is None else start.predicts
    alpha_bar = alpha_bar.to(device)
    latents = state.denoiser.latents
    z = None
    if conditions is not None and latents is not None:
        z = latents.standardise(torch.as_tensor(conditions.z, dtype=torch.float32, device=device))
    for step in progress(range(state.step + 1, config.n_steps + 1), what="prior"):
        index = torch.randint(len(images), (config.batch_size,), generator=state.generator, device=device)
        x = scale.to_x(images[index.cpu().numpy()]).to(device)
        _step(state, x, None if z is None else z[index], alpha_bar, predicts, config)
        state.step = step
        if checkpoint is not None and (step % CHECKPOINT_EVERY == 0 or step == config.n_steps):
            state.save(checkpoint, digest)
    state.denoiser.load_state_dict(state.average)
    state.denoiser.eval().requires_grad_(False)
    return Prior(state.denoiser, scale, shape, alpha_bar, predicts)


def _start(
    n_channels: int,
    config: PriorConfig,
    seed: int,
    device: str,
    start: Prior | None,
    conditions: Conditions | None,
) -> _State:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        sizes = None if conditions is None else conditions.sizes
        denoiser = (
            new_denoiser(n_channels, config, sizes=sizes) if start is None else grow(start.denoiser, sizes)
        )
    denoiser = denoiser.to(device).train().requires_grad_(True)
    if conditions is not None and denoiser.latents is not None:
        z = torch.as_tensor(conditions.z, dtype=torch.float32, device=device)
        denoiser.latents.mean.copy_(z.mean(0))
        denoiser.latents.std.copy_(z.std(0).clamp_min(1e-6))
    optimiser = torch.optim.AdamW(denoiser.parameters(), lr=config.learning_rate, weight_decay=0.01)
    return _State(
        denoiser,
        {name: tensor.clone() for name, tensor in denoiser.state_dict().items()},
        optimiser,
        torch.optim.lr_scheduler.LambdaLR(optimiser, lambda step: _warm_cosine(step, config.n_steps)),
        torch.Generator(device=device).manual_seed(seed),
    )


def grow(denoiser: Denoiser, sizes: tuple[int, ...] | None) -> Denoiser:
    """Return a copy of a denoiser, conditioned on latents of these sizes (untrained) or on nothing."""
    settings = unet_settings(denoiser.unet) | {"class_embed_type": None if sizes is None else "identity"}
    unet = UNet2DModel(**settings)
    unet.load_state_dict(denoiser.unet.state_dict())
    return Denoiser(unet, patch_px=denoiser.patch_px, precision=denoiser.precision, sizes=sizes)


def training_digest(
    images: np.ndarray, config: PriorConfig, seed: int, start: Prior | None, conditions: Conditions | None
) -> str:
    """Return the digest of all that decides the weights but for the machine and its libraries."""
    head = json.dumps({"config": asdict(config), "seed": seed, "shape": images.shape}, sort_keys=True)
    digest = hashlib.sha256(head.encode() + np.ascontiguousarray(images).tobytes())
    if start is not None:
        digest.update(start.to_bytes())
    if conditions is not None:
        digest.update(repr(conditions.sizes).encode() + np.ascontiguousarray(conditions.z).tobytes())
    return digest.hexdigest()


def _step(
    state: _State,
    x: torch.Tensor,
    z: torch.Tensor | None,
    alpha_bar: torch.Tensor,
    predicts: str,
    config: PriorConfig,
) -> None:
    condition = None
    latents = state.denoiser.latents
    if latents is not None and z is not None:
        noise = torch.randn(z.shape, generator=state.generator, device=z.device)
        keep = _draw_kept(len(z), len(latents.sizes), state.generator)
        condition = latents(z + config.latent_noise * noise, keep)
    state.optimiser.zero_grad(set_to_none=True)
    denoising_loss(
        state.denoiser, x, alpha_bar, state.generator, condition=condition, predicts=predicts
    ).backward()
    torch.nn.utils.clip_grad_norm_(state.denoiser.parameters(), 1.0)
    state.optimiser.step()
    state.schedule.step()
    n_done = state.step + 1
    decay = min(config.ema_decay, (1 + n_done) / (10 + n_done))
    with torch.no_grad():
        for name, tensor in state.denoiser.state_dict().items():
            state.average[name].lerp_(tensor, 1 - decay)


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
    denoiser: Denoiser,
    x: torch.Tensor,
    alpha_bar: torch.Tensor,
    generator: torch.Generator,
    *,
    condition: torch.Tensor | None = None,
    predicts: str = "v_prediction",
) -> torch.Tensor:
    """Return the squared error of the prediction at time steps stratified over the batch."""
    n, n_timesteps = x.shape[0], alpha_bar.numel()
    u = (torch.arange(n, device=x.device) + torch.rand(n, generator=generator, device=x.device)) / n
    t = (u * n_timesteps).long().clamp_max(n_timesteps - 1)
    a = alpha_bar[t].sqrt()[:, None, None, None]
    s = (1 - alpha_bar[t]).sqrt()[:, None, None, None]
    eps = torch.randn(x.shape, generator=generator, device=x.device)
    wanted = eps if predicts == "epsilon" else a * eps - s * x
    return (denoiser(a * x + s * eps, t, condition) - wanted).square().mean()
