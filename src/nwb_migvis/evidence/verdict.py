"""The verdict on a group, in parts: each measured on its own, and what they say together."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
import pandas as pd

from nwb_migvis.evidence.significance import ESTABLISHED, LEVEL, NOT_ESTABLISHED, NOT_MEASURED
from nwb_migvis.results import PART_COLUMNS, PART_ENDS, PARTS

CONFOUNDED_WITH = "confounded"

WORDS = dict(
    zip(PARTS, ("repeatable", "decoded", "beyond all labels", "stable", "shown by edits"), strict=True)
)
"""Parts of a verdict, with their words."""

SUPERVISED_NEEDS = ("repeatable", "decoded", "shown")
FREE_NEEDS = ("repeatable", "beyond_labels", "stable", "shown")
MUST_BE_MEASURED = {"supervised": ("decoded",), "free": ("repeatable", "beyond_labels", "stable")}


@dataclass(frozen=True)
class Part:
    """One part of a verdict.

    Attributes
    ----------
    estimate : float
        Above 0 where the part holds; NaN where it was not measured.
    interval : (float, float)
        95 %; NaN where there is none.
    p, q : float
        The q-value is adjusted over the groups of the run.
    """

    estimate: float = np.nan
    interval: tuple[float, float] = (np.nan, np.nan)
    p: float = np.nan
    q: float = np.nan

    @property
    def is_measured(self) -> bool:
        """Whether there is a test of it."""
        return bool(np.isfinite(self.q))

    @property
    def holds(self) -> bool:
        """Whether it is above zero, beyond chance, and its interval (where there is one) agrees."""
        return self.is_measured and self.q < LEVEL and self.estimate > 0 and not self.interval[0] <= 0


def either(*tests: Part) -> Part:
    """Return the test that speaks most for a part which any of several tests shows.

    Tests that were not possible do not count. The p-value is the smallest times their number (Bonferroni); of
    equal ones the first test is taken.
    """
    possible = [test for test in tests if np.isfinite(test.p)]
    if not possible:
        return Part()
    best = min(possible, key=lambda test: test.p)
    return replace(best, p=min(1.0, best.p * len(possible)))


def stored_part(row: pd.Series, name: str) -> Part:
    """Return a part from the columns of a row of `Results.groups`; NaN where the file lacks them."""
    estimate, low, high, p, q = (float(row.get(f"{name}{end}", np.nan)) for end in PART_ENDS)
    return Part(estimate, (low, high), p, q)


def verdict_in_parts(
    parts: Mapping[str, Part], *, supervised: bool, confounded_with: str = "", unmeasured: str = ""
) -> str:
    """Say whether a group's claim stands, and which parts of it hold.

    Parameters
    ----------
    parts : mapping of str to Part
        By the names in `PARTS`; one that is absent was not measured.
    supervised : bool
        A supervised group is established when it is decoded and, where measured, repeatable and shown. A free
        group when it is repeatable, beyond all labels, stable and, where measured, shown.
    confounded_with : str
        What the design cannot separate the claim from ("time: ..."); nothing is established then.
    unmeasured : str
        Why a part that must be measured was not, and what to do.

    Returns
    -------
    str
        Begins with "established", "not established", "confounded" or "not measured".
    """
    if confounded_with:
        return f"{CONFOUNDED_WITH} with {confounded_with}"
    parts = {name: parts.get(name, Part()) for name in PARTS}
    must = MUST_BE_MEASURED["supervised" if supervised else "free"]
    needs = SUPERVISED_NEEDS if supervised else FREE_NEEDS
    fail = [WORDS[name] for name in needs if parts[name].is_measured and not parts[name].holds]
    hold = [WORDS[name] for name in PARTS if parts[name].holds]
    absent = [WORDS[name] for name in must if not parts[name].is_measured]
    so_far = f"; {', '.join(hold)}" if hold else ""
    if fail:
        return f"{NOT_ESTABLISHED}: not {', not '.join(fail)}{so_far}"
    if absent:
        return f"{NOT_MEASURED}: {', '.join(absent)}{f' ({unmeasured})' if unmeasured else ''}{so_far}"
    return f"{ESTABLISHED}: {', '.join(hold)}"


def part_columns(parts: Mapping[str, Part]) -> dict[str, float]:
    """Return the parts of one group as the columns `PART_COLUMNS`."""
    columns = dict.fromkeys(PART_COLUMNS, np.nan)
    for name, part in parts.items():
        values = (part.estimate, *part.interval, part.p, part.q)
        columns |= dict(zip((f"{name}{end}" for end in PART_ENDS), values, strict=True))
    return columns
