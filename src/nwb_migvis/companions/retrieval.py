"""Which of N held-out images was shown: identification by a linear encoding model of each layer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.companions.held import ALL, COUNTS, Held, described, each_session
from nwb_migvis.companions.images import image_features, principal_components
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.evidence.ridge import PENALTIES, Ridge, RidgeBasis
from nwb_migvis.levels import Exchange

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

MOST_CANDIDATES = 1152
MOST_TRAIN = 2000
SHARES = (0.25, 0.5, 0.75, 1.0)
"""Of the units, along the scaling curve."""
N_SUBSETS = 3
"""Random subsets of units of each share."""
_SHRINK = 0.1


class Retrieval:
    """The analysis `retrieval`."""

    needs = ("latents", "pixels", "network")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Rank the held-out images by how well each explains the responses to one of them.

        Returns
        -------
        xarray.Dataset
            Over (space, layer): `top1`, `top5` (share of responses whose image is first, among the first
            five) and `percentile` (mean share of the other images that rank behind it; .5 by chance), each
            with interval, null, p and q. Over space: `best_layer`, chosen on the validation images. Over
            n_repeats and unit_share: the scaling of `top1` and `percentile` of all latents and of counts,
            with intervals over images.
        """
        return each_session(study, retrieve)


def retrieve(held: Held) -> xr.Dataset:
    """Do what `Retrieval.compute` does for one session."""
    held.require_held_out(Retrieval.min_images, to="retrieval")
    rows = Rows.of(held)
    layers = {
        name: principal_components(features, train=rows.train, seed=held.seed)
        for name, features in image_features(held).items()
    }
    bases = {name: RidgeBasis(x[rows.train]) for name, x in layers.items()}
    levels = held.design.split[rows.test]
    ranks = {
        (space, layer): image_ranks(z, layers[layer], rows, basis=bases[layer])
        for space, z in held.spaces.items()
        for layer in layers
    }
    best = {
        space: max(layers, key=lambda name: _validated(z, layers[name], rows, bases[name]))
        for space, z in held.spaces.items()
    }
    shape = (len(held.spaces), len(layers))
    data = _scores(list(ranks.values()), levels, held, shape=shape)
    data["best_layer"] = (("space",), np.array(list(best.values())), "Layer, chosen on validation images.")
    scaling, along = _scaling(held, rows, layers[best[COUNTS]], bases[best[COUNTS]])
    return described(
        data | scaling,
        {"space": list(held.spaces), "layer": list(layers), **along},
        title="Retrieval of held-out images",
        description="How well the image that was shown is found among held-out images from responses.",
        headline=["top1", "percentile"],
        n_candidates=len(rows.test),
        chance_top1=1 / len(rows.test),
    )


@dataclass(frozen=True, eq=False)
class Rows:
    """Stimuli that an encoding model is fitted to, chosen by, and tried on: rows of each."""

    train: np.ndarray
    validation: np.ndarray
    test: np.ndarray

    @classmethod
    def of(cls, held: Held) -> Rows:
        """Take the split of a session; of very many stimuli some, at random."""
        rng = held.rng(10)
        return cls(
            _some(held.train, MOST_TRAIN, rng), held.validation, _some(held.test, MOST_CANDIDATES, rng)
        )


def _some(rows: np.ndarray, most: int, rng: np.random.Generator) -> np.ndarray:
    return rows if len(rows) <= most else np.sort(rng.choice(rows, most, replace=False))


def image_ranks(z: np.ndarray, x: np.ndarray, rows: Rows, *, basis: RidgeBasis | None = None) -> np.ndarray:
    """Rank held-out images by the likelihood of held-out responses, (response, image) int from 0.

    Responses are predicted from features by ridge regression, its penalty chosen on the validation stimuli.
    Errors are taken as Gaussian with the covariance that they have on the validation stimuli and, shrunk,
    on the training stimuli (identification as in Kay et al. 2008).

    Parameters
    ----------
    z : array (stimulus, latent)
        Latents or responses.
    x : array (stimulus, feature)
    rows : Rows
    basis : RidgeBasis, optional
        Of the features of the training stimuli.
    """
    return _ranks(z, x, rows.test, fit=_fit(z, x, rows, basis))


@dataclass(frozen=True, eq=False)
class _Fit:
    """A ridge from features to standardised responses, and what makes its errors white."""

    scale: np.ndarray
    ridge: Ridge
    whiten: np.ndarray

    def predicted(self, x: np.ndarray) -> np.ndarray:
        return self.ridge.predict(x) @ self.whiten

    def responses(self, z: np.ndarray) -> np.ndarray:
        return z / self.scale @ self.whiten


def _fit(z: np.ndarray, x: np.ndarray, rows: Rows, basis: RidgeBasis | None) -> _Fit:
    scale = np.maximum(z[rows.train].std(axis=0), 1e-9)
    y, basis = z / scale, basis or RidgeBasis(x[rows.train])
    penalty = None
    if len(rows.validation):
        errors = basis.errors(y[rows.train], x_new=x[rows.validation], y_new=y[rows.validation])
        penalty = float(PENALTIES[int(np.argmin(errors))])
    ridge = basis.fit(y[rows.train], penalty=penalty)
    held = rows.validation if len(rows.validation) > 2 * y.shape[1] else rows.train
    error = y[held] - ridge.predict(x[held])
    covariance = np.atleast_2d(np.cov(error, rowvar=False))
    covariance = (1 - _SHRINK) * covariance + _SHRINK * np.diag(np.maximum(np.diag(covariance), 1e-9))
    values, vectors = np.linalg.eigh(covariance)
    return _Fit(scale, ridge, vectors / np.sqrt(np.maximum(values, 1e-9)))


def _ranks(z: np.ndarray, x: np.ndarray, test: np.ndarray, *, fit: _Fit) -> np.ndarray:
    responses, predicted = fit.responses(z[test]), fit.predicted(x[test])
    distance = (predicted**2).sum(axis=1) - 2 * responses @ predicted.T
    return distance.argsort(axis=1, kind="stable").argsort(axis=1, kind="stable")


def _validated(z: np.ndarray, x: np.ndarray, rows: Rows, basis: RidgeBasis) -> float:
    """Return the mean percentile of the validation images among themselves."""
    if len(rows.validation) < 2:
        return 0.0
    ranks = _ranks(z, x, rows.validation, fit=_fit(z, x, rows, basis))
    return -float(np.diagonal(ranks).mean())


def _scores(ranks: list[np.ndarray], levels: Exchange, held: Held, *, shape: tuple[int, int]) -> Variables:
    """Score ranks (cell, response, image), with nulls that exchange whole levels of images."""
    evidence, n = held.config.evidence, len(levels)
    order = levels.permutations(evidence.n_permutations, held.rng(11))
    weight = levels.bootstrap(evidence.n_bootstrap, held.rng(12))
    weight = weight / weight.sum(axis=1, keepdims=True)
    response = np.arange(n)
    true = np.stack([table[response, response] for table in ranks])
    null = np.stack([table[response, order] for table in ranks])
    said = {
        "top1": "Share of responses whose own image is first.",
        "top5": "Share of responses whose own image is among the first five.",
        "percentile": "Mean share of the other images that rank behind the response's own; .5 by chance.",
    }
    data: Variables = {}
    for name, text in said.items():
        own, other = _score(name, true, n), _score(name, null, n)
        data |= measured(
            name,
            ("space", "layer"),
            own.mean(axis=1).reshape(shape),
            text,
            null=other.mean(axis=2).T.reshape(-1, *shape),
            resampled=(weight @ own.T).reshape(-1, *shape),
        )
    median = np.median(true, axis=1).reshape(shape) + 1
    data["median_rank"] = (("space", "layer"), median, f"Median rank of the own image among {n}; 1 is best.")
    return data


def _score(name: str, rank: np.ndarray, n: int) -> np.ndarray:
    if name == "percentile":
        return 1 - rank / max(n - 1, 1)
    return (rank < {"top1": 1, "top5": 5}[name]).astype(np.float64)


def _scaling(held: Held, rows: Rows, x: np.ndarray, basis: RidgeBasis) -> tuple[Variables, dict]:
    """Retrieve from some of the repeats, and from some of the units."""
    latents = held.latents
    data: Variables = {}
    rng = held.rng(13)
    most = int(np.median(latents.n_presentations[rows.test]))
    repeats = sorted({1, *(k for k in (2, 4, 8, 16) if k < most), most})
    cells = []
    for k in repeats:
        mean = first_repeats(latents.spike_count, latents.stimulus_index, latents.split.size, k=k, rng=rng)
        spaces = [np.sqrt(np.nan_to_num(mean))]
        if latents.knows_responses:
            spaces.insert(0, np.asarray(latents.model.encode(mean)[0], np.float64))
        cells.append([np.diagonal(image_ranks(z, x, rows, basis=basis))[None] for z in spaces])
    names = [ALL, COUNTS] if latents.knows_responses else [COUNTS]
    weight = held.design.split[rows.test].bootstrap(held.config.evidence.n_bootstrap, held.rng(12))
    for i, space in enumerate(names):
        of = "latents" if space == ALL else "counts"
        text = f"of {space} from so many repeats, drawn at random."
        data |= _curve(
            [cell[i] for cell in cells], f"_by_repeats_of_{of}", dim="n_repeats", text=text, weight=weight
        )
    counts, n_units = held.spaces[COUNTS], held.spaces[COUNTS].shape[1]
    by_units = []
    for share in SHARES:
        size = max(round(share * n_units), 1)
        subsets = [rng.choice(n_units, size, replace=False) for _ in range(N_SUBSETS if share < 1 else 1)]
        own = [np.diagonal(image_ranks(counts[:, units], x, rows, basis=basis)) for units in subsets]
        by_units.append(np.stack(own))
    text = "of counts of that share of the units, mean over random subsets."
    data |= _curve(by_units, "_by_units", dim="unit_share", text=text, weight=weight)
    return data, {"n_repeats": repeats, "unit_share": list(SHARES)}


def _curve(ranks: list[np.ndarray], ending: str, *, dim: str, text: str, weight: np.ndarray) -> Variables:
    """Score a scaling curve, with intervals over images.

    Parameters
    ----------
    ranks : list of array of int (subset, image)
        At each place of the curve.
    ending : str
        Of the names of its variables.
    dim, text : str
    weight : array (resample, image)
        How often each image is in each resample.
    """
    data: Variables = {}
    weight = weight / weight.sum(axis=1, keepdims=True)
    for name in ("top1", "percentile"):
        scores = np.stack([_score(name, own, own.shape[1]).mean(axis=0) for own in ranks])
        data |= measured(
            f"{name}{ending}", (dim,), scores.mean(axis=1), f"{name} {text}", resampled=weight @ scores.T
        )
    return data


def first_repeats(
    spike_count: np.ndarray, stimulus_index: np.ndarray, n_stimuli: int, *, k: int, rng: np.random.Generator
) -> np.ndarray:
    """Average the counts of k random presentations of each stimulus, (stimulus, unit)."""
    order = rng.permutation(len(stimulus_index))
    by_stimulus = order[np.argsort(stimulus_index[order], kind="stable")]
    index = stimulus_index[by_stimulus]
    start = np.searchsorted(index, index)
    chosen = by_stimulus[np.arange(len(index)) - start < k]
    return average_counts(spike_count[chosen], stimulus_index[chosen], n_stimuli)
