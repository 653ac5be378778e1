"""What edits change in the responses that an encoding model predicts: evidence that needs no labels.

An encoding model predicts each unit's response from an image's features, those of a network that took no
part in making the edits. The predicted responses are encoded into latents as measured ones are. How far an
edit moves them towards its target's is the transfer of the group that was edited.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from nwb_migvis.evidence.intervals import percentile_interval
from nwb_migvis.evidence.missing import same_rows
from nwb_migvis.evidence.reliability import column_correlation
from nwb_migvis.evidence.ridge import PENALTIES, RidgeBasis
from nwb_migvis.evidence.transfer import MIN_PAIRS, Draws, Transfer, numeric_transfer

MAX_TRAIN = 1500
"""Training stimuli beyond this number are omitted at random: the regression is solved exactly."""
LEAST_COUNT = 1e-6
"""Predicted counts are at least this."""

Describe = Callable[[np.ndarray], np.ndarray]
"""Images of uint8 (n, y, x (, channel)) -> features (n, feature)."""


@dataclass(frozen=True, eq=False)
class EncodingModel:
    """A linear map from features of images to expected spike counts.

    Attributes
    ----------
    weight : numpy.ndarray, shape (n_features, n_units)
    intercept : numpy.ndarray, shape (n_units,)
    """

    weight: np.ndarray
    intercept: np.ndarray

    def counts(self, features: np.ndarray) -> np.ndarray:
        """Predict spike counts per presentation (image, unit), above 0, from features (image, feature)."""
        return np.maximum(features @ self.weight + self.intercept, LEAST_COUNT)


def training_sample(train: np.ndarray, *, seed: int) -> np.ndarray:
    """Choose the training stimuli that an encoding model is fitted to, (stimulus,) bool."""
    used = np.flatnonzero(train)
    if len(used) > MAX_TRAIN:
        used = np.random.default_rng(seed).choice(used, MAX_TRAIN, replace=False)
    sample = np.zeros(len(train), dtype=bool)
    sample[used] = True
    return sample


def fit_encoding_model(
    features: np.ndarray, mean_count: np.ndarray, *, train: np.ndarray, validation: np.ndarray
) -> EncodingModel:
    """Fit ridge regressions of mean counts on features, the penalty chosen on the validation stimuli.

    Parameters
    ----------
    features : array (stimulus, feature)
    mean_count : array (stimulus, unit)
        Mean spikes per presentation; NaN where a unit was not observed.
    train, validation : array of bool (stimulus,)

    Returns
    -------
    EncodingModel
        Units that were observed for the same stimuli share a penalty: that with the least squared error, each
        unit scaled to variance 1. A unit without counts has a constant prediction of 0.
    """
    used = np.flatnonzero(train)
    weight, intercept = np.zeros((features.shape[1], mean_count.shape[1])), np.zeros(mean_count.shape[1])
    held = np.flatnonzero(validation)
    for units, has_count in same_rows(~np.isnan(mean_count[np.concatenate([used, held])])):
        rows, new = used[has_count[: len(used)]], held[has_count[len(used) :]]
        if len(rows) < 2:
            continue
        y = mean_count[np.ix_(rows, units)]
        scale = np.where(y.std(axis=0) > 0, y.std(axis=0), 1.0)
        basis = RidgeBasis(features[rows])
        penalty = None
        if len(new):
            y_new = mean_count[np.ix_(new, units)] / scale
            errors = basis.errors(y / scale, x_new=features[new], y_new=y_new)
            penalty = float(PENALTIES[int(np.argmin(errors))])
        ridge = basis.fit(y / scale, penalty=penalty)
        weight[:, units] = ridge.weight / ridge.scale[:, None] * scale
        intercept[units] = ridge.intercept * scale - ridge.mean @ weight[:, units]
    return EncodingModel(weight, intercept)


def unit_correlations(
    predicted: np.ndarray, mean_count: np.ndarray, reliability: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Correlate predicted with measured mean counts of held-out stimuli, (unit,), beside their ceilings.

    Parameters
    ----------
    predicted, mean_count : array (stimulus, unit)
    reliability : array (unit,)
        Of the mean counts of these stimuli. Its root is the most that a prediction can be expected to reach.
    """
    ceiling = np.sqrt(np.clip(reliability, 0, 1))
    return column_correlation(predicted, mean_count), ceiling


@dataclass(frozen=True, eq=False)
class Latents:
    """Latents of one group, standardised.

    Attributes
    ----------
    true : numpy.ndarray, shape (n, n_latents)
        From measured responses.
    predicted : numpy.ndarray, shape (n, n_latents)
        From the responses that are predicted of the images.
    """

    true: np.ndarray
    predicted: np.ndarray

    def __getitem__(self, rows: np.ndarray) -> Latents:
        return Latents(self.true[rows], self.predicted[rows])


@dataclass(frozen=True, eq=False)
class Gain:
    """How much of a group's latents predicted responses show, on held-out images.

    Attributes
    ----------
    slope : float
        Of predicted on true latents, their columns together.
    interval : (float, float)
        95 %, of a bootstrap over images.
    correlation : float
    resampled : array (resample,)
    """

    slope: float
    interval: tuple[float, float]
    correlation: float
    resampled: np.ndarray

    @property
    def is_measurable(self) -> bool:
        """Whether predicted responses show the group at all."""
        return bool(self.interval[0] > 0)


def encoding_gain(latents: Latents, *, weight: np.ndarray) -> Gain:
    """Regress the latents that predicted responses have on those of the measured ones.

    Parameters
    ----------
    latents : Latents (image, latent)
        Of real images that the encoding model was not fitted to.
    weight : array (resample, image)
        How often each image is in each resample.
    """
    predicted, true = latents.predicted, latents.true

    def moments(w: np.ndarray) -> tuple[np.ndarray, ...]:
        w = w / w.sum(axis=1, keepdims=True)
        a, b = w @ predicted, w @ true
        return (
            (w @ (predicted * true) - a * b).sum(axis=1),
            (w @ true**2 - b**2).sum(axis=1),
            (w @ predicted**2 - a**2).sum(axis=1),
        )

    both, of_true, of_predicted = (values[0] for values in moments(np.ones((1, len(true)))))
    drawn_both, drawn_true, _ = moments(weight)
    resampled = drawn_both / np.maximum(drawn_true, 1e-12)
    norm = np.sqrt(of_true * of_predicted)
    return Gain(
        float(both / of_true) if of_true > 0 else np.nan,
        percentile_interval(resampled),
        float(both / norm) if norm > 0 else np.nan,
        resampled,
    )


def latent_transfer(
    edit: np.ndarray,
    target: Latents,
    *,
    source: Latents,
    gain: Gain,
    draws: Draws,
    ends: tuple[np.ndarray, np.ndarray],
) -> Transfer:
    """Measure how far edits move a group's latents to their targets', and how much of the sources' they keep.

    ``predicted(edit) = g (a true(target) + b true(source)) + c`` over pairs, with a the transfer and b the
    retention. True latents are those of measured responses. They are instruments: what an encoding model gets
    wrong of an image has no part in them. g is how much of them predicted responses show at all. This first
    stage is taken from all held-out images instead of the pairs alone (two-sample two-stage least squares;
    Angrist and Krueger 1992): with few pairs the ratio of two slopes of the pairs has no useful interval.

    What the model gets wrong of the real source and target, ``predicted - g true``, returns in edits that
    keep or take over what it is mistaken in. It tells nothing of a and b, and is regressed out.

    Parameters
    ----------
    edit : array (pair, latent)
        Latents of the edits' predicted responses.
    target, source : Latents (pair, latent)
        Of the real images. The targets' true ones are permuted among the pairs for the p-value.
    gain : Gain
    draws : Draws
    ends : two arrays (pair,)
        Source and target stimulus of each pair: pairs that share one are resampled together.

    Returns
    -------
    Transfer
        NaN where predicted responses do not show the group, or with fewer than eight pairs. Intervals hold
        the uncertainty of g.
    """
    if not gain.is_measurable or len(edit) < MIN_PAIRS:
        return Transfer(n_pairs=len(edit))
    goal, start = target.true * gain.slope, source.true * gain.slope
    rest = without_errors(edit, (goal, start), (target.predicted - goal, source.predicted - start))
    measured = numeric_transfer(rest, goal, source=start, draws=draws, ends=ends)
    if measured.resampled is None:
        return measured
    resampled = measured.resampled * (gain.slope / np.maximum(gain.resampled, 1e-12))[:, None]
    return replace(
        measured,
        transfer_interval=percentile_interval(resampled[:, 0]),
        retention_interval=percentile_interval(resampled[:, 1]),
        resampled=resampled,
    )


def without_errors(
    edit: np.ndarray, explained: tuple[np.ndarray, ...], errors: tuple[np.ndarray, ...]
) -> np.ndarray:
    """Return latents of edits minus what errors on the real images say of them beyond what is explained.

    Parameters
    ----------
    edit : array (pair, latent)
    explained, errors : arrays like `edit`
        Regressors, each with one coefficient for all latents.
    """
    columns = [(x - x.mean(axis=0)).ravel() for x in (*explained, *errors)]
    goal = (edit - edit.mean(axis=0)).ravel()
    slopes = np.linalg.lstsq(np.stack(columns, axis=1), goal, rcond=None)[0][len(explained) :]
    return edit - sum(slope * error for slope, error in zip(slopes, errors, strict=True))


@dataclass(frozen=True, eq=False, kw_only=True)
class EncodedEdits:
    """Edits with the latents of their predicted responses, and the real images that they are compared with.

    Attributes
    ----------
    group, method : numpy.ndarray of str, shape (n_edits,)
    source, target : numpy.ndarray of int, shape (n_edits,)
        Rows among the stimuli.
    latents : mapping of group to numpy.ndarray, shape (n_edits, n_latents of the group)
        Of the edits' predicted responses.
    real : mapping of group to Latents (n_stimuli, n_latents of the group)
    """

    group: np.ndarray
    method: np.ndarray
    source: np.ndarray
    target: np.ndarray
    latents: Mapping[str, np.ndarray]
    real: Mapping[str, Latents]


def encoded_transfers(
    edits: EncodedEdits, gains: Mapping[str, Gain], *, draws: Draws
) -> dict[tuple[str, str, str], Transfer]:
    """Measure transfer and retention of every group's latents in edits of every group by every method.

    Returns
    -------
    dict of (method, group that was edited, group that is measured) to Transfer
    """
    cells = {}
    for method in dict.fromkeys(edits.method.tolist()):
        for edited in gains:
            rows = np.flatnonzero((edits.method == method) & (edits.group == edited))
            source, target = edits.source[rows], edits.target[rows]
            for of, gain in gains.items():
                cells[method, edited, of] = latent_transfer(
                    edits.latents[of][rows],
                    edits.real[of][target],
                    source=edits.real[of][source],
                    gain=gain,
                    draws=draws,
                    ends=(source, target),
                )
    return cells
