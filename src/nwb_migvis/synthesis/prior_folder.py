"""Priors in diffusers' folder format: ours, and unconditional pixel-space models of others."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors.torch import load_file, save_file

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.prior import Denoiser, PixelScale, Prior

SHIPPED = ("renders",)
"""Priors that come with the package: of the images that `simulate` renders, 32 px."""

_OURS = "nwb_migvis_prior.json"
_LATENTS = "latents.safetensors"
_PREDICTS = ("v_prediction", "epsilon")


def save_prior(prior: Prior, folder: Path) -> None:
    """Write a prior as a folder: `unet` and `scheduler` as diffusers writes them, weights in half precision.

    Beside them lie what diffusers has no place for: pixel scale, shape and patches as JSON, and the
    embedding of the latents where the prior is conditioned on them.
    """
    folder.mkdir(parents=True, exist_ok=True)
    copy.deepcopy(prior.denoiser.unet).half().save_pretrained(folder / "unet")
    kept = prior.alpha_bar.double().cpu()
    betas = 1 - kept / torch.cat([torch.ones(1, dtype=kept.dtype), kept[:-1]])
    DDPMScheduler(
        prior.n_timesteps, trained_betas=betas.tolist(), prediction_type=prior.predicts
    ).save_pretrained(folder / "scheduler")
    latents = prior.denoiser.latents
    head = {
        "patch_px": prior.denoiser.patch_px,
        "precision": prior.denoiser.precision,
        "scale": asdict(prior.scale),
        "shape": list(prior.shape),
        "sizes": None if latents is None else list(latents.sizes),
    }
    (folder / _OURS).write_text(json.dumps(head, indent=2) + "\n", encoding="utf-8")
    if latents is not None:
        save_file(latents.state_dict(), folder / _LATENTS)


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
    with as_file(files("nwb_migvis.synthesis") / "priors" / name) as folder:
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
    except (OSError, ValueError, KeyError, RuntimeError) as error:
        what = " ".join(str(error).split())[:160]
        raise MigvisError(
            f"prior {folder}: expected the folders 'unet' (a UNet2DModel) and 'scheduler' of a diffusers "
            f"model; {what}"
        ) from None
    predicts = scheduler.config["prediction_type"]
    if predicts not in _PREDICTS:
        raise MigvisError(
            f"prior {folder}: its network predicts {predicts!r}; expected one of {', '.join(_PREDICTS)}"
        )
    ours = folder / _OURS
    head = json.loads(ours.read_text(encoding="utf-8")) if ours.exists() else _foreign(unet, folder)
    denoiser = Denoiser(unet, patch_px=head["patch_px"], precision=head["precision"], sizes=head["sizes"])
    if denoiser.latents is not None:
        denoiser.latents.load_state_dict(load_file(folder / _LATENTS))
    denoiser.eval().requires_grad_(False)
    alpha_bar = scheduler.alphas_cumprod.clone().to(torch.float32)
    return Prior(denoiser, PixelScale(**head["scale"]), tuple(head["shape"]), alpha_bar, predicts)


def _foreign(unet: UNet2DModel, folder: Path) -> dict:
    size, channels = unet.config["sample_size"], unet.config["in_channels"]
    if size is None or channels not in (1, 3) or unet.config["class_embed_type"] is not None:
        raise MigvisError(
            f"prior {folder}: its network has sample_size {size}, {channels} channels and class embedding "
            f"{unet.config['class_embed_type']}; expected an unconditional model of images with 1 or 3 "
            "channels"
        )
    shape = (size, size) if isinstance(size, int) else tuple(size)
    return {
        "patch_px": 1,
        "precision": "float32",
        "scale": {"mean": 127.5, "std": 127.5},
        "shape": [*shape, 3] if channels == 3 else list(shape),
        "sizes": None,
    }
