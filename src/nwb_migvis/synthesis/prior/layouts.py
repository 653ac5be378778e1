"""Where the parts of a model lie in a folder in diffusers' format, flat or not, and what they are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from nwb_migvis.errors import MigvisError
from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.autoencoder import AUTOENCODERS
from nwb_migvis.synthesis.prior.checking import read_json
from nwb_migvis.synthesis.prior.others import NETWORKS

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

FLOW_SCHEDULERS = ("FlowMatchEulerDiscreteScheduler", "FlowMatchHeunDiscreteScheduler")
"""Schedulers of diffusers for networks of flow matching."""

_TEXT_PARTS = ("text_encoder", "tokenizer", "safety_checker", "feature_extractor")
"""Parts that may lie beside a network that attends to text; of these only what encodes text is used."""
_OTHER_PARTS = (
    "vqvae",
    "text_encoder",
    "text_encoder_2",
    "bert",
    "tokenizer",
    "image_encoder",
    "prior",
    "movq",
)
_NETWORK_PARTS = ("unet", "transformer")
_OLD_NAMES = {"Transformer2DModel": "DiTTransformer2DModel"}
"""Earlier names of classes, where the settings are those of the later one."""


@dataclass(frozen=True)
class Parts:
    """The parts of a model.

    Attributes
    ----------
    network, scheduler : Path
        Folders; the same one where the layout is flat.
    kind : str
        Class of the network, one of `NETWORKS`.
    autoencoder : Path, optional
        Folder, where there is one.
    autoencoder_kind : str
        Its class, one of `AUTOENCODERS`; "" without one.
    n_labels : int
        Classes that the index names; 0 where it names none.
    has_text_encoder : bool
    """

    network: Path
    scheduler: Path
    kind: str
    autoencoder: Path | None = None
    autoencoder_kind: str = ""
    n_labels: int = 0
    has_text_encoder: bool = False


def parts_of(folder: Path) -> Parts:
    """Find the parts of a model in a folder.

    Raises
    ------
    MigvisError
        Naming what there is, if a part is of a class that no prior can have.
    """
    index = _json(folder / "model_index.json")
    network = next((folder / name for name in _NETWORK_PARTS if (folder / name).is_dir()), folder)
    settings = _json(network / "config.json")
    kind = _kind_of(settings, f"prior {folder}")
    named = {name: value[-1] for name, value in index.items() if isinstance(value, list) and any(value)}
    named |= {name: "model" for name in _OTHER_PARTS if name not in named and (folder / name).is_dir()}
    known = {*_NETWORK_PARTS, "scheduler", "vae"} | (
        set(_TEXT_PARTS) if kind == "UNet2DConditionModel" else set()
    )
    others = [f"{name} ({what})" for name, what in named.items() if name not in known]
    if others:
        raise MigvisError(
            f"prior {folder}: beside its network lies {', '.join(others)}; expected a network of pixels, or "
            f"of the latents of an autoencoder in 'vae' ({' or '.join(AUTOENCODERS)}); give such a model"
        )
    scheduler = folder / "scheduler" if (folder / "scheduler").is_dir() else folder
    check_scheduler(
        _json(scheduler / "scheduler_config.json").get("_class_name", "DDPMScheduler"), f"prior {folder}"
    )
    vae = folder / "vae"
    autoencoder, autoencoder_kind = (vae, _autoencoder_kind(vae, folder)) if vae.is_dir() else (None, "")
    labels: Mapping[str, str] = next(
        (index[name] for name in ("id2label", "labels") if isinstance(index.get(name), Mapping)), {}
    )
    return Parts(
        network,
        scheduler,
        kind,
        autoencoder,
        autoencoder_kind,
        len(labels),
        (folder / "text_encoder").is_dir(),
    )


def check_scheduler(name: str, where: str) -> None:
    """Refuse a scheduler of networks that are trained in another way."""
    if name not in (*SCHEDULERS, *FLOW_SCHEDULERS):
        raise MigvisError(
            f"{where}: its scheduler is a {name}; expected one of a network that was trained to denoise with "
            f"betas, such as DDPMScheduler or DDIMScheduler, or {FLOW_SCHEDULERS[0]}; give such a model"
        )


def _kind_of(settings: Json, where: str) -> str:
    named = str(settings.get("_class_name", "UNet2DModel"))
    kind = _OLD_NAMES.get(named, named)
    fits = settings.get("norm_type") == "ada_norm_zero" and settings.get("patch_size") is not None
    is_other = kind != named and not fits
    if kind not in NETWORKS or is_other:
        raise MigvisError(
            f"{where}: its network is a {named:.60}; expected one of {', '.join(NETWORKS)}; give such a model"
        )
    return kind


def _autoencoder_kind(vae: Path, folder: Path) -> str:
    kind = str(_json(vae / "config.json").get("_class_name", ""))
    if kind not in AUTOENCODERS:
        raise MigvisError(
            f"prior {folder}: beside its network lies vae ({kind or 'model'}); expected "
            f"{' or '.join(AUTOENCODERS)}; give such a model"
        )
    return kind


def _json(path: Path) -> Json:
    """Return the content of a JSON file; nothing where it is absent or damaged, which is found on opening."""
    try:
        return read_json(path)
    except (OSError, ValueError):
        return {}
