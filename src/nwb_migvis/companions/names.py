"""Names of groups and of the ends of their directions, by the labels of a session and by a vocabulary."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import xarray as xr

from nwb_migvis.companions.beyond import Left, read_labels_beyond
from nwb_migvis.companions.ends import (
    ENDS,
    LEAST_LEAN,
    LEAST_TOLD,
    N_IMAGES,
    Direction,
    directions,
    n_at_end,
)
from nwb_migvis.companions.held import Held, described, each_session
from nwb_migvis.companions.statistics import Variables
from nwb_migvis.companions.words import Scores, word_variables
from nwb_migvis.evidence.significance import LEVEL, benjamini_hochberg, permutation_p
from nwb_migvis.labels import LabelCode

if TYPE_CHECKING:
    from nwb_migvis.analysis.study import Study

N_AXES = 2
"""Principal axes of each group whose ends are named."""
RELATIVE = 0.5
"""A name has the label that is told best, and those told at least so well relative to it."""
MOST_WORDS = 3


class Names:
    """The analysis `names`."""

    needs = ("latents", "words")
    min_images = 20

    @staticmethod
    def compute(study: Study) -> xr.Dataset:
        """Name each group and each end of its directions after labels that it tells beyond the others.

        With a vocabulary in the settings, they are also set beside its words.

        Returns
        -------
        xarray.Dataset
            Over (group, label): `told` (0 for a guess, 1 for perfect) with interval, p and q. Over group:
            `name`. Over (group, axis, end, label): `lean` with p and q, and `value`, what of the label is at
            the end. Over (group, axis, end): `end_name`. Over (group, axis, end, rank): `image`. Names are ""
            where nothing is beyond chance. What `word_variables` says of a vocabulary.
        """
        return each_session(study, find_names)


def find_names(held: Held) -> xr.Dataset:
    """Do what `Names.compute` does for one session."""
    held.require_held_out(Names.min_images, to="names")
    groups, labels = list(held.latents.groups), list(held.latents.labels)
    own = directions(held, n_axes=N_AXES)
    data, notes = _images(held, own), []
    coords = {"group": groups, "axis": np.arange(1, N_AXES + 1), "end": list(ENDS)}
    coords["rank"] = np.arange(1, N_IMAGES + 1)
    more: dict[str, object] = {}
    if labels:
        of_labels, note = _by_labels(held, own)
        data, notes, coords["label"] = of_labels | data, [note], labels
    if held.config.companions.vocabulary:
        scores = Scores.of(held)
        of_words = word_variables(held, own, scores, n_axes=N_AXES)
        data, notes = data | of_words, [*notes, scores.note]
        coords |= {"word": scores.words} if "word_told" in of_words else {}
        more = {"text_network_sha256": scores.sha256}
    first = ("name", "group_word", "told", "end_name", "end_word", "lean")
    return described(
        data,
        coords,
        title="Names",
        description="What each group, and each end of its directions, is called in words.",
        headline=[name for name in first if name in data],
        note="; ".join(filter(None, notes)),
        **more,
    )


def _by_labels(held: Held, own: list[Direction]) -> tuple[Variables, str]:
    """Return what groups and ends are called by labels, and which labels cannot be tested."""
    left, labels = Left.of(held), list(held.latents.labels)
    told = read_labels_beyond(held, held.latents.mean)
    names = [_words(row, labels, least=LEAST_TOLD) for row in _rows(told)]
    about = "Labels that the group tells, the best first; empty where none is told beyond chance."
    cells = [_lean(held, one, end, left) for one in own for end in ENDS]
    name: Variables = {"name": (("group",), np.array(names, dtype=str), about)}
    return told | name | _ends(held, own, cells), left.note


def _images(held: Held, own: list[Direction]) -> Variables:
    """Return the held-out images at each end, the outermost first."""
    groups = list(held.latents.groups)
    image = np.full((len(groups), N_AXES, len(ENDS), N_IMAGES), "", dtype=object)
    stimulus = held.session["stimulus"].values[held.test].astype(str)
    for one in own:
        for e, end in enumerate(ENDS):
            image[groups.index(one.group), one.axis - 1, e] = stimulus[one.end(end, N_IMAGES)]
    text = "Held-out image at the end, the outermost first."
    return {"image": (("group", "axis", "end", "rank"), image.astype(str), text)}


@dataclass(frozen=True, eq=False)
class Lean:
    """How far values of a label at an end stand off those of other images.

    It is a difference of means: ranks of what is left of a category show what was taken out of it.

    Attributes
    ----------
    size : float
        Mean of what is left of the coded label at the end minus that of the other images, in standard
        deviations over all of them. Of a category that of the class at the end; for a label that wraps the
        length of the pair for cosine and sine.
    value : str
        "high" or "low", a class, or an angle.
    p : float
    """

    size: float = np.nan
    value: str = ""
    p: float = np.nan


def _lean(held: Held, direction: Direction, end: str, left: Left) -> dict[str, Lean]:
    """Return how each label leans at an end; nothing of labels that cannot be tested."""
    test, found = held.test, {}
    b = held.config.evidence.n_permutations
    for i, (name, values) in enumerate(left.values.items()):
        code = held.latents.labels[name].code()
        present = np.isfinite(values[test]).all(axis=1)
        levels = held.design.by_label[name][test][present]
        if code is None or present.sum() < Names.min_images or levels.n_levels < 2:
            continue
        own = Direction(direction.group, direction.score[present])
        rows = own.end(end, n_at_end(int(present.sum())))
        order = left.orders(name, levels, b, held.rng(50, i))
        found[name] = lean(values[test][present], rows, order, code=code)
    return found


def lean(left: np.ndarray, rows: np.ndarray, order: np.ndarray, *, code: LabelCode) -> Lean:
    """Compare a label's values at an end with those of all other images.

    Parameters
    ----------
    left : array (image, column)
        What other labels leave over of the coded label.
    rows : array of int
        Images at the end.
    order : array of int (permutation, image)
        Which image's label each image gets.
    code : LabelCode
    """
    scaled = left / np.maximum(left.std(axis=0), 1e-12)
    n, k, total = len(left), len(rows), scaled.sum(axis=0)

    def effect(at: np.ndarray) -> np.ndarray:
        own = scaled[at].sum(axis=-2)
        return own / k - (total - own) / (n - k)

    own, null = effect(rows), effect(order[:, rows])
    if code.classes:
        best = int(own.argmax())
        return Lean(float(own[best]), code.classes[best], float(permutation_p(own.max(), null.max(axis=1))))
    size = float(np.linalg.norm(own))
    p = float(permutation_p(size, np.linalg.norm(null, axis=1)))
    if code.period:
        angle = np.arctan2(own[1], own[0]) / (2 * np.pi) * code.period % code.period
        return Lean(size, f"near {angle:.3g}", p)
    return Lean(size, "high" if own[0] > 0 else "low", p)


def _ends(held: Held, own: list[Direction], cells: Sequence[Mapping[str, Lean]]) -> Variables:
    """Return what leans at each end, and its name."""
    labels, groups = list(held.latents.labels), list(held.latents.groups)
    shape = (len(groups), N_AXES, len(ENDS), len(labels))
    size, p = np.full(shape, np.nan), np.full(shape, np.nan)
    value = np.full(shape, "", dtype=object)
    places = [(groups.index(one.group), one.axis - 1, e) for one in own for e in range(len(ENDS))]
    for place, found in zip(places, cells, strict=True):
        for name, cell in found.items():
            at = (*place, labels.index(name))
            size[at], value[at], p[at] = cell.size, cell.value, cell.p
    q = benjamini_hochberg(p)
    names = np.full(shape[:3], "", dtype=object)
    for place in np.ndindex(*shape[:3]):
        said = [f"{name} {what}" for name, what in zip(labels, value[place], strict=True)]
        names[place] = _words((size[place], q[place]), said, least=LEAST_LEAN)
    dims = ("group", "axis", "end", "label")
    return {
        "lean": (
            dims,
            size,
            "Mean of the label at the end minus that of the other images, standard deviations.",
        ),
        "lean_p": (dims, p, "Permutation p-value of lean, largest over classes."),
        "lean_q": (dims, q, "The p-value adjusted over all cells of lean."),
        "value": (dims, value.astype(str), "What of the label is at the end."),
        "end_name": (dims[:3], names.astype(str), "Values at the end; empty where none is beyond chance."),
    }


def _rows(told: Variables) -> list[tuple[np.ndarray, np.ndarray]]:
    """Return sizes and q of each group, q 1 where the interval of what is told reaches 0."""
    size, low, q = (told[name][1] for name in ("told", "told_low", "told_q"))
    return list(zip(size, np.where(low > 0, q, 1), strict=True))


def _words(row: tuple[np.ndarray, np.ndarray], words: list[str], *, least: float) -> str:
    """Join the words of sizable cells with q below .05 that are comparable to the largest of them."""
    size, q = row
    holds = (np.nan_to_num(q, nan=1.0) < LEVEL) & (np.nan_to_num(size) >= least)
    if not holds.any():
        return ""
    chosen = np.flatnonzero(holds & (np.nan_to_num(size) >= RELATIVE * size[holds].max()))
    return ", ".join(words[i] for i in chosen[np.argsort(-size[chosen], kind="stable")][:MOST_WORDS])
