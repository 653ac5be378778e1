"""Ridge regression of many outputs at once, its penalty chosen on the training rows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.missing import same_rows

PENALTIES = np.logspace(-6, 2, 17)
"""Candidate penalties, relative to the number of rows (features have unit variance)."""

NEGLIGIBLE = 1e-13
"""Share of the largest squared singular value below which one is not told from rounding errors."""


@dataclass(frozen=True)
class Ridge:
    """A fitted linear map: features are standardised, then multiplied by `weight`.

    Attributes
    ----------
    mean, scale : array (feature,)
    weight : array (feature, output)
    intercept : array (output,)
    penalty : float
        The penalty used, relative to the number of training rows.
    """

    mean: np.ndarray
    scale: np.ndarray
    weight: np.ndarray
    intercept: np.ndarray
    penalty: float

    def predict(self, x: np.ndarray) -> np.ndarray:
        """Predict the outputs (row, output) of features (row, feature)."""
        return (x - self.mean) / self.scale @ self.weight + self.intercept


def fit_ridge(x: np.ndarray, y: np.ndarray, *, penalty: float | None = None) -> Ridge:
    """Fit a ridge regression with an unpenalised intercept.

    Parameters
    ----------
    x : array (row, feature)
        A constant feature gets no weight.
    y : array (row, output)
        NaN where missing: an output is fitted to the rows that have it.
    penalty : float, optional
        Relative to the number of rows; by default the candidate with the least generalised
        cross-validation error (Golub, Heath and Wahba 1979), summed over the standardised outputs.

    Returns
    -------
    Ridge
    """
    x, y = np.asarray(x, dtype=np.float64), np.asarray(y, dtype=np.float64)
    present = ~np.isnan(y)
    if not present.all():
        return _fit_by_rows(x, y, present, penalty=penalty)
    return RidgeBasis(x).fit(y, penalty=penalty)


def _fit_by_rows(x: np.ndarray, y: np.ndarray, present: np.ndarray, *, penalty: float | None) -> Ridge:
    """Fit the outputs that have the same rows together, all with one penalty; NaN for one without rows."""
    weight, intercept = np.zeros((x.shape[1], y.shape[1])), np.full(y.shape[1], np.nan)
    parts = [
        (columns, RidgeBasis(x[rows]).outputs(y[np.ix_(rows, columns)]))
        for columns, rows in same_rows(present)
        if rows.any()
    ]
    if penalty is None:
        penalty = _least(sum((part.gcv_errors() for _, part in parts), np.zeros(len(PENALTIES))))
    for columns, part in parts:
        own = part.ridge(penalty)
        weight[:, columns] = own.weight / own.scale[:, None]
        intercept[columns] = own.intercept - own.mean @ weight[:, columns]
    return Ridge(np.zeros(x.shape[1]), np.ones(x.shape[1]), weight, intercept, penalty)


class RidgeBasis:
    """Features of some rows, decomposed once for fits of any outputs of the same rows.

    Parameters
    ----------
    x : array (row, feature)
    """

    def __init__(self, x: np.ndarray) -> None:
        mean, scale = x.mean(axis=0), x.std(axis=0)
        self._mean, self._scale = mean, np.where(scale > 1e-12 * (1 + np.abs(mean)), scale, np.inf)
        self._u, self._s, self._vt = singular_vectors((x - mean) / self._scale)

    def fit(self, y: np.ndarray, *, penalty: float | None = None) -> Ridge:
        """Fit outputs (row, output) of which none is missing, as `fit_ridge` does."""
        outputs = self.outputs(y)
        return outputs.ridge(_least(outputs.gcv_errors()) if penalty is None else penalty)

    def errors(self, y: np.ndarray, *, x_new: np.ndarray, y_new: np.ndarray) -> np.ndarray:
        """Return the squared error on other rows with each of `PENALTIES`, (penalty,), summed over outputs.

        Parameters
        ----------
        y : array (row, output)
        x_new, y_new : array (new row, feature), array (new row, output)
        """
        outputs = self.outputs(y)
        along = (x_new - self._mean) / self._scale @ self._vt.T
        goal = y_new - outputs.centre
        shrunk = self._s / (self._s**2 + PENALTIES[:, None] * len(y))
        return np.array([((goal - along @ (own[:, None] * outputs.projected)) ** 2).sum() for own in shrunk])

    def outputs(self, y: np.ndarray) -> _Outputs:
        """Return outputs along the singular vectors."""
        centre = y.mean(axis=0)
        return _Outputs(self, y - centre, centre, self._u.T @ (y - centre))

    def ridge(self, outputs: _Outputs, penalty: float) -> Ridge:
        """Solve for one penalty."""
        shrunk = self._s / (self._s**2 + penalty * len(outputs.y))
        weight = self._vt.T @ (shrunk[:, None] * outputs.projected)
        return Ridge(self._mean, self._scale, weight, outputs.centre, penalty)

    @property
    def singular_values(self) -> np.ndarray:
        """Of the standardised features."""
        return self._s


@dataclass(frozen=True, eq=False)
class _Outputs:
    """Centred outputs, also along the singular vectors of the features."""

    basis: RidgeBasis
    y: np.ndarray
    centre: np.ndarray
    projected: np.ndarray

    def ridge(self, penalty: float) -> Ridge:
        return self.basis.ridge(self, penalty)

    def gcv_errors(self) -> np.ndarray:
        """Return the generalised cross-validation error of each candidate penalty."""
        return _gcv_errors(self.basis.singular_values, self.projected, self.y)


def singular_vectors(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return u (row, k), s (k,) and vt (k, column) of x = u * s @ vt, the largest of s first.

    They come from the smaller of the two products of x with itself, which takes a fraction of the time of
    a decomposition of x. Directions whose s is below 3e-7 of the largest are left out.
    """
    is_wide = len(x) < x.shape[1]
    squares, vectors = np.linalg.eigh(x @ x.T if is_wide else x.T @ x)
    kept = np.flatnonzero(squares > NEGLIGIBLE * squares.max(initial=0.0))[::-1]
    vectors, s = vectors[:, kept], np.sqrt(squares[kept])
    return (vectors, s, (vectors / s).T @ x) if is_wide else (x @ (vectors / s), s, vectors.T)


def _least(errors: np.ndarray) -> float:
    return float(PENALTIES[int(np.argmin(errors))])


def _gcv_errors(s: np.ndarray, projected: np.ndarray, y: np.ndarray) -> np.ndarray:
    n = len(y)
    variance = (y**2).sum(axis=0)
    varies = variance > 0
    share = (projected[:, varies] ** 2 / variance[varies]).sum(axis=1)
    outside = varies.sum() - share.sum()
    shrinkage = s**2 / (s**2 + PENALTIES[:, None] * n)
    residual = outside + ((1 - shrinkage) ** 2 * share).sum(axis=1)
    freedom = np.maximum(n - 1 - shrinkage.sum(axis=1), 1e-9)
    return residual / freedom**2
