"""What the files of a prior's folder say, checked before a network is built from them."""

from __future__ import annotations

import inspect
import math
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from diffusers import UNet2DModel

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import check_regular
from nwb_migvis.plain import Json
from nwb_migvis.synthesis.prior.autoencoder import AUTOENCODERS, Autoencoder
from nwb_migvis.synthesis.prior.model import PRECISIONS, Prior
from nwb_migvis.synthesis.prior.others import NETWORKS, OtherDenoiser
from nwb_migvis.synthesis.prior.packing import check_size
from nwb_migvis.tensors import MOST_PX, MOST_STEPS, Tensor, parse_json, read_header_of

MOST_TEXT_BYTES = 2**24
"""Size of a JSON file; the longest holds the betas of a schedule."""

_MOST_LAYERS = 64
_MOST_BLOCKS = 9
_MOST_CHANNELS = 2**16
_MOST_MULTIPLE = 256
"""Of which the sides of images are multiples once padded."""

_OUR_TENSORS = "nwb_migvis_prior.safetensors"
_EMBEDDING = "groups.{}.0.weight"
_DEFAULTS = {
    name: parameter.default for name, parameter in inspect.signature(UNet2DModel.__init__).parameters.items()
}
"""Of the settings of a network."""


@dataclass(frozen=True)
class Head:
    """Our own settings of a prior: what diffusers has no place for."""

    patch_px: int
    precision: str
    scale: Mapping[str, float]
    shape: tuple[int, ...]
    sizes: tuple[int, ...] | None
    is_other: bool = False


def check_files(folder: Path) -> None:
    """Refuse a folder with pipes or devices among its files, or with weights whose parts lie elsewhere.

    Raises
    ------
    MigvisError
    OSError
        If it cannot be listed.
    """
    for place in (folder, *(folder / name for name in ("unet", "transformer", "vae", "scheduler"))):
        for path in sorted(place.iterdir()) if place.is_dir() else []:
            check_regular(path, what="prior:")
            if path.suffix in (".json", ".txt") and path.is_file() and path.stat().st_size > MOST_TEXT_BYTES:
                raise MigvisError(
                    f"prior: {path} has {path.stat().st_size} bytes; expected at most {MOST_TEXT_BYTES}"
                )
            if path.name.endswith(".index.json"):
                parts = read_json(path).get("weight_map", {})
                names = set(map(str, parts.values())) if isinstance(parts, dict) else {str(parts)}
                if any(Path(name).name != name for name in names):
                    raise MigvisError(f"prior: {path} names files of other folders; expected its own alone")


def check_network(folder: Path, kind: str = "UNet2DModel") -> None:
    """Refuse settings of a network that is larger than its stored weights, without building it in memory.

    Parameters
    ----------
    folder : Path
        With `config.json` and safetensors.
    kind : str
        Class of the network.

    Raises
    ------
    ValueError
    OSError
        If a file cannot be read.
    """
    settings = read_json(folder / "config.json")
    if kind == "UNet2DModel":
        _check_numbers(settings)
    weights = [path for path in sorted(folder.glob("*.safetensors")) if path.name != _OUR_TENSORS]
    if not weights:
        there = sorted(
            path.name for path in folder.glob("*") if path.suffix in (".bin", ".ckpt", ".pt", ".pth")
        )
        found = f"found {there[0]}" if there else "found no weights"
        raise ValueError(f"{found} in {folder.name}; expected safetensors, which alone are read")
    stored = [read_header_of(path) for path in weights]
    n_stored = sum(math.prod(tensor.shape) for tensors in stored for tensor in tensors.values())
    check_size((NETWORKS | AUTOENCODERS)[kind], settings, n_stored)


def check_schedule(path: Path) -> None:
    """Refuse a schedule of more steps than `MOST_STEPS`.

    Raises
    ------
    ValueError
    OSError
        If the file cannot be read.
    """
    settings = read_json(path)
    n_steps, betas = settings.get("num_train_timesteps", 1000), settings.get("trained_betas") or []
    if type(n_steps) is not int or not 1 <= n_steps <= MOST_STEPS or len(betas) > MOST_STEPS:
        raise ValueError(
            f"{path.name}: num_train_timesteps is {n_steps!r:.40}, with {len(betas)} betas; expected 1 to "
            f"{MOST_STEPS}"
        )


def read_head(path: Path, tensors: Mapping[str, Any]) -> Head:
    """Return our own settings of a prior, checked against its tensors.

    Parameters
    ----------
    path : Path
        JSON.
    tensors : mapping of str to Tensor or torch.Tensor
        The embedding of the latents.

    Raises
    ------
    ValueError, KeyError, TypeError
    OSError
        If the file cannot be read.
    """
    content = read_json(path)
    patch_px, precision, sizes = content["patch_px"], content["precision"], content["sizes"]
    shape, scale = _whole_numbers("shape", content["shape"], most=MOST_PX), content["scale"]
    if len(shape) not in (2, 3) or (len(shape) == 3 and shape[2] != 3):
        raise ValueError(f"shape is {list(shape)}; expected (y, x) or (y, x, 3)")
    if type(patch_px) is not int or not 1 <= patch_px <= 64:
        raise ValueError(f"patch_px is {patch_px!r:.40}; expected 1 to 64")
    if precision not in PRECISIONS:
        raise ValueError(f"precision is {precision!r:.40}; expected {' or '.join(PRECISIONS)}")
    if set(scale) != {"mean", "std"} or not all(type(v) in (int, float) for v in scale.values()):
        raise ValueError(f"scale is {scale!r:.60}; expected the numbers mean and std")
    if not scale["std"] > 0:
        raise ValueError(f"scale has std = {scale['std']}; expected more than 0")
    if sizes is not None:
        sizes = _whole_numbers("sizes", sizes, most=_MOST_CHANNELS)
        widths = [tensors[_EMBEDDING.format(i)].shape[1] for i in range(len(sizes))]
        if widths != list(sizes):
            raise ValueError(f"sizes are {list(sizes)!r:.60}; the tensors have {widths!r:.60}")
    return Head(patch_px, precision, scale, shape, sizes, content.get("is_other") is True)


def check_fit(unet: UNet2DModel, head: Head, autoencoder: Autoencoder | None = None) -> None:
    """Refuse a network that does not take the images and latents that the settings tell of.

    Raises
    ------
    ValueError
    """
    n_channels = 1 if len(head.shape) == 2 else 3
    if autoencoder is not None:
        n_channels = autoencoder.network.config["latent_channels"]
    n_channels *= head.patch_px**2
    about = unet.config
    if (about["in_channels"], about["out_channels"]) != (n_channels, n_channels):
        raise ValueError(
            f"its network has {about['in_channels']} and {about['out_channels']} channels; images of "
            f"{head.shape} in patches of {head.patch_px} px have {n_channels}"
        )
    if head.patch_px * 2 ** (len(about["block_out_channels"]) - 1) > _MOST_MULTIPLE:
        raise ValueError(f"its network pads images to multiples of over {_MOST_MULTIPLE} px")
    expected = None if head.sizes is None else "identity"
    if about["class_embed_type"] != expected or about["num_class_embeds"] is not None:
        raise ValueError(
            f"its network has class_embed_type {about['class_embed_type']!r}; expected {expected!r}"
        )


def check_forward(prior: Prior) -> None:
    """Let a network predict once, on a small image, so that it fails here if it does."""
    size = 2 * prior.denoiser.multiple
    x = torch.zeros(1, 1 if len(prior.shape) == 2 else 3, size, size)
    if isinstance(prior.denoiser, OtherDenoiser) or prior.autoencoder is not None:
        x = torch.zeros(1, *prior.x_shape)
    with torch.no_grad():
        prior.eps_and_x0_hat(x, 0)
        if prior.autoencoder is not None:
            pixels = torch.zeros(1, 1 if len(prior.shape) == 2 else 3, *prior.shape[:2])
            found = prior.from_pixels(pixels).shape
            if found != x.shape:
                raise ValueError(
                    f"its autoencoder gives {tuple(found)} for an image; its network takes {tuple(x.shape)}"
                )
            prior.to_pixels(x)


def check_finite(tensors: Mapping[str, torch.Tensor]) -> None:
    """Refuse weights that are not finite.

    Raises
    ------
    ValueError
    """
    for name, tensor in tensors.items():
        if not torch.isfinite(tensor).all():
            raise ValueError(f"{name} holds values that are not finite")


def read_json(path: Path) -> Json:
    """Return the object in a JSON file.

    Raises
    ------
    ValueError
        As `parse_json`.
    OSError
        If it cannot be read.
    """
    check_regular(path, what="prior:")
    with path.open("rb") as file:
        return parse_json(file.read(MOST_TEXT_BYTES + 1).decode("utf-8"))


def stored_tensors(path: Path) -> Mapping[str, Tensor]:
    """Return what the header of a safetensors file says; nothing where there is none."""
    return read_header_of(path) if path.exists() else {}


def _check_numbers(settings: Json) -> None:
    channels = _whole_numbers("block_out_channels", settings["block_out_channels"], most=_MOST_CHANNELS)
    blocks = [settings[f"{way}_block_types"] for way in ("down", "up")]
    if len(channels) > _MOST_BLOCKS or any(not _are_texts(names, len(channels)) for names in blocks):
        raise ValueError(
            f"block_out_channels is {list(channels)!r:.60}, with blocks {blocks!r:.60}; expected as many, "
            f"at most {_MOST_BLOCKS}"
        )
    for name, value in settings.items():
        default = _DEFAULTS.get(name)
        if isinstance(default, (int, float, str)) and not _is_like(value, default):
            raise ValueError(f"{name} is {value!r:.40}; expected a value like {default!r}")
    layers = settings.get("layers_per_block", 2)
    if type(layers) is not int or not 0 < layers <= _MOST_LAYERS:
        raise ValueError(f"layers_per_block is {layers!r:.40}; expected at most {_MOST_LAYERS}")
    size = settings.get("sample_size")
    if size is not None:
        _whole_numbers("sample_size", [size] if isinstance(size, int) else size, most=MOST_PX)


def _is_like(value: Any, default: Any) -> bool:
    """Tell whether a value is of the kind of a default: a switch, a number, or text."""
    if isinstance(default, (bool, str)) or isinstance(value, bool):
        return type(value) is type(default)
    return isinstance(value, (int, float)) and abs(value) <= MOST_STEPS


def _are_texts(values: Any, n: int) -> bool:
    return isinstance(values, list) and len(values) == n and all(isinstance(v, str) for v in values)


def _whole_numbers(name: str, values: Any, *, most: int) -> tuple[int, ...]:
    is_list = isinstance(values, Collection) and not isinstance(values, (str, dict)) and bool(values)
    if not is_list or not all(type(v) is int and 0 < v <= most for v in values):
        raise ValueError(f"{name} is {values!r:.60}; expected whole numbers from 1 to {most}")
    return tuple(values)
