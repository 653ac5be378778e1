"""Priors in diffusers' folder format: ours, and unconditional pixel-space models of others."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path

import torch
from diffusers import DDPMScheduler, UNet2DModel
from safetensors import SafetensorError
from safetensors.torch import load_file, save_file

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.prior.foreign import check_folder, foreign_prior, prediction_of, ready_prior
from nwb_migvis.synthesis.prior.model import Denoiser, PixelScale, Prior

SHIPPED = ("renders",)
"""Priors that come with the package: of the images that `simulate` renders, 32 px."""

_OURS = "nwb_migvis_prior.json"
_TENSORS = "nwb_migvis_prior.safetensors"
_SCHEDULE = "alpha_bar"
_DAMAGED = (OSError, ValueError, KeyError, RuntimeError, SafetensorError)


def save_prior(prior: Prior, folder: Path, *, half: bool = False) -> None:
    """Write a prior as a folder: `unet` and `scheduler` as diffusers writes them.

    Beside them lies what diffusers has no place for. Pixel scale, shape and patches are JSON. The embedding
    of the latents, where the prior is conditioned on them, and the exact noise schedule are safetensors. The
    rounding of diffusers' betas changes the schedule in the last bit.

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
    settings = json.loads(config.read_text(encoding="utf-8"))
    if settings.pop("_name_or_path", None):  # the folder that the network was once read from
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")
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
    alpha_bar = prior.alpha_bar.double().cpu()
    betas = 1 - alpha_bar / torch.cat([torch.ones(1, dtype=alpha_bar.dtype), alpha_bar[:-1]])
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
    is_ours = (folder / _OURS).exists()
    if not is_ours:
        check_folder(folder)
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
    if not is_ours:
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
    return ready_prior(
        denoiser, scale, shape, alpha_bar, predicts=prediction_of(scheduler, f"prior {folder}")
    )


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
