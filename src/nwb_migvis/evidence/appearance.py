"""What edits look like as images: whether they copy the training set, and how much of their source they keep.

Everything here needs images and edits only, no labels.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import xarray as xr

from nwb_migvis.evidence.transfer import Draws, Transfer, numeric_transfer
from nwb_migvis.groups import LatentGroups

Features = Callable[[np.ndarray], np.ndarray]
"""uint8 images (n, y, x (, channel)) -> (n, feature)."""

CLOSE = 0.01
"""Quantile of the held-out images' distances below which an image counts as close to a training image."""

N_COMPONENTS = 32
"""Principal components of the features in which change is measured."""

N_SPLITS = 5
"""Random draws of equal numbers of images over which a Frechet distance is averaged."""

_CHUNK = 64


def nearest_distance(images: np.ndarray, among: np.ndarray) -> np.ndarray:
    """Return the distance of each image to the nearest of others.

    It is the root mean square over pixels. Each image's own mean is subtracted and its contrast set to 1
    first, so that a copy that is merely darker or paler still counts as one.

    Parameters
    ----------
    images, among : array of uint8 (n, y, x (, channel))

    Returns
    -------
    array (n,)
        From 0 (a copy) to 2 (a negative); about 1.4 for unrelated images.
    """
    a, b = _standardised(images), _standardised(among)
    parts = [(a[i : i + _CHUNK] @ b.T).max(axis=1) for i in range(0, len(a), _CHUNK)]
    return np.sqrt(np.maximum(2 - 2 * np.concatenate(parts), 0)) if parts else np.zeros(0)


def _standardised(images: np.ndarray) -> np.ndarray:
    x = images.reshape(len(images), -1).astype(np.float32)
    x = x - x.mean(axis=1, keepdims=True)
    return x / np.maximum(np.linalg.norm(x, axis=1, keepdims=True), 1e-6)


def memorisation(
    sets: Mapping[str, np.ndarray], *, train: np.ndarray, held_out: np.ndarray
) -> dict[str, dict[str, float]]:
    """Compare sets of synthesized images with training images; real held-out images are the yardstick.

    Parameters
    ----------
    sets : mapping of str to array of uint8 (n, y, x (, channel))
    train, held_out : array of uint8 (n, y, x (, channel))
        Real images.

    Returns
    -------
    dict of str to dict
        For each set and for "held_out": `n`, the median distance to the nearest training image
        (`nearest_distance`), and `close`. That is the fraction nearer than all but 1 % of the held-out images
        are: 0.01 where nothing is memorised.
    """
    real = nearest_distance(held_out, train)
    bound = np.quantile(real, CLOSE)
    distances = {"held_out": real} | {name: nearest_distance(images, train) for name, images in sets.items()}
    return {
        name: {
            "n": len(distance),
            "median": float(np.median(distance)),
            "close": float((distance <= bound).mean()),
        }
        for name, distance in distances.items()
        if len(distance)
    }


def realism(
    sets: Mapping[str, np.ndarray],
    *,
    held_out: np.ndarray,
    features: Mapping[str, Features],
    seed: int,
    sources: Mapping[str, np.ndarray] | None = None,
) -> dict[str, dict[str, dict[str, float]]]:
    """Return Frechet distances of synthesized images from real ones, and between two sets of real ones.

    All distances are between sets of equal size: the largest that leaves two disjoint sets of real held-out
    images. They are averaged over random draws of the sets. A draw takes one image per source: several from
    one source are alike in what was not edited, and would lie further from real ones for that alone.

    Parameters
    ----------
    sets : mapping of str to array of uint8 (n, y, x (, channel))
    held_out : array of uint8 (n, y, x (, channel))
    features : mapping of str to callable
    seed : int
    sources : mapping of str to array (n,), optional
        What each image of a set was made from; without it each image counts as its own source.

    Returns
    -------
    dict of feature space to dict of set to dict
        `n`, `distance`, and `real`, the distance between two sets of n real images. Sets of fewer than
        eight images are omitted.
    """
    rng = np.random.default_rng(seed)
    by_space: dict[str, dict[str, dict[str, float]]] = {}
    for space, describe in features.items():
        real = describe(held_out)
        for name, images in sets.items():
            origin = np.arange(len(images)) if sources is None or name not in sources else sources[name]
            n = min(len(np.unique(origin)), len(real) // 2)
            if n < 8:
                continue
            features_of_set = describe(images)
            distances = []
            for _ in range(N_SPLITS):
                order = rng.permutation(len(real))
                first, second = real[order[:n]], real[order[n : 2 * n]]
                mixed = rng.permutation(len(features_of_set))
                one_each = mixed[np.sort(np.unique(origin[mixed], return_index=True)[1])]
                sample = features_of_set[one_each[:n]]
                distances.append([frechet_distance(sample, first), frechet_distance(first, second)])
            distance, between = np.mean(distances, axis=0)
            by_space.setdefault(space, {})[name] = {
                "n": n,
                "distance": float(distance),
                "real": float(between),
            }
    return by_space


def feature_components(describe: Features, train: np.ndarray) -> Features:
    """Return the leading principal components of features, as they vary over the training images."""
    features = describe(train)
    mean = features.mean(axis=0)
    axes = np.linalg.svd(features - mean, full_matrices=False)[2][:N_COMPONENTS]
    return lambda images: (describe(images) - mean) @ axes.T


def feature_transfer(
    edits: xr.Dataset,
    *,
    images: np.ndarray,
    stimulus: Sequence[str],
    components: Features,
    draws: Draws,
) -> dict[str, dict[str, Transfer]]:
    """Measure, without labels, how far edits of each group and method move images towards their targets.

    The joint regression of `numeric_transfer` with all components as columns: `transfer` is the share of the
    target's appearance that edits take over, `retention` the share of the source's that they keep.

    Parameters
    ----------
    edits : xarray.Dataset
        Of role `main`.
    images : array of uint8 (stimulus, y, x (, channel))
    stimulus : sequence of str
    components : callable
        From `feature_components`.
    draws : Draws

    Returns
    -------
    dict of group to dict of method to Transfer
    """
    row = {str(name): i for i, name in enumerate(stimulus)}
    ends = {
        end: components(images[[row[str(name)] for name in edits[end].values]])
        for end in ("source", "target")
    }
    features_of_edits = components(edits["image"].values)
    by_group: dict[str, dict[str, Transfer]] = {}
    keys = list(zip(edits["group"].values, edits["method"].values, strict=True))
    for group, method in dict.fromkeys(keys):
        rows = np.array([key == (group, method) for key in keys])
        by_group.setdefault(str(group), {})[str(method)] = numeric_transfer(
            features_of_edits[rows],
            ends["target"][rows],
            source=ends["source"][rows],
            draws=draws,
            ends=(edits["source"].values[rows], edits["target"].values[rows]),
        )
    return by_group


def start_dependence(traversals: xr.Dataset, *, components: Features) -> dict[str, dict[str, float]]:
    """Split the variance of traversals into what the start image and what the traversal explains.

    Parameters
    ----------
    traversals : xarray.Dataset
        Edits of role `traversal`: of every group, the same sources at as many lengths of each direction,
        which are steps in their order.
    components : callable
        From `feature_components`.

    Returns
    -------
    dict of group to dict
        Fractions of the variance over sources and steps: `between_sources` (the result depends on the start
        image), `between_steps` (a change that all sources share), `within` (the rest: each source changes in
        its own way). Averaged over the directions. Nothing where there are no traversals.
    """
    if traversals.sizes["edit"] == 0:
        return {}
    features_of_edits = components(traversals["image"].values)
    by_group: dict[str, dict[str, float]] = {}
    for group in dict.fromkeys(traversals["group"].values.tolist()):
        shares = []
        for direction in dict.fromkeys(traversals["direction"].values.tolist()):
            rows = ((traversals["group"] == group) & (traversals["direction"] == direction)).values
            source, gamma = (traversals[name].values[rows] for name in ("source", "gamma"))
            shares.append(_shares(features_of_edits[rows], source, _rank_within(source, gamma)))
        names = ("between_sources", "between_steps", "within")
        by_group[str(group)] = dict(zip(names, np.mean(shares, axis=0).tolist(), strict=True))
    return by_group


def _rank_within(source: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Rank values (edit,) among those of the same source, from 0; equal ones as they come."""
    rank = np.empty(len(values), dtype=np.int64)
    for each in np.unique(source):
        rows = np.flatnonzero(source == each)
        rank[rows[np.argsort(values[rows], kind="stable")]] = np.arange(len(rows))
    return rank


def _shares(
    features_of_edits: np.ndarray, source: np.ndarray, step: np.ndarray
) -> tuple[float, float, float]:
    """Two-way split of the variance over a full grid of sources and steps; NaN where nothing varies."""
    sources, i = np.unique(source, return_inverse=True)
    steps, j = np.unique(step, return_inverse=True)
    grid = np.full((len(sources), len(steps), features_of_edits.shape[1]), np.nan)
    grid[i, j] = features_of_edits
    grid = grid - grid.mean(axis=(0, 1))
    total = (grid**2).mean(axis=(0, 1)).sum()
    if not total > 0:
        return np.nan, np.nan, np.nan
    by_source = (grid.mean(axis=1) ** 2).mean(axis=0).sum() / total
    by_step = (grid.mean(axis=0) ** 2).mean(axis=0).sum() / total
    return float(by_source), float(by_step), float(1 - by_source - by_step)


def extreme_stimuli(
    latents: np.ndarray,
    stimulus: Sequence[str],
    *,
    directions: Mapping[tuple[str, str], np.ndarray],
    groups: LatentGroups,
    k: int = 5,
) -> dict[str, dict[str, dict[str, list[str]]]]:
    """Return the shown stimuli at both ends of each direction of each group.

    Parameters
    ----------
    latents : array (stimulus, latent)
        Standardised.
    stimulus : sequence of str
    directions : mapping of (group, direction) to array (size,)
    groups : LatentGroups
    k : int
        Stimuli at each end, the farthest first.

    Returns
    -------
    dict of group to dict of direction to {"bottom": ids, "top": ids}
    """
    ends: dict[str, dict[str, dict[str, list[str]]]] = {}
    for (group, direction), vector in directions.items():
        order = np.argsort(latents[:, groups.slices[group]] @ vector, kind="stable")
        ends.setdefault(group, {})[direction] = {
            "bottom": [str(stimulus[i]) for i in order[:k]],
            "top": [str(stimulus[i]) for i in order[::-1][:k]],
        }
    return ends


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Fréchet distance between Gaussians fitted to two sets of feature vectors.

    ``|mean_a - mean_b|^2 + tr(C_a + C_b - 2 (C_a C_b)^(1/2))`` (Dowson and Landau 1982). It grows as sets
    get smaller: compare sets of equal numbers only, and against two halves of real images.

    Parameters
    ----------
    a, b : array (image, feature)
        Features of a reader (`Reader.features`).

    Returns
    -------
    float
        In the squared unit of the features; NaN with fewer than two images in a set.
    """
    if min(len(a), len(b)) < 2:
        return float("nan")
    mean_a, mean_b = a.mean(axis=0), b.mean(axis=0)
    # With C = R^T R, tr (C_a C_b)^(1/2) is the sum of the singular values of R_a R_b^T.
    root_a, root_b = (
        np.asarray(np.linalg.qr((x - mean) / np.sqrt(len(x)), mode="r"))
        for x, mean in ((a, mean_a), (b, mean_b))
    )
    cross = np.linalg.svd(root_a @ root_b.T, compute_uv=False).sum()
    return float(((mean_a - mean_b) ** 2).sum() + (root_a**2).sum() + (root_b**2).sum() - 2 * cross)
