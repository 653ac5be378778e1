"""Further edits from a written file and its stored weights, without refitting."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import fields, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import torch_settings
from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.extras import MODELS, require
from nwb_migvis.read.recorded import read_shown, small_images
from nwb_migvis.results import Results
from nwb_migvis.runs.request import Request
from nwb_migvis.store import (
    building,
    check_destination,
    check_models,
    fingerprint,
    read_results,
    read_weights,
    write_results,
)

DEFAULT_PAIRS = 8


def synthesize_more(
    path: str | Path,
    *,
    group: str | Sequence[str],
    source: str | Sequence[str] = (),
    target: str | Sequence[str] = (),
    strength: float | Sequence[float] = (),
    gamma: float | Sequence[float] = (),
    direction: str | Sequence[str] = (),
    n: int | None = None,
    seed: int | None = None,
    name: str | None = None,
    out: str | Path | None = None,
    in_place: bool = False,
    overwrite: bool = False,
    device: str | None = None,
    batch_size: int | None = None,
    images: str | Path | None = None,
    labels: str | Path | None = None,
) -> Results:
    """Make further edits with the weights that a run stored in its file, and add them to its results.

    Nothing is fitted. An edit that the run made already comes out the same, bit for bit, as long as
    strength, device, number of threads, batch size and versions of the libraries are the run's.

    Parameters
    ----------
    path : path
        A file that `run` wrote.
    group : str or sequence of str
        What is named twice, here or below, is made once.
    source, target : str or sequence of str
        Stimulus ids. Without a source, sources are drawn from the held-out stimuli; without targets, so are
        those, of other categories than the source where there are any.
    strength : float or sequence of float
        Start step / T, in (0, 1]; the run's own where none is given.
    gamma : float or sequence of float
        Lengths of traversals, in standard deviations along the direction; with any, there are no targets.
    direction : str or sequence of str
        Of the traversals: "ones" (where none is given), "pc1" and so on, a numeric label, or "label=value"
        for a category.
    n : int, optional
        Targets for each source that is given, or sources where none is (8 where nothing says how many).
    seed : int, optional
        Of what is drawn; the run's own where it is None. A file with more edits draws others.
    name : str, optional
        The run, where the file holds several.
    out : path, optional
        File to write; a sibling `NAME_migvis.nwb` where it is None.
    in_place : bool
        Write back under the file's own path (atomically, keeping `NAME.nwb.bak`).
    overwrite : bool
        Replace an output that exists.
    device : str, optional
        The run's own where it is None.
    batch_size : int, optional
        Images a forward pass; the run's own where it is None.
    images, labels : path, optional
        As in `read_session`, for sessions that hold no pixels or labels.

    Returns
    -------
    Results
        Of the run, with the new edits behind the old ones: `role` "further", or "traversal".

    Raises
    ------
    MigvisError
        For an unknown group, stimulus or direction, a strength outside (0, 1], more edits than there are
        stimuli, weights that are absent or not those that the run recorded, or a destination that cannot be
        written. Checked before any edit is made.
    """
    asked: dict[str, Any] = {"group": group, "source": source, "target": target, "strength": strength}
    asked |= {"gamma": gamma, "direction": direction, "n": n, "seed": seed}
    request = Request(**asked)
    where = {"out": out, "in_place": in_place, "overwrite": overwrite}
    changes = {"device": device, "batch_size": batch_size}
    return write_further(Path(path), request, name, where, changes, images=images, labels=labels)[1]


def write_further(
    path: Path,
    request: Request,
    name: str | None,
    where: Mapping[str, Any],
    changes: Mapping[str, Any],
    **reading: Any,
) -> tuple[Path, Results]:
    """Do what `synthesize_more` does, and say where the results were written."""
    require(MODELS, what="editing")
    before = fingerprint(path)
    results = read_results(path, name)
    weights = _weights(path, results)
    config = _config(path, results, changes)
    request.check_against(results, config)
    check_destination(path, **where, name=results.name, replace_run=True)
    with torch_settings(config) as n_threads:  # refuses a device before the session is read
        session = read_shown(path, results, **reading)
        made = make_further(request, results, weights, session, config)
    first = results.synthesized.sizes["edit"]
    record = {
        "edits": [first, first + made.sizes["edit"]],
        "made": datetime.now(UTC).isoformat(),
        "device": config.device,
        "n_threads": n_threads,
        "batch_size": config.synthesis.batch_size,
        "versions": {package: version(package) for package in ("nwb-migvis", "torch", "diffusers")},
    }
    together = xr.concat([results.synthesized, made], dim="edit", combine_attrs="drop")
    log = [*results.provenance.get("further_edits", ()), record]
    results = replace(results, synthesized=together, provenance=results.provenance | {"further_edits": log})
    written = write_results(
        results, source=path, **where, weights=weights, unchanged_since=before, replace_run=True, sidecar=True
    )
    return written, results


def make_further(
    request: Request, results: Results, weights: Mapping[str, bytes], session: xr.Dataset, config: Config
) -> xr.Dataset:
    """Return the edits that are asked for, as `Results.synthesized`."""
    from nwb_migvis.latents import stimulus_labels
    from nwb_migvis.synthesis.critic.model import load_critic
    from nwb_migvis.synthesis.editing.directions import check_directions, direction_vectors
    from nwb_migvis.synthesis.editing.synthesize import synthesize
    from nwb_migvis.synthesis.prior.model import load_prior

    with building(f"/analysis/{results.name}/model"):
        prior = _moved(load_prior(weights["prior"]), config.device)
        critic = _moved(load_critic(weights["critic"], prior=prior), config.device)
    strengths = request.strength or (config.synthesis.strength,)
    labels = stimulus_labels(session)
    groups, latents = config.latents.groups, results.latents
    steps = None
    if request.gamma:
        moved = [group for group in groups if group.name in request.group]
        check_directions(request.directions, groups=moved, labels=labels, circular=config.latents.circular)
        train = latents["split"].values == "train"
        steps = direction_vectors(
            request.directions,
            critic.standardise(latents["mean"].values[train]).cpu().numpy(),
            groups=groups,
            labels={label: values[train] for label, values in labels.items()},
        )
    plan = _plan(request, results, labels, strengths, config)
    used = np.unique(plan[["source", "target"]].to_numpy())
    used = used[used >= 0]
    images = np.zeros((latents.sizes["stimulus"], *prior.shape), np.uint8)
    images[used] = small_images(session["image"].isel(stimulus=used), max(prior.shape[:2]), like=prior.shape)
    return synthesize(
        plan,
        images,
        latents["mean"].values,
        latents["stimulus"].values,
        prior=prior,
        critic=critic,
        groups=groups,
        config=config.synthesis,
        seed=config.seed if request.seed is None else request.seed,
        steps=steps,
    )


def _plan(
    request: Request,
    results: Results,
    labels: Mapping[str, np.ndarray],
    strengths: Sequence[float],
    config: Config,
) -> Any:
    """Return the plan of the edits: stimuli that are not given are drawn from the held-out ones."""
    import pandas as pd

    from nwb_migvis.synthesis.editing.plan import (
        COLUMNS,
        draw_sources,
        draw_targets,
        pair_rows,
        traversal_rows,
    )

    stimulus = results.latents["stimulus"].values
    row = {str(name): i for i, name in enumerate(stimulus)}
    test = np.flatnonzero(results.latents["split"].values == "test")
    seed = config.seed if request.seed is None else request.seed
    rng = np.random.default_rng([seed, results.synthesized.sizes["edit"]])
    sources = [row[name] for name in request.source]
    targets = [row[name] for name in request.target]
    n_targets = max(len(targets), 1)
    if sources:
        n_targets = request.n or n_targets
    else:
        n_sources = min(DEFAULT_PAIRS, len(test)) if request.n is None else request.n
        if n_sources > len(test):
            raise MigvisError(
                f"n is {n_sources}; expected at most {len(test)}: no more stimuli were held out"
            )
        sources = draw_sources(test, n_sources, rng).tolist()
    pairs: list[tuple[int, int]] = []
    for s in () if request.gamma else sources:
        drawn = draw_targets(s, test, n_targets - len(targets), labels=labels, rng=rng)
        if len(targets) + len(drawn) < n_targets:
            raise MigvisError(
                f"n is {n_targets}; expected at most {len(targets) + len(drawn)}: no more held-out stimuli "
                f"can be targets of {stimulus[s]!s}"
            )
        pairs += [(s, t) for t in (*targets, *drawn.tolist())]
    rows: list[tuple] = []
    for group in request.group:
        for strength in strengths:
            how = {"strength": float(strength), "guidance": config.synthesis.guidance}
            rows += pair_rows(group, pairs, role="further", **how)
            for direction in request.directions:
                for gamma in request.gamma:
                    rows += traversal_rows(group, sources, direction=direction, gamma=float(gamma), **how)
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _moved(record: Any, device: str) -> Any:
    """Return a record with its networks and tensors on a device."""
    parts = {f.name: getattr(record, f.name) for f in fields(record)}
    return replace(record, **{key: part.to(device) for key, part in parts.items() if hasattr(part, "to")})


def _weights(path: Path, results: Results) -> dict[str, bytes]:
    """Return the weights of a run: those that editing needs are there, all are those that it recorded."""
    weights = read_weights(path, results.name)
    recorded = results.provenance.get("weights", {})
    for network in ("critic", "prior"):
        if network not in weights:
            why = "; ".join(note for note in results.provenance.get("notes", ()) if "prior" in note)
            raise MigvisError(
                f"{path}: run {results.name!r} holds no weights of the {network}"
                f"{f' ({why})' if why else ''}; expected those that it was made with; run the model again"
            )
    for network, data in weights.items():
        digest = hashlib.sha256(data).hexdigest()
        if recorded.get(network) != digest:
            raise MigvisError(
                f"{path}: the weights of the {network} in run {results.name!r} have the sha256 "
                f"{digest[:12]}...; expected {str(recorded.get(network))[:12]}..., which the run recorded; "
                "fetch the file again, or run the model again"
            )
    check_models(weights, results, path=path)
    return weights


def _config(path: Path, results: Results, changes: Mapping[str, Any]) -> Config:
    """Return the run's own settings, but for device and batch size where others are asked for."""
    if "config" not in results.provenance:
        raise MigvisError(
            f"{path}: run {results.name!r} holds no settings; expected a run of `nwb-migvis run`"
        )
    config = Config.from_dict(results.provenance["config"], where=f"{path}: config of {results.name!r}")
    if changes["device"]:
        config = replace(config, device=changes["device"])
    if changes["batch_size"] is not None:
        config = replace(config, synthesis=replace(config.synthesis, batch_size=changes["batch_size"]))
    return config
