"""Which edits a run makes: fixed by the seed, not curated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import NamedTuple

import numpy as np
import pandas as pd

from nwb_migvis.config import SynthesisConfig
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label
from nwb_migvis.registry import METHODS


class PlannedEdit(NamedTuple):
    """One row of a plan.

    Attributes
    ----------
    group : str
        The group that the edit is scored as.
    source, target, guiding_stimulus : int
        Rows of stimuli: `guiding_stimulus` is the one whose latents actually guide (for `shuffled` another
        draw). -1 where there is no target, or no stimulus guides.
    guiding_group : str
        The group that guides.
    method, role : str
    strength, guidance, gamma : float
    direction : str
        Of a traversal; "" for a pair.
    """

    group: str
    source: int
    target: int
    guiding_stimulus: int
    guiding_group: str
    method: str
    role: str
    strength: float
    guidance: float
    gamma: float = 0.0
    direction: str = ""


class Push(NamedTuple):
    """How far edits start from their source, and how hard they are guided.

    Attributes
    ----------
    strength : float
        Start step / T.
    guidance : float
        Length of the critic's guidance.
    """

    strength: float
    guidance: float


def plan_edits(
    test: np.ndarray,
    groups: LatentGroups,
    *,
    labels: Mapping[str, Label],
    config: SynthesisConfig,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draw source-target pairs of held-out stimuli and lay out every edit.

    The pairs are the same for all groups, and sources are distinct while they last. A target differs from its
    source in every categorical label where the test stimuli allow it. What guides `shuffled` is drawn like a
    target and independently of the target: with K categories that are equally frequent it has the target's in
    1 / (K - 1) of pairs, with two in all of them.

    Parameters
    ----------
    test : numpy.ndarray of int
        Rows of the held-out stimuli.
    groups : LatentGroups
    labels : mapping of str to Label, of all stimuli
    config : SynthesisConfig
    rng : numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        One row per edit, columns as in `PlannedEdit`.
    """
    classes = _classes(labels)
    source = draw_sources(test, config.n_pairs, rng)
    target = np.array([int(rng.choice(_partners(s, test, classes))) for s in source])
    shuffled = np.array([int(rng.choice(_partners(s, test, classes))) for s in source])
    pairs = list(zip(source, target, strict=True))
    names = groups.names
    push = Push(config.strength, config.guidance)
    rows: list[PlannedEdit] = []
    for g, name in enumerate(names):
        for method_name in config.methods:
            method = METHODS[method_name]
            if method.other_group and len(names) == 1:
                continue
            through = names[(g + method.other_group) % len(names)]
            scale = 0.0 if method.edit is None else config.guidance
            guides = shuffled if method.other_target else target
            rows += [
                PlannedEdit(name, s, t, h, through, method_name, "main", config.strength, scale)
                for (s, t), h in zip(pairs, guides, strict=True)
            ]
        for strength in config.dose:
            rows += pair_rows(
                name, pairs[: config.n_dose], role="dose", push=push._replace(strength=strength)
            )
        for direction in config.directions:
            for gamma in config.gammas:
                sources = source[: config.n_traversal]
                rows += traversal_rows(name, sources, direction=direction, gamma=gamma, push=push)
    return as_plan(rows)


def as_plan(rows: Iterable[PlannedEdit]) -> pd.DataFrame:
    """Return planned edits as a table with one row per edit."""
    return pd.DataFrame(list(rows), columns=list(PlannedEdit._fields))


def pair_rows(group: str, pairs: Iterable[tuple[int, int]], *, role: str, push: Push) -> list[PlannedEdit]:
    """Return the plan's rows of edits of sources towards their targets by the method proper."""
    return [PlannedEdit(group, s, t, t, group, "pmi", role, *push) for s, t in pairs]


def traversal_rows(
    group: str, sources: Iterable[int], *, direction: str, gamma: float, push: Push
) -> list[PlannedEdit]:
    """Return the plan's rows of edits of sources along a direction by the method proper."""
    return [
        PlannedEdit(group, s, -1, -1, group, "pmi", "traversal", *push, gamma, direction) for s in sources
    ]


def draw_sources(test: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n stimuli, distinct while they last."""
    rounds = [rng.permutation(test) for _ in range(-(-n // len(test)))]
    return np.concatenate(rounds)[:n]


def draw_targets(
    source: int, test: np.ndarray, n: int, *, labels: Mapping[str, Label], rng: np.random.Generator
) -> np.ndarray:
    """Draw up to n distinct targets of one source, of other categories where there are any."""
    return rng.permutation(_partners(source, test, _classes(labels)))[:n]


def _classes(labels: Mapping[str, Label]) -> list[np.ndarray]:
    return [label.values for label in labels.values() if label.is_categorical]


def _partners(source: int, test: np.ndarray, classes: list[np.ndarray]) -> np.ndarray:
    others = test[test != source]
    differ = (
        others[np.all([values[others] != values[source] for values in classes], axis=0)]
        if classes
        else others
    )
    return differ if differ.size else others
