"""Response variance that each latent group explains on held-out stimuli, with permutation p-values."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.missing import centred, residuals
from nwb_migvis.evidence.reliability import column_correlation, spearman_brown
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.significance import permutation_p, permutations
from nwb_migvis.groups import LatentGroups

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
    total: float
    r2: np.ndarray
    n_units_left_out: int


def group_variance(
    halves: Halves,
    groups: LatentGroups,
    *,
    min_reliability: float = 0.1,
    n_permutations: int = 999,
    seed: int,
) -> GroupVariance:
    """Measure how much response variance each latent group explains across repeats.

    Latents of one half of the repeats predict the responses of the other half by ridge regression
    fitted on the training stimuli; both directions are averaged. The R2 on the test stimuli, averaged
    over reliable units, is divided by their mean half reliability (the correlation of the two halves on
    the same stimuli): 1 is all that can be predicted. What is unique to a group is the same for all
    latents minus that for all but the group's, with one penalty for both.

    P-values come from exchanging test stimuli, everything fitted staying as it is: the latents of half
    a of each test stimulus are put together with the responses of half b of another. If the latents say
    nothing about the responses of other repeats (presentations shuffled across stimuli), every such
    pairing is as likely as the true one. For the unique part only the group's contribution to the
    prediction is exchanged, against what the other groups leave over. The test statistic is the summed
    R2 in the direction a to b alone: the two directions share both halves, and no exchange of stimuli
    keeps the dependence between them.

    Parameters
    ----------
    halves : Halves
    groups : LatentGroups
    min_reliability : float
        Units with a smaller split-half reliability (Spearman-Brown) on the training stimuli are left
        out. The test stimuli have no say in it, so that the choice cannot favour chance agreement.
    n_permutations : int
        B; p = (1 + k) / (1 + B).
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
    everything = np.arange(groups.n_latents)
    r2_all = np.mean([d.r2(everything) for d in directions], axis=0)
    explained, explained_p, unique, unique_p = {}, {}, {}, {}
    for name, place in groups.slices.items():
        own = everything[place]
        others = np.setdiff1d(everything, own)
        r2_own = np.mean([d.r2(own) for d in directions], axis=0)
        r2_others = np.mean([d.r2(others) for d in directions], axis=0)
        explained[name] = _over_ceiling(r2_own, ceiling, measured)
        unique[name] = _over_ceiling(r2_all - r2_others, ceiling, measured)
        explained_p[name] = _pairing_p(directions[0].agreement_alone(own, measured), pairings)
        unique_p[name] = _pairing_p(directions[0].agreement_beyond(others, measured), pairings)
    return GroupVariance(
        explained=explained,
        explained_p=explained_p,
        unique=unique,
        unique_p=unique_p,
        total=_over_ceiling(r2_all, ceiling, measured),
        r2=r2_all,
        n_units_left_out=int((~reliable).sum()),
    )


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

    def agreement_alone(self, latents: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """Inner product, summed over units, of response i with the prediction from latents j.

        With every prediction unchanged, R2 depends on the pairing of i and j through this alone.
        """
        return self._product(centred(self._y_test), self.predict(latents), measured)

    def agreement_beyond(self, others: np.ndarray, measured: np.ndarray) -> np.ndarray:
        """The same for what the other groups leave over and what the group adds to the prediction."""
        rest = self.predict(others)
        added = self.predict(np.arange(self._z_test.shape[1])) - rest
        return self._product(centred(self._y_test - rest), added, measured)

    def _product(self, y: np.ndarray, prediction: np.ndarray, measured: np.ndarray) -> np.ndarray:
        return (y[:, measured] / self._variance[measured]) @ prediction[:, measured].T


def _pairing_p(agreement: np.ndarray, pairings: np.ndarray) -> float:
    """P-value of the trace of an agreement matrix when its columns are permuted."""
    if not agreement.any():
        return 1.0
    null = agreement[np.arange(len(agreement)), pairings].sum(axis=1)
    return float(permutation_p(np.trace(agreement), null))


def _over_ceiling(r2: np.ndarray, ceiling: np.ndarray, measured: np.ndarray) -> float:
    reliability = ceiling[measured].mean() if measured.any() else 0.0
    return float(r2[measured].mean() / reliability) if reliability > 0 else float("nan")


def _without_repeats(groups: LatentGroups, n_units: int) -> GroupVariance:
    nothing = dict.fromkeys(groups, float("nan"))
    return GroupVariance(
        explained=nothing,
        explained_p=dict(nothing),
        unique=dict(nothing),
        unique_p=dict(nothing),
        total=float("nan"),
        r2=np.full(n_units, np.nan),
        n_units_left_out=0,
    )
