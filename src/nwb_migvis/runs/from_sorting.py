"""From units sorted with SpikeInterface to results in an NWB file."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from nwb_migvis.analysis.context import digest_of
from nwb_migvis.config import Config
from nwb_migvis.engines import LOOP, Engine
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.files import results_name
from nwb_migvis.read import session_from_sorting
from nwb_migvis.results import Results
from nwb_migvis.runs.fetching import Fetched
from nwb_migvis.runs.running import Origin, run_sources
from nwb_migvis.sorting import (
    SessionMetadata,
    SortedUnits,
    load_sorting,
    read_presentations,
    write_sorted_session,
)
from nwb_migvis.store import (
    Destination,
    check_destination,
    check_new_file,
    check_nothing_lost,
    temporary_path,
)


@dataclass(frozen=True)
class SortedSource:
    """A session in parts: sorted units, presentations, images, and what the session is.

    Attributes
    ----------
    folder : path
        Where SpikeInterface saved a sorting or a `SortingAnalyzer`.
    presentations : path
        CSV with `start_time` (s, on the sorting's clock), `stimulus`, and further columns.
    images : path, optional
        Folder of the images; without it synthesis is skipped.
    unit_query : str, optional
        pandas query on the units' properties and metrics; units that it leaves out are not written.
    into : path, optional
        NWB session without units: units, images, presentations and results are added to a copy of it.
    metadata : path, optional
        TOML of a new session's metadata (see `SessionMetadata`); one of `into` and `metadata` is needed.
    resize_px : (height, width), optional
        Size that images are resized to, pixels; needed where their sizes differ.
    t_start : float, optional
        When the recording of an analyzer began, seconds; needed where the recording is out of reach.
    """

    folder: str | Path
    presentations: str | Path
    images: str | Path | None = None
    unit_query: str | None = None
    into: str | Path | None = None
    metadata: str | Path | None = None
    resize_px: tuple[int, int] | None = None
    t_start: float | None = None


def run_sorting(
    source: SortedSource,
    to: Destination,
    *,
    name: str = "migvis",
    config: Config | None = None,
    engine: Engine = LOOP,
    **reading: Any,
) -> tuple[Path, Results]:
    """Run on units sorted with SpikeInterface, and write one NWB file of the session and the results.

    Parameters
    ----------
    source : SortedSource
    to : Destination
        Where the results go; `NAME_migvis.nwb` beside `into`, or beside the folder, where `out` is None.
    name, config
        As for `run`.
    engine : Engine
        What further fits are done with.
    **reading
        As for `run`: `window_s`, `labels`, `where`, `units`, `layout`, `stimulus`.

    Returns
    -------
    (Path, Results)
        The file that was written, and its results.

    Raises
    ------
    MigvisError
        For anything that the user can fix.
    """
    folder, metadata = Path(source.folder), source.metadata
    into = None if source.into is None else Path(source.into)
    if (into is None) == (metadata is None):
        which = "neither" if into is None else "both"
        raise MigvisError(
            f"found {which} of --into and --metadata; expected one: --into SESSION.nwb adds the units to a "
            "copy of that session, --metadata FILE.toml describes a new one"
        )
    require(MODELS, what="fitting")
    home = folder.absolute() if into is None else into
    destination = home.with_name(results_name(home)) if to.out is None else Path(to.out)
    if into is not None:
        check_destination(into, out=destination, overwrite=to.overwrite, name=name)
    else:
        check_new_file(destination, overwrite=to.overwrite)
    new = None if metadata is None else SessionMetadata.from_toml(metadata)
    table = read_presentations(source.presentations)
    sorting = SortedUnits.of(load_sorting(folder), t_start=source.t_start)
    window = {key: reading[key] for key in ("window_s", "allow_long_window") if key in reading}
    session = session_from_sorting(
        sorting, table, source.images, unit_query=source.unit_query, resize_px=source.resize_px, **window
    )
    unit_ids = session["unit"].values
    origin = Origin(
        inputs=[
            {"path": folder.name, "spikes_sha256": spikes_digest(sorting, unit_ids)},
            *(digest_of(Path(path)) for path in (source.presentations, into, metadata) if path is not None),
        ],
        reading={
            "images": source.images,
            "unit_query": source.unit_query,
            "resize_px": source.resize_px,
            "t_start": source.t_start,
        },
    )
    if source.images is None:
        reading = {"stimulus": "image_name", **reading}
    with temporary_session(destination) as temporary:
        write_sorted_session(
            temporary,
            sorting,
            table,
            image=session.get("image"),
            unit_ids=list(unit_ids),
            into=home if new is None else new,
        )
        if into is not None:
            check_nothing_lost(into, temporary)
        (written,) = run_sources(
            Fetched([temporary], replace(to, out=destination)),
            name=name,
            config=config or Config(),
            reading=reading,
            origin=origin,
            engine=engine,
        )
        return written


@contextmanager
def temporary_session(destination: Path) -> Iterator[Path]:
    """Yield a path beside the destination for the session without results; the file is removed afterwards.

    Errors name the destination instead.
    """
    path = temporary_path(destination.with_name(f"{destination.stem}.session"))
    path.unlink(missing_ok=True)
    try:
        yield path
    except MigvisError as error:
        raise MigvisError(str(error).replace(str(path), str(destination))) from error
    finally:
        path.unlink(missing_ok=True)


def spikes_digest(units: SortedUnits, unit_ids: np.ndarray) -> str:
    """Return the SHA-256 of units' names and spike times (float64, seconds), one unit after another."""
    digest = hashlib.sha256()
    for unit in unit_ids:
        digest.update(f"{unit}\0".encode())
        digest.update(units.spike_times(unit).tobytes())
    return digest.hexdigest()
