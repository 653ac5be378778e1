"""From session files to their results, written back."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import xarray as xr

from nwb_migvis.analysis.assembling import MAX_PRIOR_BYTES
from nwb_migvis.analysis.context import Clock, check_device, digest_of
from nwb_migvis.analysis.networks import check_prior
from nwb_migvis.analysis.study import Study
from nwb_migvis.config import Config
from nwb_migvis.engines import LOOP, Engine
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.networks.ranks import ranks
from nwb_migvis.plain import plain
from nwb_migvis.progress import set_quiet, stage, working
from nwb_migvis.read import read_session, read_sessions
from nwb_migvis.registry import ANALYSES
from nwb_migvis.results import Results
from nwb_migvis.runs.destinations import choose_destinations, output_paths
from nwb_migvis.runs.fetching import Elsewhere, Fetched, fetched
from nwb_migvis.sources import Source, as_source
from nwb_migvis.store import Destination, fingerprint, reserve, write_results

STAGES = ("reading", "latents", "prior", "critic", "edits", "further fits", "evidence", "writing")
"""Of a run, as they are said; without pixels nothing is learned of images."""

After = Callable[[str, Study], None]


def run(
    source: str | Source | Sequence[str | Source],
    *,
    out: str | Path | None = None,
    in_place: bool = False,
    name: str = "migvis",
    overwrite: bool = False,
    results_only: bool = False,
    backend: str = "hdf5",
    config: Config | None = None,
    engine: str = "loop",
    engine_kwargs: Mapping[str, Any] | None = None,
    **reading: Any,
) -> Results | list[Results]:
    """Learn latent groups of a session's population, synthesize what they encode, and write the results.

    Parameters
    ----------
    source : path or sequence of paths
        NWB sessions, or their addresses (`dandi://...`, `https://...`, `s3://...`). Several are fitted
        together: one latent space, with results for each. A session at an address is fetched whole, unless
        only the results are written.
    out : path, optional
        File to write, with several sessions an existing folder. Where it is None, a sibling
        `NAME_migvis.nwb`; of a session at an address, in the current folder.
    in_place : bool
        Write the results back under the source's own path (atomically, keeping `NAME.nwb.bak`).
    name : str
        Name of the run inside the file.
    overwrite : bool
        Replace an output, or a run of that name, that exists.
    results_only : bool
        Write a small file of results with the session's description, subject and devices, without its
        recording.
    backend : {"hdf5", "zarr"}
        Of the file that is written; with `zarr` it is a folder `NAME_migvis.nwb.zarr`, and `out` ends so.
    config : Config, optional
        The preset `quick` where it is None.
    engine, engine_kwargs
        What further fits are done with, as for `Study`; the results are the same.
    **reading
        Passed to `read_session`: `window_s`, `images`, `labels`, `where`, `units`, `layout`, `stimulus`.

    Returns
    -------
    Results, or list of Results for a list of paths
        Of several processes that accelerate launched, only the first has any; others return an empty list.

    Raises
    ------
    MigvisError
        For anything that the user can fix: in the file, the options, or the installation. Destinations
        are checked before any work is done.
    """
    paths: list[str | Source]
    if isinstance(source, Sequence) and not isinstance(source, (str, bytes)):
        paths, is_list = list(source), True
    else:
        paths, is_list = [as_source(source, what="source")], False
    destination = Destination(
        out=out, in_place=in_place, overwrite=overwrite, results_only=results_only, backend=backend
    )
    by = Engine.of(engine, engine_kwargs)
    written = run_files(paths, destination, name=name, config=config, engine=by, **reading)
    results = [result for _, result in written]
    return results if is_list or not results else results[0]


def run_files(
    paths: Sequence[str | Source],
    destination: Destination,
    *,
    name: str = "migvis",
    config: Config | None = None,
    after: After | None = None,
    engine: Engine = LOOP,
    **reading: Any,
) -> list[tuple[Path, Results]]:
    """Do what `run` does for a list of sessions, and say where the results of each were written."""
    sources = [as_source(path, what="source") for path in paths]
    if config is not None and not isinstance(config, Config):
        raise MigvisError(
            f"config is {config!r:.80}; expected a Config: Config.from_dict makes one of nested dicts"
        )
    for source in sources:
        if isinstance(source, Path) and source.is_dir():
            raise MigvisError(
                f"{source} is a folder; expected an NWB file; for a sorting that SpikeInterface saved there, "
                "give --presentations CSV, --images DIR, and --into SESSION.nwb or --metadata FILE.toml"
            )
    if not ranks().is_first:
        _help(sources, config or Config(), reading)
        return []
    with fetched(sources, destination) as found, reserve(*output_paths(found.sources, found.destination)):
        return run_sources(
            found, name=name, config=config or Config(), reading=reading, after=after, engine=engine
        )


def _help(sources: Sequence[Source], config: Config, reading: Mapping[str, Any]) -> None:
    """Take part, in a process other than the first, in what several processes do: training the prior."""
    require(MODELS, what="fitting")
    set_quiet(True)
    check_device(config)
    alone = len(sources) == 1
    sessions = [read_session(sources[0], **reading)] if alone else read_sessions(sources, **reading)
    study = Study(sessions, config)
    study.fit_latents()
    if any("image" in session for session in sessions):
        study.train_prior()


@dataclass(frozen=True)
class Origin:
    """What the provenance says about a source that was made from other files.

    Attributes
    ----------
    inputs : sequence of dict
        The files, as `digest_of` gives them.
    reading : mapping
        How they were read, beside how the source was.
    """

    inputs: Sequence[Mapping[str, str]]
    reading: Mapping[str, Any]


def run_sources(
    found: Fetched,
    *,
    name: str,
    config: Config,
    reading: Mapping[str, Any],
    origin: Origin | None = None,
    after: After | None = None,
    engine: Engine = LOOP,
) -> list[tuple[Path, Results]]:
    """Run on one session, or on several around one latent space.

    Parameters
    ----------
    found : Fetched
        The sessions, and where the results go.
    name : str
        Of the run.
    config : Config
    reading : mapping
        Keywords of `read_session`.
    origin : Origin, optional
        Of a source that was made from other files.
    after : callable, optional
        Called after each step with its name and the study so far.
    engine : Engine
        What further fits are done with.

    Returns
    -------
    list of (Path, Results)
        The files that were written, and what they hold.
    """
    require(MODELS, what="fitting")
    from nwb_migvis.analysis.judges import chosen_critic, open_judges
    from nwb_migvis.synthesis.critic.features import check_features

    started = datetime.now(UTC)
    clock = Clock()
    sources = found.sources
    destinations = choose_destinations(
        sources, found.destination, name=name, expected_bytes=2 * MAX_PRIOR_BYTES
    )
    check_device(config)
    check_prior(config)
    check_features(chosen_critic(config))
    open_judges(config)
    for analysis in config.analyses:
        ANALYSES[analysis]  # refuses an unknown name before the work
    fingerprints = [fingerprint(source) for source in sources]
    with working(STAGES):
        with clock.of("reading"):
            alone = len(sources) == 1
            sessions = [read_session(sources[0], **reading)] if alone else read_sessions(sources, **reading)
            digests = [] if origin else [provenance_of(source, found.addresses) for source in sources]
        by: dict[str, Any] = {"engine": engine.name, "engine_kwargs": engine.settings}
        study = Study(sessions, config, name=name, clock=clock, **by)
        study.run(after=None if after is None else lambda step: after(step, study))
        how = {**reading, **(origin.reading if origin else {})}
        added: dict[str, Any] = {
            "times": {
                "started": started.isoformat(),
                "finished": datetime.now(UTC).isoformat(),
                "seconds": clock.seconds,
            },
        }
        if ranks().n > 1:
            added["n_processes"] = ranks().n
        finished = []
        for i, (results, weights) in enumerate(study.assembled()):
            inputs = list(origin.inputs) if origin else digests[i : i + 1] + digests[:i] + digests[i + 1 :]
            own = {"inputs": inputs, "reading": _read_as(how, sessions[i])}
            finished.append((replace(results, provenance=results.provenance | own | added), weights))
        with stage("writing"):
            return _write_all(finished, sources, destinations, fingerprints)


def _read_as(reading: Mapping[str, Any], session: xr.Dataset) -> dict[str, Any]:
    """Return how a session was read, as the provenance has it."""
    given = {key: plain(value) for key, value in reading.items() if value is not None and key != "chunks"}
    return given | {"window_s": list(session.attrs["window_s"])}


def provenance_of(source: Source, addresses: Mapping[Path, Elsewhere]) -> dict[str, str]:
    """Return what the provenance says of a session, with its address where it was fetched."""
    own = digest_of(source)
    remote = addresses.get(source) if isinstance(source, Path) else None
    return own if remote is None else {**own, **remote.provenance()}


def _write_all(
    finished: Sequence[tuple[Results, dict[str, bytes]]],
    sources: Sequence[Source],
    destinations: Sequence[Mapping[str, Any]],
    fingerprints: Sequence[tuple[int, ...]],
) -> list[tuple[Path, Results]]:
    """Write the results of every session, in order; those written before a failure stay, and are named."""
    written: list[tuple[Path, Results]] = []
    for (results, weights), source, destination, unchanged in zip(
        finished, sources, destinations, fingerprints, strict=True
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
