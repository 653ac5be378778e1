"""Further analyses of a written file, from its stored latents and weights, without refitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.further import STEPS, checked_analysis
from nwb_migvis.analysis.study import Study
from nwb_migvis.config import Config
from nwb_migvis.config.companions import PRIOR
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.plain import plain
from nwb_migvis.read import read_session
from nwb_migvis.registry import ANALYSES
from nwb_migvis.results import Results
from nwb_migvis.results.analyses import canonical_analysis
from nwb_migvis.runs.models import checked_weights, run_config
from nwb_migvis.store import (
    Destination,
    building,
    check_destination,
    fingerprint,
    read_results,
    write_results,
)

_CHOICES = ("layout", "stimulus")
_TOLERANCE = 1e-3
"""Of latents that are encoded again, in their standard deviations."""


def analyse(
    path: str | Path,
    names: str | Sequence[str],
    *,
    name: str | None = None,
    where: Destination | None = None,
    changes: Mapping[str, Any] | None = None,
    **reading: Any,
) -> tuple[Path, Results]:
    """Compute further analyses of a run that a file holds, and write them beside its results.

    Parameters
    ----------
    path : path
        A file that `run` wrote.
    names : str or sequence of str
        Analyses, such as "retrieval". One that is there already is replaced.
    name : str, optional
        The run, where the file holds several.
    where : Destination, optional
        The results go; a sibling `NAME_migvis.nwb` where it is None.
    changes : mapping, optional
        Settings of `CompanionsConfig` other than the run's own.
    **reading
        As for `read_session`: what the run was told, except its window and labels, which its file recalls.

    Returns
    -------
    (Path, Results)
        The file that was written, and what it holds.

    Raises
    ------
    MigvisError
        For an unknown analysis, or one that needs more than latents; if the session lacks what it needs; if
        its responses are others than those that the run encoded; if images are to be described by a prior
        that the file does not hold; or a destination that cannot be written.
    """
    require(MODELS, what="an analysis")
    path, where = Path(path), where or Destination()
    chosen = [names] if isinstance(names, str) else list(dict.fromkeys(names))
    for one in chosen:
        _check_steps(one)
    before = fingerprint(path)
    results = read_results(path, name)
    weights = checked_weights(path, results)
    config = run_config(path, results)
    config = replace(config, analyses=(), companions=replace(config.companions, **(changes or {})))
    destination: dict[str, Any] = {"out": where.out, "in_place": where.in_place, "overwrite": where.overwrite}
    check_destination(path, **destination, name=results.name, replace_run=True)
    study = study_of(path, results, weights=weights, config=config, reading=reading)
    for one in chosen:
        checked_analysis(one, study.joined, study.config)
    if config.companions.network == PRIOR:
        _use_prior(study, path, results, weights)
    if any("critic" in getattr(ANALYSES[one], "uses", ()) for one in chosen):
        _use_networks(study, path, results, weights)
    made = {one: canonical_analysis(one, study.compute(one)) for one in chosen}
    together = {**results.analyses, **made}
    log = [*results.provenance.get("further_analyses", ()), _record(list(made), config)]
    provenance = results.provenance | {"further_analyses": log}
    results = replace(results, analyses=together, provenance=provenance)
    written = write_results(
        results,
        source=path,
        **destination,
        weights=weights,
        unchanged_since=before,
        replace_run=True,
        sidecar=True,
    )
    return written, results


def study_of(
    path: Path,
    results: Results,
    *,
    weights: Mapping[str, bytes],
    config: Config,
    reading: Mapping[str, Any],
) -> Study:
    """Return a study with a run's own latents, split and labels.

    Raises
    ------
    MigvisError
        If the session that is read now is not the one that the run encoded.
    """
    from nwb_migvis.latents.protocol import load_latent_model

    told = results.provenance.get("reading", {})
    told = told if isinstance(told, Mapping) else {}
    choices = {key: told[key] for key in _CHOICES if isinstance(told.get(key), str)}
    choices |= {key: told[key] for key in ("index_base", "merge_repeats") if told.get(key) in (0, 1)}
    if "window_s" not in reading and isinstance(told.get("window_s"), list) and len(told["window_s"]) == 2:
        choices |= {"window_s": tuple(told["window_s"]), "allow_long_window": True}
    session = read_session(path, **(choices | dict(reading)))
    if reading.get("labels") is not None:
        _check_labels(session, path, results, config)
    session = _with_labels(session, results)
    study = Study(session, config, name=results.name)
    now, then = (each["stimulus"].values.astype(str).tolist() for each in (session, results.latents))
    if now != then:
        raise MigvisError(_others(path, results, "stimuli"))
    split = results.latents["split"].values.astype(str)
    if "vae" not in weights:
        study.use_latents(results.latents["mean"].values, groups=config.latents.groups, split=split)
        return study
    with building(f"{path}: /analysis/{results.name}/model"):
        model = load_latent_model(weights["vae"])
    if model.loading().shape[0] != session.sizes["unit"]:
        raise MigvisError(_others(path, results, "units"))
    encoded, stored = study.use_latents(model, split=split).mean, results.latents["mean"].values
    scale = np.maximum(stored.std(axis=0), 1e-6)
    if encoded.shape != stored.shape or not (np.abs(encoded - stored) / scale < _TOLERANCE).all():
        raise MigvisError(_others(path, results, "responses"))
    return study


def _use_prior(study: Study, path: Path, results: Results, weights: Mapping[str, bytes]) -> None:
    """Give a study the prior of its run.

    Raises
    ------
    MigvisError
        If the file does not hold it.
    """
    if "prior" not in weights:
        raise MigvisError(
            f"{path}: run {results.name!r} holds no prior; expected one whose blocks describe images; "
            "choose another network (--network edges), or compute it in a Study"
        )
    with building(f"{path}: /analysis/{results.name}/model"):
        study.use_prior(weights["prior"])


def _use_networks(study: Study, path: Path, results: Results, weights: Mapping[str, bytes]) -> None:
    """Give a study prior and critic, where the file holds both and the session has pixels."""
    if study.has_images and {"prior", "critic"} <= set(weights):
        with building(f"{path}: /analysis/{results.name}/model"):
            study.use_prior(weights["prior"])
            study.use_critic(weights["critic"])


def _check_labels(session: xr.Dataset, path: Path, results: Results, config: Config) -> None:
    """Refuse labels that the run did not know, and other values than it knew: they would not be used.

    Raises
    ------
    MigvisError
    """
    from nwb_migvis.latents import stimulus_labels

    given = stimulus_labels(session, circular=config.latents.circular)
    advice = "expected its own, which its file holds; make a new run with them, or compute it in a Study"
    new = set(given) - set(results.labels.data_vars)
    if new:
        raise MigvisError(
            f"{path}: found labels {', '.join(sorted(new))} that run {results.name!r} does not know; {advice}"
        )
    if not np.array_equal(
        session["stimulus"].values.astype(str), results.latents["stimulus"].values.astype(str)
    ):
        return  # other images than the run's, which is said where these are compared
    known = stimulus_labels(_with_labels(session, results))
    for name, label in given.items():
        now, then = label.values, known[name].values
        same = np.isclose(now, then, equal_nan=True) if now.dtype == then.dtype == float else now == then
        if not same.all():
            i = int(np.flatnonzero(~same)[0])
            raise MigvisError(
                f"{path}: found values of the label {name} that are not those of run {results.name!r} (first "
                f"{now[i]!s:.40} of image {session['stimulus'].values[i]}, there {then[i]!s:.40}); {advice}"
            )


def _with_labels(session: xr.Dataset, results: Results) -> xr.Dataset:
    """Return a session with the labels that a run knew, and no others."""
    own = [
        name for name, coord in session.coords.items() if coord.dims == ("stimulus",) and name != "stimulus"
    ]
    session = session.drop_vars(own)
    if session.sizes["stimulus"] != results.latents.sizes["stimulus"]:
        return session
    labels = {str(n): ("stimulus", v.values) for n, v in results.labels.data_vars.items()}
    return session.assign_coords(labels)


def _others(path: Path, results: Results, what: str) -> str:
    return (
        f"{path}: the {what} of the session are not those that run {results.name!r} was made with; expected "
        "the same; give what the run was told about them (--units, --where, --window, --images)"
    )


def _check_steps(name: str) -> None:
    steps = [need for need in ANALYSES[name].needs if need in STEPS and need != "latents"]
    if steps:
        raise MigvisError(
            f"the analysis {name!r} needs {', '.join(steps)}, which a file does not give back; expected one "
            "that needs latents alone; compute it in a Study, or name it in the settings of a run"
        )


def _record(names: list[str], config: Config) -> dict[str, Any]:
    return {
        "names": names,
        "made": datetime.now(UTC).isoformat(),
        "settings": plain(config.companions),
        "versions": {package: version(package) for package in ("nwb-migvis", "torch", "scikit-learn")},
    }
