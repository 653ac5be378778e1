"""From session files to their results, written back."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from nwb_migvis.analysis.analysing import analyse, analyse_together
from nwb_migvis.analysis.context import Clock, check_device, digest_of, json_value
from nwb_migvis.analysis.priors import check_prior
from nwb_migvis.analysis.stages import MAX_PRIOR_BYTES
from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.files import as_path
from nwb_migvis.read import read_session, read_sessions
from nwb_migvis.results import Results
from nwb_migvis.runs.destinations import choose_destinations
from nwb_migvis.store import fingerprint, write_results


def run(
    source: str | Path | Sequence[str | Path],
    *,
    out: str | Path | None = None,
    in_place: bool = False,
    name: str = "migvis",
    overwrite: bool = False,
    config: Config | None = None,
    **reading: Any,
) -> Results | list[Results]:
    """Learn latent groups of a session's population, synthesize what they encode, and write the results.

    Parameters
    ----------
    source : path or sequence of paths
        NWB sessions. Several are fitted together: one latent space, with results for each.
    out : path, optional
        File to write, with several sessions an existing folder; a sibling `NAME_migvis.nwb` where it is None.
    in_place : bool
        Write the results back under the source's own path (atomically, keeping `NAME.nwb.bak`).
    name : str
        Name of the run inside the file.
    overwrite : bool
        Replace an output, or a run of that name, that exists.
    config : Config, optional
        The preset `quick` where it is None.
    **reading
        Passed to `read_session`: `window_s`, `images`, `labels`, `where`, `units`, `layout`, `stimulus`.

    Returns
    -------
    Results, or list of Results for a list of paths

    Raises
    ------
    MigvisError
        For anything that the user can mend: in the file, the options, or the installation. Destinations
        are checked before any work is done.
    """
    paths: list[str | Path]
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        paths, is_list = list(source), True
    else:
        paths, is_list = [as_path(source, what="source")], False
    written = run_files(
        paths, out=out, in_place=in_place, name=name, overwrite=overwrite, config=config, **reading
    )
    results = [result for _, result in written]
    return results if is_list else results[0]


def run_files(
    paths: Sequence[str | Path],
    *,
    out: str | Path | None = None,
    in_place: bool = False,
    name: str = "migvis",
    overwrite: bool = False,
    config: Config | None = None,
    **reading: Any,
) -> list[tuple[Path, Results]]:
    """Do what `run` does for a list of sessions, and say where the results of each were written."""
    sources = [as_path(path, what="source") for path in paths]
    if config is not None and not isinstance(config, Config):
        raise MigvisError(
            f"config is {config!r:.80}; expected a Config: Config.from_dict makes one of nested dicts"
        )
    for source in sources:
        if source.is_dir():
            raise MigvisError(
                f"{source} is a folder; expected an NWB file; for a sorting that SpikeInterface saved there, "
                "give --presentations CSV, --images DIR, and --into SESSION.nwb or --metadata FILE.toml"
            )
    destination: dict[str, Any] = {"out": out, "in_place": in_place, "overwrite": overwrite}
    return _run_all(sources, destination, name=name, config=config or Config(), reading=reading, origin={})


def run_file(
    source: Path,
    destination: Mapping[str, Any],
    *,
    name: str,
    config: Config,
    reading: Mapping[str, Any],
    origin: Mapping[str, Any] | None = None,
) -> tuple[Path, Results]:
    """Run on one session.

    Parameters
    ----------
    source : Path
    destination : mapping
        `out`, `in_place` and `overwrite` of `run`.
    name : str
    config : Config
    reading : mapping
        Keywords of `read_session`.
    origin : mapping, optional
        What the provenance says instead of the source where that was made of other files: `inputs`, and
        further `reading`.

    Returns
    -------
    (Path, Results)
        The file that was written, and what it holds.
    """
    (written,) = _run_all(
        [source], destination, name=name, config=config, reading=reading, origin=origin or {}
    )
    return written


def _run_all(
    sources: Sequence[Path],
    destination: Mapping[str, Any],
    *,
    name: str,
    config: Config,
    reading: Mapping[str, Any],
    origin: Mapping[str, Any],
) -> list[tuple[Path, Results]]:
    """Run on one session or several; what is given is as for `run_file`."""
    require(MODELS, what="fitting")
    from nwb_migvis.synthesis.critic.features import check_features

    started = datetime.now(UTC)
    clock = Clock()
    destinations = choose_destinations(sources, **destination, name=name, expected_bytes=2 * MAX_PRIOR_BYTES)
    check_device(config)
    check_prior(config)
    check_features(config.critic)
    found = [fingerprint(source) for source in sources]
    with clock.of("reading"):
        alone = len(sources) == 1
        sessions = [read_session(sources[0], **reading)] if alone else read_sessions(sources, **reading)
        digests = [] if "inputs" in origin else [digest_of(source) for source in sources]
    if alone:
        analysed = [analyse(sessions[0], name=name, config=config, clock=clock)]
    else:
        analysed = analyse_together(sessions, name=name, config=config, clock=clock)
    times = {
        "started": started.isoformat(),
        "finished": datetime.now(UTC).isoformat(),
        "seconds": clock.seconds,
    }
    asked = {**reading, **origin.get("reading", {})}
    added = {
        "reading": {key: json_value(value) for key, value in asked.items() if value is not None},
        "times": times,
    }
    finished = []
    for i, (results, weights) in enumerate(analysed):
        own_first = digests[i : i + 1] + digests[:i] + digests[i + 1 :]
        provenance = results.provenance | {"inputs": origin.get("inputs", own_first)} | added
        finished.append((replace(results, provenance=provenance), weights))
    return _write_all(finished, sources, destinations, found)


def _write_all(
    finished: Sequence[tuple[Results, dict[str, bytes]]],
    sources: Sequence[Path],
    destinations: Sequence[Mapping[str, Any]],
    found: Sequence[tuple[int, ...]],
) -> list[tuple[Path, Results]]:
    """Write the results of every session, in order; those written before a failure stay, and are named."""
    written: list[tuple[Path, Results]] = []
    for (results, weights), source, destination, unchanged in zip(
        finished, sources, destinations, found, strict=True
    ):
        try:
            path = write_results(
                results,
                source=source,
                **destination,
                weights=weights,
                unchanged_since=unchanged,
                sidecar=True,
            )
        except MigvisError as error:
            if not written:
                raise
            done = ", ".join(str(path) for path, _ in written)
            raise MigvisError(f"{error} (already written, and whole: {done})") from error
        written.append((path, results))
    return written
