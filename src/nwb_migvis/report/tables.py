"""Short tables for people."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.results import Results
from nwb_migvis.results.table import aligned, group_table, number

__all__ = ["group_table", "sweep_table", "write_groups", "write_table"]


def write_groups(results: Sequence[Results], out: str | Path) -> Path:
    """Write the groups of one run or several as CSV, one row per group, every column that was measured.

    Parameters
    ----------
    results : sequence of Results
    out : path
        A file that is there is replaced.

    Raises
    ------
    MigvisError
        If it cannot be written.
    """
    tables = []
    for one in results:
        table = one.groups.reset_index(names="group")
        table.insert(0, "run", one.name)
        inputs = one.provenance.get("inputs")
        first = inputs[0] if isinstance(inputs, list) and inputs else {}
        table.insert(0, "session", str(first.get("path", "")) if isinstance(first, dict) else "")
        tables.append(table)
    return write_table(pd.concat(tables), out)


def write_table(table: pd.DataFrame, out: str | Path) -> Path:
    """Write a table as CSV, text on one line and so that a spreadsheet takes none for a formula.

    Raises
    ------
    MigvisError
        If it cannot be written.
    """
    out = Path(out)
    try:
        table.map(_cell).to_csv(out, index=False)
    except OSError as error:
        raise MigvisError(f"{out}: {error.strerror}; choose another file") from None
    return out


def _cell(value: object) -> object:
    """Return text on one line that a spreadsheet does not take for a formula."""
    if not isinstance(value, str):
        return value
    text = printable(value)
    return f"'{text}" if text[:1] in ("=", "+", "-", "@") else text


def sweep_table(measured: pd.DataFrame, *, title: str) -> str:
    """Return the table of a sweep as plain text."""
    table = measured.assign(
        dependence=[
            f"{number(score)} (q {q:.3f})" if q == q else "-"
            for score, q in zip(measured["dependence"], measured["dependence_q"], strict=True)
        ],
        **{name: measured[name].map(number) for name in ("bits_per_spike", "stability", "decoding")},
    ).drop(columns="dependence_q")
    table.columns = [
        "free groups",
        "latents per group",
        "latents",
        "bits/spike",
        "dependence",
        "stability",
        "own labels",
    ]
    return "\n".join(
        [
            f"{title}: numbers and sizes of groups, on validation stimuli (on which the fits stop early)",
            aligned(table.set_index(["free groups", "latents per group"]).reset_index()),
            "bits/spike: one half of the repeats from the other, beyond mean rates",
            "dependence: largest R2 of one group predicted from another, and the smallest q over the pairs",
            "stability: linear CKA of matched groups between two seeds; own labels: R2 or accuracy, mean",
            "Nothing was chosen and nothing written: set latents.groups in a config to what you prefer.",
        ]
    )
