"""From session datasets to results, writing nothing."""

from __future__ import annotations

import hashlib
import platform
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from typing import Any

import numpy as np
import xarray as xr

from nwb_migvis.analysis.appearance import describe_edits
from nwb_migvis.analysis.context import Clock, json_value, stage_seeds, torch_settings
from nwb_migvis.analysis.evidence import Measured, measure
from nwb_migvis.analysis.sessions import (
    Together,
    agreement,
    agreement_note,
    edit_together,
    fit_together,
    refit_together,
)
from nwb_migvis.analysis.stages import (
    MAX_PRIOR_BYTES,
    Edits,
    Fitted,
    edit_selectivity,
    fit,
    fit_edit_readers,
    latents_dataset,
    make_edits,
)
from nwb_migvis.config import Config
from nwb_migvis.results import Results

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
        return _conclude(name, session, fitted, edits, config=config, clock=clock)


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
        used = [own.prior for own in edits if own.scores is not None]
        config = replace(config, prior=used[0]) if used else config
        others: Sequence[Sequence[np.ndarray] | None] = [None] * len(sessions)
        with clock.of("evidence"):
            agreements = agreement(together, fitted, config, seeds["evidence"])
            if n_seeds := config.evidence.stability_seeds:
                others = refit_together(together, config, seeds["evidence"], n_seeds=n_seeds)
        return [
            _conclude(name, session, its, own, config=config, clock=clock, shared_with=found, others=fits)
            for session, its, own, found, fits in zip(
                sessions, fitted, edits, agreements, others, strict=True
            )
        ]


def _conclude(
    name: str,
    session: xr.Dataset,
    fitted: Fitted,
    edits: Edits,
    *,
    config: Config,
    clock: Clock,
    shared_with: Sequence[Mapping[str, Any]] = (),
    others: Iterable[np.ndarray] | None = None,
) -> tuple[Results, dict[str, bytes]]:
    """Gather the evidence of one session, and return everything as its results and weights."""
    seed, stimulus = stage_seeds(config.seed)["evidence"], session["stimulus"].values
    with clock.of("evidence"):
        measured = measure(session, fitted, edits, config, seed, others=others)
        readers = fit_edit_readers(fitted, edits, config, seed)
        selectivity = edit_selectivity(stimulus, fitted, edits, readers, config, seed)
        appearance = describe_edits(stimulus.tolist(), fitted, edits, readers, config, seed)
    weights = {"vae": fitted.model.to_bytes()} | edits.weights
    notes = [*_notes(session, measured, weights), *(agreement_note(record) for record in shared_with)]
    provenance = {
        "config": replace(config, cache="").to_dict(),
        "versions": {p: version(p) for p in _RECORDED} | {"python": platform.python_version()},
        "seeds": stage_seeds(config.seed),
        "n_threads": config.n_threads,
        "device": config.device,
        "weights": {key: hashlib.sha256(value).hexdigest() for key, value in weights.items()},
        "session": {key: json_value(value) for key, value in session.attrs.items() if key != "source"},
        "n_units_left_out": measured.n_units_left_out,
        "notes": notes,
    }
    if appearance:
        provenance["appearance"] = appearance
    if shared_with:
        provenance["shared_with"] = list(shared_with)
    results = Results(
        name,
        measured.groups,
        latents_dataset(session, fitted),
        measured.units,
        edits.synthesized,
        selectivity,
        provenance,
        measured.decoding,
    )
    return results, weights


def _notes(session: xr.Dataset, measured: Measured, weights: Mapping[str, bytes]) -> list[str]:
    """Say what was left out of the results, and why."""
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
    return notes
