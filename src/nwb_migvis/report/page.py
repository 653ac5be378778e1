"""A page that stands alone: what was recorded, what holds of each group, pictures, and how it was made."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from nwb_migvis.errors import MigvisError, printable
from nwb_migvis.extras import REPORT, require
from nwb_migvis.plot.axes import short_name
from nwb_migvis.plot.recorded import extremes, numbers, table
from nwb_migvis.read.places import Recording, read_recording
from nwb_migvis.read.recorded import read_shown, small_images
from nwb_migvis.report.again import command, settings
from nwb_migvis.report.analyses import sections
from nwb_migvis.report.charts import evidence_charts, latent_chart, population_charts, variance_chart
from nwb_migvis.report.gallery import MOST_BYTES, gallery
from nwb_migvis.report.rendering import render, write_text
from nwb_migvis.report.sentences import claims, part_rows
from nwb_migvis.results import Results
from nwb_migvis.results.table import group_table
from nwb_migvis.sources import Source as Origin
from nwb_migvis.sources import Unreachable, as_source
from nwb_migvis.store import read_results

MOST_LATENT_CHARTS = 24
"""Groups whose latents are drawn; of more only their numbers are shown."""


@dataclass(frozen=True, eq=False)
class Source:
    """One run of one file, with what its session shows.

    Attributes
    ----------
    path : Path, or another source
    results : Results
    recording : Recording
    images : dict of str to numpy.ndarray, or None
        The shown images at the size of the edits; None where they are unknown.
    image_shape : tuple of int, or None
        Of the images in the session.
    """

    path: Origin
    results: Results
    recording: Recording
    images: dict[str, np.ndarray] | None
    image_shape: tuple[int, ...] | None


def report_path(path: str | Origin, name: str = "migvis") -> Path:
    """Return where the page of a run goes when nothing else is said: beside its file."""
    path = as_source(path, what="file")
    run = "" if name == "migvis" else f"_{name.replace('/', '_')}"
    return path.with_name(f"{path.stem}{run}_report.html")


def write_report(
    paths: str | Origin | Sequence[str | Origin],
    name: str | None = None,
    *,
    out: str | Path | None = None,
    images: str | Path | None = None,
) -> Path:
    """Write one page about a run, made from its file alone; about several files, one row per session.

    The page holds its pictures, its style and its script, and loads nothing.

    Parameters
    ----------
    paths : path, or sequence of paths
        Files that `run` wrote.
    name : str, optional
        The run, where a file holds several.
    out : path, optional
        The page; `NAME_report.html` beside the first file where it is None. A page that is there is replaced.
    images : path, optional
        Folder of the images, where a file has no pixels. A folder that a file names is not opened.

    Returns
    -------
    Path
        The page.

    Raises
    ------
    MigvisError
        If a file cannot be read or the page cannot be written there.
    """
    require(REPORT, what="a report")
    given = list(paths) if isinstance(paths, Sequence) and not isinstance(paths, str) else [paths]
    if not given:
        raise MigvisError("found 0 files; expected one or more that `run` wrote; give their paths")
    read = [as_source(path, what="file") for path in given]
    first = read_results(read[0], name)
    out = report_path(read[0], first.name) if out is None else Path(out)
    if out.suffix not in (".html", ".htm") or not out.parent.is_dir() or out.is_dir():
        raise MigvisError(
            f"{out}: expected the path of an HTML page in a folder that exists; give another --out"
        )
    if len(read) == 1:
        text = page(_source(read[0], first, images))
    else:
        runs = [(path, read_results(path, name)) for path in read]
        text = sessions_page([Source(path, results, _recording(path), None, None) for path, results in runs])
    write_text(out, text)
    return out


def page(source: Source) -> str:
    """Return the page of one run as HTML."""
    results = source.results
    told = claims(results)
    room = MOST_BYTES / max(len(told), 1)
    shown = []
    for i, claim in enumerate(told):
        edits = gallery(results, claim.group, source.images, n_bytes=room)
        shown.append(
            {
                "name": short_name(claim.group, 60),
                "state": claim.state,
                "text": claim.text,
                "labels": short_name(results.groups["supervised_by"].iloc[i], 200),
                "size": int(results.groups["size"].iloc[i]),
                "parts": part_rows(claim),
                "gallery": edits,
                "latents": latent_chart(results, claim.group) if i < MOST_LATENT_CHARTS else None,
            }
        )
    return render(
        "page.html",
        title=f"{_session_name(source)}: {short_name(results.name)}",
        file=printable(source.path.name),
        run=printable(results.name),
        facts=facts(source),
        groups=shown,
        notes=[printable(note) for note in _list(results.provenance.get("notes"))],
        size=_size_text(source),
        evidence=evidence_charts(results),
        population=population_charts(results, _places(source)),
        analyses=sections(results),
        numbers=group_table(results),
        made=_made(results),
        command=command(results),
        settings=settings(results),
    )


def sessions_page(sources: Sequence[Source]) -> str:
    """Return the page of several runs as HTML: one row per file, by whose name runs of one session differ."""
    rows = []
    for source in sources:
        told = claims(source.results)
        rows.append(
            {
                "title": printable(source.path.stem),
                "session": _session_name(source),
                "run": printable(source.results.name),
                "facts": facts(source),
                "window": _window(source.results),
                "claims": [{"name": short_name(c.group, 60), "state": c.state, "text": c.text} for c in told],
                "n_established": sum(c.state == "established" for c in told),
                "notes": [printable(note) for note in _list(source.results.provenance.get("notes"))],
                "variance": variance_chart(source.results),
            }
        )
    return render("sessions.html", title=f"{len(rows)} sessions", rows=rows)


def facts(source: Source) -> dict[str, str]:
    """Return what was recorded, by name."""
    results, recording = source.results, source.recording
    split = results.latents["split"].values.tolist()
    repeats = results.latents["n_presentations"].values
    reliability = results.units["reliability"].values
    reliability = reliability[np.isfinite(reliability)]
    parts = [f"{split.count(part)} {part}" for part in dict.fromkeys(split)]
    areas = [short_name(area, 60) for area in recording.areas]
    said = {
        "Session": recording.identifier,
        "Description": recording.description,
        "Date": recording.date,
        "Subject": recording.subject,
        "Area": ", ".join(areas[:6]) + (f" and {len(areas) - 6} more" if len(areas) > 6 else ""),
        "Units": str(results.units.sizes["unit"]),
        "Images": f"{len(split)} ({', '.join(parts)})",
        "Repeats": _range(repeats) if split else "",
        "Reliability": f"median {np.median(reliability):.2f} of units" if reliability.size else "not defined",
        "Counting window": _window(results),
    }
    return {key: value for key, value in said.items() if value}


def _session_name(source: Source) -> str:
    return short_name(source.recording.identifier or source.path.stem, 60)


def _window(results: Results) -> str:
    window = numbers(table(results.provenance, "reading").get("window_s"))
    return "" if window is None or len(window) != 2 else f"{window[0]:g} to {window[1]:g} s after onset"


def _made(results: Results) -> dict[str, str]:
    """Return how the run was made, by name."""
    provenance = results.provenance
    times = table(provenance, "times")
    seconds = {k: v for k, v in table(times, "seconds").items() if isinstance(v, int | float)}
    inputs = provenance.get("inputs")
    listed = [table(one) for one in inputs] if isinstance(inputs, list) else []
    said = {
        "Inputs": "; ".join(f"{one.get('path')} (sha256 {str(one.get('sha256'))[:16]}…)" for one in listed),
        "Finished": times.get("finished"),
        "Seconds": ", ".join(f"{stage} {value:.0f}" for stage, value in seconds.items()),
        "Device": provenance.get("device"),
        "Threads": provenance.get("n_threads"),
        "Seed": table(provenance, "config").get("seed"),
        "Versions": ", ".join(f"{k} {v}" for k, v in table(provenance, "versions").items()),
        "Weights": ", ".join(f"{k} {str(v)[:16]}…" for k, v in table(provenance, "weights").items()),
    }
    return {key: short_name(value, 500) for key, value in said.items() if value not in (None, "")}


def _recording(path: Origin) -> Recording:
    """Return what a file says of its recording; nothing where that cannot be read."""
    try:
        return read_recording(path)
    except Unreachable:
        raise
    except MigvisError:
        return Recording()


def _source(path: Origin, results: Results, images: str | Path | None) -> Source:
    recording, shown, shape = _recording(path), None, None
    edits = results.synthesized
    if edits.sizes["edit"]:
        try:
            session = read_shown(path, results, images=images)
        except MigvisError as error:
            if images is not None or isinstance(error, Unreachable):
                raise
        else:
            shape = session["image"].shape[1:]
            shown = _small(session, results)
    return Source(path, results, recording, shown, shape)


def _small(session: Any, results: Results) -> dict[str, np.ndarray] | None:
    """Return the images that a page can show, at the size of the edits."""
    edits = results.synthesized
    names = {*edits["source"].values.tolist(), *edits["target"].values.tolist()}
    for group in results.groups.index:
        for direction in dict.fromkeys(edits["direction"].values.tolist()):
            for end in extremes(results, str(group), str(direction)):
                names |= set(end)
    rows = [i for i, name in enumerate(session["stimulus"].values.tolist()) if name in names]
    like = edits["image"].shape[1:]
    chosen = session["image"].isel(stimulus=rows)
    if not rows or chosen.ndim != len(like) + 1:
        return None
    small = small_images(chosen, max(like[:2]))
    if small.shape[1:] != like:
        return None
    return dict(zip(session["stimulus"].values[rows].tolist(), small, strict=True))


def _places(source: Source) -> np.ndarray | None:
    """Return where each unit of the results is, None where the file does not say or all are at one place."""
    units, recording = source.results.units, source.recording
    if "electrode_group" in units.coords:
        return units["electrode_group"].values
    rows = units["unit_row"].values if "unit_row" in units.coords else None
    for places in (recording.electrode_group, recording.location):
        inside = rows is not None and len(rows) and rows.min() >= 0 and rows.max() < len(places)
        if inside and len(set(places[rows].tolist())) > 1:
            return places[rows]
    return None


def _size_text(source: Source) -> str:
    """Return what the sizes of the pictures are."""
    edits = source.results.synthesized
    if not edits.sizes["edit"]:
        return ""
    own = f"Edits have {edits.sizes['y']} × {edits.sizes['x']} px, the size that the prior works with."
    if source.images is None:
        return f"{own} The file holds no pixels of its images: sources are shown as the prior rebuilds them."
    height, width = source.image_shape[:2] if source.image_shape else (0, 0)
    if (height, width) == (edits.sizes["y"], edits.sizes["x"]):
        return own
    return f"{own} The session's images have {height} × {width} px and are shown at the size of the edits."


def _list(value: Any) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _range(numbers: np.ndarray) -> str:
    least, most = numbers.min(), numbers.max()
    return f"{least} each" if least == most else f"{least} to {most}, median {np.median(numbers):g}"
