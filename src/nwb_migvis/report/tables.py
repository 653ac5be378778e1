"""Short tables of a run's groups and their evidence."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.results import Results

_MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def group_table(results: Results) -> str:
    """Return the latent groups with their evidence as plain text.

    Every number comes from held-out stimuli. Stars mark permutation p-values below 0.05, 0.01 and 0.001,
    uncorrected.
    """
    groups = results.groups
    table = pd.DataFrame(index=groups.index)
    table["latents"] = groups["size"].astype(str)
    table["supervised by"] = [_shorten(labels) or "(free)" for labels in groups["supervised_by"]]
    table["variance"] = _starred(groups["variance_explained"], groups["variance_explained_p"])
    table["unique"] = _starred(groups["variance_unique"], groups["variance_unique_p"])
    cap = groups["mi_cap_nats"].iloc[0]
    table["information"] = _starred(groups["mi_bound_nats"], groups["mi_p"])
    lines = [
        f"Run {results.name!r}: latent groups, on held-out stimuli",
        _aligned(table),
        "variance, unique: fraction of the repeatable response variance, alone and beyond the other groups",
        "stars: permutation p below 0.05 (*), 0.01 (**), 0.001 (***), uncorrected",
    ]
    if np.isfinite(cap):
        lines.append(
            f"information: InfoNCE lower bound, nats between group and image (cannot exceed {cap:.2f})"
        )
    lines += ["", *_selectivity_lines(results)]
    lines += [f"note: {note}" for note in results.provenance.get("notes", [])]
    return "\n".join(lines).rstrip()


def _selectivity_lines(results: Results) -> list[str]:
    selectivity = results.selectivity
    if selectivity.sizes["label"] == 0 or selectivity.sizes["reader"] == 0:
        return [
            "No label was measured in the edits."
            if results.synthesized.sizes["edit"]
            else "No edits were made."
        ]
    lines = []
    families = _families(results)
    for reader in selectivity["reader"].values:
        measured = selectivity.sel({"reader": reader})
        table = pd.DataFrame(_cells(measured, families), columns=["edits of", *families]).set_index(
            "edits of"
        )
        lines += [
            f"Edits read by {str(reader)!r}: transfer to the target / retention of the source",
            _aligned(table),
        ]
        index = measured.sel({"method": "pmi"})
        if np.isfinite(index["si_transfer"]):
            lines.append(
                f"selectivity index (pmi): transfer {float(index['si_transfer']):.2f}, "
                f"strict {float(index['si_strict']):.2f}"
            )
        unreadable = [
            str(label) for label in measured["label"].values if _blank(measured.sel({"label": label}))
        ]
        if unreadable:
            lines.append(f"not measurable by this reader: {', '.join(unreadable)}")
        lines.append("")
    return lines


def _cells(measured: xr.Dataset, families: dict[str, list[str]]) -> list[list[str]]:
    """Return the rows of one reader's table: every group under `pmi`, then the controls."""
    groups = [str(group) for group in measured["group"].values]
    rows = [
        [
            group,
            *(_cell(measured.sel({"group": group, "method": "pmi", "label": f})) for f in families.values()),
        ]
        for group in groups
    ]
    for method, title in (("none", "(no guidance)"), ("shuffled", "(shuffled targets)")):
        if method in measured["method"].values:
            control = measured.sel({"method": method})
            rows.append([title, *(_cell(control.sel({"label": labels})) for labels in families.values())])
    return rows


def _families(results: Results) -> dict[str, list[str]]:
    """Return the labels by the group that they supervise; the others each by itself."""
    known = [str(label) for label in results.selectivity["label"].values]
    families = {}
    for name, labels in results.groups["supervised_by"].items():
        mine = [label for label in labels.split(",") if label in known]
        if mine:
            families[str(name) if len(mine) > 1 else mine[0]] = mine
    taken = {label for labels in families.values() for label in labels}
    return families | {label: [label] for label in known if label not in taken}


def _blank(measured: xr.Dataset) -> bool:
    return not np.isfinite(measured["transfer"].values).any()


def _cell(measured: xr.Dataset) -> str:
    transfer, retention = measured["transfer"].values, measured["retention"].values
    if not np.isfinite(transfer).any():
        return "-"
    return f"{np.nanmean(transfer):.2f} / {np.nanmean(retention):.2f}"


def _starred(values: pd.Series, p_values: pd.Series) -> list[str]:
    return [
        _number(value) + (_stars(p) if value > 0 else "") for value, p in zip(values, p_values, strict=True)
    ]


def _number(value: float) -> str:
    return f"{value:.3f}" if np.isfinite(value) else "-"


def _stars(p: float) -> str:
    return next((mark for limit, mark in _MARKS if p < limit), "")


def _shorten(labels: str, most: int = 34) -> str:
    return labels if len(labels) <= most else f"{labels[: most - 4]} ..."


def _aligned(table: pd.DataFrame) -> str:
    return table.to_string(justify="left")
