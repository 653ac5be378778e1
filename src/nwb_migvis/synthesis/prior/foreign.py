"""Priors of others in diffusers' format: what each needs in order to be told nothing, or why it cannot be."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from diffusers import DiTTransformer2DModel, UNet2DConditionModel, UNet2DModel

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.prior.autoencoder import Autoencoder
from nwb_migvis.synthesis.prior.layouts import FLOW_SCHEDULERS, check_scheduler
from nwb_migvis.synthesis.prior.model import SYMMETRIC, Denoiser, PixelScale, Prior
from nwb_migvis.synthesis.prior.others import NETWORKS, OtherDenoiser, n_channels_in
from nwb_migvis.synthesis.prior.predictions import EPSILON, FLOW, PREDICTS, V, flow_alpha_bar


@dataclass(frozen=True, eq=False)
class Beside:
    """What lies beside a network.

    Attributes
    ----------
    autoencoder : Autoencoder, optional
    null_text : torch.Tensor, shape (1, token, width), optional
        Encoded empty text; zeros stand for it where nothing encodes text.
    n_labels : int
        Classes that the model's index names, 0 where it names none.
    """

    autoencoder: Autoencoder | None = None
    null_text: torch.Tensor | None = None
    n_labels: int = 0


def foreign_prior(unet: Any, scheduler: Any, beside: Beside | None = None, *, where: str = "prior") -> Prior:
    """Return the prior of another's model, which is told no class and no text.

    Pixels go from -1 to 1. Images have the network's `sample_size`, times the autoencoder's factor.

    Parameters
    ----------
    unet : UNet2DModel, UNet2DConditionModel or DiTTransformer2DModel
    scheduler : a scheduler of diffusers
        That it was trained with.
    beside : Beside, optional
    where : str
        What errors call it.

    Raises
    ------
    MigvisError
        If the scheduler is of another way of training or leaves no signal. If the network has no class or
        text that stands for none, or takes, predicts or makes something else than images of 1 or 3 channels
        or the latents of its autoencoder.
    """
    beside = beside or Beside()
    check_scheduler(type(scheduler).__name__, where)
    predicts = prediction_of(scheduler, where)
    reason = _unusable(unet, beside.autoencoder) or _not_told_nothing(unet, beside)
    if reason is not None:
        raise MigvisError(
            f"{where}: {reason}; expected a model of images with 1 or 3 channels, or of an autoencoder's "
            "latents, that can be told nothing"
        )
    alpha_bar = alpha_bar_of(scheduler, where)
    size = unet.config["sample_size"]
    height, width = (size, size) if isinstance(size, int) else tuple(size)
    if beside.autoencoder is not None:
        factor = beside.autoencoder.factor
        height, width = height * factor, width * factor
    colours = _n_colours(unet, beside.autoencoder)
    shape = (height, width, 3) if colours == 3 else (height, width)
    return ready_prior(
        denoiser_of(unet, beside, predicts=predicts, alpha_bar=alpha_bar),
        SYMMETRIC,
        shape,
        alpha_bar,
        predicts=predicts,
        autoencoder=beside.autoencoder,
    )


def denoiser_of(
    unet: Any, beside: Beside, *, predicts: str, alpha_bar: torch.Tensor
) -> Denoiser | OtherDenoiser:
    """Return the denoiser of a network that was found usable."""
    about = unet.config
    is_plain = type(unet) is UNet2DModel and about.get("num_class_embeds") is None
    if is_plain and about["out_channels"] == about["in_channels"] and predicts in (V, EPSILON):
        return Denoiser(unet, patch_px=1, precision="float32")
    text = None
    if isinstance(unet, UNet2DConditionModel):
        text = (
            torch.zeros(1, 1, about["cross_attention_dim"]) if beside.null_text is None else beside.null_text
        )
    return OtherDenoiser(
        unet,
        null_class=null_class_of(unet),
        null_text=text,
        flow=alpha_bar if predicts == FLOW else None,
    )


def null_class_of(unet: Any) -> int | None:
    """Return the class that stands for none: the last one. None where a network has no classes."""
    if isinstance(unet, DiTTransformer2DModel):
        return int(unet.config["num_embeds_ada_norm"])  # diffusers adds one to those that this counts
    n = unet.config.get("num_class_embeds")
    return None if n is None else int(n) - 1


def _n_colours(unet: Any, autoencoder: Autoencoder | None) -> int:
    return int(
        unet.config["in_channels"] if autoencoder is None else autoencoder.network.config["in_channels"]
    )


def _unusable(unet: Any, autoencoder: Autoencoder | None) -> str | None:
    """Say why a network does not denoise images, or latents of an autoencoder; None where it does."""
    if type(unet) not in NETWORKS.values():
        return f"its network is a {type(unet).__name__}"
    about, channels = unet.config, n_channels_in(unet)
    out = about["out_channels"] or channels
    if autoencoder is None and (about["sample_size"] is None or channels not in (1, 3)):
        return f"its network has sample_size {about['sample_size']} and {channels} channels"
    if autoencoder is not None:
        latent = autoencoder.network.config["latent_channels"]
        own = autoencoder.network.config
        colours = [own["in_channels"], own.get("out_channels", own["in_channels"])]
        if about["sample_size"] is None or channels != latent:
            return (
                f"its network has sample_size {about['sample_size']} and {channels} channels for "
                f"{latent} of its autoencoder"
            )
        if colours not in ([1, 1], [3, 3]):
            return f"its autoencoder takes {colours[0]} channels and gives {colours[1]}"
    if out not in (channels, 2 * channels):
        return f"its network gives {out} channels for {channels}"
    if about.get("time_embedding_type") == "fourier":
        return "its network takes noise levels (time_embedding_type 'fourier'), not steps of a schedule"
    if about.get("center_input_sample"):
        return "its network takes pixels from 0 to 1 (center_input_sample), not from -1 to 1"
    return None


def _not_told_nothing(unet: Any, beside: Beside) -> str | None:
    """Say why a network cannot be told nothing; None where it can."""
    about = unet.config
    if about.get("class_embed_type") is not None:
        return f"its network is conditioned on classes (class_embed_type {about['class_embed_type']})"
    n_classes = about.get("num_class_embeds")
    if n_classes is not None and beside.n_labels and n_classes <= beside.n_labels:
        return (
            f"its network is conditioned on classes and has no null class (num_class_embeds {n_classes} for "
            f"{beside.n_labels} labels)"
        )
    for setting in ("addition_embed_type", "encoder_hid_dim_type", "time_cond_proj_dim"):
        if about.get(setting) is not None:
            return f"its network is told more than a text ({setting} {about[setting]})"
    if isinstance(unet, UNet2DConditionModel) and not isinstance(about["cross_attention_dim"], int):
        return f"its network attends to texts of several widths ({list(about['cross_attention_dim'])})"
    return None


def alpha_bar_of(scheduler: Any, where: str) -> torch.Tensor:
    """Return the cumulative signal fraction of a scheduler, shape (T,), or refuse one without signal."""
    about = scheduler.config
    if type(scheduler).__name__ in FLOW_SCHEDULERS:
        shift = 1.0 if about.get("use_dynamic_shifting") else float(about.get("shift") or 1.0)
        return flow_alpha_bar(about["num_train_timesteps"], shift=shift)
    if about.get("prediction_type") == FLOW:
        return flow_alpha_bar(about["num_train_timesteps"], shift=float(about.get("flow_shift") or 1.0))
    alpha_bar: torch.Tensor = scheduler.alphas_cumprod
    if not (alpha_bar > 0).all():
        raise MigvisError(
            f"{where}: its schedule leaves no signal at the last of {len(alpha_bar)} steps (zero terminal "
            "SNR); expected some at every step: nothing can be inverted from there"
        )
    return alpha_bar


def prediction_of(scheduler: Any, where: str) -> str:
    """Return what a scheduler says that its network predicts, or refuse it."""
    if type(scheduler).__name__ in FLOW_SCHEDULERS:
        return FLOW
    predicts = scheduler.config["prediction_type"]
    if predicts not in PREDICTS:
        raise MigvisError(
            f"{where}: its network predicts {predicts!r:.60}; expected one of {', '.join(PREDICTS)}"
        )
    return predicts


def ready_prior(
    denoiser: Denoiser | OtherDenoiser,
    scale: PixelScale,
    shape: tuple[int, ...],
    alpha_bar: torch.Tensor,
    *,
    predicts: str,
    autoencoder: Autoencoder | None = None,
) -> Prior:
    """Return a prior whose networks are ready for use."""
    denoiser.eval().requires_grad_(False)
    if autoencoder is not None:
        autoencoder.network.eval().requires_grad_(False)
    return Prior(denoiser, scale, shape, alpha_bar.clone().to(torch.float32), predicts, autoencoder)
