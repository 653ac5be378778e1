"""Priors of others in diffusers' format: unconditional models of pixels are used, others refused by name."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.model import Denoiser, PixelScale, Prior

PREDICTS = ("v_prediction", "epsilon")

SCHEDULERS = (
    "DDPMScheduler",
    "DDIMScheduler",
    "DDIMInverseScheduler",
    "DDPMParallelScheduler",
    "DDIMParallelScheduler",
    "PNDMScheduler",
    "LMSDiscreteScheduler",
    "EulerDiscreteScheduler",
    "EulerAncestralDiscreteScheduler",
    "HeunDiscreteScheduler",
    "KDPM2DiscreteScheduler",
    "KDPM2AncestralDiscreteScheduler",
    "DPMSolverSinglestepScheduler",
    "DPMSolverMultistepScheduler",
    "DEISMultistepScheduler",
    "UniPCMultistepScheduler",
)
"""Schedulers of diffusers for networks that were trained with betas: samplers of one noise schedule."""

_PARTS = ("unet", "scheduler")
_OTHER_PARTS = ("vae", "vqvae", "text_encoder", "bert", "tokenizer", "image_encoder", "transformer", "prior")


def check_folder(folder: Path) -> None:
    """Refuse a folder whose own JSON says that it holds another kind of model.

    Raises
    ------
    MigvisError
        If there are other parts beside network and scheduler, or they are of other classes.
    """
    index = _json(folder / "model_index.json")
    parts = {name: value[-1] for name, value in index.items() if isinstance(value, list) and any(value)}
    parts |= {name: "model" for name in _OTHER_PARTS if name not in parts and (folder / name).is_dir()}
    others = [f"{name} ({what})" for name, what in parts.items() if name not in _PARTS]
    if others:
        raise MigvisError(
            f"prior {folder}: beside its network lies {', '.join(others)}; expected a network of pixels "
            "alone, without text or another network's codes; give an unconditional pixel-space model"
        )
    network = _json(folder / "unet" / "config.json").get("_class_name", "UNet2DModel")
    if network != "UNet2DModel":
        raise MigvisError(
            f"prior {folder}: its network is a {network}; expected a UNet2DModel, which is not conditioned"
        )
    scheduler = _json(folder / "scheduler" / "scheduler_config.json").get("_class_name")
    if scheduler is not None:
        _check_scheduler(scheduler, f"prior {folder}")


def _json(path: Path) -> Json:
    """Return the content of a JSON file; nothing where it is absent or damaged, which is found on opening."""
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return {}
    return content if isinstance(content, dict) else {}


def _check_scheduler(name: str, where: str) -> None:
    if name not in SCHEDULERS:
        raise MigvisError(
            f"{where}: its scheduler is a {name}; expected one of a network that was trained to denoise with "
            "betas, such as DDPMScheduler or DDIMScheduler; give such a model"
        )


def foreign_prior(unet: UNet2DModel, scheduler: Any, *, where: str = "prior") -> Prior:
    """Return the prior of another's unconditional model: pixels from -1 to 1, at the network's `sample_size`.

    Parameters
    ----------
    unet : UNet2DModel
    scheduler : a scheduler of diffusers
        That it was trained with.
    where : str
        What errors call it.

    Raises
    ------
    MigvisError
        If the scheduler is not one of `SCHEDULERS` or leaves no signal. If the network is conditioned,
        learned its variance, or takes, predicts or makes something else than images of 1 or 3 channels.
    """
    _check_scheduler(type(scheduler).__name__, where)
    predicts = prediction_of(scheduler, where)
    if (reason := _unusable(unet)) is not None:
        raise MigvisError(
            f"{where}: {reason}; expected an unconditional model of images with 1 or 3 channels"
        )
    alpha_bar = scheduler.alphas_cumprod
    if not (alpha_bar > 0).all():
        raise MigvisError(
            f"{where}: its schedule leaves no signal at the last of {len(alpha_bar)} steps (zero terminal "
            "SNR); expected some at every step: nothing can be inverted from there"
        )
    size, channels = unet.config["sample_size"], unet.config["in_channels"]
    shape = (size, size) if isinstance(size, int) else tuple(size)
    denoiser = Denoiser(unet, patch_px=1, precision="float32")
    scale = PixelScale(127.5, 127.5)
    return ready_prior(denoiser, scale, (*shape, 3) if channels == 3 else shape, alpha_bar, predicts=predicts)


def _unusable(unet: UNet2DModel) -> str | None:
    """Say why a network is not an unconditional model of pixels; None where it is one."""
    if not isinstance(unet, UNet2DModel):
        return f"its network is a {type(unet).__name__}"
    about = unet.config
    channels, out = about["in_channels"], about["out_channels"]
    if about["sample_size"] is None or channels not in (1, 3):
        return f"its network has sample_size {about['sample_size']} and {channels} channels"
    if out == 2 * channels:
        return f"its network predicts its variance too ({out} channels for {channels})"
    if out != channels:
        return f"its network gives {out} channels for {channels}"
    if about["class_embed_type"] is not None or about.get("num_class_embeds") is not None:
        return (
            f"its network is conditioned on classes (class_embed_type {about['class_embed_type']}, "
            f"num_class_embeds {about.get('num_class_embeds')})"
        )
    if about["time_embedding_type"] == "fourier":
        return "its network takes noise levels (time_embedding_type 'fourier'), not steps of a schedule"
    if about["center_input_sample"]:
        return "its network takes pixels from 0 to 1 (center_input_sample), not from -1 to 1"
    return None


def prediction_of(scheduler: Any, where: str) -> str:
    """Return what a scheduler says that its network predicts, or refuse it."""
    predicts = scheduler.config["prediction_type"]
    if predicts not in PREDICTS:
        raise MigvisError(
            f"{where}: its network predicts {predicts!r}; expected one of {', '.join(PREDICTS)}"
        )
    return predicts


def ready_prior(
    denoiser: Denoiser,
    scale: PixelScale,
    shape: tuple[int, ...],
    alpha_bar: torch.Tensor,
    *,
    predicts: str,
) -> Prior:
    """Return a prior whose network is ready for use."""
    denoiser.eval().requires_grad_(False)
    return Prior(denoiser, scale, shape, alpha_bar.clone().to(torch.float32), predicts)
