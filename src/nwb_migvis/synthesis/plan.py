"""Which edits a run makes: fixed by the seed, not curated."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd

from nwb_migvis.config import GroupConfig, SynthesisConfig

COLUMNS = (
    "group",
    "source",
    "target",
    "guide",
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
        latents really guide (for `shuffled` that of another pair), and -1 where there is none.
    """
    classes = [values for values in labels.values() if values.dtype == object]
    source = _draw(test, config.n_pairs, rng)
    target = np.array([_partner(s, test, classes, rng) for s in source])
    shuffled = np.array([_other_guide(i, target, classes, rng) for i in range(len(target))])
    rows: list[tuple] = []
    for group in groups:
        for method in config.methods:
            scale = 0.0 if method == "none" else config.guidance
            guides = shuffled if method == "shuffled" else target
            rows += [
                (group.name, s, t, g, method, "main", config.strength, scale, 0.0, "")
                for s, t, g in zip(source, target, guides, strict=True)
            ]
        for strength in config.dose:
            rows += [
                (group.name, s, t, t, "pmi", "dose", strength, config.guidance, 0.0, "")
                for s, t in zip(source[: config.n_dose], target[: config.n_dose], strict=True)
            ]
        for gamma in config.gammas:
            rows += [
                (group.name, s, -1, -1, "pmi", "traversal", config.strength, config.guidance, gamma, "ones")
                for s in source[: config.n_traversal]
            ]
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _draw(test: np.ndarray, n: int, rng: np.random.Generator) -> np.ndarray:
    rounds = [rng.permutation(test) for _ in range(-(-n // len(test)))]
    return np.concatenate(rounds)[:n]


def _partner(source: int, test: np.ndarray, classes: list[np.ndarray], rng: np.random.Generator) -> int:
    others = test[test != source]
    differ = (
        others[np.all([values[others] != values[source] for values in classes], axis=0)]
        if classes
        else others
    )
    return int(rng.choice(differ if differ.size else others))


def _other_guide(i: int, target: np.ndarray, classes: list[np.ndarray], rng: np.random.Generator) -> int:
    """Return another pair's target, of other categories than this pair's where there are any."""
    others = target[target != target[i]]
    if others.size == 0:
        return int(target[i])
    differ = np.all([values[others] != values[target[i]] for values in classes], axis=0) if classes else None
    return int(rng.choice(others[differ] if differ is not None and differ.any() else others))
