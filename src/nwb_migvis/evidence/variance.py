"""Response variance that each latent group explains on held-out stimuli, with permutation p-values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.intervals import basic_interval
from nwb_migvis.evidence.missing import centred, residuals
from nwb_migvis.evidence.reliability import column_correlation, spearman_brown
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.signal import Pair, explained_terms, fit_signal, powers
from nwb_migvis.evidence.significance import pairing_p, permutations
from nwb_migvis.groups import LatentGroups
from nwb_migvis.levels import Exchange

MIN_STIMULI = 10
"""Fewer repeated stimuli than this on either side of the split give no estimate."""


@dataclass(frozen=True)
class GroupVariance:
    """Variance of the test stimuli's responses that latent groups explain.

    Attributes
    ----------
    explained, unique : dict of str to float
        By group: fraction of the repeatable variance that the group predicts alone, and that is lost
        when only the other groups predict. NaN where it cannot be measured.
    explained_p, unique_p : dict of str to float
        Permutation p-values.
    explained_interval, unique_interval : dict of str to (float, float)
        95 % basic intervals of a bootstrap over test stimuli.
    total : float
        Fraction of the repeatable variance that all latents predict.
    r2 : array (unit,)
        Cross-half R2 of all latents for each unit on the test stimuli, not divided by its ceiling.
    n_units_left_out : int
        Units whose reliability on the training stimuli is under the threshold.
    """

    explained: dict[str, float]
    explained_p: dict[str, float]
    unique: dict[str, float]
    unique_p: dict[str, float]
    explained_interval: dict[str, tuple[float, float]]
    unique_interval: dict[str, tuple[float, float]]
    total: float
    r2: np.ndarray
    n_units_left_out: int


def group_variance(
    halves: Halves,
    groups: LatentGroups,
    *,
    min_reliability: float = 0.1,
    n_permutations: int = 999,
    n_bootstrap: int = 1000,
    levels: Exchange | None = None,
    seed: int,
) -> GroupVariance:
    """Measure how much of the repeatable response variance each latent group explains.

    Expected responses are regressed on the expectations of latents and their squares over the training
    stimuli, from covariances between halves of the repeats alone (`signal.fit_signal`). The share of the
    variance of expected responses that is predicted on the test stimuli, over reliable units, depends neither
    on the number of repeats nor on how noisily the latents are encoded: a population of one factor reads 1.
    What is unique to a group is the same for all latents minus that for all but the group's.

    P-values come from exchanging test stimuli, everything fitted staying as it is: what half a predicts for
    each test stimulus is put together with the responses of half b to another. For the variance explained the
    prediction is that of ridge regression from the group's latents, for the unique part that from what the
    other groups' latents (with squares and cubes) leave over of the group's, of what they leave over of the
    responses. Both leave nothing repeatable over where the group only repeats what the others say. The test
    statistic is the summed R2 in the direction a to b alone: the two directions share both halves, and no
    exchange of stimuli keeps the dependence between them.

    Parameters
    ----------
    halves : Halves
    groups : LatentGroups
    min_reliability : float
        Units with a smaller split-half reliability (Spearman-Brown) on the training stimuli are left
        out. The test stimuli have no say in it, so that the choice cannot favour chance agreement.
    n_permutations : int
        B; p = (1 + k) / (1 + B).
    n_bootstrap : int
    levels : Exchange, optional
        Of the repeated test stimuli, that resamples keep whole; each on its own where it is None.
    seed : int

    Returns
    -------
    GroupVariance
        NaN throughout without repeats (fewer than ten repeated stimuli in `train` or `test`). Where no
        unit is reliable the fractions are NaN and the p-values 1.
    """
    half_a, half_b = halves.half_a, halves.half_b
    train, test = halves.repeated_train, halves.repeated_test
    if min(train.sum(), test.sum()) < MIN_STIMULI:
        return _without_repeats(groups, half_a.shape[1])
    with np.errstate(invalid="ignore"):
        reliable = spearman_brown(column_correlation(half_a[train], half_b[train])) >= min_reliability
    directions = [
        _Direction(halves.latents_a, half_b, train=train, test=test, reliable=reliable),
        _Direction(halves.latents_b, half_a, train=train, test=test, reliable=reliable),
    ]
    ceiling = column_correlation(half_a[test], half_b[test])
    measured = reliable & np.isfinite(ceiling)
    rng = np.random.default_rng(seed)
    pairings = permutations(int(test.sum()), n_permutations, rng=rng)
    levels = Exchange.singles(int(test.sum())) if levels is None else levels
    weight = levels.bootstrap(n_bootstrap, rng)
    everything = np.arange(groups.n_latents)
    signal = _Signal(halves, measured, weight)
    r2_all = np.mean([d.r2(everything) for d in directions], axis=0)
    rows = {}
    for name, place in groups.slices.items():
        own = everything[place]
        others = np.setdiff1d(everything, own)
        explained, unique = signal.explained(own), signal.explained(everything, beyond=others)
        rows[name] = {
            "explained": explained[0],
            "explained_interval": explained[1],
            "explained_p": pairing_p(*directions[0].pairs_alone(own, measured), pairings),
            "unique": unique[0],
            "unique_interval": unique[1],
            "unique_p": pairing_p(*signal.pairs_beyond(own, others), pairings),
        }
    return GroupVariance(
        **{key: {name: row[key] for name, row in rows.items()} for key in _BY_GROUP},  # type: ignore[arg-type]
        total=signal.explained(everything)[0],
        r2=r2_all,
        n_units_left_out=int((~reliable).sum()),
    )


_BY_GROUP = ("explained", "explained_interval", "explained_p", "unique", "unique_interval", "unique_p")


class _Signal:
    """What expectations of latents predict of expected responses, over the units that are measured."""

    def __init__(self, halves: Halves, measured: np.ndarray, weight: np.ndarray) -> None:
        self._responses = Pair(halves.half_a, halves.half_b).of(measured)
        self._latents = Pair(halves.latents_a, halves.latents_b)
        self._train, self._test = halves.repeated_train, halves.repeated_test
        self._weight, self._any = weight, bool(measured.any())
        self._terms: dict[bytes, tuple[np.ndarray, np.ndarray]] = {}

    def explained(
        self, latents: np.ndarray, *, beyond: np.ndarray | None = None
    ) -> tuple[float, tuple[float, float]]:
        """Share of the variance that latents predict, minus that of others, with its interval."""
        if not self._any:
            return np.nan, (np.nan, np.nan)
        explained, expected = self._predicted(latents)
        if beyond is not None and len(beyond):
            explained = explained - self._predicted(beyond)[0]
        if expected.sum() <= 0:
            return np.nan, (np.nan, np.nan)
        below = self._weight @ expected
        resampled = np.where(below > 0, self._weight @ explained / np.where(below > 0, below, 1.0), np.nan)
        share = float(explained.sum() / expected.sum())
        return share, basic_interval(share, resampled)

    def pairs_beyond(self, own: np.ndarray, others: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return what is left of the test responses, over the variance, and what the latents add to them.

        Half b's responses minus what half b's other latents predict, and half a's own latents minus what half
        a's other latents predict of them: neither has noise in common with the other.
        """
        if not self._any:
            return np.zeros((int(self._test.sum()), 0)), np.zeros((int(self._test.sum()), 0))
        train, test = self._train, self._test
        left, rest = self._responses, powers(self._latents.of(own), train, degree=2)
        if len(others):
            given = powers(self._latents.of(others), train, degree=3)
            left, rest = (it - fit_signal(given[train], it[train]).predict(given) for it in (left, rest))
        added = fit_signal(rest[train], left[train]).predict(rest[test])
        variance = (centred(self._responses.b[test]) ** 2).sum(axis=0)
        return centred(left.b[test]) / np.maximum(variance, 1e-300), added.a

    def _predicted(self, latents: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        key = latents.tobytes()
        if key not in self._terms:
            train, test = self._train, self._test
            features = powers(self._latents.of(latents), train, degree=2)
            fit = fit_signal(features[train], self._responses[train])
            self._terms[key] = explained_terms(fit.predict(features[test]), self._responses[test])
        return self._terms[key]


class _Direction:
    """Prediction of one half's responses from the other half's latents."""

    def __init__(
        self,
        latents: np.ndarray,
        responses: np.ndarray,
        *,
        train: np.ndarray,
        test: np.ndarray,
        reliable: np.ndarray,
    ) -> None:
        self._z_train, self._z_test = latents[train], latents[test]
        self._y_train, self._y_test = responses[train], responses[test]
        # Units of no use to the verdict must not choose the penalty either.
        outputs = self._y_train[:, reliable] if reliable.any() else self._y_train
        self._penalty = fit_ridge(self._z_train, outputs).penalty
        self._variance = (centred(self._y_test) ** 2).sum(axis=0)
        self._predictions: dict[bytes, np.ndarray] = {}

    def predict(self, latents: np.ndarray) -> np.ndarray:
        """Predictions from a subset of latents, (test stimulus, unit)."""
        key = latents.tobytes()
        if key not in self._predictions:
            fit = fit_ridge(self._z_train[:, latents], self._y_train, penalty=self._penalty)
            self._predictions[key] = fit.predict(self._z_test[:, latents])
        return self._predictions[key]

    def r2(self, latents: np.ndarray) -> np.ndarray:
        """R2 of each unit on the test stimuli, (unit,); NaN where a unit's responses do not vary."""
        error = (residuals(self._y_test, self.predict(latents)) ** 2).sum(axis=0)
        varies = self._variance > 0
        return np.where(varies, 1 - error / np.where(varies, self._variance, 1.0), np.nan)

    def pairs_alone(self, latents: np.ndarray, measured: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the test responses over their variance, and the predictions from latents.

        With every prediction unchanged, R2 depends on which response is put together with which prediction
        through their inner products alone.
        """
        y = centred(self._y_test)
        return y[:, measured] / self._variance[measured], self.predict(latents)[:, measured]


def _without_repeats(groups: LatentGroups, n_units: int) -> GroupVariance:
    rows = {
        key: dict.fromkeys(groups, (np.nan, np.nan) if key.endswith("_interval") else np.nan)
        for key in _BY_GROUP
    }
    return GroupVariance(**rows, total=np.nan, r2=np.full(n_units, np.nan), n_units_left_out=0)  # type: ignore[arg-type]
