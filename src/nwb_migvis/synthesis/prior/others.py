"""Networks of others as denoisers: with classes, texts, a learned variance or a flow; transformers."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from typing import Any

import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel
from torch import nn
from torch.nn import functional as F

from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.latent_embedding import LatentEmbedding
from nwb_migvis.synthesis.prior.predictions import flow_sigma

NETWORKS: dict[str, Callable[..., Any]] = {
    "UNet2DModel": UNet2DModel,
    "UNet2DConditionModel": UNet2DConditionModel,
    "DiTTransformer2DModel": DiTTransformer2DModel,
}
"""Classes of diffusers whose networks can be a prior's."""


def settings_of_network(network: Any) -> Json:
    """Return what `type(network)(**settings)` needs to build the same network."""
    taken = inspect.signature(type(network).__init__).parameters
    return {name: value for name, value in network.config.items() if name in taken}


class OtherDenoiser(nn.Module):
    """A network of diffusers that is told no class and no text; latents are added to its time embedding.

    The interface is that of `Denoiser`. Arithmetic is float32.

    Parameters
    ----------
    network : UNet2DModel, UNet2DConditionModel or DiTTransformer2DModel
        One that predicts its variance, too, gives twice the channels: the second half is left out.
    null_class : int, optional
        The class that stands for none, where the network has classes.
    null_text : torch.Tensor, shape (1, token, width), optional
        What stands for no text, where the network attends to text.
    flow : torch.Tensor, shape (T,), optional
        Cumulative signal fraction, of a network of flow matching: it takes the images and the times of that.
    sizes : sequence of int, optional
        Latents in each group, where it is conditioned on them.
    """

    patch_px = 1
    precision = "float32"
    unet: Any
    null_text: torch.Tensor | None
    sigma: torch.Tensor | None

    def __init__(
        self,
        network: Any,
        *,
        null_class: int | None = None,
        null_text: torch.Tensor | None = None,
        flow: torch.Tensor | None = None,
        sizes: Sequence[int] | None = None,
    ):
        super().__init__()
        self.unet = network
        self.null_class = null_class
        self.register_buffer("null_text", null_text)
        self.register_buffer("sigma", None if flow is None else flow_sigma(flow), persistent=False)
        self._flow = flow
        self.multiple = multiple_of(network)
        self.width = width_of(network)
        self.latents = None if sizes is None else LatentEmbedding(sizes, self.width)
        self._told: torch.Tensor | None = None
        for embedding in _time_embeddings(network):
            embedding.register_forward_hook(self._tell)

    def _tell(self, _module: nn.Module, _inputs: Any, out: torch.Tensor) -> torch.Tensor:
        """Add what latents say to a time embedding, (n, width)."""
        return out if self._told is None else out + self._told

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
        n, n_channels, height, width = x_t.shape
        x, times = x_t, t
        sigma = self.sigma
        if sigma is not None:
            at = sigma[t][:, None, None, None]
            x, times = x_t * ((1 - at).square() + at.square()).sqrt(), sigma[t] * len(sigma)
        pad = (0, -width % self.multiple, 0, -height % self.multiple)
        x = F.pad(x, pad, mode="replicate") if any(pad) else x
        told: dict[str, torch.Tensor] = {}
        if self.null_class is not None:
            told["class_labels"] = torch.full((n,), self.null_class, device=x.device)
        if self.null_text is not None:
            told["encoder_hidden_states"] = self.null_text.expand(n, -1, -1)
        self._told = condition
        try:
            out = self.unet(x, timestep=times, **told).sample
        finally:
            self._told = None
        return out[:, :n_channels, :height, :width]

    def with_conditioning(self, sizes: Sequence[int] | None) -> OtherDenoiser:
        """Return a copy, conditioned on latents of these sizes (untrained) or on nothing."""
        network = type(self.unet)(**settings_of_network(self.unet))
        network.load_state_dict(self.unet.state_dict())
        text = None if self.null_text is None else self.null_text.clone()
        return OtherDenoiser(
            network, null_class=self.null_class, null_text=text, flow=self._flow, sizes=sizes
        )


def n_channels_in(network: Any) -> int:
    """Return the channels of what a network denoises."""
    return int(network.config["in_channels"])


def activations_of(denoiser: Any, x_t: torch.Tensor, t: torch.Tensor) -> list[torch.Tensor]:
    """Return what the stages of a denoiser's network make of images, told nothing, (n, channel, y, x) each.

    Parameters
    ----------
    denoiser : Denoiser or OtherDenoiser
    x_t : torch.Tensor, shape (n, channel, y, x)
    t : torch.Tensor of int, shape (n,)
    """
    activations: list[torch.Tensor] = []

    def keep(_module: nn.Module, _inputs: Any, out: Any) -> None:
        activations.append(as_places(out[0] if isinstance(out, tuple) else out))

    hooks = [stage.register_forward_hook(keep) for stage in stages_of(denoiser.unet)]
    try:
        denoiser(x_t, t)
    finally:
        for hook in hooks:
            hook.remove()
    return activations


def multiple_of(network: Any) -> int:
    """Return what sides of a network's images are multiples of."""
    if isinstance(network, DiTTransformer2DModel):
        return int(network.config["patch_size"])
    return 2 ** (len(network.config["block_out_channels"]) - 1)


def width_of(network: Any) -> int:
    """Return the width of a network's time embedding."""
    if isinstance(network, DiTTransformer2DModel):
        return int(network.inner_dim)
    return int(network.time_embedding.linear_2.out_features)


def _time_embeddings(network: Any) -> list[nn.Module]:
    """Return the modules that embed the time step: a transformer has one per block."""
    if isinstance(network, DiTTransformer2DModel):
        return [block.norm1.emb.timestep_embedder for block in network.transformer_blocks]
    return [network.time_embedding]


def stages_of(network: Any) -> list[nn.Module]:
    """Return the modules whose activations describe an image: on the way down and middle, or all blocks."""
    if isinstance(network, DiTTransformer2DModel):
        return list(network.transformer_blocks)
    return [block for block in (*network.down_blocks, network.mid_block) if block is not None]


def as_places(activation: torch.Tensor) -> torch.Tensor:
    """Return an activation as (n, channel, y, x); tokens (n, token, channel) form a square."""
    if activation.ndim == 4:
        return activation
    side = round(activation.shape[1] ** 0.5)
    return activation.mT.unflatten(2, (side, side))
