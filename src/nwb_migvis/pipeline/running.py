"""From a session's file to its results, written back."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import xarray as xr

from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.pipeline.destinations import choose_destinations
from nwb_migvis.pipeline.environment import (
    Clock,
    json_value,
    sha256_of,
    stage_seeds,
    torch_settings,
)
from nwb_migvis.pipeline.stages import (
    MAX_PRIOR_BYTES,
    Edits,
    Fitted,
    edit_selectivity,
    fit,
    latents_dataset,
    make_edits,
    measure,
)
from nwb_migvis.pipeline.together import (
    Together,
    agreement,
    agreement_note,
    edit_together,
    fit_together,
)
from nwb_migvis.read import read_session, read_sessions
from nwb_migvis.results import Results
from nwb_migvis.store import fingerprint, write_results

_RECORDED = (
    "nwb-migvis",
    "pynwb",
    "hdmf",
    "h5py",
    "numpy",
    "xarray",
    "pandas",
    "torch",
    "diffusers",
    "scipy",
)


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
    source : path or list of paths
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
    paths = [source] if isinstance(source, (str, Path)) else list(source)
    written = run_files(
        paths, out=out, in_place=in_place, name=name, overwrite=overwrite, config=config, **reading
    )
    results = [result for _, result in written]
    return results[0] if isinstance(source, (str, Path)) else results


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
    sources, config = [Path(path) for path in paths], config or Config()
    require(MODELS, what="fitting")
    started = datetime.now(UTC)
    clock = Clock()
    destinations = choose_destinations(
        sources,
        out=out,
        in_place=in_place,
        overwrite=overwrite,
        name=name,
        expected_bytes=2 * MAX_PRIOR_BYTES,
    )
    found = [fingerprint(source) for source in sources]
    with clock.of("reading"):
        if len(sources) == 1:
            sessions = [read_session(sources[0], **reading)]
        else:
            sessions = read_sessions(sources, **reading)
        inputs = [{"path": source.name, "sha256": sha256_of(source)} for source in sources]
    if len(sessions) == 1:
        analysed = [analyse(sessions[0], name=name, config=config, clock=clock)]
    else:
        analysed = analyse_together(sessions, name=name, config=config, clock=clock)
    times = {
        "started": started.isoformat(),
        "finished": datetime.now(UTC).isoformat(),
        "seconds": clock.seconds,
    }
    added = {
        "reading": {key: json_value(value) for key, value in reading.items() if value is not None},
        "times": times,
    }
    finished = []
    for i, (results, weights) in enumerate(analysed):
        own_first = [inputs[i], *inputs[:i], *inputs[i + 1 :]]
        provenance = results.provenance | {"inputs": own_first} | added
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
                results, source=source, **destination, weights=weights, unchanged_since=unchanged
            )
        except MigvisError as error:
            if not written:
                raise
            done = ", ".join(str(path) for path, _ in written)
            raise MigvisError(f"{error} (already written, and whole: {done})") from error
        written.append((path, results))
    return written


def analyse(
    session: xr.Dataset, *, name: str = "migvis", config: Config, clock: Clock | None = None
) -> tuple[Results, dict[str, bytes]]:
    """Run every stage on a session dataset, writing nothing.

    Parameters
    ----------
    session : xarray.Dataset
        As `read_session` returns it.
    name : str
    config : Config
    clock : optional
        Collects the seconds each stage takes.

    Returns
    -------
    results : Results
    weights : dict of str to bytes
        safetensors bytes of `vae` and, where the session has pixels, `critic` and `prior` (the prior only
        below 20 MB).
    """
    clock = clock or Clock()
    seeds = stage_seeds(config.seed)
    with torch_settings(config) as n_threads:
        config = replace(config, n_threads=n_threads)
        fitted = fit(session, config, seeds, clock)
        config = replace(config, latents=replace(config.latents, groups=fitted.model.groups))
        edits = Edits()
        if "image" in session:
            edits = make_edits(session, fitted, config, seeds, clock)
            config = replace(config, prior=replace(config.prior, size_px=max(edits.images.shape[1:3])))
        return _record(name, session, fitted, edits, config=config, n_threads=n_threads, clock=clock)


def analyse_together(
    sessions: Sequence[xr.Dataset], *, name: str = "migvis", config: Config, clock: Clock | None = None
) -> list[tuple[Results, dict[str, bytes]]]:
    """Do what `analyse` does for several sessions around one latent space, prior and critic.

    Parameters
    ----------
    sessions : sequence of xarray.Dataset
        As `read_sessions` returns them.
    name, config, clock
        As for `analyse`.

    Returns
    -------
    list of (Results, dict of str to bytes)
        What `analyse` returns, for each session in order; `provenance["shared_with"]` says how well the
        others agree with it.

    Raises
    ------
    MigvisError
        If the sessions share too few images, or a session has too few.
    """
    clock = clock or Clock()
    seeds = stage_seeds(config.seed)
    together = Together.of(sessions)
    with torch_settings(config) as n_threads:
        config = replace(config, n_threads=n_threads)
        fitted = fit_together(together, config, seeds, clock)
        config = replace(config, latents=replace(config.latents, groups=fitted[0].model.groups))
        edits = edit_together(together, fitted, config, seeds, clock)
        sizes = [max(own.images.shape[1:3]) for own in edits if own.scores is not None]
        if sizes:
            config = replace(config, prior=replace(config.prior, size_px=sizes[0]))
        with clock.of("evidence"):
            agreements = agreement(together, fitted, config, seeds["evidence"])
        return [
            _record(
                name,
                session,
                its,
                own,
                config=config,
                n_threads=n_threads,
                clock=clock,
                shared_with=found,
            )
            for session, its, own, found in zip(sessions, fitted, edits, agreements, strict=True)
        ]


def _record(
    name: str,
    session: xr.Dataset,
    fitted: Fitted,
    edits: Edits,
    *,
    config: Config,
    n_threads: int,
    clock: Clock,
    shared_with: Sequence[Mapping[str, Any]] = (),
) -> tuple[Results, dict[str, bytes]]:
    """Measure the evidence of one session and put everything together as its results and weights."""
    seeds = stage_seeds(config.seed)
    with clock.of("evidence"):
        measured = measure(session, fitted, edits, config, seeds["evidence"])
        selectivity = edit_selectivity(session["stimulus"].values, fitted, edits, config, seeds["evidence"])
    weights = {"vae": fitted.model.to_bytes()} | edits.weights
    notes = [] if "image" in session else ["synthesis was skipped: the session holds no pixels of its images"]
    if measured.groups["variance_explained"].isna().all():
        notes.append(
            "variance explained was not measured: it needs repeats of ten training and ten test images, "
            "and a unit that is reliable"
        )
    elif measured.n_units_left_out:
        n_units = measured.units.sizes["unit"]
        notes.append(
            f"{measured.n_units_left_out} of {n_units} units are too unreliable to count as variance"
        )
    if "prior" not in weights and "image" in session:
        notes.append(f"the prior is not stored: it takes {MAX_PRIOR_BYTES / 1e6:g} MB or more")
    notes += [agreement_note(record) for record in shared_with]
    provenance = {
        "config": config.to_dict(),
        "versions": {p: version(p) for p in _RECORDED} | {"python": platform.python_version()},
        "seeds": seeds,
        "n_threads": n_threads,
        "device": config.device,
        "weights": {key: hashlib.sha256(value).hexdigest() for key, value in weights.items()},
        "session": {key: json_value(value) for key, value in session.attrs.items() if key != "source"},
        "n_units_left_out": measured.n_units_left_out,
        "notes": notes,
    }
    if shared_with:
        provenance["shared_with"] = list(shared_with)
    latents = latents_dataset(session, fitted)
    return Results(
        name, measured.groups, latents, measured.units, edits.synthesized, selectivity, provenance
    ), weights
