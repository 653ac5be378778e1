"""Response variance that a latent group explains beyond given features of the stimuli."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property

import numpy as np

from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.intervals import basic_interval
from nwb_migvis.evidence.missing import centred, mean_of_present, residuals
from nwb_migvis.evidence.reliability import column_correlation, spearman_brown
from nwb_migvis.evidence.ridge import PENALTIES, RidgeBasis, fit_ridge
from nwb_migvis.evidence.significance import pairing_p, permutations
from nwb_migvis.evidence.variance import MIN_STIMULI
from nwb_migvis.labels import Label, code_labels, select
from nwb_migvis.levels import Exchange

N_FOLDS = 5
N_FOURIER = 200
"""Random Fourier features of labels."""
N_COMPONENTS = 32
"""Principal components of the pixels, and of the Gabor energies."""


@dataclass(frozen=True)
class Beyond:
    """Fraction of the repeatable variance that a group adds to given features.

    Attributes
    ----------
    added : float
        R2 of features and latents together minus that of the features alone, over the half reliability.
    interval : (float, float)
        95 % basic interval of it, of a bootstrap over levels of the test stimuli.
    features : float
        What the features explain alone, on the same scale.
    p_value : float
        Of the null that the group adds nothing, by exchange of test stimuli.
    """

    added: float = np.nan
    features: float = np.nan
    p_value: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)


class Given:
    """Features of the stimuli that responses and latents are judged beyond.

    What they leave over of a training stimulus is told by fits that saw other stimuli, in folds of whole
    levels, and so is the penalty. It is then alike on training and on test stimuli: many features that tell
    the training objects apart say little about others.

    Parameters
    ----------
    features : array (stimulus, feature)
    train : array of bool (stimulus,)
        Stimuli to fit on.
    levels : Exchange, optional
        Levels of the stimuli that folds and resamples keep whole; each on its own where it is None.
    seed : int
        Of the folds.
    """

    def __init__(
        self, features: np.ndarray, *, train: np.ndarray, levels: Exchange | None = None, seed: int
    ) -> None:
        self._features, self._rows, self._new = features, np.flatnonzero(train), np.flatnonzero(~train)
        self.levels = Exchange.singles(len(train)) if levels is None else levels
        self._seed = seed

    @cached_property
    def _whole(self) -> _Part:
        return _Part(self._features, self._rows, self._new)

    @cached_property
    def _folds(self) -> list[_Part]:
        levels = self.levels[self._rows]
        n_folds = min(N_FOLDS, levels.n_levels)
        fold = levels.folds(n_folds, np.random.default_rng(self._seed))
        parts = [(self._rows[fold != k], self._rows[fold == k]) for k in range(n_folds) if n_folds > 1]
        return [_Part(self._features, fitted, new) for fitted, new in parts]

    def left_over(self, y: np.ndarray) -> np.ndarray:
        """Return what the features do not predict of y (stimulus, column), NaN where y is."""
        scale = centred(y[self._rows]).std(axis=0)
        filled = np.where(np.isnan(y), np.nan_to_num(mean_of_present(y)), y) / np.where(scale > 0, scale, 1.0)
        errors = [part.errors(self._features, filled) for part in self._folds]
        penalty = PENALTIES[int(np.argmin(np.sum(errors, axis=0)))] if errors else None
        left = np.array(y, dtype=np.float64)
        for part in (self._whole, *self._folds):
            left[part.new] -= part.predict(self._features, y, penalty)
        return left


class _Part:
    """Stimuli to fit on, and others to predict."""

    def __init__(self, features: np.ndarray, fitted: np.ndarray, new: np.ndarray) -> None:
        self.fitted, self.new, self._basis = fitted, new, RidgeBasis(features[fitted])

    def errors(self, features: np.ndarray, y: np.ndarray) -> np.ndarray:
        return self._basis.errors(y[self.fitted], x_new=features[self.new], y_new=y[self.new])

    def predict(self, features: np.ndarray, y: np.ndarray, penalty: float | None) -> np.ndarray:
        own = y[self.fitted]
        is_whole = not np.isnan(own).any()
        fit = self._basis.fit(own, penalty=penalty) if is_whole else None
        return (fit or fit_ridge(features[self.fitted], own, penalty=penalty)).predict(features[self.new])


def variance_beyond(
    halves: Halves,
    given: Given,
    *,
    min_reliability: float = 0.1,
    n_permutations: int = 999,
    n_bootstrap: int = 1000,
    seed: int,
) -> Beyond:
    """Measure the response variance that latents explain beyond features of the stimuli.

    Responses and latents are first predicted from the features by ridge regression. What is left of the
    latents of one half of the repeats then predicts what is left of the responses of the other half. All of
    it is fitted on the training stimuli and measured on the test stimuli. It is averaged over both directions
    and reliable units as in `variance.group_variance`. The p-value exchanges test stimuli between the
    prediction from the latents and what the features leave over, in the direction a to b.

    Parameters
    ----------
    halves : Halves
        With the latents of one group.
    given : Given
        Fitted on the repeated training stimuli of `halves`.
    min_reliability, n_permutations, n_bootstrap, seed
        As in `variance.group_variance`.

    Returns
    -------
    Beyond
        NaN with fewer than ten repeated stimuli on either side, or without a reliable unit.
    """
    half_a, half_b = halves.half_a, halves.half_b
    train, test = halves.repeated_train, halves.repeated_test
    if min(train.sum(), test.sum()) < MIN_STIMULI:
        return Beyond()
    with np.errstate(invalid="ignore"):
        reliable = spearman_brown(column_correlation(half_a[train], half_b[train])) >= min_reliability
    ceiling = column_correlation(half_a[test], half_b[test])
    reliable &= np.isfinite(ceiling)
    if not reliable.any() or ceiling[reliable].mean() <= 0:
        return Beyond()
    terms, pairs = [], []
    for latents, responses in ((halves.latents_a, half_b), (halves.latents_b, half_a)):
        y = responses[:, reliable]
        left, rest = given.left_over(y), given.left_over(latents)
        gain = fit_ridge(rest[train], left[train]).predict(rest)
        variance = (centred(y[test]) ** 2).sum(axis=0)
        # What each test stimulus has of the variance and of the errors before and after, mean over units.
        parts = (centred(y[test]), residuals(left[test], np.zeros(1)), residuals(left[test], gain[test]))
        terms.append([(part**2 / variance).mean(axis=1) for part in parts])
        pairs.append((centred(left[test]) / variance, gain[test]))
    varied, before, after = np.mean(terms, axis=0)
    rng = np.random.default_rng(seed)
    pairings = permutations(int(test.sum()), n_permutations, rng=rng)
    p_value = pairing_p(*pairs[0], pairings)
    weight = given.levels[test].bootstrap(n_bootstrap, rng)
    scale = float(ceiling[reliable].mean())
    added = float((before - after).sum() / scale)
    resampled = weight @ (before - after) / np.maximum(weight @ varied, 1e-12) / scale
    return Beyond(
        added,
        float((varied - before).sum() / scale),
        p_value,
        basic_interval(added, resampled),
    )


def label_features(
    labels: Mapping[str, Label],
    *,
    train: np.ndarray,
    seed: int,
) -> np.ndarray:
    """Describe stimuli by their labels: the coded values, and random cosines of them.

    Parameters
    ----------
    labels : mapping of str to Label (stimulus,)
        A missing value is coded as the mean with a column that says so.
    train : array of bool (stimulus,)
        Stimuli that the codes are chosen on.
    seed : int

    Returns
    -------
    array (stimulus, feature)
        No columns where no label varies.
    """
    columns = []
    for code in code_labels(select(labels, train)):
        coded = code.encode(labels[code.name].values).astype(np.float64)
        missing = np.logical_not(np.isfinite(coded).all(axis=1))
        columns.append(np.where(missing[:, None], np.nanmean(coded[train], axis=0), coded))
        if missing.any():
            columns.append(missing[:, None].astype(np.float64))
    if not columns:
        return np.zeros((len(train), 0))
    x = np.concatenate(columns, axis=1)
    rng = np.random.default_rng(seed)
    frequency = rng.normal(size=(x.shape[1], N_FOURIER)) / np.sqrt(2 * x.shape[1])
    phase = rng.uniform(0, 2 * np.pi, N_FOURIER)
    return np.concatenate([x, np.cos(x @ frequency + phase)], axis=1)


def image_features(images: np.ndarray, *, train: np.ndarray) -> np.ndarray:
    """Describe images by what early vision has: pixels, and Gabor energies, each as principal components.

    Parameters
    ----------
    images : array of uint8 (stimulus, y, x) or (stimulus, y, x, channel)
    train : array of bool (stimulus,)
        Images that the components are fitted on.

    Returns
    -------
    array (stimulus, feature)
        At most `N_COMPONENTS` of each kind.
    """
    gray = np.asarray(images, dtype=np.float64)
    gray = gray.mean(axis=3) if gray.ndim == 4 else gray
    parts = [gray.reshape(len(gray), -1), gabor_energies(gray)]
    return np.concatenate([_components(part, train) for part in parts], axis=1)


def gabor_energies(
    gray: np.ndarray, *, wavelengths_px: tuple[float, ...] = (3.0, 6.0, 12.0), n_orientations: int = 6
) -> np.ndarray:
    """Amplitude of Gabor filters of several wavelengths and orientations, on a grid of places.

    Parameters
    ----------
    gray : array (stimulus, y, x)
    wavelengths_px : tuple of float
        The envelope's standard deviation is 0.56 of it (one octave), and a place is taken every wavelength.
    n_orientations : int

    Returns
    -------
    array (stimulus, feature)
    """
    spectrum = np.fft.fft2(gray - gray.mean(axis=(1, 2), keepdims=True))
    fy, fx = np.meshgrid(np.fft.fftfreq(gray.shape[1]), np.fft.fftfreq(gray.shape[2]), indexing="ij")
    features = []
    for wavelength in wavelengths_px:
        sd = 1 / (2 * np.pi * 0.56 * wavelength)
        step = max(round(wavelength), 1)
        for angle in np.pi * np.arange(n_orientations) / n_orientations:
            y, x = np.sin(angle) / wavelength, np.cos(angle) / wavelength
            passed = np.exp(-((fy - y) ** 2 + (fx - x) ** 2) / (2 * sd**2))
            energy = np.abs(np.fft.ifft2(spectrum * passed))
            features.append(energy[:, step // 2 :: step, step // 2 :: step].reshape(len(gray), -1))
    return np.concatenate(features, axis=1)


def _components(x: np.ndarray, train: np.ndarray) -> np.ndarray:
    mean = x[train].mean(axis=0)
    centred = x[train] - mean
    n = min(N_COMPONENTS, *centred.shape)
    small = centred.shape[0] < centred.shape[1]
    squared, axes = np.linalg.eigh(centred @ centred.T if small else centred.T @ centred)
    squared, axes = squared[::-1][:n], axes[:, ::-1][:, :n]
    varies = squared > 1e-9 * max(squared[0], 1e-300)
    axes = axes[:, varies]
    directions = centred.T @ axes / np.sqrt(squared[varies]) if small else axes
    return (x - mean) @ directions
