"""Places: where in images a group's information is, by covering parts of them and by features of parts."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

from nwb_migvis.companions.cells import (
    N_CELLS,
    WIDTH,
    centres,
    edge_map,
    full_size,
    peak_is_inside,
    windows,
)
from nwb_migvis.companions.held import Held, described, each_session
from nwb_migvis.companions.images import chosen_network
from nwb_migvis.companions.place_features import Layer, PlaceReader, read_places
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.config.evidence import EDGES
from nwb_migvis.evidence.encoding import Describe
from nwb_migvis.evidence.ridge import PENALTIES, Ridge, RidgeBasis
from nwb_migvis.read.recorded import small_images

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

__all__ = ["Places", "centres", "edge_map", "full_size", "peak_is_inside", "windows"]

MOST_IMAGES = 32
"""Held-out images that are covered, at random."""
MOST_TRAIN = 1000
SIDE_PX = 48
"""Longest side at which images are seen."""
FRACTIONS = (0.1, 0.3, 0.6)
"""Of the pixels that are deleted, or kept."""
_MAPS = {
    "map": "Squared change of the group's latents when the place is covered, variances of the latents.",
    "feature_map": "Square of what features at the place add to the reading of the group's latents beyond "
    "those of the blurred image, variances of the latents.",
}
_CONTENT = {"carried": "content of", "contributed": "features at"}
HEADLINE = ("seen", "deletion", "insertion", "carried", "contributed")
N_PICTURES = 6
_LEVEL = 0.05


class Places:
    """The analysis `places`."""

    needs = ("latents", "pixels", "photographs")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Cover places of held-out images, and see what a linear read-out of the group loses.

        Returns
        -------
        xarray.Dataset
            Over group: `seen` (correlation of latents that are read from images with measured ones) and
            `seen_by_features` (the same of a layer that has places) with null, p and q. Over (group, row,
            column): `carried`, what the content of a place contributes by covering it, and `contributed`,
            what the features there do, with null, p and q. Over (group, image, row, column): `map` and
            `feature_map`, the same of each image. Over (group, order): `deletion` and `insertion`, areas
            under the curves, with intervals; over (group, order, fraction) the curves.
            Over (shown, y, x): `picture`, the first images as they were seen. Without places in the
            network's features, nothing of them.
        """
        return each_session(study, find_places)


def find_places(held: Held) -> xr.Dataset:
    """Do what `Places.compute` does for one session."""
    held.require_held_out(Places.min_images, to="places")
    rng = held.rng(60)
    rows = np.sort(rng.permutation(held.test)[:MOST_IMAGES])
    images = small_images(held.session["image"], SIDE_PX)
    reader = ImageReader.of(held, images, rng)
    groups = held.latents.groups
    true = {
        name: (z - z.mean(axis=0)) for name, z in groups.split(reader.scaled(held.latents.mean[rows])).items()
    }
    shown = images[rows]
    covered = cover_places(shown)
    whole = reader.read(shown)
    without = reader.read(covered.reshape(-1, *covered.shape[2:])).reshape(len(rows), -1, whole.shape[1])
    order = held.design.split[rows].permutations(held.config.evidence.n_permutations, held.rng(61))
    weight = held.design.split[rows].bootstrap(held.config.evidence.n_bootstrap, held.rng(62))
    parts = {"map": groups.split(whole[:, None] - without)}
    data = _seen(true, groups.split(whole), order) | _by_place("carried", true, parts["map"], order)
    layer = Layer.of(reader.network, images, device=held.config.device)
    if layer is not None:
        dense = reader.of_places(layer, images)
        read = read_places(shown, np.rint(blurred(shown)).astype(np.uint8), dense)
        parts["feature_map"] = groups.split(read.reshape(len(rows), -1, whole.shape[1]))
        data |= _seen(true, groups.split(dense.read(shown)), order, name="seen_by_features")
        data |= _by_place("contributed", true, parts["feature_map"], order)
    maps = {
        name: {g: (x**2).sum(axis=2).reshape(-1, N_CELLS, N_CELLS) for g, x in of.items()}
        for name, of in parts.items()
    }
    for name, of in maps.items():
        dims = ("group", "image", "row", "column")
        data[name] = (dims, np.stack(list(of.values())).astype(np.float32), _MAPS[name])
    orders = maps | {name: dict.fromkeys(groups, own) for name, own in _others(shown, rng).items()}
    data |= _curves(shown, orders, _Kept(whole, true, dict(groups.slices), weight), reader=reader)
    gray = shown[:N_PICTURES]
    gray = gray.mean(axis=3) if gray.ndim == 4 else gray
    data["picture"] = (
        ("shown", "y", "x"),
        gray.astype(np.int64),
        "The first images, mean of their colours.",
    )
    return described(
        data,
        {
            "group": list(groups),
            "image": held.session["stimulus"].values[rows].astype(str),
            "order": list(orders),
            "fraction": list(FRACTIONS),
        },
        title="Places in images",
        description="Where in held-out images the information is that a group has.",
        headline=[name for name in HEADLINE if name in data],
        network=reader.network,
        note="" if layer else f"features of {reader.network} have no places: no map of them",
    )


@dataclass(frozen=True, eq=False)
class ImageReader:
    """A linear map from features of images to latents in standard deviations of the training images.

    Attributes
    ----------
    network : str
    describe : callable
    ridge : Ridge
    mean, scale : numpy.ndarray, shape (n_latents,)
    train, validation : (numpy.ndarray of int, numpy.ndarray)
        Rows of images that it was fitted to, and that chose the penalty, with their latents.
    """

    network: str
    describe: Describe
    ridge: Ridge
    mean: np.ndarray
    scale: np.ndarray
    train: tuple[np.ndarray, np.ndarray]
    validation: tuple[np.ndarray, np.ndarray]

    @classmethod
    def of(cls, held: Held, images: np.ndarray, rng: np.random.Generator) -> ImageReader:
        """Fit it to training images, the penalty chosen on validation images."""
        network, describe = chosen_network(held), _describer(held)
        train, held_out = (rng.permutation(rows)[:MOST_TRAIN] for rows in (held.train, held.validation))
        held_out = held_out[: MOST_IMAGES * 4]
        z = held.latents.mean.astype(np.float64)
        mean, scale = z[train].mean(axis=0), np.maximum(z[train].std(axis=0), 1e-12)
        goal = (z - mean) / scale
        basis = RidgeBasis(describe(images[train]))
        penalty = None
        if len(held_out):
            errors = basis.errors(goal[train], x_new=describe(images[held_out]), y_new=goal[held_out])
            penalty = float(PENALTIES[int(np.argmin(errors))])
        ridge = basis.fit(goal[train], penalty=penalty)
        return cls(network, describe, ridge, mean, scale, (train, goal[train]), (held_out, goal[held_out]))

    def of_places(self, layer: Layer, images: np.ndarray) -> PlaceReader:
        """Fit a reading from a layer's places to the same images, which are among all."""
        (train, goal), (rows, new_goal) = self.train, self.validation
        validation = (images[rows], new_goal) if len(rows) else None
        return PlaceReader.fit(layer, (images[train], goal), validation)

    def scaled(self, z: np.ndarray) -> np.ndarray:
        """Return latents in standard deviations of the training images."""
        return (z - self.mean) / self.scale

    def read(self, images: np.ndarray) -> np.ndarray:
        """Read latents from images, (image, latent)."""
        return self.ridge.predict(self.describe(images))


def _describer(held: Held) -> Describe:
    network, config = chosen_network(held), held.config
    if network == EDGES:
        from nwb_migvis.evidence.readers.kernel import edge_features

        return edge_features
    from nwb_migvis.networks.describing import open_describer

    weights = config.evidence.weights_of(network.partition(":")[2])
    return open_describer(network, **weights, device=config.device)


def blurred(images: np.ndarray) -> np.ndarray:
    """Return images (n, y, x (, channel)) without their detail: what covers a place."""
    sd = [0.0, *(2 * WIDTH * n for n in images.shape[1:3]), *[0.0] * (images.ndim - 3)]
    return gaussian_filter(images.astype(np.float32), sd, mode="nearest")


def cover_places(images: np.ndarray) -> np.ndarray:
    """Cover each place in turn by the blurred image, uint8 (n, place, y, x (, channel))."""
    window = windows(images.shape[1:3]).astype(np.float32)
    behind = blurred(images)
    return np.stack([_mixed(images, own, behind) for own in window], axis=1)


def _mixed(images: np.ndarray, cover: np.ndarray, behind: np.ndarray) -> np.ndarray:
    """Show what is behind images where `cover`, (y, x) or (n, y, x), is 1."""
    cover = np.broadcast_to(cover, images.shape[:3])
    cover = cover[..., None] if images.ndim == 4 else cover
    return np.rint(images * (1 - cover) + behind * cover).astype(np.uint8)


Groups = dict[str, np.ndarray]


def _seen(true: Groups, whole: Groups, order: np.ndarray, *, name: str = "seen") -> Variables:
    """Test that what is read from whole images agrees with measured latents."""
    at = np.arange(order.shape[1])
    seen, null = [], []
    for group, z in true.items():
        read = whole[group] - whole[group].mean(axis=0)
        product = read @ z.T / max(float(np.sqrt((read**2).sum() * (z**2).sum())), 1e-300)
        seen.append(np.trace(product))
        null.append(product[at, order].sum(axis=1))
    text = "Correlation of latents read from held-out images with measured ones, over all latents of a group."
    return measured(name, ("group",), seen, text, null=np.array(null).T)


def _by_place(what: str, true: Groups, parts: Groups, order: np.ndarray) -> Variables:
    """Test that what places contribute (image, place, latent) agrees with measured latents."""
    at = np.arange(order.shape[1])
    share, null = [], []
    for name, z in true.items():
        part = parts[name] - parts[name].mean(axis=0)
        by_place = np.einsum("ikd,jd->ijk", part, z) / max(float((z**2).sum()), 1e-300)
        share.append(by_place[at, at].sum(axis=0))
        null.append(np.stack([by_place[at, own].sum(axis=0) for own in order]))
    shape = (-1, len(true), N_CELLS, N_CELLS)
    return measured(
        what,
        ("group", "row", "column"),
        np.reshape(share, shape[1:]),
        f"Share of the group's variance that the {_CONTENT[what]} the place predicts.",
        null=np.stack(null, axis=1).reshape(shape),
    )


@dataclass(frozen=True, eq=False)
class _Kept:
    """How much of what whole images tell of each group stays in damaged ones, by covariance over images."""

    whole: np.ndarray
    true: dict[str, np.ndarray]
    slices: dict[str, slice]
    weight: np.ndarray

    def of(self, read: np.ndarray, name: str) -> tuple[float, np.ndarray]:
        """Return the share of a group, and in resamples of the images."""
        weight = np.concatenate([np.ones((1, len(read))), self.weight])
        weight /= weight.sum(axis=1, keepdims=True)
        z, own = self.true[name], self.slices[name]
        tops, bottoms = (
            weight @ (x * z).sum(axis=1) - ((weight @ x) * (weight @ z)).sum(axis=1)
            for x in (read[:, own], self.whole[:, own])
        )
        share = np.where(bottoms > 0, tops / np.where(bottoms > 0, bottoms, 1), np.nan)
        return float(share[0]), share[1:]


def _others(images: np.ndarray, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Return orders of pixels beside the groups' maps: energy of edges, and smooth noise."""
    return {"edges": edge_map(images), "random": rng.random((len(images), N_CELLS, N_CELLS))}


def _curves(images: np.ndarray, orders: dict[str, Groups], kept: _Kept, *, reader: ImageReader) -> Variables:
    """Delete, or keep, the pixels that come first in an order; see how much of the latents stays."""
    names, n, behind = list(kept.slices), len(images), blurred(images)
    jobs: list[tuple[int, np.ndarray, list[str]]] = []
    for o, of in enumerate(orders.values()):
        same = len({id(own) for own in of.values()}) == 1
        jobs += [(o, of[names[0]], names)] if same else [(o, own, [name]) for name, own in of.items()]
    shape = (2, len(names), len(orders), len(FRACTIONS))
    share, drawn = np.full(shape, np.nan), np.full((*shape, len(kept.weight)), np.nan)
    for o, own, of_groups in jobs:
        rank = full_size(own, images.shape[1:3]).reshape(n, -1)
        rank = (-rank).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") / rank.shape[1]
        for f, fraction in enumerate(FRACTIONS):
            first = (rank < fraction).reshape(images.shape[:3]).astype(np.float32)
            for way, cover in enumerate((first, 1 - first)):
                read = reader.read(_mixed(images, cover, behind))
                for name in of_groups:
                    at = (way, names.index(name), o, f)
                    share[at], drawn[at] = kept.of(read, name)
    data: Variables = {}
    for way, name in enumerate(("deletion", "insertion")):
        what = "are covered" if way == 0 else "alone are left"
        text = f"Share of what whole images tell of the group that stays where the first pixels {what}"
        about = f"{text}, mean over fractions."
        resampled = drawn[way].mean(axis=2).transpose(2, 0, 1)
        data |= measured(name, ("group", "order"), share[way].mean(axis=2), about, resampled=resampled)
        data[f"{name}_curve"] = (("group", "order", "fraction"), share[way], f"{text}.")
    return data
