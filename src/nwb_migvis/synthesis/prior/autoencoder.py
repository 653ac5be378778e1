"""The autoencoder of a latent diffusion: from pixels to the latents that a prior works in, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderDC, AutoencoderKL, AutoencoderTiny
from torch.nn import functional as F

from nwb_migvis.networks.batches import in_batches

AUTOENCODERS = {
    "AutoencoderKL": AutoencoderKL,
    "AutoencoderTiny": AutoencoderTiny,
    "AutoencoderDC": AutoencoderDC,
}
_AT_ONCE = 8
"""Images per pass: always as many, so that latents do not depend on what else is encoded."""

_OURS: dict[str, Any] = {
    "encoder_block_types": "ResBlock",
    "decoder_block_types": "ResBlock",
    "encoder_block_out_channels": (32, 32, 64),
    "decoder_block_out_channels": (32, 32, 64),
    "encoder_layers_per_block": (0, 1, 2),
    "decoder_layers_per_block": (0, 1, 2),
    "encoder_qkv_multiscales": ((), (), ()),
    "decoder_qkv_multiscales": ((), (), ()),
    "latent_channels": 8,
}
"""Settings of the network that is trained with a prior: blocks at half and at a quarter of the pixels' grid,
where they cost little."""


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """An autoencoder of diffusers with the scale on which a network of its latents works.

    Rombach et al. 2022 (arXiv 2112.10752). Of a variational one the mean is taken: nothing is drawn.

    Attributes
    ----------
    network : AutoencoderKL, AutoencoderTiny or AutoencoderDC
    """

    network: Any

    def __post_init__(self) -> None:
        if self.is_ours:  # the last bits depend on it: it has to be the same wherever the network comes from
            self.network.to(memory_format=torch.channels_last)

    @property
    def factor(self) -> int:
        """Pixels of an image's side per latent."""
        about = self.network.config
        return 2 ** (len(about.get("encoder_block_out_channels") or about["block_out_channels"]) - 1)

    def from_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return latents (n, k, v, u) of pixels from -1 to 1 (n, channel, y, x), differentiably, in one pass.

        Sides are filled up, by their last pixels, to multiples of `factor`.
        """
        height, width = pixels.shape[-2:]
        pad = (0, -width % self.factor, 0, -height % self.factor)
        encoded = self.network.encode(F.pad(pixels, pad, mode="replicate") if any(pad) else pixels)
        latents = encoded.latent_dist.mode() if hasattr(encoded, "latent_dist") else encoded[0]
        mean, scale = self._scale(latents)
        return (latents - mean) * scale

    def to_pixels(self, latents: torch.Tensor, *, like: tuple[int, ...]) -> torch.Tensor:
        """Return pixels from -1 to 1 (n, channel, y, x) of latents (n, k, v, u), differentiably.

        `like` is the shape (y, x (, channel)) of the images.
        """
        mean, scale = self._scale(latents)
        return self.network.decode(latents / scale + mean).sample[..., : like[0], : like[1]]

    @property
    def is_ours(self) -> bool:
        """Whether its network is of the kind that is trained with a prior, and no other's."""
        about = self.network.config
        is_dc = isinstance(self.network, AutoencoderDC)
        return is_dc and all(_listed(about[name]) == _listed(value) for name, value in _OURS.items())

    def shape_of(self, shape: tuple[int, ...]) -> tuple[int, int, int]:
        """Return the shape (k, v, u) of the latents of an image of a shape (y, x (, channel))."""
        n_latents = int(self.network.config["latent_channels"])
        return (n_latents, -(-shape[0] // self.factor), -(-shape[1] // self.factor))

    def with_std(self, std: float) -> Autoencoder:
        """Return the same network, whose latents are taken to have a standard deviation."""
        self.network.register_to_config(scaling_factor=1 / std)
        return Autoencoder(self.network)

    @torch.no_grad()
    def encode(self, pixels: torch.Tensor) -> torch.Tensor:
        """Do what `from_pixels` does, some images at a time."""
        return in_batches(self.from_pixels, pixels, size=_AT_ONCE)

    @torch.no_grad()
    def decode(self, latents: torch.Tensor, *, like: tuple[int, ...]) -> torch.Tensor:
        """Do what `to_pixels` does, some images at a time."""
        return in_batches(partial(self.to_pixels, like=like), latents, size=_AT_ONCE)

    def to(self, device: str | torch.device) -> Autoencoder:
        """Return the autoencoder on a device; its network is moved there."""
        return Autoencoder(self.network.to(device))

    def _scale(self, like: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return what is taken off latents, and what they are multiplied by then, (1, k or 1, 1, 1) each."""
        about = self.network.config
        if about.get("latents_mean") and about.get("latents_std"):
            mean, std = (
                like.new_tensor(about[name])[None, :, None, None] for name in ("latents_mean", "latents_std")
            )
        else:
            mean, std = like.new_tensor(about.get("shift_factor") or 0.0), like.new_tensor(1.0)
        return mean, about["scaling_factor"] / std


def new_autoencoder(n_channels: int) -> Autoencoder:
    """Build an untrained autoencoder of images of 1 or 3 channels, which keeps 8 values per 4 x 4 px.

    Between grids it folds pixels into channels and back, with shortcuts (Chen et al. 2024, arXiv 2410.10733).
    Each pixel of a square so has weights of its own, and a few hundred steps train it. Weights are drawn from
    torch's own generator.
    """
    return Autoencoder(AutoencoderDC(in_channels=n_channels, **_OURS))


def _listed(value: Any) -> Any:
    """Return a setting as JSON has it."""
    return [_listed(one) for one in value] if isinstance(value, (list, tuple)) else value
