"""The composition root: from a session to its results, written back."""

from __future__ import annotations

import hashlib
import importlib.util
import platform
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
import xarray as xr

from nwb_migvis.config import Config
from nwb_migvis.errors import MigvisError
from nwb_migvis.read import read_session
from nwb_migvis.results import Results, no_edits, no_selectivity
from nwb_migvis.store import check_destination, write_results

if TYPE_CHECKING:
    from nwb_migvis.latents.model import LatentModel

MAX_PRIOR_BYTES = 20_000_000
"""Priors of this size and more are not stored in the NWB file."""

_STAGES = ("split", "latents", "prior", "critic", "pairs", "evidence")
_MODEL_PACKAGES = ("torch", "diffusers", "safetensors", "scipy", "sklearn")
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
_CHUNK = 256


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
    if not isinstance(source, (str, Path)):
        paths = list(source)
        if len(paths) != 1:
            raise MigvisError(
                f"found {len(paths)} sessions; expected one: this version fits each session on its own; run "
                "them one by one"
            )
        source = paths[0]
        return [
            run_file(
                source, out=out, in_place=in_place, name=name, overwrite=overwrite, config=config, **reading
            )[1]
        ]
    return run_file(
        source, out=out, in_place=in_place, name=name, overwrite=overwrite, config=config, **reading
    )[1]


def run_file(
    source: str | Path,
    *,
    out: str | Path | None = None,
    in_place: bool = False,
    name: str = "migvis",
    overwrite: bool = False,
    config: Config | None = None,
    **reading: Any,
) -> tuple[Path, Results]:
    """Do what `run` does for one session, and say where the results were written."""
    source, config = Path(source), config or Config()
    _require_models()
    started = datetime.now(UTC)
    clock = _Clock()
    with clock.of("reading"):
        session = read_session(source, **reading)
        inputs = [{"path": source.name, "sha256": _sha256_of(source)}]
        check_destination(
            source,
            out=out,
            in_place=in_place,
            overwrite=overwrite,
            name=name,
            expected_bytes=2 * MAX_PRIOR_BYTES,
        )
    results, weights = analyse(session, name=name, config=config, clock=clock)
    times = {
        "started": started.isoformat(),
        "finished": datetime.now(UTC).isoformat(),
        "seconds": clock.seconds,
    }
    provenance = results.provenance | {
        "inputs": inputs,
        "reading": {key: _json_value(value) for key, value in reading.items() if value is not None},
        "times": times,
    }
    results = replace(results, provenance=provenance)
    written = write_results(
        results, source=source, out=out, in_place=in_place, overwrite=overwrite, weights=weights
    )
    return written, results


def analyse(
    session: xr.Dataset, *, name: str = "migvis", config: Config, clock: _Clock | None = None
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
    clock = clock or _Clock()
    seeds = _seeds(config.seed)
    with _torch_settings(config) as n_threads:
        config = replace(config, n_threads=n_threads)
        fitted = _fit(session, config, seeds, clock)
        config = replace(config, latents=replace(config.latents, groups=fitted.model.groups))
        edits = _Edits()
        if "image" in session:
            edits = _synthesize(session, fitted, config, seeds, clock)
            config = replace(config, prior=replace(config.prior, size_px=max(edits.images.shape[1:3])))
        with clock.of("evidence"):
            groups, units = _measure(session, fitted, edits, config, seeds["evidence"])
            selectivity = _selectivity(session["stimulus"].values, fitted, edits, config, seeds["evidence"])
    weights = {"vae": fitted.model.to_bytes()} | edits.weights
    notes = [] if "image" in session else ["synthesis was skipped: the session holds no pixels of its images"]
    if "prior" not in weights and "image" in session:
        notes.append(f"the prior is not stored: it takes {MAX_PRIOR_BYTES / 1e6:g} MB or more")
    provenance = {
        "config": config.to_dict(),
        "versions": {p: version(p) for p in _RECORDED} | {"python": platform.python_version()},
        "seeds": seeds,
        "n_threads": n_threads,
        "device": config.device,
        "weights": {key: hashlib.sha256(value).hexdigest() for key, value in weights.items()},
        "session": {key: _json_value(value) for key, value in session.attrs.items()},
        "notes": notes,
    }
    latents = _latents_dataset(session, fitted)
    return Results(name, groups, latents, units, edits.synthesized, selectivity, provenance), weights


@dataclass(frozen=True)
class _Fitted:
    """The latent model with what it was fitted to."""

    model: LatentModel
    split: np.ndarray
    labels: dict[str, np.ndarray]
    spike_count: np.ndarray
    stimulus_index: np.ndarray
    n_presentations: np.ndarray
    mean: np.ndarray
    log_var: np.ndarray

    @property
    def slices(self) -> dict[str, tuple[int, int]]:
        """First latent and number of latents of each group."""
        first = np.cumsum([0, *(group.size for group in self.model.groups)])
        return {
            group.name: (int(f), group.size) for group, f in zip(self.model.groups, first[:-1], strict=True)
        }


@dataclass(frozen=True)
class _Edits:
    """What synthesis made: nothing where the session has no pixels."""

    images: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 0), np.uint8))
    synthesized: xr.Dataset = field(default_factory=no_edits)
    weights: dict[str, bytes] = field(default_factory=dict)
    scores: np.ndarray | None = None


def _fit(session: xr.Dataset, config: Config, seeds: Mapping[str, int], clock: _Clock) -> _Fitted:
    from nwb_migvis.latents import resolve_groups, split_stimuli, stimulus_labels
    from nwb_migvis.latents.fit import fit_latents

    labels = stimulus_labels(session)
    groups = resolve_groups(labels, config.latents)
    n_stimuli = session.sizes["stimulus"]
    split = split_stimuli(n_stimuli, config.split, rng=np.random.default_rng(seeds["split"]))
    spike_count, stimulus_index = session["spike_count"].values, session["stimulus_index"].values
    with clock.of("latents"):
        model = fit_latents(
            spike_count,
            stimulus_index,
            labels=labels,
            groups=groups,
            split=split,
            config=config.latents,
            seed=seeds["latents"],
            device=config.device,
        )
        n_presentations = np.bincount(stimulus_index, minlength=n_stimuli)
        total = np.zeros((n_stimuli, spike_count.shape[1]))
        np.add.at(total, stimulus_index, spike_count)
        mean, log_var = model.encode(total / n_presentations[:, None])
    return _Fitted(model, split, labels, spike_count, stimulus_index, n_presentations, mean, log_var)


def _synthesize(
    session: xr.Dataset, fitted: _Fitted, config: Config, seeds: Mapping[str, int], clock: _Clock
) -> _Edits:
    from nwb_migvis.synthesis.critic import train_critic
    from nwb_migvis.synthesis.plan import plan_edits
    from nwb_migvis.synthesis.prior import train_prior
    from nwb_migvis.synthesis.synthesize import synthesize

    train, test = fitted.split == "train", fitted.split == "test"
    sizes = [group.size for group in fitted.model.groups]
    images = _small_images(session["image"], config.prior.size_px)
    with clock.of("prior"):
        prior = train_prior(images[train], config=config.prior, seed=seeds["prior"], device=config.device)
    with clock.of("critic"):
        x = prior.scale.to_x(images).to(prior.alpha_bar.device)
        critic = train_critic(
            x,
            fitted.mean,
            sizes=sizes,
            split=fitted.split,
            alpha_bar=prior.alpha_bar,
            config=config.critic,
            seed=seeds["critic"],
        )
        scores = critic.score_matrix(fitted.mean[test], x[np.flatnonzero(test)])
    with clock.of("edits"):
        plan = plan_edits(
            np.flatnonzero(test),
            fitted.model.groups,
            labels=fitted.labels,
            config=config.synthesis,
            rng=np.random.default_rng(seeds["pairs"]),
        )
        synthesized = synthesize(
            plan,
            images,
            fitted.mean,
            session["stimulus"].values,
            prior=prior,
            critic=critic,
            groups=fitted.model.groups,
            config=config.synthesis,
            seed=config.seed,
        )
    weights = {"critic": critic.to_bytes()}
    prior_bytes = prior.to_bytes()
    if len(prior_bytes) < MAX_PRIOR_BYTES:
        weights["prior"] = prior_bytes
    return _Edits(images, synthesized, weights, scores)


def _small_images(image: xr.DataArray, size_px: int) -> np.ndarray:
    """Return all images at the prior's size, reading a few hundred at a time."""
    from nwb_migvis.synthesis.pixels import resize_images, target_shape

    shape = target_shape(image.sizes["y"], image.sizes["x"], size_px)
    n = image.sizes["stimulus"]
    parts = [resize_images(image[first : first + _CHUNK].values, shape) for first in range(0, n, _CHUNK)]
    return np.concatenate(parts)


def _measure(
    session: xr.Dataset, fitted: _Fitted, edits: _Edits, config: Config, seed: int
) -> tuple[pd.DataFrame, xr.Dataset]:
    """Return the table of the groups and the dataset of the units."""
    from nwb_migvis.evidence.information import infonce_bound
    from nwb_migvis.evidence.reliability import half_means, split_half_correlation, split_half_reliability
    from nwb_migvis.evidence.variance import group_variance

    n_stimuli, test = fitted.split.size, fitted.split == "test"
    half_a, half_b, _, _ = half_means(
        fitted.spike_count, fitted.stimulus_index, n_stimuli, rng=np.random.default_rng(seed)
    )
    variance = group_variance(
        half_a,
        half_b,
        latents_a=fitted.model.encode(np.nan_to_num(half_a))[0],
        latents_b=fitted.model.encode(np.nan_to_num(half_b))[0],
        groups=fitted.slices,
        train=fitted.split == "train",
        test=test,
        min_reliability=config.evidence.min_reliability,
        n_permutations=config.evidence.n_permutations,
        seed=seed,
    )
    rows = []
    for g, group in enumerate(fitted.model.groups):
        first, size = fitted.slices[group.name]
        row: dict[str, Any] = {"group": group.name, "first": first, "size": size}
        row["supervised_by"] = ",".join(group.labels)
        row["variance_explained"] = variance.explained[group.name]
        row["variance_explained_p"] = variance.explained_p[group.name]
        row["variance_unique"] = variance.unique[group.name]
        row["variance_unique_p"] = variance.unique_p[group.name]
        row |= dict.fromkeys(("mi_bound_nats", "mi_cap_nats", "mi_p"), np.nan)
        if edits.scores is not None:
            bound = infonce_bound(edits.scores[g], n_permutations=config.evidence.n_permutations, seed=seed)
            row |= {"mi_bound_nats": bound.bound_nats, "mi_cap_nats": bound.cap_nats, "mi_p": bound.p_value}
        rows.append(row)
    counts = (fitted.spike_count, fitted.stimulus_index)
    units = xr.Dataset(
        {
            "loading": (("unit", "latent"), fitted.model.loading()),
            "r2": ("unit", variance.r2),
            "noise_ceiling": (
                "unit",
                split_half_correlation(*counts, n_stimuli=n_stimuli, seed=seed, stimuli=test),
            ),
            "reliability": ("unit", split_half_reliability(*counts, n_stimuli=n_stimuli, seed=seed)),
        },
        coords={"unit": session["unit"].values},
    )
    return pd.DataFrame(rows).set_index("group"), units


def _selectivity(
    stimulus: np.ndarray, fitted: _Fitted, edits: _Edits, config: Config, seed: int
) -> xr.Dataset:
    from nwb_migvis.evidence.readers import fit_readers
    from nwb_migvis.evidence.selectivity import measure_selectivity

    if not fitted.labels or edits.synthesized.sizes["edit"] == 0:
        return no_selectivity()
    train, validation = fitted.split == "train", fitted.split == "validation"
    circular = {name: period for name, period in config.latents.circular.items() if period}
    readers = fit_readers(
        edits.images[train],
        {name: values[train] for name, values in fitted.labels.items()},
        images_validation=edits.images[validation],
        labels_validation={name: values[validation] for name, values in fitted.labels.items()},
        seed=seed,
        n_steps=config.evidence.reader_steps,
        circular=circular,
    )
    return measure_selectivity(
        edits.synthesized,
        images=edits.images,
        stimulus=stimulus,
        labels=fitted.labels,
        readers=readers,
        supervised_by={group.name: group.labels for group in fitted.model.groups},
        test=fitted.split == "test",
        min_reader_score=config.evidence.min_reader_score,
        n_bootstrap=config.evidence.n_bootstrap,
        n_permutations=config.evidence.n_permutations,
        seed=seed,
    )


def _latents_dataset(session: xr.Dataset, fitted: _Fitted) -> xr.Dataset:
    group = [g.name for g in fitted.model.groups for _ in range(g.size)]
    return xr.Dataset(
        {"mean": (("stimulus", "latent"), fitted.mean), "log_var": (("stimulus", "latent"), fitted.log_var)},
        coords={
            "stimulus": session["stimulus"].values.astype(object),
            "group": ("latent", np.array(group, dtype=object)),
            "split": ("stimulus", fitted.split.astype(object)),
            "n_presentations": ("stimulus", fitted.n_presentations.astype(np.int64)),
        },
    )


class _Clock:
    """Seconds by stage."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}

    @contextmanager
    def of(self, stage: str) -> Iterator[None]:
        start = time.perf_counter()
        yield
        self.seconds[stage] = round(time.perf_counter() - start, 3)


def _seeds(seed: int) -> dict[str, int]:
    """Return an independent seed for each stage."""
    words = np.random.SeedSequence(seed).generate_state(len(_STAGES))
    return {stage: int(word) for stage, word in zip(_STAGES, words, strict=True)}


@contextmanager
def _torch_settings(config: Config) -> Iterator[int]:
    """Set threads and determinism for the duration of a run; yield the number of threads."""
    import torch

    try:
        torch.empty(0, device=config.device)
    except (RuntimeError, AssertionError) as error:
        raise MigvisError(
            f"device {config.device!r} cannot be used: {str(error).splitlines()[0]}; give --device cpu"
        ) from None
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    try:
        if config.n_threads:
            torch.set_num_threads(config.n_threads)
        torch.use_deterministic_algorithms(True, warn_only=True)
        yield torch.get_num_threads()
    finally:
        torch.set_num_threads(threads)
        torch.use_deterministic_algorithms(deterministic)


def _require_models() -> None:
    missing = [package for package in _MODEL_PACKAGES if importlib.util.find_spec(package) is None]
    if missing:
        raise MigvisError(
            f"{', '.join(missing)} not installed; fitting needs the extra 'models': "
            "pip install 'nwb-migvis[models]'"
        )


def _sha256_of(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _json_value(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {str(k): _json_value(v) for k, v in value.items()}
    if isinstance(value, (list, tuple)):
        return [_json_value(v) for v in value]
    if isinstance(value, np.ndarray):
        return _json_value(value.tolist())
    if isinstance(value, np.generic):
        return value.item()
    return str(value) if isinstance(value, Path) else value
