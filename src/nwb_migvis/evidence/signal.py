"""Regression of expected responses on expected latents, free of the noise of both.

In half a of the repeats a response or a latent is its expectation given the stimulus plus noise; half b has
the same expectation and other noise. Covariances *between* halves are therefore covariances of expectations.
A regression that is made of them alone is not attenuated by errors in its variables (Fuller 1987, chapter 1).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.missing import centred, mean_of_present

SHRINKAGES = np.array([1.0, 3.0, 10.0, 30.0, 100.0, 1000.0])
"""Candidates s: the reliability r of a direction of the latents is inverted to r / (r^2 + s / n)."""
N_FOLDS = 5


@dataclass(frozen=True, eq=False)
class Pair:
    """The same columns in two halves of the repeats.

    Parameters
    ----------
    a, b : numpy.ndarray, shape (n_stimuli, n_columns)
        Responses are NaN where a unit was not observed.
    """

    a: np.ndarray
    b: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Pair:
        """Return some stimuli: indices or a mask."""
        return Pair(self.a[rows], self.b[rows])

    def __len__(self) -> int:
        return len(self.a)

    def __sub__(self, other: Pair) -> Pair:
        return Pair(self.a - other.a, self.b - other.b)

    def __truediv__(self, scale: np.ndarray) -> Pair:
        return Pair(self.a / scale, self.b / scale)

    def of(self, columns: np.ndarray) -> Pair:
        """Return some columns."""
        return Pair(self.a[:, columns], self.b[:, columns])

    @property
    def mean(self) -> np.ndarray:
        """Mean over both halves, (n_columns,)."""
        return (mean_of_present(self.a) + mean_of_present(self.b)) / 2

    @property
    def scale(self) -> np.ndarray:
        """Geometric mean of the halves' standard deviations, (n_columns,); 1 where a column is constant."""
        mean_square_a, mean_square_b = (
            (centred(half) ** 2).sum(axis=0) / np.maximum(np.isfinite(half).sum(axis=0), 1)
            for half in (self.a, self.b)
        )
        scale = (mean_square_a * mean_square_b) ** 0.25
        return np.where(scale > 1e-12 * (1 + np.nan_to_num(np.abs(self.mean))), scale, 1.0)


@dataclass(frozen=True, eq=False)
class SignalMap:
    """A linear map from features to responses.

    Attributes
    ----------
    mean : array (feature,)
    weight : array (feature, unit)
    intercept : array (unit,)
    """

    mean: np.ndarray
    weight: np.ndarray
    intercept: np.ndarray

    def predict(self, features: Pair) -> Pair:
        """Apply it to both halves."""
        return Pair(*((z - self.mean) @ self.weight + self.intercept for z in (features.a, features.b)))


def powers(latents: Pair, train: np.ndarray, *, degree: int) -> Pair:
    """Return standardised latents with their powers up to a degree, (stimulus, degree x latent).

    Responses are curved functions of latents (rates are exponentials): a line alone would leave that over.
    Powers are made orthogonal for normal latents (Hermite polynomials).

    Parameters
    ----------
    latents : Pair
    train : array of bool (stimulus,)
        Stimuli whose mean and scale are used.
    degree : int
        1 to 3.
    """
    mean, scale = latents[train].mean, latents[train].scale
    z = Pair((latents.a - mean) / scale, (latents.b - mean) / scale)
    hermite = (lambda x: x, lambda x: x**2 - 1, lambda x: x**3 - 3 * x)[:degree]
    return Pair(*(np.concatenate([each(half) for each in hermite], axis=1) for half in (z.a, z.b)))


def fit_signal(features: Pair, responses: Pair) -> SignalMap:
    """Regress expected responses on expected features.

    Along a direction in which the features have the reliability r (correlation between the halves), the slope
    between halves is divided by r, as r / (r^2 + s / n). The shrinkage s keeps directions without signal out;
    it is chosen in five folds by what is explained there.

    Parameters
    ----------
    features, responses : Pair
        Of the training stimuli.
    """
    scale = responses.scale
    scaled = responses / scale
    fold = np.arange(len(features)) % N_FOLDS
    gains = np.zeros(len(SHRINKAGES))
    for k in range(N_FOLDS):
        in_fold = fold == k
        fit = _Fit(features[~in_fold], scaled[~in_fold])
        for i, shrinkage in enumerate(SHRINKAGES):
            gains[i] += _explained(fit.map(shrinkage).predict(features[in_fold]), scaled[in_fold]).sum()
    chosen = _Fit(features, scaled).map(SHRINKAGES[int(np.argmax(gains))])
    return SignalMap(chosen.mean, chosen.weight * scale, chosen.intercept * scale)


def explained_terms(predicted: Pair, responses: Pair) -> tuple[np.ndarray, np.ndarray]:
    """Return what the share of the expected responses' variance that is predicted is made of.

    For every stimulus 2 y p - p^2 and y^2, with y the expected response and p its prediction, both minus the
    mean response: every product is taken between the halves and divided by the unit's variance, and summed
    over units. The ratio of the sums over stimuli is 1 minus the squared error over the variance.

    Parameters
    ----------
    predicted, responses : Pair
        Of the test stimuli: (stimulus, unit).

    Returns
    -------
    explained, expected : array (stimulus,)
    """
    y = responses / responses.scale
    expected = centred(y.a) * centred(y.b)
    return _explained(predicted / responses.scale, y), expected.sum(axis=1)


def _explained(predicted: Pair, responses: Pair) -> np.ndarray:
    present = np.isfinite(responses.a) & np.isfinite(responses.b)
    a, b = predicted.a - mean_of_present(responses.b), predicted.b - mean_of_present(responses.a)
    explained = centred(responses.b) * a + centred(responses.a) * b - a * b
    return np.where(present, explained, 0.0).sum(axis=1)


class _Fit:
    """Moments between the halves of training stimuli, along directions of rising reliability."""

    def __init__(self, features: Pair, responses: Pair) -> None:
        self._n, self._mean, self._centre = len(features), features.mean, responses.mean
        za, zb = features.a - features.a.mean(axis=0), features.b - features.b.mean(axis=0)
        n_a, n_b = (np.maximum(np.isfinite(half).sum(axis=0), 1) for half in (responses.a, responses.b))
        between = za.T @ zb / self._n
        size, axes = np.linalg.eigh((za.T @ za + zb.T @ zb) / (2 * self._n))
        varies = size > 1e-9 * max(float(size[-1]), 1e-300)
        white = axes[:, varies] / np.sqrt(size[varies])
        reliability, turn = np.linalg.eigh(white.T @ (between + between.T) @ white / 2)
        self._reliability = np.maximum(reliability, 0.0)
        self._axes = white @ turn
        slope = za.T @ centred(responses.b) / n_b + zb.T @ centred(responses.a) / n_a
        self._slope = self._axes.T @ slope / 2

    def map(self, shrinkage: float) -> SignalMap:
        r = self._reliability
        inverse = r / (r**2 + shrinkage / self._n)
        return SignalMap(self._mean, self._axes @ (inverse[:, None] * self._slope), self._centre)
