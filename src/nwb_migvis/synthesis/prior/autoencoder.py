"""The autoencoder of a latent diffusion: from pixels to the latents that a prior works in, and back."""

from __future__ import annotations

from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from torch.nn import functional as F

from nwb_migvis.networks.batches import in_batches

AUTOENCODERS = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
_AT_ONCE = 8
"""Images per pass: always as many, so that latents do not depend on what else is encoded."""


@dataclass(frozen=True, eq=False)
class Autoencoder:
    """An autoencoder of diffusers with the scale on which a network of its latents works.

    Rombach et al. 2022 (arXiv 2112.10752). Of a variational one the mean is taken: nothing is drawn.

    Attributes
    ----------
    network : AutoencoderKL or AutoencoderTiny
    """

    network: Any

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
        latents = encoded.latents if hasattr(encoded, "latents") else encoded.latent_dist.mode()
        mean, scale = self._scale(latents)
        return (latents - mean) * scale

    def to_pixels(self, latents: torch.Tensor, *, like: tuple[int, ...]) -> torch.Tensor:
        """Return pixels from -1 to 1 (n, channel, y, x) of latents (n, k, v, u), differentiably.

        `like` is the shape (y, x (, channel)) of the images.
        """
        mean, scale = self._scale(latents)
        return self.network.decode(latents / scale + mean).sample[..., : like[0], : like[1]]

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
