"""Recurring population states: whether trials form clusters that stand apart, and what they follow."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.companions.held import Held, described, each_session
from nwb_migvis.companions.state_changes import expected_counts, pictured
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.evidence.disentanglement import bin_indices
from nwb_migvis.evidence.significance import benjamini_hochberg
from nwb_migvis.labels import Label
from nwb_migvis.levels import Exchange

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

MOST_COMPONENTS = 12
N_DIMS = 6
"""Principal components of the trials that mixtures are fitted in."""
MOST_TRIALS = 4000
BLOCK = 40
"""Trials of a block of time within which they are permuted."""
IMAGE = "each image"
"""What states agree with where they recur across repeats."""
_LEVEL = 0.05


class States:
    """The analysis `states`."""

    needs = ("latents",)
    uses = ("prior", "critic")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Cluster trials in latent space, test that clusters stand apart, and set them against labels.

        Returns
        -------
        xarray.Dataset
            `n_states`. Over with: `agreement` (adjusted mutual information of states with images and with
            each label) with interval, null, p and q. Over state: `share`, `dominant` label value and its
            `purity`. Over (state, unit): `rate`, what the decoder makes of the state; over (state, group,
            unit): `change`, when one group alone moves there. Over trial: `state_of_trial`. Where there are
            states and a critic, over (pictured_state, group, source, y, x): `picture`, what the image becomes
            when the group is edited towards the state.
        """
        return each_session(study, lambda held: find_states(held, study))


def find_states(held: Held, study: Study) -> xr.Dataset:
    """Do what `States.compute` does for one session."""
    own = held.latents
    held.require_held_out(States.min_images, to="states")
    if own.knows_responses:
        trials = np.asarray(own.model.encode(own.spike_count)[0], dtype=np.float64)
        index = own.stimulus_index
    else:
        trials, index = np.asarray(own.mean, dtype=np.float64), np.arange(own.split.size)
    is_train, is_test = np.isin(index, held.train), np.isin(index, held.test)
    level = held.design.split.level[index[is_test]]
    clusters = standing_apart(trials[is_train], trials[is_test], levels=level, rng=held.rng(30))
    state, stimulus = clusters.state, index[is_test]
    start = held.session["start_time"].values[is_test] if own.knows_responses else np.arange(len(stimulus))
    data, coords = _agreement(held, clusters, stimulus, start)
    n_states = clusters.n_states
    data |= _of_states(held, clusters, stimulus)
    centre = np.stack([trials[is_test][state == k].mean(axis=0) for k in range(n_states)])
    coords |= {"state": np.arange(n_states), "trial": np.flatnonzero(is_test)}
    if own.knows_responses:
        data |= expected_counts(held, centre, trials[is_test].mean(axis=0))
        coords["unit"] = held.session["unit"].values
    note = "no cluster of trials stands apart: agreement is not measured"
    if n_states > 1:
        pictures, note = pictured(held, study, centre)
        data |= pictures
    coords |= {"group": list(own.groups)} if {"moved", "picture"} & set(data) else {}
    return described(
        data,
        coords,
        title="Recurring population states",
        description="Clusters of trials in latent space that stand apart on held-out trials.",
        headline=["n_states", "agreement", "share", "dominant", "moved"],
        note=note,
    )


def _of_states(held: Held, clusters: Clusters, stimulus: np.ndarray) -> Variables:
    """Return how many states there are, how frequent each is, and which trials are in it."""
    state, n_states = clusters.state, clusters.n_states
    words, purity = _dominant(held, state, stimulus, n_states)
    return {
        "n_states": ((), np.array(n_states), "Clusters that stand apart; 1: a continuum, as far as is seen."),
        "n_components": (
            (),
            np.array(clusters.n_components),
            "Gaussians that describe the trials best.",
        ),
        "share": (
            ("state",),
            np.bincount(state, minlength=n_states) / len(state),
            "Share of the held-out trials.",
        ),
        "dominant": (("state",), words, "Most frequent value of a categorical label in the state."),
        "purity": (("state",), purity, "Its share of the state's trials."),
        "state_of_trial": (("trial",), state, "State of each held-out trial."),
        "stimulus_of_trial": (
            ("trial",),
            held.session["stimulus"].values[stimulus].astype(str),
            "Image of each held-out trial.",
        ),
    }


@dataclass(frozen=True, eq=False)
class Clusters:
    """Clusters of held-out trials.

    Attributes
    ----------
    state : numpy.ndarray of int, shape (n_trials,)
        From 0, the most frequent first.
    n_components : int
        Before those were joined that do not stand apart.
    """

    state: np.ndarray
    n_components: int

    @property
    def n_states(self) -> int:
        """Number of clusters."""
        return int(self.state.max()) + 1


def standing_apart(
    train: np.ndarray, test: np.ndarray, *, levels: np.ndarray, rng: np.random.Generator
) -> Clusters:
    """Cluster trials, and join clusters between which there is no valley.

    Gaussian mixtures are fitted to the training trials, their number chosen by the Bayesian information
    criterion. That number says nothing of clusters: any continuum that is not Gaussian needs several. So each
    pair of components is tested on held-out trials (`valley_p`), and those that do not stand apart (q of 0.05
    over all pairs) are joined, with all that they are joined to.

    Parameters
    ----------
    train, test : array (trial, latent)
    levels : array of int (test trial,)
        Trials of one level are not independent: one of each is tested.
    rng : numpy.random.Generator
    """
    from scipy.sparse.csgraph import connected_components

    centre = train.mean(axis=0)
    _, _, axes = np.linalg.svd(train - centre, full_matrices=False)
    x, new = (train - centre) @ axes[:N_DIMS].T, (test - centre) @ axes[:N_DIMS].T
    if len(x) > MOST_TRIALS:
        x = x[rng.choice(len(x), MOST_TRIALS, replace=False)]
    mixture = _best_mixture(x, seed=int(rng.integers(2**31)))
    component = mixture.predict(new)
    order = rng.permutation(len(new))
    single = order[np.unique(levels[order], return_index=True)[1]]
    k = mixture.n_components
    p = np.full((k, k), np.nan)
    for i in range(k):
        for j in range(i):
            p[i, j] = valley_p(new[single], component[single], (i, j), mixture=mixture)
    q = benjamini_hochberg(p)
    joined = np.nan_to_num(q, nan=0.0) >= _LEVEL
    _, of_component = connected_components(joined, directed=False)
    state = of_component[component]
    frequent = np.argsort(-np.bincount(state, minlength=of_component.max() + 1), kind="stable")
    rank = np.empty_like(frequent)
    rank[frequent] = np.arange(len(frequent))
    state = rank[state]
    return Clusters(np.unique(state, return_inverse=True)[1].ravel(), k)


def _best_mixture(x: np.ndarray, *, seed: int):  # type: ignore[no-untyped-def]
    """Return the Gaussian mixture with the least Bayesian information criterion."""
    from sklearn.mixture import GaussianMixture

    best, least = None, np.inf
    most = min(MOST_COMPONENTS, max(len(x) // 40, 1))
    for k in range(1, most + 1):
        mixture = GaussianMixture(k, random_state=seed, reg_covar=1e-4 * max(x.var(), 1e-12)).fit(x)
        bic = mixture.bic(x)
        if bic < least:
            best, least = mixture, bic
    return best


def valley_p(x: np.ndarray, component: np.ndarray, pair: tuple[int, int], *, mixture: object) -> float:
    """Test that a density has a valley between the centres of two clusters.

    Trials of both are projected on the axis that separates the components best, with the centres at 0 and
    1. Three windows of equal width lie around 0, 1/2 and 1. A density with one mode has no less mass in the
    middle window than in the emptier of the others. Each of the two comparisons is a binomial test, exact,
    and both have to be passed: p is the larger of theirs (Berger 1982).

    Parameters
    ----------
    x : array (trial, dim)
        Independent trials that the clusters were not fitted to.
    component : array of int (trial,)
    pair : (int, int)
    mixture : sklearn.mixture.GaussianMixture
    """
    from scipy.stats import binom

    i, j = pair
    means, covariances = mixture.means_, mixture.covariances_  # type: ignore[attr-defined]
    difference = means[j] - means[i]
    axis = np.linalg.solve((covariances[i] + covariances[j]) / 2, difference)
    own = x[np.isin(component, pair)]
    along = (own - means[i]) @ axis / (difference @ axis)
    low, middle, high = (int((np.abs(along - at) < 1 / 6).sum()) for at in (0, 0.5, 1))
    return float(max(binom.cdf(middle, middle + end, 0.5) if middle + end else 1.0 for end in (low, high)))


def _agreement(
    held: Held, clusters: Clusters, stimulus: np.ndarray, start: np.ndarray
) -> tuple[Variables, dict[str, object]]:
    """Set states against images, trials permuted within blocks of time, and against labels of images."""
    evidence, test = held.config.evidence, held.test
    b, state = evidence.n_permutations, clusters.state
    row = np.searchsorted(test, stimulus)
    blocks = Exchange(np.argsort(np.argsort(start, kind="stable"), kind="stable") // BLOCK)
    is_repeated = len(row) >= 2 * len(test)
    orders = [blocks.permutations_within(b, held.rng(31))] if is_repeated else []
    codes, names = ([row], [IMAGE]) if is_repeated else ([], [])
    for name, label in held.latents.labels.items():
        code = _classes(label[test])
        if code is None:
            continue
        levels = held.design.by_label.get(name, held.design.split)[test]
        if len(np.unique(code)) == levels.n_levels:
            continue  # it names the levels, and exchanging names changes no agreement
        codes.append(code[row])
        orders.append(levels.permutations(b, held.rng(32)))
        names.append(name)
    if not names:
        return {}, {}
    weight = held.levels.bootstrap(evidence.n_bootstrap, held.rng(33))[:, row]
    found, null, resampled = [], [], []
    for name, code, order in zip(names, codes, orders, strict=True):
        score = Adjusted.of(code, state)
        found.append(score.of_weights(np.ones((1, len(state))))[0])
        if name == IMAGE:
            null.append([score.value(code, state[own]) for own in order])
        else:
            own_code = code[np.unique(row, return_index=True)[1]]
            null.append([score.value(own_code[own][row], state) for own in order])
        resampled.append(score.of_weights(weight))
    values = np.array(found) if clusters.n_states > 1 else np.full(len(found), np.nan)
    data = measured(
        "agreement",
        ("with",),
        values,
        "Adjusted mutual information of states with images (recurrence) and labels: 0 by chance, 1 at most.",
        null=np.array(null).T,
        resampled=np.array(resampled).T,
    )
    return data, {"with": names}


@dataclass(frozen=True, eq=False)
class Adjusted:
    """Mutual information of two codes, adjusted for chance (Vinh, Epps and Bailey 2010).

    Attributes
    ----------
    x, y : numpy.ndarray of int, shape (n,)
    expected, most : float
        Of the mutual information by chance, and at most; nats.
    """

    x: np.ndarray
    y: np.ndarray
    expected: float
    most: float

    @classmethod
    def of(cls, x: np.ndarray, y: np.ndarray) -> Adjusted:
        """Take two codes, integers from 0."""
        from sklearn.metrics.cluster import expected_mutual_information

        table = _table(x, y, np.ones(len(x)))
        expected = float(expected_mutual_information(table.astype(np.int64), len(x)))
        most = (_entropy(table.sum(axis=1)) + _entropy(table.sum(axis=0))) / 2
        return cls(x, y, expected, float(most))

    def value(self, x: np.ndarray, y: np.ndarray) -> float:
        """Return the adjusted information of codes with the same frequencies."""
        return self._adjusted(_information(_table(x, y, np.ones(len(x)))))

    def of_weights(self, weight: np.ndarray) -> np.ndarray:
        """Return it for each row of weights (resample, n)."""
        return np.array([self._adjusted(_information(_table(self.x, self.y, w))) for w in weight])

    def _adjusted(self, information: float) -> float:
        room = self.most - self.expected
        return (information - self.expected) / room if room > 1e-12 else 0.0


def _table(x: np.ndarray, y: np.ndarray, weight: np.ndarray) -> np.ndarray:
    n = int(x.max()) + 1, int(y.max()) + 1
    return np.bincount(x * n[1] + y, weight, minlength=n[0] * n[1]).reshape(n)


def _entropy(counts: np.ndarray) -> float:
    share = counts[counts > 0] / counts.sum()
    return float(-(share * np.log(share)).sum())


def _information(table: np.ndarray) -> float:
    return _entropy(table.sum(axis=1)) + _entropy(table.sum(axis=0)) - _entropy(table)


def _classes(label: Label) -> np.ndarray | None:
    """Return a label's classes, or bins of its numbers; None where it is constant or lacks values."""
    code = label.code()
    if code is None or not label.present.all():
        return None
    return np.asarray(bin_indices(code, label.values), dtype=np.int64)


def _dominant(
    held: Held, state: np.ndarray, stimulus: np.ndarray, n_states: int
) -> tuple[np.ndarray, np.ndarray]:
    """Return the most frequent value of the first categorical label in each state, and its share."""
    labels = [label for label in held.latents.labels.values() if label.is_categorical]
    words, purity = np.full(n_states, "", dtype=object), np.full(n_states, np.nan)
    if labels:
        values = labels[0].values[stimulus].astype(str)
        for k in range(n_states):
            names, n = np.unique(values[state == k], return_counts=True)
            words[k], purity[k] = names[n.argmax()], n.max() / n.sum()
    return words.astype(str), purity
