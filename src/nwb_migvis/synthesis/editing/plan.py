"""Which edits a run makes: fixed by the seed, not curated."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from nwb_migvis.config import GroupConfig, SynthesisConfig
from nwb_migvis.synthesis.editing.methods import GUIDANCE

COLUMNS = (
    "group",
    "source",
    "target",
    "guide",
    "through",
    "method",
    "role",
    "strength",
    "guidance",
    "gamma",
    "direction",
)


def plan_edits(
    test: np.ndarray,
    groups: Sequence[GroupConfig],
    *,
    labels: Mapping[str, np.ndarray],
    config: SynthesisConfig,
    rng: np.random.Generator,
) -> pd.DataFrame:
    """Draw source-target pairs of held-out stimuli and lay out every edit.

    The pairs are the same for all groups, sources are distinct while they last, and a target differs
    from its source in every categorical label where the test stimuli allow it.

    Parameters
    ----------
    test : numpy.ndarray of int
        Rows of the held-out stimuli.
    groups : sequence of GroupConfig
    labels : mapping of str to array, shape (n_stimuli,)
        Object arrays are categorical.
    config : SynthesisConfig
    rng : numpy.random.Generator

    Returns
    -------
    pandas.DataFrame
        One row an edit. `source`, `target` and `guide` are rows of stimuli: `guide` is the stimulus whose
        latents really guide (for `shuffled` that of another pair), and -1 where there is none; `through`
        is the group that guides, `group` the one that the edit is scored as.
    """
    classes = _classes(labels)
    source = draw_sources(test, config.n_pairs, rng)
    target = np.array([int(rng.choice(_partners(s, test, classes))) for s in source])
    shuffled = np.array([_other_guide(i, target, classes, rng) for i in range(len(target))])
    names = [group.name for group in groups]
    rows: list[tuple] = []
    for g, name in enumerate(names):
        for method in config.methods:
            how = GUIDANCE[method]
            if how.other_group and len(names) == 1:
                continue
            through = names[(g + how.other_group) % len(names)]
            scale = 0.0 if how.score is None else config.guidance
            guides = shuffled if how.other_target else target
            rows += [
                (name, s, t, h, through, method, "main", config.strength, scale, 0.0, "")
                for s, t, h in zip(source, target, guides, strict=True)
            ]
        dosed = list(zip(source, target, strict=True))[: config.n_dose]
        for strength in config.dose:
            rows += pair_rows(name, dosed, role="dose", strength=strength, guidance=config.guidance)
        for direction in config.directions:
            for gamma in config.gammas:
                rows += traversal_rows(
                    name,
                    source[: config.n_traversal],
                    direction=direction,
                    gamma=gamma,
                    strength=config.strength,
                    guidance=config.guidance,
                )
    return pd.DataFrame(rows, columns=list(COLUMNS))


def pair_rows(
    group: str, pairs: Iterable[tuple[int, int]], *, role: str, strength: float, guidance: float
) -> list[tuple]:
    """Return the plan's rows of edits of sources towards their targets by the method proper."""
    return [(group, s, t, t, group, "pmi", role, strength, guidance, 0.0, "") for s, t in pairs]


def traversal_rows(
    group: str, sources: Iterable[int], *, direction: str, gamma: float, strength: float, guidance: float
) -> list[tuple]:
    """Return the plan's rows of edits of sources along a direction by the method proper."""
    return [
        (group, s, -1, -1, group, "pmi", "traversal", strength, guidance, gamma, direction) for s in sources
    ]


def draw_sources(test: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    """Draw n stimuli, distinct while they last."""
    rounds = [rng.permutation(test) for _ in range(-(-n // len(test)))]
    return np.concatenate(rounds)[:n]


def draw_targets(
    source: int, test: np.ndarray, n: int, *, labels: Mapping[str, np.ndarray], rng: np.random.Generator
) -> np.ndarray:
    """Draw up to n distinct targets of one source, of other categories where there are any."""
    return rng.permutation(_partners(source, test, _classes(labels)))[:n]


def _classes(labels: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    return [values for values in labels.values() if values.dtype == object]


def _partners(source: int, test: np.ndarray, classes: list[np.ndarray]) -> np.ndarray:
    others = test[test != source]
    differ = (
        others[np.all([values[others] != values[source] for values in classes], axis=0)]
        if classes
        else others
    )
    return differ if differ.size else others


def _other_guide(i: int, target: np.ndarray, classes: list[np.ndarray], rng: np.random.Generator) -> int:
    """Return another pair's target, of other categories than this pair's where there are any."""
    others = target[target != target[i]]
    if others.size == 0:
        return int(target[i])
    differ = np.all([values[others] != values[target[i]] for values in classes], axis=0) if classes else None
    return int(rng.choice(others[differ] if differ is not None and differ.any() else others))
