"""Priors in diffusers' folder format: ours, and models of others."""

from __future__ import annotations

import copy
import json
from dataclasses import asdict
from importlib.resources import as_file, files
from pathlib import Path
from typing import Any

import diffusers
import torch
from diffusers import DDPMScheduler, FlowMatchEulerDiscreteScheduler
from safetensors.torch import load_file, save_file

from nwb_migvis.errors import MigvisError
from nwb_migvis.synthesis.prior.autoencoder import AUTOENCODERS, Autoencoder
from nwb_migvis.synthesis.prior.checking import (
    check_files,
    check_finite,
    check_fit,
    check_forward,
    check_network,
    check_schedule,
    read_head,
    stored_tensors,
)
from nwb_migvis.synthesis.prior.foreign import (
    Beside,
    foreign_prior,
    null_class_of,
    prediction_of,
    ready_prior,
)
from nwb_migvis.synthesis.prior.hub import hub_folder, is_hub_id
from nwb_migvis.synthesis.prior.layouts import FLOW_SCHEDULERS, Parts, parts_of
from nwb_migvis.synthesis.prior.model import Denoiser, PixelScale, Prior
from nwb_migvis.synthesis.prior.others import NETWORKS, OtherDenoiser
from nwb_migvis.synthesis.prior.predictions import FLOW
from nwb_migvis.synthesis.prior.text import encoded_nothing

SHIPPED = ("renders",)
"""Priors that come with the package: of the images that `simulate` renders, 32 px."""

_OURS = "nwb_migvis_prior.json"
_TENSORS = "nwb_migvis_prior.safetensors"
_SCHEDULE = "alpha_bar"
_TEXT = "null_text"


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
    denoiser = prior.denoiser
    is_transformer = type(denoiser.unet).__name__ == "DiTTransformer2DModel"
    _save_network(denoiser.unet, folder / ("transformer" if is_transformer else "unet"), half=half)
    if prior.autoencoder is not None:
        _save_network(prior.autoencoder.network, folder / "vae", half=half)
    scheduler_of(prior).save_pretrained(folder / "scheduler")
    latents = denoiser.latents
    head = {
        "patch_px": denoiser.patch_px,
        "precision": denoiser.precision,
        "scale": asdict(prior.scale),
        "shape": list(prior.shape),
        "sizes": None if latents is None else list(latents.sizes),
    }
    tensors = {_SCHEDULE: prior.alpha_bar} | ({} if latents is None else latents.state_dict())
    if isinstance(denoiser, OtherDenoiser):
        head["is_other"] = True
        tensors |= {} if denoiser.null_text is None else {_TEXT: denoiser.null_text}
    (folder / _OURS).write_text(json.dumps(head, indent=2) + "\n", encoding="utf-8")
    save_file(tensors, folder / _TENSORS)


def _save_network(network: Any, folder: Path, *, half: bool) -> None:
    stored = copy.deepcopy(network).half() if half else network
    stored.save_pretrained(folder)
    config = folder / "config.json"
    settings = json.loads(config.read_text(encoding="utf-8"))
    if settings.pop("_name_or_path", None):  # the folder that the network was once read from
        config.write_text(json.dumps(settings, indent=2, sort_keys=True) + "\n", encoding="utf-8")


def scheduler_of(prior: Prior) -> DDPMScheduler | FlowMatchEulerDiscreteScheduler:
    """Return diffusers' scheduler with the noise levels of a prior; of flow matching, one without shift."""
    if prior.predicts == FLOW:
        return FlowMatchEulerDiscreteScheduler(prior.n_timesteps)
    alpha_bar = prior.alpha_bar.double().cpu()
    betas = 1 - alpha_bar / torch.cat([torch.ones(1, dtype=alpha_bar.dtype), alpha_bar[:-1]])
    return DDPMScheduler(prior.n_timesteps, trained_betas=betas.tolist(), prediction_type=prior.predicts)


def open_prior(name: str) -> Prior:
    """Open a prior by the name of one that is shipped, the path of its folder, or its id on the hub.

    An id is `org/name@REVISION`; it is read from the hub's local cache (see `hub.downloads`).

    A folder without our own JSON is read as another's model, which is told no class and no text: pixels from
    -1 to 1, or an autoencoder's latents of them, at the `sample_size` of its network.

    Raises
    ------
    MigvisError
        If there is no such folder, or it does not hold a network and a schedule that can be used.
    """
    if name not in SHIPPED:
        return _open(hub_folder(name) if is_hub_id(name) else Path(name))
    with as_file(files("nwb_migvis.synthesis.prior") / "shipped" / name) as folder:
        return _open(folder)


def _open(folder: Path) -> Prior:
    try:
        return _opened(folder)
    except MigvisError:
        raise
    except Exception as error:  # diffusers and torch raise nearly anything for files that do not fit
        raise MigvisError(
            f"prior {folder}: expected the folders 'unet' (a UNet2DModel) and 'scheduler' of a diffusers "
            f"model; {_brief(error)}"
        ) from None


def _opened(folder: Path) -> Prior:
    if not folder.is_dir():
        raise MigvisError(
            f"prior {folder}: no such folder; give the folder of a diffusers model, or "
            + " or ".join(f'"{name}"' for name in SHIPPED)
        )
    check_files(folder)
    parts = parts_of(folder)
    check_network(parts.network, parts.kind)
    check_schedule(parts.scheduler / "scheduler_config.json")
    unet = _opened_network(NETWORKS[parts.kind], parts.network)
    autoencoder = None
    if parts.autoencoder is not None:
        check_network(parts.autoencoder, parts.autoencoder_kind)
        autoencoder = Autoencoder(_opened_network(AUTOENCODERS[parts.autoencoder_kind], parts.autoencoder))
    scheduler = _opened_scheduler(parts)
    where = f"prior {folder}"
    if (folder / _OURS).exists():
        prior = _our_prior(folder, unet, scheduler, autoencoder)
    else:
        text = encoded_nothing(folder) if parts.has_text_encoder else None
        prior = foreign_prior(unet, scheduler, Beside(autoencoder, text, parts.n_labels), where=where)
    check_forward(prior)
    return prior


def _opened_network(kind: Any, folder: Path) -> Any:
    network = kind.from_pretrained(
        folder, local_files_only=True, use_safetensors=True, low_cpu_mem_usage=False
    ).float()
    check_finite(network.state_dict())
    return network


def _opened_scheduler(parts: Parts) -> Any:
    settings = json.loads((parts.scheduler / "scheduler_config.json").read_text(encoding="utf-8"))
    name = settings.get("_class_name", "DDPMScheduler")
    is_flow = name in FLOW_SCHEDULERS or settings.get("prediction_type") == FLOW
    kind = getattr(diffusers, name) if is_flow else DDPMScheduler
    return kind.from_pretrained(parts.scheduler, local_files_only=True)


def _our_prior(folder: Path, unet: Any, scheduler: Any, autoencoder: Autoencoder | None) -> Prior:
    predicts = prediction_of(scheduler, f"prior {folder}")
    try:
        head = read_head(folder / _OURS, stored_tensors(folder / _TENSORS))
        if not head.is_other:
            check_fit(unet, head, autoencoder)
        tensors = load_file(folder / _TENSORS) if (folder / _TENSORS).exists() else {}
        check_finite(tensors)
        alpha_bar = tensors.pop(_SCHEDULE) if _SCHEDULE in tensors else scheduler.alphas_cumprod
        if (
            alpha_bar.shape != (scheduler.config["num_train_timesteps"],)
            or not ((alpha_bar > 0) & (alpha_bar <= 1)).all()
        ):
            raise ValueError(f"{_SCHEDULE} of {tuple(alpha_bar.shape)} steps is not that of the scheduler")
        denoiser: Denoiser | OtherDenoiser
        if head.is_other:
            denoiser = OtherDenoiser(
                unet,
                null_class=null_class_of(unet),
                null_text=tensors.pop(_TEXT, None),
                flow=alpha_bar if predicts == FLOW else None,
                sizes=head.sizes,
            )
        else:
            denoiser = Denoiser(unet, patch_px=head.patch_px, precision=head.precision, sizes=head.sizes)
        if denoiser.latents is not None:
            denoiser.latents.load_state_dict(tensors)
    except Exception as error:  # as in `_open`
        raise MigvisError(
            f"prior {folder}: {_OURS} or {_TENSORS} is damaged ({_brief(error)}); save the prior again"
        ) from None
    scale = PixelScale(**head.scale)
    return ready_prior(denoiser, scale, head.shape, alpha_bar, predicts=predicts, autoencoder=autoencoder)


def _brief(error: Exception) -> str:
    return " ".join(str(error).split())[:160] or type(error).__name__
