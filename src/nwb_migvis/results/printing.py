"""Results in a few lines, for a prompt or a notebook."""

from __future__ import annotations

from collections import Counter
from html import escape
from typing import TYPE_CHECKING

import numpy as np

from nwb_migvis.errors import shown
from nwb_migvis.pictures import picture_uri
from nwb_migvis.results.table import number, shorten

if TYPE_CHECKING:
    from nwb_migvis.results.record import Results

_MAX_GROUPS = 5
_MAX_CHARACTERS = 110
_EDITS_PER_GROUP = 3
_COLUMNS = {"variance_explained": "variance", "decoding": "own labels", "verdict": "verdict"}


def results_lines(results: Results) -> list[str]:
    """Return at most a dozen lines that say what a run made."""
    lines = [f"Results {results.name!r}: {_sizes(results)}"]
    rows = _group_rows(results)
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows[:_MAX_GROUPS]:
        cells = (cell.ljust(width) for cell, width in zip(row, widths, strict=True))
        lines.append("  " + "  ".join(cells).rstrip())
    if len(rows) > _MAX_GROUPS:
        lines.append(f"  and {len(rows) - _MAX_GROUPS} more")
    lines += [f"  {name}: {text}" for name, text in _contents(results).items()]
    return [shorten(shown(line), _MAX_CHARACTERS) for line in lines]


def results_html(results: Results) -> str:
    """Return the same as HTML, with a strip of edits."""
    rows = _group_rows(results)
    cells = ["".join(f"<td>{escape(cell)}</td>" for cell in row) for row in rows[:_MAX_GROUPS]]
    if len(rows) > _MAX_GROUPS:
        cells.append(f"<td>and {len(rows) - _MAX_GROUPS} more</td>")
    table = "".join(f"<tr>{row}</tr>" for row in cells)
    items = "".join(
        f"<li>{escape(name)}: {escape(shorten(text, _MAX_CHARACTERS))}</li>"
        for name, text in _contents(results).items()
    )
    head = f"<strong>Results {escape(repr(results.name))}</strong>: {_sizes(results)}"
    return f"<div>{head}<table>{table}</table><ul>{items}</ul>{_strip(results)}</div>"


def _strip(results: Results) -> str:
    """Return the first edits of each group as HTML, in the order of the groups."""
    edits = results.synthesized
    method, group = edits["method"].values, edits["group"].values
    pictures = []
    for name in results.groups.index[:_MAX_GROUPS]:
        for i in np.flatnonzero((group == name) & (method == "pmi"))[:_EDITS_PER_GROUP]:
            text = escape(shown(f"edit of {shorten(str(name))}"), quote=True)
            uri = picture_uri(edits["image"].values[i], most_px=64)
            pictures.append(f'<img src="{uri}" alt="{text}" title="{text}" height="48" style="margin:1px">')
    return f"<div>{''.join(pictures)}</div>" if pictures else ""


def _sizes(results: Results) -> str:
    return f"{len(results.groups)} groups, {results.latents.sizes['latent']} latents"


def _group_rows(results: Results) -> list[list[str]]:
    """Return name, labels, and what was measured of each group."""
    rows = []
    for name, group in results.groups.iterrows():
        row = [str(name), shorten(str(group["supervised_by"])) or "(free)"]
        for column, title in _COLUMNS.items():
            if column in results.groups:
                value = group[column]
                row.append(shorten(str(value), 40) if column == "verdict" else f"{title} {number(value)}")
        rows.append(row)
    return rows


def _contents(results: Results) -> dict[str, str]:
    """Return what the tables hold, by the names of the attributes."""
    split = Counter(results.latents["split"].values.tolist())
    parts = ", ".join(f"{count} {part}" for part, count in split.items())
    contents = {"latents": f"{results.latents.sizes['stimulus']} stimuli ({parts})"}
    if results.labels.data_vars:
        contents["labels"] = ", ".join(map(str, results.labels.data_vars))
    measured = results.units["r2"].values
    measured = measured[np.isfinite(measured)]
    r2 = f", median R2 {np.median(measured):.3f}" if measured.size else ""
    contents["units"] = f"{results.units.sizes['unit']} units{r2}"
    edits = results.synthesized
    if edits.sizes["edit"]:
        roles = Counter(edits["role"].values.tolist())
        size = f"{edits.sizes['y']} x {edits.sizes['x']} px" + (", colour" if "channel" in edits.dims else "")
        kinds = ", ".join(f"{count} {role}" for role, count in roles.items())
        methods = ", ".join(dict.fromkeys(edits["method"].values.tolist()))
        contents["synthesized"] = f"{edits.sizes['edit']} edits ({kinds}) of {size}; methods {methods}"
    else:
        contents["synthesized"] = "no edits"
    if results.selectivity.sizes["label"]:
        readers = ", ".join(map(str, results.selectivity["reader"].values))
        contents["selectivity"] = f"{results.selectivity.sizes['label']} labels, read by {readers}"
    if results.analyses:
        contents["analyses"] = ", ".join(results.analyses)
    return contents
