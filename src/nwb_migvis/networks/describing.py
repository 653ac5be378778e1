"""Features of images by a network for photographs that stays as it is, for judges of edits."""

from __future__ import annotations

import hashlib

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F

from nwb_migvis.networks.efficientnet_lite import EfficientNetLite, for_inference
from nwb_migvis.networks.image_networks import ImageNetwork, open_image_network

EFFICIENTNET_PX = 112
"""Side at which EfficientNet-Lite0 sees images of up to `SMALL_PX`: a quarter of the cost of 224."""
FINE_EFFICIENTNET_PX = 160
"""The same of larger images: half of the cost of 224.

With 480 training images of macaque V4's session HvM, objects are told with a score (chance 0) of .35 at both
sides in images of 32 px, and with .44 and .51 in images of 64 px.
"""
SMALL_PX = 48
_AT_ONCE = 32


class ImageDescriber:
    """Features of images, each computed once.

    Of EfficientNet-Lite0 they are the activations of its sixth stage, averaged over 4 x 4 places: in macaque
    V4 these predict units better than the last block, and tell objects better. Of other networks they are
    what the network gives.

    Parameters
    ----------
    kind : str
        Name of the network.
    network : ImageNetwork
    device : str
    """

    def __init__(self, kind: str, network: ImageNetwork, *, device: str = "cpu"):
        self.kind = kind
        self.sha256 = network_digest(network.module)
        module, self._sizes_px = network.module, (network.size_px, network.size_px)
        if isinstance(module, EfficientNetLite):
            module, self._sizes_px = for_inference(module), (EFFICIENTNET_PX, FINE_EFFICIENTNET_PX)
        self._module = module.to(device).eval().requires_grad_(False)
        self._mean, self._std = network.mean, network.std
        self._device = device
        self._rows: dict[bytes, np.ndarray] = {}

    def __call__(self, images: np.ndarray) -> np.ndarray:
        """Describe uint8 images (n, y, x) or (n, y, x, channel), (n, feature) float64.

        Gray is repeated as red, green and blue, and the whole image is resized to the network's size
        (bilinear).
        """
        keys = [hashlib.blake2b(image.tobytes(), digest_size=16).digest() for image in images]
        places = {key: i for i, key in enumerate(keys) if key not in self._rows}
        new = list(places.values())
        for first in range(0, len(new), _AT_ONCE):
            rows = new[first : first + _AT_ONCE]
            self._rows |= zip([keys[i] for i in rows], self._describe(images[rows]), strict=True)
        if not keys:
            return np.zeros((0, 0))
        return np.stack([self._rows[key] for key in keys]).astype(np.float64)

    @torch.no_grad()
    def _describe(self, images: np.ndarray) -> np.ndarray:
        size_px = self._sizes_px[max(images.shape[1:3]) > SMALL_PX]
        x = as_input(images, size_px, mean=self._mean, std=self._std).to(self._device)
        module = self._module
        features = module.sixth_stage(x) if isinstance(module, EfficientNetLite) else module(x)
        return features.float().cpu().numpy()


def as_input(
    images: np.ndarray, size_px: int, *, mean: tuple[float, ...], std: tuple[float, ...]
) -> torch.Tensor:
    """Return uint8 images (n, y, x (, channel)) as a network takes them: (n, 3, size_px, size_px) float32.

    Gray is repeated as red, green and blue, and the whole image is resized (bilinear).
    """
    x = torch.from_numpy(np.ascontiguousarray(images)).float() / 255
    x = x[:, None] if x.ndim == 3 else x.permute(0, 3, 1, 2)
    offset, scale = (torch.tensor(values)[:, None, None] for values in (mean, std))
    return normalised(x, size_px, mean=offset, std=scale).contiguous(memory_format=torch.channels_last)


def normalised(x: torch.Tensor, size_px: int, *, mean: torch.Tensor, std: torch.Tensor) -> torch.Tensor:
    """Return images x (n, 1 or 3, y, x), pixels from 0 to 1, as `as_input` does; with a gradient.

    Parameters
    ----------
    x : torch.Tensor
    size_px : int
    mean, std : torch.Tensor, shape (3, 1, 1)
        Of red, green and blue.
    """
    x = F.interpolate(x.expand(-1, 3, -1, -1), size_px, mode="bilinear", align_corners=False)
    return (x - mean) / std


def network_digest(module: nn.Module) -> str:
    """Return the sha256 of a network's tensors with their names: two networks of one digest are one."""
    digest = hashlib.sha256()
    for name, tensor in sorted(module.state_dict().items()):
        digest.update(name.encode() + tensor.detach().cpu().contiguous().numpy().tobytes())
    return digest.hexdigest()


def open_describer(kind: str, *, path: str = "", sha256: str = "", device: str = "cpu") -> ImageDescriber:
    """Open a network by its name among judges.

    Parameters
    ----------
    kind : str
        "efficientnet-lite0", "timm:ARCHITECTURE", or a registered image network.
    path, sha256 : str
        Weights of an architecture of timm.
    device : str

    Raises
    ------
    MigvisError
        As `open_image_network`.
    """
    name, _, model = kind.partition(":")
    return ImageDescriber(
        kind, open_image_network(name, model=model, path=path, sha256=sha256), device=device
    )
