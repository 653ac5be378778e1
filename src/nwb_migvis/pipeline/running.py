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
from nwb_migvis.files import as_path
from nwb_migvis.pipeline.appearance import describe_edits
from nwb_migvis.pipeline.environment import (
    Clock,
    digest_of,
    json_value,
    stage_seeds,
    torch_settings,
)
from nwb_migvis.pipeline.measuring import measure
from nwb_migvis.pipeline.stages import (
    MAX_PRIOR_BYTES,
    Edits,
    edit_selectivity,
    fit,
    fit_edit_readers,
    latents_dataset,
    make_edits,
)
from nwb_migvis.read import read_session
from nwb_migvis.results import Results
from nwb_migvis.store import check_destination, fingerprint, write_results

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
    source : path or sequence of paths
        NWB sessions. This version fits one session at a time.
    out : path, optional
        File to write; a sibling `NAME_migvis.nwb` where it is None.
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
    if len(paths) != 1:
        raise MigvisError(
            f"found {len(paths)} sessions; expected one: this version fits each session on its own; run them "
            "one by one"
        )
    source = as_path(paths[0], what="source")
    if config is not None and not isinstance(config, Config):
        raise MigvisError(
            f"config is {config!r:.80}; expected a Config: Config.from_dict makes one of nested dicts"
        )
    if source.is_dir():
        raise MigvisError(
            f"{source} is a folder; expected an NWB file; for a sorting that SpikeInterface saved there, "
            "give --presentations CSV, --images DIR, and --into SESSION.nwb or --metadata FILE.toml"
        )
    destination: dict[str, Any] = {"out": out, "in_place": in_place, "overwrite": overwrite}
    return [run_file(source, destination, name=name, config=config or Config(), reading=reading)]


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
    require(MODELS, what="fitting")
    origin = origin or {}
    started = datetime.now(UTC)
    clock = Clock()
    check_destination(source, **destination, name=name, expected_bytes=2 * MAX_PRIOR_BYTES)
    found = fingerprint(source)
    with clock.of("reading"):
        session = read_session(source, **reading)
        inputs = origin.get("inputs") or [digest_of(source)]
    results, weights = analyse(session, name=name, config=config, clock=clock)
    times = {
        "started": started.isoformat(),
        "finished": datetime.now(UTC).isoformat(),
        "seconds": clock.seconds,
    }
    asked = {**reading, **origin.get("reading", {})}
    provenance = results.provenance | {
        "inputs": inputs,
        "reading": {key: json_value(value) for key, value in asked.items() if value is not None},
        "times": times,
    }
    results = replace(results, provenance=provenance)
    written = write_results(results, source=source, **destination, weights=weights, unchanged_since=found)
    return written, results


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
            config = replace(config, prior=edits.prior)
        with clock.of("evidence"):
            measured = measure(session, fitted, edits, config, seeds["evidence"])
            readers = fit_edit_readers(fitted, edits, config, seeds["evidence"])
            stimulus = session["stimulus"].values
            selectivity = edit_selectivity(stimulus, fitted, edits, readers, config, seeds["evidence"])
            appearance = describe_edits(stimulus.tolist(), fitted, edits, readers, config, seeds["evidence"])
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
    notes += measured.notes
    if "prior" not in weights and "image" in session:
        notes.append(f"the prior is not stored: it takes {MAX_PRIOR_BYTES / 1e6:g} MB or more")
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
    if appearance:
        provenance["appearance"] = appearance
    latents = latents_dataset(session, fitted)
    results = Results(
        name,
        measured.groups,
        latents,
        measured.units,
        edits.synthesized,
        selectivity,
        provenance,
        measured.decoding,
    )
    return results, weights
