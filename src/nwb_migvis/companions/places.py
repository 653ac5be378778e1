"""Places: where in images a group's information is, by covering parts of them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

from nwb_migvis.companions.held import Held, described, each_session
from nwb_migvis.companions.images import chosen_network
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.config.evidence import EDGES
from nwb_migvis.evidence.encoding import Describe
from nwb_migvis.evidence.ridge import PENALTIES, Ridge, RidgeBasis
from nwb_migvis.read.recorded import small_images

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

MOST_IMAGES = 32
"""Held-out images that are covered, at random."""
MOST_TRAIN = 1000
SIDE_PX = 48
"""Longest side at which images are seen."""
N_CELLS = 7
"""Places along each side."""
WIDTH = 0.1
"""Standard deviation of a place's window, and of the blur that covers it twice that; sides of the image."""
FRACTIONS = (0.1, 0.3, 0.6)
"""Of the pixels that are deleted, or kept."""
MAPS = ("map", "edges", "random")
"""Orders in which pixels are deleted: the group's map, energy of edges, smooth noise."""
N_PICTURES = 6
_LEVEL = 0.05


class Places:
    """The analysis `places`."""

    needs = ("latents", "pixels")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Cover places of held-out images, and see what a linear read-out of the group loses.

        Returns
        -------
        xarray.Dataset
            Over group: `seen` (correlation of latents that are read from images with measured ones) with
            null, p and q. Over (group, row, column): `carried`, what the content of a place contributes, with
            null, p and q. Over (group, image, row, column): `map`. Over (group, order): `deletion` and
            `insertion`, areas under the curves, with intervals; over (group, order, fraction) the curves.
            Over (picture, y, x): `picture`, the first images as they were seen.
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
    covered = cover_places(images[rows])
    whole = groups.split(reader.read(images[rows]))
    without = groups.split(reader.read(covered.reshape(-1, *covered.shape[2:])))
    order = held.design.split[rows].permutations(held.config.evidence.n_permutations, held.rng(61))
    weight = held.design.split[rows].bootstrap(held.config.evidence.n_bootstrap, held.rng(62))
    lost = {g: whole[g][:, None] - without[g].reshape(len(rows), -1, whole[g].shape[1]) for g in groups}
    data = _tests(true, whole, lost, order)
    maps = {g: (x**2).sum(axis=2).reshape(-1, N_CELLS, N_CELLS) for g, x in lost.items()}
    dims = ("group", "image", "row", "column")
    text = "Squared change of the group's latents when the place is covered, variances of the latents."
    data["map"] = (dims, np.stack(list(maps.values())).astype(np.float32), text)
    kept = _Kept(reader.read(images[rows]), true, dict(groups.slices), weight)
    data |= _curves(images[rows], maps, kept, reader=reader, rng=rng)
    gray = images[rows[:N_PICTURES]]
    gray = gray.mean(axis=3) if gray.ndim == 4 else gray
    data["picture"] = (
        ("picture", "y", "x"),
        gray.astype(np.int64),
        "The first images, mean of their colours.",
    )
    return described(
        data,
        {
            "group": list(groups),
            "image": held.session["stimulus"].values[rows].astype(str),
            "order": list(MAPS),
            "fraction": list(FRACTIONS),
        },
        title="Places in images",
        description="Where in held-out images the information is that a group has.",
        headline=["seen", "deletion", "insertion", "carried"],
        network=reader.network,
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
    """

    network: str
    describe: Describe
    ridge: Ridge
    mean: np.ndarray
    scale: np.ndarray

    @classmethod
    def of(cls, held: Held, images: np.ndarray, rng: np.random.Generator) -> ImageReader:
        """Fit it to training images, the penalty chosen on validation images."""
        network, describe = chosen_network(held), _describer(held)
        train, held_out = (rng.permutation(rows)[:MOST_TRAIN] for rows in (held.train, held.validation))
        z = held.latents.mean.astype(np.float64)
        mean, scale = z[train].mean(axis=0), np.maximum(z[train].std(axis=0), 1e-12)
        goal = (z - mean) / scale
        basis = RidgeBasis(describe(images[train]))
        penalty = None
        if len(held_out):
            new = describe(images[held_out[: MOST_IMAGES * 4]])
            errors = basis.errors(goal[train], x_new=new, y_new=goal[held_out[: MOST_IMAGES * 4]])
            penalty = float(PENALTIES[int(np.argmin(errors))])
        return cls(network, describe, basis.fit(goal[train], penalty=penalty), mean, scale)

    def scaled(self, z: np.ndarray) -> np.ndarray:
        """Return latents in standard deviations of the training images."""
        return (z - self.mean) / self.scale

    def read(self, images: np.ndarray) -> np.ndarray:
        """Read latents from images, (image, latent)."""
        return self.ridge.predict(self.describe(images))


def _describer(held: Held) -> Describe:
    network, evidence = chosen_network(held), held.config.evidence
    if network == EDGES:
        from nwb_migvis.evidence.readers.kernel import edge_features

        return edge_features
    from nwb_migvis.networks.describing import open_describer

    model = network.partition(":")[2]
    path, sha256 = (table.get(model, "") for table in (evidence.weights_path, evidence.weights_sha256))
    return open_describer(network, path=path, sha256=sha256, device=held.config.device)


def centres(side: int) -> np.ndarray:
    """Return where the centres of places are along a side, pixels."""
    return (np.arange(N_CELLS) + 0.5) * side / N_CELLS


def windows(shape: tuple[int, int]) -> np.ndarray:
    """Return a Gaussian window per place, (place, y, x), 1 at its centre."""
    along = [
        np.exp(-((np.arange(n) + 0.5 - centres(n)[:, None]) ** 2) / (2 * (WIDTH * n) ** 2)) for n in shape
    ]
    return np.einsum("iy,jx->ijyx", *along).reshape(-1, *shape)


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


def peak_is_inside(maps: np.ndarray, masks: np.ndarray) -> np.ndarray:
    """Say of each map whether its largest place is centred on the object: the pointing game, (n,) bool.

    Parameters
    ----------
    maps : array (n, row, column)
    masks : array of bool (n, y, x)
    """
    row, column = np.divmod(maps.reshape(len(maps), -1).argmax(axis=1), maps.shape[2])
    y, x = (centres(n).astype(np.int64) for n in masks.shape[1:])
    return masks[np.arange(len(maps)), y[row], x[column]]


def edge_map(images: np.ndarray) -> np.ndarray:
    """Return the energy of edges at each place, (n, row, column)."""
    gray = images.mean(axis=3) if images.ndim == 4 else images.astype(np.float64)
    energy = sum(np.gradient(gray, axis=axis) ** 2 for axis in (1, 2))
    window = windows(images.shape[1:3])
    return np.einsum("nyx,kyx->nk", energy, window).reshape(-1, N_CELLS, N_CELLS)


def full_size(maps: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Spread maps (n, row, column) over pixels, (n, y, x), by the windows of their places."""
    window = windows(shape)
    return np.einsum("nk,kyx->nyx", maps.reshape(len(maps), -1), window) / window.sum(axis=0)


def _tests(
    true: dict[str, np.ndarray],
    whole: dict[str, np.ndarray],
    lost: dict[str, np.ndarray],
    order: np.ndarray,
) -> Variables:
    """Test that what is read from whole images, and what places contribute, agrees with measured latents."""
    at = np.arange(order.shape[1])
    seen, seen_null, carried, carried_null = [], [], [], []
    for name, z in true.items():
        read = whole[name] - whole[name].mean(axis=0)
        product = read @ z.T / max(float(np.sqrt((read**2).sum() * (z**2).sum())), 1e-300)
        seen.append(np.trace(product))
        seen_null.append(product[at, order].sum(axis=1))
        part = lost[name] - lost[name].mean(axis=0)
        by_place = np.einsum("ikd,jd->ijk", part, z) / max(float((z**2).sum()), 1e-300)
        carried.append(by_place[at, at].sum(axis=0))
        carried_null.append(np.stack([by_place[at, own].sum(axis=0) for own in order]))
    shape = (-1, len(true), N_CELLS, N_CELLS)
    return measured(
        "seen",
        ("group",),
        seen,
        "Correlation of latents read from held-out images with measured ones, over all latents of a group.",
        null=np.array(seen_null).T,
    ) | measured(
        "carried",
        ("group", "row", "column"),
        np.reshape(carried, shape[1:]),
        "Share of the group's variance that the content of the place predicts.",
        null=np.stack(carried_null, axis=1).reshape(shape),
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


def _curves(
    images: np.ndarray,
    maps: dict[str, np.ndarray],
    kept: _Kept,
    *,
    reader: ImageReader,
    rng: np.random.Generator,
) -> Variables:
    """Delete, or keep, the pixels that come first in an order; see how much of the latents stays."""
    names, n, behind = list(maps), len(images), blurred(images)
    common = {"edges": edge_map(images), "random": rng.random((n, N_CELLS, N_CELLS))}
    jobs = [("map", own, [name]) for name, own in maps.items()]
    jobs += [(key, own, names) for key, own in common.items()]
    shape = (2, len(names), len(MAPS), len(FRACTIONS))
    share, drawn = np.full(shape, np.nan), np.full((*shape, len(kept.weight)), np.nan)
    for key, own, of in jobs:
        rank = full_size(own, images.shape[1:3]).reshape(n, -1)
        rank = (-rank).argsort(axis=1, kind="stable").argsort(axis=1, kind="stable") / rank.shape[1]
        for f, fraction in enumerate(FRACTIONS):
            first = (rank < fraction).reshape(images.shape[:3]).astype(np.float32)
            for way, cover in enumerate((first, 1 - first)):
                read = reader.read(_mixed(images, cover, behind))
                for name in of:
                    at = (way, names.index(name), MAPS.index(key), f)
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
