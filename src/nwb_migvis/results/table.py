"""Results as text: short tables of the latent groups and their evidence."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.errors import printable, shown
from nwb_migvis.multiplicity import benjamini_hochberg

if TYPE_CHECKING:
    from nwb_migvis.results.record import Results

_MARKS = ((0.001, "***"), (0.01, "**"), (0.05, "*"))


def group_table(results: Results) -> str:
    """Return the latent groups with their evidence as plain text.

    Every number comes from held-out stimuli. Stars mark permutation p-values below 0.05, 0.01 and 0.001,
    adjusted over the groups where the run did so, else raw.
    """
    groups = results.groups
    table = pd.DataFrame(index=groups.index)
    table["latents"] = groups["size"].astype(str)
    table["supervised by"] = [shorten(labels) or "(free)" for labels in groups["supervised_by"]]
    adjusted = "variance_explained_q" in groups
    p = "q" if adjusted else "p"
    table["variance"] = _starred(groups["variance_explained"], groups[f"variance_explained_{p}"])
    table["unique"] = _starred(groups["variance_unique"], groups[f"variance_unique_{p}"])
    cap = groups["mi_cap_nats"].iloc[0]
    table["information"] = _starred(groups["mi_bound_nats"], groups[f"mi_{p}"])
    if "information_nats" in groups:
        p_values = groups["information_p"].to_numpy()
        p_values = benjamini_hochberg(p_values) if adjusted else p_values
        table["estimated"] = _starred(groups["information_nats"], pd.Series(p_values))
    for column, title in (("decoding", "own labels"), ("own_group_gap", "gap")):
        if column in groups:
            table[title] = _starred(groups[column], groups[f"{column}_q"] if column == "decoding" else None)
    if "stability" in groups:
        table["stability"] = [number(value) for value in groups["stability"]]
    if "verdict" in groups:
        table["verdict"] = [re.split("[:(]", verdict)[0].strip() for verdict in groups["verdict"]]
    lines = [
        f"Run {results.name!r}: latent groups, on held-out stimuli",
        aligned(table),
        *_verdict_lines(groups),
        "variance, unique: fraction of the repeatable response variance, alone and beyond the other groups",
        "stars: permutation p below 0.05 (*), 0.01 (**), 0.001 (***), "
        + ("adjusted over the groups (Benjamini-Hochberg)" if adjusted else "uncorrected"),
    ]
    if "decoding" in groups and groups["decoding"].notna().any():
        lines.append(
            "own labels: decoding of the labels that supervise the group (R2 or balanced accuracy); gap: "
            "beyond the best other group"
        )
    if "verdict" in groups:
        lines.append(
            "established: labels decoded beyond other labels, image features and time (free groups: variance "
            "beyond all labels, stable), and what else was measured of it holds"
        )
    if np.isfinite(cap):
        lines.append(
            f"information: InfoNCE lower bound, nats between group and image (cannot exceed {cap:.2f})"
        )
    if "information_nats" in groups:
        lines.append(
            "estimated: the same information by the conditional prior's errors, nats: no bound, and rough "
            "(too little where the prior has learnt little of the group)"
        )
    lines += ["", *_decoding_lines(results), *_selectivity_lines(results), *_encoding_lines(results)]
    lines += _side_effect_lines(results)
    lines += _analyses_lines(results)
    lines += [printable(f"note: {note}") for note in results.provenance.get("notes", [])]
    text = "\n".join(lines).rstrip()
    return "\n".join(map(shown, text.split("\n")))


def _analyses_lines(results: Results) -> list[str]:
    from nwb_migvis.results.analysis_table import analysis_lines

    return [line for name, one in results.analyses.items() for line in analysis_lines(name, one)]


def _verdict_lines(groups: pd.DataFrame) -> list[str]:
    """Return a line per group that says which parts of its claim hold, and who is read as well elsewhere."""
    if "verdict" not in groups:
        return []
    lines = [f"{group}: {verdict}" for group, verdict in groups["verdict"].items() if ":" in verdict]
    if {"own_group_gap_low", "decoding_q"} <= set(groups):
        unspecific = groups.index[(groups["decoding_q"] < 0.05) & (groups["own_group_gap_low"] <= 0)]
        lines += [f"{group}: decoded, not specific: another group tells as much" for group in unspecific]
    return lines


def _decoding_lines(results: Results) -> list[str]:
    """Return one row per group, one column per family of labels: mean score, stars if all have them."""
    decoding = results.decoding
    if not np.isfinite(decoding["score"]).any():
        return []
    cells = {}
    for family, labels in _families(results, decoding).items():
        scores = decoding["score"].sel(label=labels).mean("label").values
        q = decoding["q_value"].sel(label=labels).max("label").values
        alone = decoding["score_all"].sel(label=labels).mean("label").item()
        chance = decoding["chance"].sel(label=labels).mean().item()
        cells[family] = [*_starred(pd.Series(scores), pd.Series(q)), number(alone), number(chance)]
    rows = [*decoding["group"].values.tolist(), "(all latents)", "(chance)"]
    table = pd.DataFrame(cells, index=pd.Index(rows, name="group"))
    lines = ["Labels decoded from each group (R2 or balanced accuracy, cross-validated)", aligned(table), ""]
    if "beyond" not in decoding or not np.isfinite(decoding["beyond"]).any():
        return lines
    cells = {}
    for family, labels in _families(results, decoding).items():
        own = decoding.sel(label=labels)
        cells[family] = _starred(
            pd.Series(own["beyond"].mean("label").values), pd.Series(own["beyond_q"].min("label").values)
        )
    table = pd.DataFrame(cells, index=pd.Index(decoding["group"].values.tolist(), name="group"))
    title = (
        "The same beyond other labels, low-level image features and time (0: chance; stars of the best label)"
    )
    return [*lines, title, aligned(table), ""]


def _selectivity_lines(results: Results) -> list[str]:
    selectivity = results.selectivity
    if selectivity.sizes["label"] == 0 or selectivity.sizes["reader"] == 0:
        return [
            "No label was measured in the edits."
            if results.synthesized.sizes["edit"]
            else "No edits were made."
        ]
    lines = []
    families = _families(results, selectivity)
    for reader in selectivity["reader"].values:
        measured = selectivity.sel({"reader": reader})
        table = pd.DataFrame(_cells(measured, families), columns=["edits of", *families]).set_index(
            "edits of"
        )
        lines += [
            f"Edits read by {str(reader)!r}: transfer to the target / retention of the source",
            aligned(table),
        ]
        index = measured.sel({"method": "pmi"})
        if np.isfinite(index["si_transfer"]):
            lines.append(
                f"selectivity index (pmi): transfer {float(index['si_transfer']):.2f}, "
                f"strict {float(index['si_strict']):.2f}"
            )
        unreadable = [
            f"{label} ({number(float(measured['reader_score'].sel({'label': label})))})"
            for label in measured["label"].values
            if _blank(measured.sel({"label": label}))
        ]
        if unreadable:
            least = results.provenance.get("config", {}).get("evidence", {}).get("min_reader_score")
            threshold = "" if least is None else f"; scores below {least:g}"
            lines.append(f"not measurable by this reader: {', '.join(unreadable)}{threshold}")
        lines.append("")
    return lines


def _encoding_lines(results: Results) -> list[str]:
    """Return what edits do to the latents of predicted responses: a row per group, then the controls."""
    record = results.provenance.get("encoding", {})
    table, measured = record.get("transfer", {}), list(record.get("reading", {}))
    rows: list[list[str]] = []
    for method, title in (("pmi", "{}"), ("none", "{} (no guidance)"), ("shuffled", "{} (shuffled targets)")):
        for group, cells in table.get(method, {}).items():
            shown_cells = [_encoded(cells.get(of, {}), starred=group == of) for of in measured]
            rows.append([title.format(group), *shown_cells])
    if not rows:
        return []
    read = ", ".join(
        f"{group} {number(_number(own.get('correlation')))}" for group, own in record["reading"].items()
    )
    units = [value for value in record.get("units", {}).get("correlation", []) if value is not None]
    median = f"; median correlation of a unit {np.median(units):.2f}" if units else ""
    return [
        "Edits in predicted responses: transfer / retention of each group's latents",
        aligned(pd.DataFrame(rows, columns=["edits of", *measured]).set_index("edits of")),
        f"predicted by {record.get('network')!r} from images that it was not fitted to{median}",
        f"correlation of predicted and measured latents: {read}",
        "stars: the edited group's own latents follow the targets', adjusted over the table",
        "",
    ]


def _encoded(cell: Mapping[str, float | None], *, starred: bool) -> str:
    transfer, retention = cell.get("transfer"), cell.get("retention")
    if transfer is None or retention is None:
        return "-"
    q = cell.get("q_value")
    mark = stars(q) if starred and q is not None and transfer > 0 else ""
    return f"{transfer:.2f}{mark} / {retention:.2f}"


def _number(value: float | None) -> float:
    return float("nan") if value is None else value


def _side_effect_lines(results: Results) -> list[str]:
    """Return what edits do to low-level properties of images, a row per group, then the controls."""
    table = results.provenance.get("appearance", {}).get("side_effects", {})
    rows: list[list[str]] = []
    for method, title in (("pmi", "{}"), ("none", "(no guidance)"), ("shuffled", "{} (shuffled targets)")):
        for group, methods in table.items():
            cells = methods.get(method, {})
            title_of_row = title.format(group)
            if cells and title_of_row not in [row[0] for row in rows]:
                rows.append([title_of_row, *(_change(cell) for cell in cells.values())])
    if not rows:
        return []
    names = [str(name).replace("_", " ") for name in next(iter(next(iter(table.values())).values()))]
    return [
        "What edits do to images (change from source to edit, standard deviations of real images)",
        aligned(pd.DataFrame(rows, columns=["edits of", *names]).set_index("edits of")),
        "stars: beyond the unguided reconstruction of the same source, adjusted over the table",
        "",
    ]


def _change(cell: Mapping[str, float | None]) -> str:
    change, q = cell.get("change"), cell.get("q_value")
    return "-" if change is None else f"{change:+.2f}{stars(q) if q is not None else ''}"


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


def _families(results: Results, evidence: xr.Dataset) -> dict[str, list[str]]:
    """Return the labels by the group that they supervise; the others each by itself."""
    measured = [str(label) for label in evidence["label"].values]
    families = {}
    for name, labels in results.groups["supervised_by"].items():
        mine = [label for label in labels.split(",") if label in measured]
        if mine:
            families[str(name) if len(mine) > 1 else mine[0]] = mine
    supervising = {label for labels in families.values() for label in labels}
    return families | {label: [label] for label in measured if label not in supervising}


def _blank(measured: xr.Dataset) -> bool:
    return not np.isfinite(measured["transfer"].values).any()


def _cell(measured: xr.Dataset) -> str:
    transfer, retention = measured["transfer"].values, measured["retention"].values
    if not np.isfinite(transfer).any():
        return "-"
    return f"{np.nanmean(transfer):.2f} / {np.nanmean(retention):.2f}"


def _starred(values: pd.Series, p_values: pd.Series | None) -> list[str]:
    if p_values is None:
        return [number(value) for value in values]
    return [
        number(value) + (stars(p) if value > 0 else "") for value, p in zip(values, p_values, strict=True)
    ]


def number(value: float) -> str:
    """Return a number with three decimals, "-" if it is not finite."""
    return f"{value:.3f}" if np.isfinite(value) else "-"


def stars(p: float) -> str:
    """Return the stars of a p- or q-value: below 0.05, 0.01 and 0.001."""
    return next((mark for limit, mark in _MARKS if p < limit), "")


def shorten(text: str, most: int = 34) -> str:
    """Return a text of at most `most` characters; one that is longer ends in dots."""
    return text if len(text) <= most else f"{text[: most - 4]} ..."


def aligned(table: pd.DataFrame) -> str:
    """Return a table as text, its columns aligned; names that a file brings cannot break its lines."""
    return table.rename(index=_shown, columns=_shown).map(_shown).to_string(justify="left")


def _shown(value: object) -> object:
    return shown(value) if isinstance(value, str) else value
