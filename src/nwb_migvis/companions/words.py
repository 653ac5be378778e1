"""Words of a vocabulary that groups, and the ends of their directions, go with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from nwb_migvis.companions.ends import ENDS, LEAST_LEAN, LEAST_TOLD, Direction, n_at_end
from nwb_migvis.companions.held import Held
from nwb_migvis.companions.statistics import Variables, measured
from nwb_migvis.evidence.decoding import PENALTIES, Readings
from nwb_migvis.evidence.design import SIZE
from nwb_migvis.evidence.order import MIN_READ, label_from_time, time_nuisances
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.significance import LEVEL, permutation_p
from nwb_migvis.evidence.specific import LEVEL_PENALTIES, MIN_LEVELS, NUISANCE_PENALTY
from nwb_migvis.labels import Label
from nwb_migvis.read.recorded import small_images

MOST_TRAIN, MOST_TEST = 1000, 500
"""Images that are set beside words, at random."""
IMAGES_PX = 224
"""Longest side at which they are."""
_ADJUSTED = "The p-value adjusted over all cells by the largest of them in every permutation."


@dataclass(frozen=True, eq=False)
class Scores:
    """How much images look like words: cosines, without what time explains of them.

    Attributes
    ----------
    words : list of str
        Those that can be tested.
    rows : numpy.ndarray of int, shape (n,)
        Stimuli.
    is_test : numpy.ndarray of bool, shape (n,)
    left : numpy.ndarray, shape (n, n_words)
    note : str
        Which words cannot be tested, and why.
    sha256 : str
        Of the network.
    """

    words: list[str]
    rows: np.ndarray
    is_test: np.ndarray
    left: np.ndarray
    note: str
    sha256: str

    @classmethod
    def of(cls, held: Held) -> Scores:
        """Set images of a session beside the vocabulary of the settings."""
        from nwb_migvis.networks.text_networks import cosines, open_text_network

        chosen, rng = held.config.companions, held.rng(53)
        train = np.flatnonzero(held.latents.split != "test")
        few = [np.sort(rng.permutation(own)[:n]) for own, n in ((train, MOST_TRAIN), (held.test, MOST_TEST))]
        rows = np.concatenate(few)
        network = open_text_network(chosen.text_network, device=held.config.device)
        images = held.session["image"].isel(stimulus=rows)
        cosine = cosines(network, small_images(images, IMAGES_PX), chosen.vocabulary)
        why = _untested(held, rows, cosine)
        tested = np.array([word not in why for word in chosen.vocabulary])
        left, order = cosine[:, tested], held.setting.order
        if order is not None and (nuisances := time_nuisances(order)[rows]).shape[1] and left.size:
            left = left - fit_ridge(nuisances, left, penalty=NUISANCE_PENALTY).predict(nuisances)
        words = [word for word in chosen.vocabulary if word not in why]
        note = "; ".join(f"the word {word!r} is not tested: {reason}" for word, reason in why.items())
        return cls(words, rows, np.isin(rows, held.test), left, note, str(getattr(network, "sha256", "")))

    @property
    def goal(self) -> np.ndarray:
        """Of the held-out images, (n_test, n_words)."""
        return self.left[self.is_test]


def _untested(held: Held, rows: np.ndarray, cosine: np.ndarray) -> dict[str, str]:
    """Return words that do not differ between images, or that cannot be told from time, with why."""
    why, order = {}, held.setting.order
    for word, own in zip(held.config.companions.vocabulary, cosine.T, strict=True):
        if own.std() < 1e-9:
            why[word] = "it fits all images alike"
        elif order is not None:
            values = np.full(len(held.latents.split), np.nan)
            values[rows] = own
            score, p = label_from_time(
                Label.of(word, values), order, exchange=held.design.split, seed=held.seed
            )
            if score > MIN_READ and p < SIZE:
                why[word] = f"it is read from the time of presentation alone (R2 {score:.2f})"
    return why


def word_variables(held: Held, own: Sequence[Direction], scores: Scores, *, n_axes: int) -> Variables:
    """Return what groups and ends of directions tell of words, and which word each goes with best.

    Where the latents of held-out images say nothing of a word, any assignment of the images' scores to them
    (to whole levels of them) is as likely as the true one: they are exchanged for all words, groups and ends
    at once. The largest of all cells in every permutation adjusts for their number (Westfall and Young 1993).

    Returns
    -------
    dict
        Over (group, word): `word_told` with interval, p and q. Over group: `group_word`. Over (group, axis,
        end, word): `word_lean` with p and q. Over (group, axis, end): `end_word`. Words alone, all "", where
        none can be tested, or too few held-out images are independent.
    """
    levels, groups = held.design.split[scores.rows[scores.is_test]], list(held.latents.groups)
    about = "Word of the vocabulary that the group tells best; empty where none is told beyond chance."
    text = "Word of the vocabulary that images at the end go with; empty where none is beyond chance."
    best, ends = np.full(len(groups), ""), np.full((len(groups), n_axes, len(ENDS)), "")
    made: Variables = {}
    if scores.words and levels.n_levels >= MIN_LEVELS:
        orders = levels.permutations(held.config.evidence.n_permutations, held.rng(51))
        made = _told(held, scores, orders) | _leans(held, own, scores, orders, n_axes=n_axes)
        size, low, q = (made[f"word_told{end}"][1] for end in ("", "_low", "_q"))
        best = _best(scores.words, size, np.where(low > 0, q, 1), least=LEAST_TOLD)
        ends = _best(scores.words, made["word_lean"][1], made["word_lean_q"][1], least=LEAST_LEAN)
    return made | {
        "group_word": (("group",), best, about),
        "end_word": (("group", "axis", "end"), ends, text),
    }


def _told(held: Held, scores: Scores, orders: np.ndarray) -> Variables:
    """Read each word's scores from each group's latents, fitted to the training images."""
    groups, goal = list(held.latents.groups), scores.goal
    levels = held.design.split[scores.rows[scores.is_test]]
    penalties = PENALTIES if levels.is_single else LEVEL_PENALTIES
    weight = levels.bootstrap(held.config.evidence.n_bootstrap, held.rng(52))
    shape = (len(groups), len(scores.words))
    size, null = np.empty(shape), np.empty((len(orders), *shape))
    drawn = np.empty((len(weight), *shape))
    ones = np.ones((1, len(goal)))
    for g, name in enumerate(groups):
        readings = Readings(held.spaces[name][scores.rows], seed=held.seed)
        read = readings.read(scores.left, train=~scores.is_test, new=scores.is_test, penalties=penalties)
        size[g] = signed_squares(goal, read, ones)[0]
        drawn[:, g] = signed_squares(goal, read, weight)
        for one, order in zip(null, orders, strict=True):
            one[g] = signed_squares(goal[order], read, ones)[0]
    text = "What the group tells of the word's cosines with held-out images: 0 for a guess, 1 for perfect."
    made = measured("word_told", ("group", "word"), size, text, null=null, resampled=drawn)
    return made | {"word_told_q": (("group", "word"), adjusted(size, null), _ADJUSTED)}


def signed_squares(goal: np.ndarray, read: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return the signed square of the correlation of each column (row, column), by weight (k, row)."""
    weight = weight / weight.sum(axis=1, keepdims=True)
    goal, read = goal - goal.mean(axis=0), read - read.mean(axis=0)
    own, other = weight @ goal, weight @ read
    both = weight @ (goal * read) - own * other
    norm = (weight @ goal**2 - own**2) * (weight @ read**2 - other**2)
    return np.sign(both) * both**2 / np.maximum(norm, 1e-300)


def _leans(
    held: Held, own: Sequence[Direction], scores: Scores, orders: np.ndarray, *, n_axes: int
) -> Variables:
    """Return how much more the images at each end look like each word than the others do."""
    groups = list(held.latents.groups)
    shape = (len(groups), n_axes, len(ENDS), len(scores.words))
    size, p, biggest = np.full(shape, np.nan), np.full(shape, np.nan), np.full(len(orders), -np.inf)
    z = scores.goal / np.maximum(scores.goal.std(axis=0), 1e-12)
    place, n = np.searchsorted(held.test, scores.rows[scores.is_test]), len(z)
    k, total = n_at_end(n), z.sum(axis=0)
    for one in own:
        among = replace(one, score=one.score[place])
        for e, end in enumerate(ENDS):
            rows = among.end(end, k)
            often = np.zeros((len(orders) + 1, n))
            np.add.at(often, (np.arange(len(often))[:, None], np.vstack([rows, orders[:, rows]])), 1)
            sums = often @ z
            effect = sums / k - (total - sums) / (n - k)
            at = (groups.index(one.group), one.axis - 1, e)
            size[at], p[at] = effect[0], permutation_p(effect[0], effect[1:])
            biggest = np.maximum(biggest, effect[1:].max(axis=1))
    dims = ("group", "axis", "end", "word")
    text = "Mean of the word's cosines at the end minus that of the other images, standard deviations."
    return {
        "word_lean": (dims, size, text),
        "word_lean_p": (dims, p, "Permutation p-value of word_lean, one-sided."),
        "word_lean_q": (dims, _beside_largest(size, biggest), _ADJUSTED),
    }


def adjusted(size: np.ndarray, null: np.ndarray) -> np.ndarray:
    """Return p-values adjusted over all cells by the largest of each permutation (Westfall and Young 1993).

    Parameters
    ----------
    size : array (...)
    null : array (permutation, ...)
    """
    return _beside_largest(size, null.reshape(len(null), -1).max(axis=1))


def _beside_largest(size: np.ndarray, largest: np.ndarray) -> np.ndarray:
    return permutation_p(size, largest[(..., *[None] * size.ndim)])


def _best(words: Sequence[str], size: np.ndarray, q: np.ndarray, *, least: float) -> np.ndarray:
    """Return the word of the largest sizable cell with q below .05 along the last axis, "" without one."""
    holds = (np.nan_to_num(q, nan=1.0) < LEVEL) & (np.nan_to_num(size) >= least)
    best = np.where(holds, size, -np.inf).argmax(axis=-1)
    return np.where(holds.any(axis=-1), np.array(words, dtype=str)[best], "")
