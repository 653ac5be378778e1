"""Writing what a study found into copies of its sessions' files."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from nwb_migvis.analysis.context import digest_of
from nwb_migvis.analysis.sessions import Sessions
from nwb_migvis.errors import MigvisError
from nwb_migvis.files import results_name
from nwb_migvis.results import Results
from nwb_migvis.sources import Source, as_source
from nwb_migvis.store import write_results

Assembled = tuple[Results, dict[str, bytes]]
"""Results of a session, and the weights that are stored beside them."""


def write_study(
    sessions: Sessions, assembled: Sequence[Assembled], out: str | Path | None, **where: Any
) -> list[Path]:
    """Write the results of every session into a copy of its file.

    Parameters
    ----------
    sessions : Sessions
    assembled : sequence of (Results, dict of str to bytes)
    out : path, optional
        The file to write, with several sessions an existing folder; beside each file where it is None.
    **where
        `in_place`, `overwrite` and `results_only`, as for `run`.

    Returns
    -------
    list of Path

    Raises
    ------
    MigvisError
        If a session was not read from a file, or as for `run`.
    """
    sources = [_source(session) for session in sessions.sessions]
    digests = [digest_of(source) for source in sources]
    written = []
    for i, ((results, weights), source) in enumerate(zip(assembled, sources, strict=True)):
        own_first = digests[i : i + 1] + digests[:i] + digests[i + 1 :]
        added = {"inputs": own_first, "times": {"finished": datetime.now(UTC).isoformat()}}
        file = out if out is None or len(sources) == 1 else Path(out) / results_name(source)
        finished = replace(results, provenance=results.provenance | added)
        written.append(write_results(finished, source=source, out=file, weights=weights, **where))
    return written


def _source(session: xr.Dataset) -> Source:
    source = as_source(session.attrs.get("source", ""), what="source")
    if isinstance(source, Path) and not source.is_file():
        raise MigvisError(
            f"found no file that the session was read from ({source.name or 'none is named'}); "
            "expected one to copy; read the session with read_session"
        )
    return source
