"""Figures drawn from a written file alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.read.recorded import read_shown, small_images
from nwb_migvis.results import Results
from nwb_migvis.sources import Source, as_source
from nwb_migvis.store import read_results

_PAIRS = 4
_MOST_PX = 512
"""Longest side of a drawn image; its place in the figure has fewer dots."""

_MOST_PLACES = 1000
"""Images in a figure: each takes milliseconds and memory."""

_CAPTION = (
    "Rows are the first pairs that the seed drew, successes and failures alike. A prior trained for minutes\n"
    "leaves objects rough: believe the numbers before the pictures."
)


def draw_edits(
    path: str | Source,
    name: str | None = None,
    *,
    out: str | Path | None = None,
    images: str | Path | None = None,
) -> Path | None:
    """Draw, for every group, sources, their edits at rising strength, and targets.

    Parameters
    ----------
    path : path
        A file that `run` wrote. Sources and targets are read from the session in the same file. Where it
        holds no pixels, sources are shown as their unguided reconstruction and targets are left blank.
    name : str, optional
        The run, where the file holds several.
    out : path, optional
        PNG to write; `NAME_RUN_edits.png` beside the file where it is None.
    images : path, optional
        Folder of the images, where the file has no pixels. A folder that the file names is not opened.

    Returns
    -------
    Path or None
        None where the run holds no edits at rising strengths (role `dose`).

    Raises
    ------
    MigvisError
        If the figure cannot be written there.
    """
    import matplotlib as mpl
    from matplotlib.figure import Figure

    path = as_source(path, what="file")
    results = read_results(path, name)
    dose = results.synthesized.isel(edit=np.flatnonzero(results.synthesized["role"].values == "dose"))
    if dose.sizes["edit"] == 0:
        return None
    out = Path(out) if out is not None else path.with_name(f"{path.stem}_{results.name}_edits.png")
    if out.suffix != ".png" or not out.parent.is_dir():
        raise MigvisError(
            f"{out}: expected the path of a PNG file in a folder that exists; give another --out"
        )
    groups = [str(group) for group in results.groups.index]
    strengths = sorted(set(dose["strength"].values.tolist()))
    pairs = list(dict.fromkeys(zip(dose["source"].values, dose["target"].values, strict=True)))[:_PAIRS]
    n_places = len(groups) * len(pairs) * (len(strengths) + 2)
    if n_places > _MOST_PLACES:
        raise MigvisError(
            f"{path}: run {results.name!r} has {len(groups)} groups at {len(strengths)} strengths, "
            f"{n_places} images; expected at most {_MOST_PLACES} in a figure; draw some of "
            "`Results.synthesized` yourself"
        )
    stimuli, are_real = _stimuli(path, results, pairs, images)
    first = "source" if are_real else "rebuilt"
    with mpl.rc_context({"font.size": 8}):
        n_columns = len(strengths) + 2
        figure = Figure(figsize=(2 * (1.0 * n_columns + 0.4), 0.5 * len(groups) * (len(pairs) + 0.45) + 0.9))
        panels = figure.subfigures(-(-len(groups) // 2), 2, squeeze=False).ravel()
        for panel, group in zip(panels, groups, strict=False):
            panel.suptitle(_title(results, group), x=0.02, ha="left", parse_math=False)
            rows = _rows(
                dose.isel(edit=np.flatnonzero(dose["group"].values == group)), pairs, strengths, stimuli
            )
            _grid(panel, rows, [first, *(f"{s:g} T" for s in strengths), "target"])
        figure.text(0.02, 0.005, _CAPTION, fontsize=7, va="bottom")
        try:
            figure.savefig(out, dpi=150, bbox_inches="tight", metadata={"Software": None})
        except OSError as error:
            raise MigvisError(f"{out}: {error.strerror}; give another --out") from None
    return out


def _title(results: Results, group: str) -> str:
    labels = str(results.groups["supervised_by"][group])
    return printable(f"{group}: {labels}" if labels else f"{group} (free)")


def _stimuli(
    path: Source, results: Results, pairs: list[tuple[str, str]], images: str | Path | None
) -> tuple[dict[str, np.ndarray], bool]:
    """Return pixels of the stimuli of these pairs, and whether they are the real ones."""
    names = sorted({name for pair in pairs for name in pair})
    try:
        session = read_shown(path, results, images=images)
    except MigvisError:
        if images is not None:
            raise
    else:
        row = {name: i for i, name in enumerate(session["stimulus"].values)}
        names = [name for name in names if name in row]
        shown = session["image"].isel(stimulus=[row[name] for name in names])
        return dict(zip(names, small_images(shown, _MOST_PX), strict=True)), True
    plain = results.synthesized.isel(edit=np.flatnonzero(results.synthesized["method"].values == "none"))
    return dict(zip(plain["source"].values, plain["image"].values, strict=True)), False


def _rows(
    dose: xr.Dataset, pairs: list[tuple[str, str]], strengths: list[float], stimuli: dict[str, np.ndarray]
) -> list[list[np.ndarray | None]]:
    images = {
        (source, target, strength): image
        for source, target, strength, image in zip(
            dose["source"].values,
            dose["target"].values,
            dose["strength"].values,
            dose["image"].values,
            strict=True,
        )
    }
    return [
        [stimuli.get(s), *(images.get((s, t, strength)) for strength in strengths), stimuli.get(t)]
        for s, t in pairs
    ]


def _grid(panel: Any, rows: list[list[np.ndarray | None]], titles: list[str]) -> None:
    axes = panel.subplots(len(rows), len(titles), squeeze=False)
    for i, row in enumerate(rows):
        for axis, image, title in zip(axes[i], row, titles, strict=True):
            axis.set_axis_off()
            if i == 0:
                axis.set_title(title)
            if image is None:
                axis.set_box_aspect(1)
            else:
                axis.imshow(image, cmap="gray", vmin=0, vmax=255, interpolation="nearest")
