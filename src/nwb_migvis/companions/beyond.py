"""Labels beyond the other labels, low-level image features and time: the statistic of the verdict."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np

from nwb_migvis.analysis.context import Context
from nwb_migvis.analysis.judging import beyond_variables, decode_specifically
from nwb_migvis.companions.held import Held
from nwb_migvis.companions.statistics import Variables
from nwb_migvis.evidence.specific import MIN_LEFT, other_features, share_left, what_is_left
from nwb_migvis.levels import Exchange

TEXTS = {
    "": "What the group tells of the label beyond the other labels, low-level image features and time: 0 for "
    "a guess, 1 for perfect.",
    "_low": "Lower end of its 95 % interval.",
    "_high": "Upper end of its 95 % interval.",
    "_p": "Permutation p-value, one-sided.",
    "_q": "The p-value adjusted over all cells.",
    "_left": "Share of the label that the rest leaves over; below .05 nothing is measured.",
}


@dataclass(frozen=True, eq=False)
class Left:
    """What other labels, low-level image features and time leave over of each label that can be tested.

    Attributes
    ----------
    values : mapping of str to numpy.ndarray (stimulus, column)
        Of coded labels.
    note : str
        Which labels cannot be tested, and why.
    """

    values: Mapping[str, np.ndarray]
    note: str = ""
    _orders: dict[tuple[bytes, int], np.ndarray] = field(default_factory=dict)

    @classmethod
    def of(cls, held: Held) -> Left:
        """Take the labels of a session."""
        labels, setting = held.latents.labels, held.setting
        values, why = {}, []
        for name, label in labels.items():
            if reason := setting.time_of_labels.get(name) or setting.design.unmeasured.get(name, ""):
                why.append(f"{name} is not tested: {reason}")
                continue
            left = what_is_left(label, other_features(name, labels, seed=held.seed), setting.nuisances)
            if share_left(label, left) >= MIN_LEFT:
                values[name] = left
            else:
                why.append(f"{name} is not tested: nothing of it is left beyond what else explains it")
        return cls(values, "; ".join(why))

    def orders(self, name: str, levels: Exchange, n: int, rng: np.random.Generator) -> np.ndarray:
        """Return permutations of whole levels for a label, drawn once."""
        key = (name.encode() + levels.level.tobytes(), n)
        if key not in self._orders:
            self._orders[key] = levels.permutations(n, rng)
        return self._orders[key]


def read_labels_beyond(held: Held, mean: np.ndarray, *, name: str = "told") -> Variables:
    """Read each label from each group's latents (stimulus, latent), beyond what else explains it.

    Returns
    -------
    dict
        `name` over (group, label), its interval, p and q, and the share of each label that is left, as
        `Results.decoding` has them under `beyond`. NaN for labels that the design cannot test.
    """
    labels = list(held.latents.labels)
    cells = decode_specifically(replace(held.latents, mean=mean), held.setting, Context(held.config))
    for label in (*held.setting.time_of_labels, *held.setting.design.unmeasured):
        cells = {key: cell for key, cell in cells.items() if key[1] != label}
    made = beyond_variables(cells, list(held.latents.groups), labels)
    return {f"{name}{end}": (*made[f"beyond{end}"], text) for end, text in TEXTS.items()}
