"""How many dimensions groups, units and image features have, without what noise adds."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.analysis.units import unit_values
from nwb_migvis.companions.held import ALL, COUNTS, Held, described, each_session
from nwb_migvis.companions.images import image_features
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.evidence.dimension import twonn_dimension
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.reliability import half_means, split_half_reliability

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

N_PARTS = 20
"""Parts of the images that the jackknife omits in turn."""
MOST_COMPONENTS = 20
"""Components whose variance is stored."""
_LEVEL = 0.05

Pair = tuple[np.ndarray, np.ndarray]
"""The same images (stimulus, feature) from two halves of the repeats."""


class Dimension:
    """The analysis `dimension`."""

    needs = ("latents", "repeats", "network")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Measure the dimension of what repeats, on held-out images.

        Returns
        -------
        xarray.Dataset
            Over space: `participation_ratio` with its interval, `repeatable` (variance that both halves of
            the repeats share) with null, p and q, `twonn`, `n_features`. Over (space, component):
            `spectrum`. Over layer, where there are pixels: `features_participation_ratio` of the same images.
        """
        return each_session(study, measure)


def measure(held: Held) -> xr.Dataset:
    """Do what `Dimension.compute` does for one session."""
    held.require_held_out(Dimension.min_images, to="dimension")
    pairs = halved_spaces(held)
    test, levels = held.test, held.levels
    order = levels.permutations(held.config.evidence.n_permutations, held.rng(20))
    parts = levels.folds(min(N_PARTS, levels.n_levels), held.rng(21))
    own = {name: (a[test], b[test]) for name, (a, b) in pairs.items()}
    shared = np.array([repeatable(a, b) for a, b in own.values()])
    null = np.array([_null(a, b, order) for a, b in own.values()]).T
    data: Variables = measured(
        "repeatable",
        ("space",),
        shared,
        "Variance that two halves of the repeats share, summed over features, in their own units.",
        null=null,
    )
    holds = data["repeatable_p"][1] < _LEVEL
    ratio = np.array([with_jackknife(a, b, parts) for a, b in own.values()])
    ratio[~holds] = np.nan
    for i, (end, text) in enumerate(
        (
            ("", "Participation ratio of the covariance of what repeats; no value where nothing does."),
            ("_low", "Lower end of its 95 % interval, by a jackknife over images."),
            ("_high", "Upper end of its 95 % interval, by a jackknife over images."),
        )
    ):
        data[f"participation_ratio{end}"] = (("space",), ratio[:, i], text)
    twonn = [twonn_dimension((a + b) / 2) for a, b in own.values()]
    data["twonn"] = (
        ("space",),
        np.array(twonn),
        "TwoNN dimension of the means of all repeats, noise included.",
    )
    n_features = np.array([a.shape[1] for a, _ in own.values()])
    data["n_features"] = (("space",), n_features, "Latents, or units.")
    spectra = np.full((len(pairs), MOST_COMPONENTS), np.nan)
    for row, (a, b) in zip(spectra, pairs.values(), strict=True):
        values = spectrum(a, b, train=held.train, test=test)[:MOST_COMPONENTS]
        row[: len(values)] = values
    text = "Share of the repeatable variance along a principal component of the training images."
    data["spectrum"] = (("space", "component"), spectra, text)
    coords: dict[str, object] = {"space": list(pairs), "component": np.arange(1, MOST_COMPONENTS + 1)}
    if "image" in held.session:
        layers = {name: x[test].astype(np.float64) for name, x in image_features(held).items()}
        of_layers = np.array([with_jackknife(x, x, parts) for x in layers.values()])
        for i, end in enumerate(("", "_low", "_high")):
            about = f"Participation ratio of image features{', an end of its interval' if end else ''}."
            data[f"features_participation_ratio{end}"] = (("layer",), of_layers[:, i], about)
        coords["layer"] = list(layers)
    return described(
        data,
        coords,
        title="Dimension of what repeats",
        description="Linear and local dimension of groups, units and image features on held-out images.",
        headline=["participation_ratio", "repeatable", "features_participation_ratio"],
        n_images=len(test),
    )


def halved_spaces(held: Held) -> dict[str, Pair]:
    """Return each group, all latents, root counts, and each area's, from two halves of the repeats."""
    own = held.latents
    pairs: dict[str, Pair] = {}
    if own.knows_responses:
        halves = Halves.of(
            own.model,
            own.spike_count,
            stimulus_index=own.stimulus_index,
            split=own.split,
            seed=held.seed,
            in_first=held.in_first,
        )
        a, b = (np.asarray(z, np.float64) for z in (halves.latents_a, halves.latents_b))
        pairs |= {name: (a[:, place], b[:, place]) for name, place in own.groups.slices.items()}
        pairs[ALL] = (a, b)
        counts = (halves.half_a, halves.half_b)
    else:
        rng = np.random.default_rng(held.seed)
        counts = half_means(own.spike_count, own.stimulus_index, own.split.size, rng=rng)[:2]
    reliability = split_half_reliability(
        own.spike_count, own.stimulus_index, n_stimuli=own.split.size, seed=held.seed
    )
    units = np.flatnonzero(reliability >= held.config.evidence.min_reliability)
    root = tuple(np.sqrt(np.nan_to_num(half)) for half in counts)
    pairs[COUNTS] = (root[0][:, units], root[1][:, units])
    return pairs | {
        area: (root[0][:, chosen], root[1][:, chosen]) for area, chosen in matched_areas(held, units).items()
    }


def matched_areas(held: Held, units: np.ndarray) -> dict[str, np.ndarray]:
    """Return units of each area, as many of each at random; none where no column tells areas apart."""
    column = held.config.companions.areas
    if not column:
        return {}
    of_unit = unit_values(held.session, column)[units]
    areas = [area for area in sorted(set(of_unit.tolist())) if area]
    n = min((int((of_unit == area).sum()) for area in areas), default=0)
    rng = held.rng(22)
    return {
        f"{column} {area}": np.sort(rng.choice(units[of_unit == area], n, replace=False)) for area in areas
    }


def repeatable(a: np.ndarray, b: np.ndarray) -> float:
    """Covariance of two halves of the repeats, summed over features; unbiased for the signal's variance."""
    return float(((a - a.mean(axis=0)) * (b - b.mean(axis=0))).sum() / (len(a) - 1))


def _null(a: np.ndarray, b: np.ndarray, order: np.ndarray) -> np.ndarray:
    product = (a - a.mean(axis=0)) @ (b - b.mean(axis=0)).T
    return product[np.arange(len(a)), order].sum(axis=1) / (len(a) - 1)


def signal_participation_ratio(a: np.ndarray, b: np.ndarray) -> float:
    """Participation ratio (tr S)^2 / tr(S^2) of the covariance S of what two halves of the repeats share.

    Noise is independent between halves, so both terms are estimated without the bias that noise and the
    number of images bring: tr(S^2) as the unbiased dependence of both halves with linear kernels (Song et al.
    2012, JMLR 13, equation 5), (tr S)^2 minus the variance of its estimate.

    Parameters
    ----------
    a, b : array (image, feature)
        Independent images; for features without noise the same array.

    Returns
    -------
    float
        NaN where either term is not above 0.
    """
    a, b = a - a.mean(axis=0), b - b.mean(axis=0)
    n = len(a)
    along = (a * b).sum(axis=1) * n / (n - 1)
    trace_squared = along.mean() ** 2 - along.var(ddof=1) / n
    k, m = a @ a.T, b @ b.T
    np.fill_diagonal(k, 0)
    np.fill_diagonal(m, 0)
    sums = k.sum(axis=0), m.sum(axis=0)
    squared = (k * m).sum() + sums[0].sum() * sums[1].sum() / ((n - 1) * (n - 2))
    squared = (squared - 2 / (n - 2) * (sums[0] * sums[1]).sum()) / (n * (n - 3))
    return float(trace_squared / squared) if min(trace_squared, squared) > 0 else float("nan")


def with_jackknife(a: np.ndarray, b: np.ndarray, parts: np.ndarray) -> tuple[float, float, float]:
    """Return the participation ratio of what repeats and its 95 % interval.

    Parameters
    ----------
    a, b : array (image, feature)
    parts : array of int (image,)
        Parts of the images that are omitted in turn; the interval is that of the logarithm.
    """
    ratio = signal_participation_ratio(a, b)
    each = np.log([signal_participation_ratio(a[parts != k], b[parts != k]) for k in np.unique(parts)])
    error = np.sqrt((len(each) - 1) / len(each) * ((each - each.mean()) ** 2).sum())
    return ratio, float(ratio * np.exp(-1.96 * error)), float(ratio * np.exp(1.96 * error))


def spectrum(a: np.ndarray, b: np.ndarray, *, train: np.ndarray, test: np.ndarray) -> np.ndarray:
    """Shares of the repeatable variance along principal components, (component,).

    Components are of the training images, from the mean of both halves; variance is the covariance of the
    halves on other images (cross-validated components; Stringer et al. 2019, *Nature* 571).
    """
    both = (a[train] + b[train]) / 2
    centre = both.mean(axis=0)
    _, _, axes = np.linalg.svd(both - centre, full_matrices=False)
    along = ((a[test] - centre) @ axes.T, (b[test] - centre) @ axes.T)
    shared = ((along[0] - along[0].mean(axis=0)) * (along[1] - along[1].mean(axis=0))).mean(axis=0)
    total = shared.sum()
    return shared / total if total > 0 else np.full(len(shared), np.nan)
