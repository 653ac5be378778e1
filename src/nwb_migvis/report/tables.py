"""Short tables for people."""

from __future__ import annotations

import pandas as pd

from nwb_migvis.results.table import aligned, group_table, number

__all__ = ["group_table", "sweep_table"]


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
