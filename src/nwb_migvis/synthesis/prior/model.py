"""The diffusion prior over a session's images."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace

import numpy as np
import torch
from diffusers import DDPMScheduler, UNet2DModel
from torch import nn
from torch.nn import functional as F

from nwb_migvis.config import PriorConfig
from nwb_migvis.networks.norms import with_fast_norms
from nwb_migvis.networks.weights import pack, unpack
from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.autoencoder import Autoencoder
from nwb_migvis.synthesis.prior.fixed_point import THOROUGH, Search
from nwb_migvis.synthesis.prior.latent_embedding import LatentEmbedding
from nwb_migvis.synthesis.prior.others import OtherDenoiser
from nwb_migvis.synthesis.prior.packing import built_autoencoder, built_denoiser, described, tensors_of
from nwb_migvis.synthesis.prior.predictions import eps_and_x0

KIND = "prior"
PRECISIONS = {"bfloat16": torch.bfloat16, "float32": torch.float32}


@dataclass(frozen=True)
class PixelScale:
    """How uint8 pixels become the network's x: (pixel - mean) / std of the training images."""

    mean: float
    std: float

    def to_x(self, images: np.ndarray | torch.Tensor) -> torch.Tensor:
        """Return (n, channel, y, x) float32 for uint8 images (n, y, x (, channel)), on their device."""
        x = torch.as_tensor(images).to(torch.float32)
        x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
        return (x - self.mean) / self.std

    def to_images(self, x: torch.Tensor, *, grayscale: bool) -> np.ndarray:
        """Return uint8 images (n, y, x (, channel)) for x (n, channel, y, x)."""
        pixels = (x * self.std + self.mean).round().clamp(0, 255).to(torch.uint8).cpu()
        return pixels[:, 0].numpy() if grayscale else pixels.permute(0, 2, 3, 1).numpy()


SYMMETRIC = PixelScale(127.5, 127.5)
"""Pixels from -1 to 1, as autoencoders and models of others take them."""


class Denoiser(nn.Module):
    """A diffusers UNet on images of any size, folded into patches.

    Parameters
    ----------
    unet : UNet2DModel
        On `n_channels * patch_px**2` channels; with `class_embed_type="identity"` where it is conditioned.
    patch_px : int
        Pixels are folded into channels in squares of this side.
    precision : {"bfloat16", "float32"}
        Arithmetic of the network.
    sizes : sequence of int, optional
        Latents in each group, where it is conditioned on them.
    """

    def __init__(
        self, unet: UNet2DModel, *, patch_px: int, precision: str, sizes: Sequence[int] | None = None
    ):
        super().__init__()
        self.unet = with_fast_norms(unet.to(memory_format=torch.channels_last))
        self.patch_px = patch_px
        self.precision = precision
        self.multiple = patch_px * 2 ** (len(unet.config["block_out_channels"]) - 1)
        self.width = unet.time_embedding.linear_2.out_features
        self.latents = None if sizes is None else LatentEmbedding(sizes, self.width)

    def forward(
        self, x_t: torch.Tensor, t: torch.Tensor, condition: torch.Tensor | None = None
    ) -> torch.Tensor:
        """Return the network's prediction, shape as x_t (n, channel, y, x), at integer time steps t (n,).

        Parameters
        ----------
        x_t : torch.Tensor, shape (n, channel, y, x)
        t : torch.Tensor of int, shape (n,)
        condition : torch.Tensor, shape (n, width), optional
            What `latents` returned; unconditional where it is None.
        """
        height, width = x_t.shape[-2:]
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        x = F.pad(x_t, pad, mode="replicate") if any(pad) else x_t
        x = F.pixel_unshuffle(x, self.patch_px).contiguous(memory_format=torch.channels_last)
        if condition is None and self.latents is not None:
            condition = x.new_zeros(len(x), self.width)
        dtype = PRECISIONS[self.precision]
        with torch.autocast(x.device.type, dtype, enabled=dtype != torch.float32):
            out = self.unet(x, t, class_labels=condition).sample
        return F.pixel_shuffle(out.float(), self.patch_px)[..., :height, :width]

    def for_inference(self) -> Denoiser:
        """Return a copy for many passes without gradients, with the same predictions, bit for bit.

        Its convolutions and linear layers have the weights that autocasting makes of them in every pass. The
        first and the last one stay: diffusers takes the type of embeddings from them.
        """
        dtype = PRECISIONS[self.precision]
        if dtype == torch.float32:
            return self
        denoiser = copy.deepcopy(self).eval().requires_grad_(False)
        unet = denoiser.unet
        for module in unet.modules():
            if isinstance(module, nn.Conv2d | nn.Linear) and module not in (unet.conv_in, unet.conv_out):
                module.to(dtype)
        return denoiser

    def with_conditioning(self, sizes: Sequence[int] | None) -> Denoiser:
        """Return a copy, conditioned on latents of these sizes (untrained) or on nothing."""
        settings = unet_settings(self.unet) | {"class_embed_type": None if sizes is None else "identity"}
        unet = UNet2DModel(**settings)
        unet.load_state_dict(self.unet.state_dict())
        return Denoiser(unet, patch_px=self.patch_px, precision=self.precision, sizes=sizes)


def new_denoiser(n_channels: int, config: PriorConfig, *, sizes: Sequence[int] | None = None) -> Denoiser:
    """Build an untrained denoiser.

    Parameters
    ----------
    n_channels : int
        Of the images, or of an autoencoder's latents.
    config : PriorConfig
        Where it gives no patches, its size decides.
    sizes : sequence of int, optional
        Latents in each group, for a denoiser that is conditioned on them.
    """
    depth = len(config.channels)
    patch_px = config.patch_for(config.size_px)
    folded = n_channels * patch_px**2
    unet = UNet2DModel(
        in_channels=folded,
        out_channels=folded,
        block_out_channels=config.channels,
        layers_per_block=config.layers_per_block,
        down_block_types=("DownBlock2D",) * depth,
        up_block_types=("UpBlock2D",) * depth,
        norm_num_groups=8,
        add_attention=False,
        class_embed_type=None if sizes is None else "identity",
    )
    return Denoiser(unet, patch_px=patch_px, precision=config.precision, sizes=sizes)


@dataclass(frozen=True)
class Prior:
    """A trained prior: network, noise schedule and pixel scale.

    Attributes
    ----------
    denoiser : Denoiser or OtherDenoiser
    scale : PixelScale
    shape : tuple of int
        (y, x) or (y, x, channel) of its images.
    alpha_bar : torch.Tensor, shape (T,)
        Cumulative signal fraction at each step.
    predicts : {"v_prediction", "epsilon", "sample", "flow_prediction"}
        What the network predicts, in the words of diffusers.
    autoencoder : Autoencoder, optional
        Of a latent diffusion: x, here and everywhere, are then its latents, (n, channel, y, x) on a grid of
        their own. Without one they are pixels on the pixel scale.
    """

    denoiser: Denoiser | OtherDenoiser
    scale: PixelScale
    shape: tuple[int, ...]
    alpha_bar: torch.Tensor
    predicts: str = "v_prediction"
    autoencoder: Autoencoder | None = None

    @property
    def x_shape(self) -> tuple[int, int, int]:
        """(channel, y, x) of what its network denoises: pixels, or latents of its autoencoder."""
        if self.autoencoder is None:
            return (n_channels_of(self.shape), self.shape[0], self.shape[1])
        return self.autoencoder.shape_of(self.shape)

    @property
    def bounds(self) -> tuple[float, float]:
        """Least and most that x of an image has: black and white; of latents, five standard deviations."""
        if self.autoencoder is not None:
            return (-5.0, 5.0)
        black, white = ((pixel - self.scale.mean) / self.scale.std for pixel in (0.0, 255.0))
        return (black, white)

    @property
    def search(self) -> Search:
        """How its inversion looks for the noise of each step: thoroughly in networks of others."""
        is_ours = isinstance(self.denoiser, Denoiser) and (
            self.autoencoder is None or self.autoencoder.is_ours
        )
        return Search() if is_ours else THOROUGH

    @property
    def n_timesteps(self) -> int:
        """T, the number of noise levels."""
        return self.alpha_bar.numel()

    @property
    def device(self) -> torch.device:
        """Where its network computes."""
        return self.alpha_bar.device

    @property
    def is_conditional(self) -> bool:
        """Whether it was trained with latents."""
        return self.denoiser.latents is not None

    def encode(self, images: np.ndarray) -> torch.Tensor:
        """Return the x (n, channel, y, x) of uint8 images (n, y, x (, channel)), on the prior's device."""
        pixels = self.scale.to_x(images).to(self.device)
        return pixels if self.autoencoder is None else self.autoencoder.encode(pixels)

    def decode(self, x: torch.Tensor) -> np.ndarray:
        """Return the uint8 images (n, y, x (, channel)) of x (n, channel, y, x)."""
        pixels = x if self.autoencoder is None else self.autoencoder.decode(x, like=self.shape)
        return self.scale.to_images(pixels, grayscale=len(self.shape) == 2)

    def from_pixels(self, pixels: torch.Tensor) -> torch.Tensor:
        """Return the x of images on the pixel scale (n, channel, y, x), differentiably and in one pass."""
        return pixels if self.autoencoder is None else self.autoencoder.from_pixels(pixels)

    def to_pixels(self, x: torch.Tensor) -> torch.Tensor:
        """Return images on the pixel scale (n, channel, y, x), differentiably and in one pass."""
        return x if self.autoencoder is None else self.autoencoder.to_pixels(x, like=self.shape)

    def __repr__(self) -> str:
        n_weights = sum(weight.numel() for weight in self.denoiser.parameters())
        conditioned = ", conditioned on latents" if self.is_conditional else ""
        size = " x ".join(map(str, self.shape))
        steps = f"T = {self.n_timesteps}{conditioned}"
        return f"Prior: {n_weights:,} weights, images of {size}, {steps}, {self.device}"

    def eps_and_x0_hat(
        self, x_t: torch.Tensor, t: int | torch.Tensor, condition: torch.Tensor | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the predicted noise and clean image, at one time step or one per image (n,)."""
        if isinstance(t, torch.Tensor):
            steps, signal = t, self.alpha_bar[t][:, None, None, None]
        else:
            steps = torch.full((x_t.shape[0],), t, device=x_t.device, dtype=torch.long)
            signal = self.alpha_bar[t]
        out = self.denoiser(x_t, steps, condition)
        return eps_and_x0(out, x_t, signal.sqrt(), (1 - signal).sqrt(), predicts=self.predicts)

    def for_inference(self) -> Prior:
        """Return a prior for many passes without gradients, with the same predictions, bit for bit."""
        if not isinstance(self.denoiser, Denoiser):
            return self
        return replace(self, denoiser=self.denoiser.for_inference())

    def to(self, device: str | torch.device) -> Prior:
        """Return the prior on a device; its network is moved there."""
        return replace(
            self,
            denoiser=self.denoiser.to(device),
            alpha_bar=self.alpha_bar.to(device),
            autoencoder=None if self.autoencoder is None else self.autoencoder.to(device),
        )

    def to_bytes(self) -> bytes:
        """Return weights, architecture, schedule and pixel scale as safetensors bytes."""
        latents = self.denoiser.latents
        head = {
            **described(self.denoiser, self.autoencoder),
            "patch_px": self.denoiser.patch_px,
            "precision": self.denoiser.precision,
            "sizes": None if latents is None else list(latents.sizes),
            "scale": asdict(self.scale),
            "shape": list(self.shape),
            "predicts": self.predicts,
        }
        state = tensors_of(self.denoiser, self.autoencoder) | {"alpha_bar": self.alpha_bar}
        return pack(KIND, state, head)


def unet_settings(unet: UNet2DModel) -> Json:
    """Return what `UNet2DModel(**settings)` needs to build the same network."""
    return {name: value for name, value in unet.config.items() if not name.startswith("_")}


def load_prior(weights: bytes) -> Prior:
    """Rebuild a prior from the bytes that `Prior.to_bytes` returned."""
    head, state = unpack(KIND, weights)
    alpha_bar = state.pop("alpha_bar")
    autoencoder = built_autoencoder(head, state)
    denoiser: Denoiser | OtherDenoiser
    if "network" in head:
        denoiser = built_denoiser(head, state, alpha_bar=alpha_bar)
    else:
        denoiser = Denoiser(
            UNet2DModel(**head["unet"]),
            patch_px=head["patch_px"],
            precision=head["precision"],
            sizes=head["sizes"],
        )
    denoiser.load_state_dict(state)
    denoiser.eval().requires_grad_(False)
    scale, shape = PixelScale(**head["scale"]), tuple(head["shape"])
    return Prior(denoiser, scale, shape, alpha_bar, head["predicts"], autoencoder)


def cosine_alpha_bar(n_timesteps: int) -> torch.Tensor:
    """Return the cumulative signal fraction of the cosine schedule (Nichol & Dhariwal 2021), shape (T,)."""
    return DDPMScheduler(n_timesteps, beta_schedule="squaredcos_cap_v2").alphas_cumprod.clone()


def n_channels_of(shape: tuple[int, ...]) -> int:
    """Return the number of channels of images of a shape (y, x (, channel))."""
    return 1 if len(shape) == 2 else shape[2]
