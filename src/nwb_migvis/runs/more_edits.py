"""Further edits from a written file and its stored weights, without refitting."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.context import torch_settings
from nwb_migvis.analysis.edits import joined_edits, requested_directions, used_rows
from nwb_migvis.config import Config
from nwb_migvis.extras import MODELS, require
from nwb_migvis.labels import Label, labels_in
from nwb_migvis.read.recorded import read_shown, small_images
from nwb_migvis.results import Results
from nwb_migvis.runs.fetching import fetched
from nwb_migvis.runs.models import checked_weights, edit_networks, run_config
from nwb_migvis.sources import Source, as_source
from nwb_migvis.store import Destination, check_destination, fingerprint, read_results, write_results
from nwb_migvis.synthesis.editing.request import EditRequest, plan_request

if TYPE_CHECKING:
    from nwb_migvis.synthesis.editing.batch import EditNetworks


def synthesize_more(
    path: str | Source,
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

    Nothing is fitted. An edit that the run already made comes out the same, bit for bit. That holds as long
    as strength, device, number of threads, batch size and versions of the libraries are the run's.

    Parameters
    ----------
    path : path, or address
        A file that `run` wrote.
    group : str or sequence of str
        An edit that is named twice, here or below, is made once.
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
        Images per forward pass; the run's own where it is None.
    images, labels : path, optional
        As in `read_session`, for sessions that hold no pixels, and for labels other than the run's.

    Returns
    -------
    Results
        Of the run, with the new edits after the old ones: `role` "further", or "traversal".

    Raises
    ------
    MigvisError
        For an unknown group, stimulus or direction, a strength outside (0, 1], or more edits than there are
        stimuli. Also for weights that are absent or not those that the run recorded, or a destination that
        cannot be written. Checked before any edit is made.
    """
    request = EditRequest(
        group=group,  # type: ignore[arg-type]
        source=source,  # type: ignore[arg-type]
        target=target,  # type: ignore[arg-type]
        strength=strength,  # type: ignore[arg-type]
        gamma=gamma,  # type: ignore[arg-type]
        direction=direction,  # type: ignore[arg-type]
        n=n,
        seed=seed,
    )  # one value stands for itself
    return write_further(
        path,
        request,
        name=name,
        where=Destination(out=out, in_place=in_place, overwrite=overwrite),
        changes=Changes(device, batch_size),
        images=images,
        labels=labels,
    )[1]


@dataclass(frozen=True)
class Changes:
    """Settings of a run that further edits may be made with instead of its own.

    Attributes
    ----------
    device : str, optional
    batch_size : int, optional
        Images per forward pass.
    """

    device: str | None = None
    batch_size: int | None = None


def write_further(
    path: str | Source,
    request: EditRequest,
    *,
    name: str | None = None,
    where: Destination,
    changes: Changes,
    **reading: Any,
) -> tuple[Path, Results]:
    """Do what `synthesize_more` does, and say where the results were written."""
    require(MODELS, what="editing")
    with fetched([as_source(path, what="file")], where) as found:
        (source,) = found.sources
        return _write_further(source, request, found.destination, changes=changes, name=name, reading=reading)


def _write_further(
    path: Source,
    request: EditRequest,
    where: Destination,
    *,
    changes: Changes,
    name: str | None,
    reading: Mapping[str, Any],
) -> tuple[Path, Results]:
    before = fingerprint(path)
    results = read_results(path, name)
    weights = checked_weights(path, results, needs=("critic", "prior"))
    config = _config(path, results, changes)
    request.check_against(results.groups.index, results.latents["stimulus"].values, config)
    destination: dict[str, Any] = {"out": where.out, "in_place": where.in_place, "overwrite": where.overwrite}
    check_destination(path, **destination, name=results.name, replace_run=True)
    with torch_settings(config) as n_threads:  # refuses a device before the session is read
        session = read_shown(path, results, **reading)
        labels = labels_in(results.labels) if reading.get("labels") is None else {}
        edits = make_further(
            request, results, session, edit_networks(weights, config), config=config, labels=labels
        )
    first = results.synthesized.sizes["edit"]
    record = {
        "edits": [first, first + edits.sizes["edit"]],
        "made": datetime.now(UTC).isoformat(),
        "device": config.device,
        "n_threads": n_threads,
        "batch_size": config.synthesis.batch_size,
        "versions": {package: version(package) for package in ("nwb-migvis", "torch", "diffusers")},
    }
    together = joined_edits(results.synthesized, edits)
    log = [*results.provenance.get("further_edits", ()), record]
    results = replace(results, synthesized=together, provenance=results.provenance | {"further_edits": log})
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


def make_further(
    request: EditRequest,
    results: Results,
    session: xr.Dataset,
    networks: EditNetworks,
    *,
    config: Config,
    labels: Mapping[str, Label] | None = None,
) -> xr.Dataset:
    """Return the edits that are asked for, as `Results.synthesized`.

    `labels` are those of the run's stimuli; without any, those of the session are used.
    """
    from nwb_migvis.latents import stimulus_labels
    from nwb_migvis.synthesis.editing.support import Support
    from nwb_migvis.synthesis.editing.synthesize import EditStimuli, synthesize

    prior, latents = networks.prior, results.latents
    labels = labels or stimulus_labels(session, circular=config.latents.circular)
    z = networks.critic.scale.standardise(latents["mean"].values)
    directions = requested_directions(request, latents, z, labels=labels, config=config)
    n_edits = results.synthesized.sizes["edit"]
    plan = plan_request(request, latents, labels=labels, config=config, n_edits=n_edits)
    used = used_rows(plan)
    images = np.zeros((latents.sizes["stimulus"], *prior.shape), np.uint8)
    images[used] = small_images(session["image"].isel(stimulus=used), max(prior.shape[:2]), like=prior.shape)
    return synthesize(
        plan,
        EditStimuli(latents["stimulus"].values, images, z, Support.of(z, latents["split"].values)),
        networks,
        config=config.synthesis,
        seed=config.seed if request.seed is None else request.seed,
        directions=directions,
    )


def _config(path: Source, results: Results, changes: Changes) -> Config:
    """Return the run's own settings, but for device and batch size where others are asked for."""
    config = run_config(path, results)
    if changes.device:
        config = replace(config, device=changes.device)
    if changes.batch_size is not None:
        config = replace(config, synthesis=replace(config.synthesis, batch_size=changes.batch_size))
    return config
