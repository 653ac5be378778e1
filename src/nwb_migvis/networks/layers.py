"""Features of images at the layers of a network for photographs."""

from __future__ import annotations

import numpy as np
import torch

from nwb_migvis.networks.describing import EFFICIENTNET_PX, as_input
from nwb_migvis.networks.efficientnet_lite import EfficientNetLite, for_inference
from nwb_migvis.networks.image_networks import ImageNetwork
from nwb_migvis.networks.pooling import grid_average

OUTPUT = "output"
"""The one layer of a network whose inside is not known."""
_AT_ONCE = 32


@torch.no_grad()
def describe_layers(
    network: ImageNetwork, images: np.ndarray, *, device: str = "cpu"
) -> dict[str, np.ndarray]:
    """Describe images by the features that a network has at its layers.

    Parameters
    ----------
    network : ImageNetwork
    images : array of uint8 (n, y, x) or (n, y, x, channel)
        Gray is repeated as red, green and blue; the whole image is resized to the network's size.
    device : str

    Returns
    -------
    dict of str to array of float32 (n, feature)
        Of EfficientNet-Lite0 "stage 1" to "stage 7", each averaged over 4 x 4 places; of another network
        "output".
    """
    module = network.module.to(device).eval()
    is_efficientnet = isinstance(module, EfficientNetLite)
    module = for_inference(module) if isinstance(module, EfficientNetLite) else module
    size_px = EFFICIENTNET_PX if is_efficientnet else network.size_px
    layers: dict[str, list[np.ndarray]] = {}
    for first in range(0, len(images), _AT_ONCE):
        batch = images[first : first + _AT_ONCE]
        x = as_input(batch, size_px, mean=network.mean, std=network.std).to(device)
        if isinstance(module, EfficientNetLite):
            seen = {f"stage {i}": grid_average(h) for i, h in enumerate(module.stages(x), start=1)}
        else:
            seen = {OUTPUT: module(x)}
        for name, features in seen.items():
            layers.setdefault(name, []).append(features.float().cpu().numpy())
    return {name: np.concatenate(parts) for name, parts in layers.items()}
