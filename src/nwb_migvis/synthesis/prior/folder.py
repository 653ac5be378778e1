"""Priors in diffusers' folder format: ours, and unconditional pixel-space models of others."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.prior.model import Denoiser, PixelScale, Prior

SHIPPED = ("renders",)
"""Priors that come with the package: of the images that `simulate` renders, 32 px."""

_OURS = "nwb_migvis_prior.json"
_TENSORS = "nwb_migvis_prior.safetensors"
_SCHEDULE = "alpha_bar"
_PREDICTS = ("v_prediction", "epsilon")
_DAMAGED = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)


def save_prior(prior: Prior, folder: Path, *, half: bool = False) -> None:
    """Write a prior as a folder: `unet` and `scheduler` as diffusers writes them.

    Beside them lies what diffusers has no place for: pixel scale, shape and patches as JSON, and as
    safetensors the embedding of the latents, where the prior is conditioned on them, and the exact noise
    schedule, which the rounding of diffusers' betas changes in the last bit.

    Parameters
    ----------
    prior : Prior
    folder : Path
        Made where it is absent.
    half : bool
        Store the UNet in half precision: half the size, and not quite the same prior.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unet = copy.deepcopy(prior.denoiser.unet).half() if half else prior.denoiser.unet
    unet.save_pretrained(folder / "unet")
    config = folder / "unet" / "config.json"
    kept = json.loads(config.read_text(encoding="utf-8"))
    if kept.pop("_name_or_path", None):  # the folder that the network was once read from
        config.write_text(json.dumps(kept, indent=2, sort_keys=True) + "\n", encoding="utf-8")
    scheduler_of(prior).save_pretrained(folder / "scheduler")
    latents = prior.denoiser.latents
    head = {
        "patch_px": prior.denoiser.patch_px,
        "precision": prior.denoiser.precision,
        "scale": asdict(prior.scale),
        "shape": list(prior.shape),
        "sizes": None if latents is None else list(latents.sizes),
    }
    (folder / _OURS).write_text(json.dumps(head, indent=2) + "\n", encoding="utf-8")
    tensors = {_SCHEDULE: prior.alpha_bar} | ({} if latents is None else latents.state_dict())
    save_file(tensors, folder / _TENSORS)


def scheduler_of(prior: Prior) -> DDPMScheduler:
    """Return diffusers' scheduler with the noise levels of a prior."""
    kept = prior.alpha_bar.double().cpu()
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])
    return DDPMScheduler(prior.n_timesteps, trained_betas=betas.tolist(), prediction_type=prior.predicts)


def open_prior(name: str) -> Prior:
    """Open a prior by the name of one that is shipped, or by the path of its folder.

    A folder without our own JSON is read as another's unconditional model: pixels from -1 to 1, at the
    `sample_size` of its network.

    Raises
    ------
    MigvisError
        If there is no such folder, or it does not hold a network and a schedule that can be used.
    """
    if name not in SHIPPED:
        return _open(Path(name))
    with as_file(files("nwb_migvis.synthesis.prior") / "shipped" / name) as folder:
        return _open(folder)


def _open(folder: Path) -> Prior:
    if not folder.is_dir():
        raise MigvisError(
            f"prior {folder}: no such folder; give the folder of a diffusers model, or "
            + " or ".join(f'"{name}"' for name in SHIPPED)
        )
    try:
        unet = UNet2DModel.from_pretrained(
            folder / "unet", local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
        ).float()
        scheduler = DDPMScheduler.from_pretrained(folder / "scheduler", local_files_only=True)
    except _DAMAGED as error:
        raise MigvisError(
            f"prior {folder}: expected the folders 'unet' (a UNet2DModel) and 'scheduler' of a diffusers "
            f"model; {_brief(error)}"
        ) from None
    if not (folder / _OURS).exists():
        return foreign_prior(unet, scheduler, where=f"prior {folder}")
    try:
        head = json.loads((folder / _OURS).read_text(encoding="utf-8"))
        tensors = load_file(folder / _TENSORS) if (folder / _TENSORS).exists() else {}
        alpha_bar = tensors.pop(_SCHEDULE, scheduler.alphas_cumprod)
        denoiser = Denoiser(unet, patch_px=head["patch_px"], precision=head["precision"], sizes=head["sizes"])
        if denoiser.latents is not None:
            denoiser.latents.load_state_dict(tensors)
        scale, shape = PixelScale(**head["scale"]), tuple(head["shape"])
    except (*_DAMAGED, TypeError) as error:
        raise MigvisError(
            f"prior {folder}: {_OURS} or {_TENSORS} is damaged ({_brief(error)}); save the prior again"
        ) from None
    return _ready(denoiser, scale, shape, alpha_bar, _prediction(scheduler, f"prior {folder}"))


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
        If the network is conditioned, or predicts or makes something else than images of 1 or 3 channels.
    """
    predicts = _prediction(scheduler, where)
    size, channels = unet.config["sample_size"], unet.config["in_channels"]
    if size is None or channels not in (1, 3) or unet.config["class_embed_type"] is not None:
        raise MigvisError(
            f"{where}: its network has sample_size {size}, {channels} channels and class embedding "
            f"{unet.config['class_embed_type']}; expected an unconditional model of images with 1 or 3 "
            "channels"
        )
    shape = (size, size) if isinstance(size, int) else tuple(size)
    denoiser = Denoiser(unet, patch_px=1, precision="float32")
    return _ready(
        denoiser,
        PixelScale(127.5, 127.5),
        (*shape, 3) if channels == 3 else shape,
        scheduler.alphas_cumprod,
        predicts,
    )


def _prediction(scheduler: Any, where: str) -> str:
    predicts = scheduler.config["prediction_type"]
    if predicts not in _PREDICTS:
        raise MigvisError(
            f"{where}: its network predicts {predicts!r}; expected one of {', '.join(_PREDICTS)}"
        )
    return predicts


def _ready(
    denoiser: Denoiser, scale: PixelScale, shape: tuple[int, ...], alpha_bar: torch.Tensor, predicts: str
) -> Prior:
    denoiser.eval().requires_grad_(False)
    return Prior(denoiser, scale, shape, alpha_bar.clone().to(torch.float32), predicts)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
