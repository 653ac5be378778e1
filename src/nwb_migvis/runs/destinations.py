"""Where the results of one session or several go, checked for all before any work."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from nwb_migvis.errors import MigvisError
from nwb_migvis.sources import Source, size_of
from nwb_migvis.store import Destination, check_destination


def choose_destinations(
    sources: Sequence[Source], destination: Destination, *, name: str, expected_bytes: int
) -> list[dict[str, Any]]:
    """Return for each session where to write, as keywords of `write_results`, or refuse.

    Parameters
    ----------
    sources : sequence of Path, or of files at addresses
    destination : Destination
        With several sessions `out` is a folder, for files named `NAME_migvis.nwb`.
    name : str
        Of the run.
    expected_bytes : int
        Size of the results of one session.

    Raises
    ------
    MigvisError
        If a session is given twice, or `out` is not a folder for several sessions. If two sessions would be
        written to one file, or one over another's source. And as `check_destination`.
    """
    out = destination.out
    how: dict[str, Any] = {
        "in_place": destination.in_place,
        "overwrite": destination.overwrite,
        "results_only": destination.results_only,
        "backend": destination.backend,
    }
    if not sources:
        raise MigvisError("found 0 sessions; expected one or more; give the path of an NWB file")
    if len(sources) > 1:
        _check_apart(sources, out)
        outs = [None if out is None else Path(out) / destination.name(source) for source in sources]
    else:
        outs = [None if out is None else Path(out)]
    chosen: list[Path] = []
    waiting: dict[Path, int] = {}
    for source, file in zip(sources, outs, strict=True):
        folder = replace(destination, out=file).path(source).parent.resolve()
        needed = expected_bytes + waiting.get(folder, 0)
        chosen.append(
            check_destination(
                source,
                out=file,
                **how,
                name=name,
                expected_bytes=needed,
            )
        )
        waiting[folder] = needed + (0 if destination.results_only else size_of(source))
    _check_distinct(sources, chosen)
    return [{"out": file, **how} for file in outs]


def output_paths(sources: Sequence[Source], destination: Destination) -> list[Path]:
    """Return the file that will be written for each session, unchecked."""
    if len(sources) > 1 and destination.out is not None:
        return [Path(destination.out) / destination.name(source) for source in sources]
    return [destination.path(source) for source in sources]


def _check_apart(sources: Sequence[Source], out: str | Path | None) -> None:
    first: dict[Source, Source] = {}
    for source in sources:
        other = first.setdefault(_same(source), source)
        if other is not source:
            raise MigvisError(f"found {source} twice; expected each session once; omit one")
    if out is not None and not Path(out).is_dir():
        raise MigvisError(
            f"{out} is not a folder; expected one for the results of {len(sources)} sessions; make it, "
            "or omit --out to write beside each session"
        )


def _check_distinct(sources: Sequence[Source], chosen: Sequence[Path]) -> None:
    """Refuse destinations that are the same file, or another session's source."""
    owners = {_same(source): source for source in sources}
    for source, destination in zip(sources, chosen, strict=True):
        owner = owners.setdefault(destination.resolve(), source)
        if owner is not source:
            raise MigvisError(
                f"{destination} would hold the results of {source}, but it is taken by {owner}; expected a "
                "file for each session; rename one of the sessions, or omit --out"
            )


def _same(source: Source) -> Source:
    """Return a source such that two names of one file are equal."""
    return source.resolve() if isinstance(source, Path) else source
