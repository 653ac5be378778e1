"""Whether p-values of further analyses are uniform where there is nothing to find: for `bench_companions.py`.

Two sessions of the same images, with labels, are fitted together. Their responses follow hidden factors that
have nothing to do with images, labels or each other:

- `noise`: factors of every presentation. Nothing repeats; drift is slower than blocks of trials.
- `unrelated`: factors of every image. Responses repeat, and tell nothing of images.

Each in two designs: images that are all independent, and eight views each of objects (`split.by`), where
views of one object look alike, share labels, and are responded to alike. Exchanging single images would find
something in the second.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
import xarray as xr
from scipy.ndimage import gaussian_filter

from nwb_migvis import Study
from nwb_migvis.companions import where_and_when
from nwb_migvis.config import GroupConfig
from nwb_migvis.networks.text_networks import ImageTextNetwork
from nwb_migvis.registry import TEXT_NETWORKS
from nwb_migvis.testing import tiny_config

DESIGNS = ("images", "objects")
KINDS = ("noise", "unrelated")
LEVELS = {"images": (160, 1), "objects": (24, 8)}
"""Independent things of each design, and images of each."""
FOR_STATES = {"images": (160, 1), "objects": (120, 2)}
"""The same where states are planted: one trial of each level is tested for valleys, which needs more."""
N_UNITS, N_REPEATS, SIDE_PX = 24, 4, 16
WINDOWS_S = ((0.07, 0.12), (0.12, 0.17))
GROUPS = (
    GroupConfig(name="size", size=2, labels=("size",)),
    GroupConfig(name="category", size=2, labels=("category",)),
    GroupConfig(name="free", size=2),
)
ALWAYS: dict[str, tuple[str, ...]] = {
    "retrieval": ("percentile_p", "top1_p", "top5_p"),
    "names": ("told_p", "lean_p", "word_told_p", "word_lean_p"),
    "places": ("seen_p", "carried_p", "seen_by_features_p", "contributed_p"),
    "concepts": ("coherence_p", "similarity_p"),
    "windows": ("told_p",),
    "areas": ("told_p",),
    "electrodes": ("correlation_p",),
}
"""P-values of whether responses tell of images, and of whether loadings follow positions, which are drawn."""
OF_REPEATS = {
    "dimension": ("repeatable_p",),
    "windows": ("variance_p", "similarity_p"),
    "areas": ("variance_p", "similarity_p"),
}
"""Those of whether anything repeats: windows and areas by models that are fitted to each anew."""
VOCABULARY = ("bright", "busy", "left")


def look_of_images(images: np.ndarray) -> np.ndarray:
    """Describe images by how bright, how busy, and how much brighter on the left they are."""
    x = images.astype(float)
    left = x[:, :, : SIDE_PX // 2].mean(axis=(1, 2)) - x[:, :, SIDE_PX // 2 :].mean(axis=(1, 2))
    return np.stack([x.mean(axis=(1, 2)) - 128, x.std(axis=(1, 2)) - 30, left], axis=1)


def open_toy(*, path: str, device: str) -> ImageTextNetwork:
    """Return a network that knows the words of `VOCABULARY`."""
    return ImageTextNetwork(look_of_images, lambda words: np.eye(3)[[VOCABULARY.index(w) for w in words]])


def session_pair(seed: int, *, design: str, kind: str, states: bool = False) -> list[xr.Dataset]:
    """Return two sessions of the same images; where `states`, hidden factors form three clusters."""
    rng = np.random.default_rng([seed, DESIGNS.index(design), KINDS.index(kind), int(states)])
    n_levels, n_views = FOR_STATES[design] if states else LEVELS[design]
    level = np.repeat(np.arange(n_levels), n_views)
    look = _look(rng, level)
    size = _factors(rng, level, 1)[:, 0]
    category = np.array(["face", "hand", "car"])[rng.integers(0, 3, level.max() + 1)][level]
    image = np.clip(128 + (30 + 8 * np.tanh(size))[:, None, None] * look, 0, 255).astype(np.uint8)
    coords: dict[str, Any] = {"size": ("stimulus", size), "category": ("stimulus", category)}
    if design == "objects":
        coords["object"] = ("stimulus", np.char.add("o", level.astype(str)))
    shared = xr.Dataset(
        {"image": (("stimulus", "y", "x"), image)},
        {"stimulus": np.array([f"im{i:03d}" for i in range(len(level))]), **coords},
    )
    return [_responses(rng, shared, level, kind, states).assign_attrs(source=f"{n}.nwb") for n in "ab"]


def _factors(rng: np.random.Generator, level: np.ndarray, k: int) -> np.ndarray:
    """Return numbers (image, k) that images of one level share in part."""
    own = rng.normal(size=(len(level), k))
    if level.max() + 1 == len(level):
        return own
    return 0.8 * rng.normal(size=(level.max() + 1, k))[level] + 0.6 * own


def _look(rng: np.random.Generator, level: np.ndarray) -> np.ndarray:
    noise = _factors(rng, level, SIDE_PX**2).reshape(-1, SIDE_PX, SIDE_PX)
    smooth = gaussian_filter(noise, (0, 1.5, 1.5))
    return smooth / smooth.std()


def _responses(
    rng: np.random.Generator, shared: xr.Dataset, level: np.ndarray, kind: str, states: bool
) -> xr.Dataset:
    """Add presentations and counts of a population that follows hidden factors."""
    n = len(level)
    index = np.concatenate([rng.permutation(n) for _ in range(N_REPEATS)])
    of = np.arange(len(index)) if kind == "noise" else level
    row = np.arange(len(index)) if kind == "noise" else index
    if states:
        centre = 2.5 * np.linalg.qr(rng.normal(size=(4, 4)))[0][:3]
        factors = centre[rng.integers(0, 3, of.max() + 1)[of]] + 0.3 * rng.normal(size=(len(of), 4))
    else:
        factors = _factors(rng, of, 4)
    drift = 0.3 * np.sin(2 * np.pi * (np.arange(len(index)) / 500 + rng.random()))
    log_rate = 0.5 * factors[row] @ rng.normal(size=(4, N_UNITS)) + drift[:, None]
    halves = [rng.poisson(np.exp(np.clip(log_rate + 1, -3, 4))) for _ in WINDOWS_S]
    dims = ("presentation", "unit")
    return (
        shared.assign(
            {
                "spike_count": (dims, (halves[0] + halves[1]).astype(np.uint16)),
                "stimulus_index": ("presentation", index),
                "start_time": ("presentation", 10 + 0.3 * np.arange(len(index))),
                **{f"in_window_{i}": (dims, own) for i, own in enumerate(halves)},
            }
        )
        .assign_coords(
            unit=np.arange(N_UNITS),
            unit_row=("unit", np.arange(N_UNITS)),
            area=("unit", np.repeat(["V4", "IT"], N_UNITS // 2)),
            depth=("unit", rng.permutation(np.arange(N_UNITS) // 2).astype(float)),
        )
        .assign_attrs(window_s=(0.07, 0.17), reading={"window_s": [0.07, 0.17]})
    )


def _counts_in(held: Any, window_s: tuple[float, float]) -> np.ndarray:
    """Return counts of a half of the window, which has no file to be counted from."""
    return held.session[f"in_window_{WINDOWS_S.index(window_s)}"].values.astype(float)


def study_of(seed: int, *, design: str, kind: str, states: bool = False, refit: bool = False) -> Study:
    """Fit small latents; those of planted states by principal components, which need no training."""
    config = tiny_config(
        seed=seed,
        evidence={"n_permutations": 199, "n_bootstrap": 19, "min_reliability": -1.0},
        latents={"n_steps": 30, "n_hidden": 16, "groups": GROUPS, "model": "pca" if states else "group-vae"},
        companions={
            "network": "edges",
            "areas": "area",
            "windows_s": WINDOWS_S,
            "refit": refit,
            "vocabulary": VOCABULARY,
            "text_network": "toy",
        },
        split={"by": "object" if design == "objects" else "stimulus", "test": 0.4},
    )
    pair = session_pair(seed, design=design, kind=kind, states=states)
    study = Study(pair[0] if states else pair, config)
    study.fit_latents()
    return study


def p_values(study: Study, which: Mapping[str, Sequence[str]]) -> Iterator[tuple[str, np.ndarray]]:
    """Yield p-values of each analysis that should be uniform, (cell,) by its name."""
    for name, variables in which.items():
        found = study.compute(name)
        for variable in variables:
            yield f"{name} {variable.removesuffix('_p')}", found[variable].values.ravel()


def p_of_states(study: Study, kind: str) -> Iterator[tuple[str, np.ndarray]]:
    """Yield p-values of agreement with each label, and with images where nothing repeats."""
    found = study.compute("states")
    if "agreement_p" not in found:
        return
    for what in found["with"].values:
        if what != "each image" or kind == "noise":
            yield f"states agreement with {what}", found["agreement_p"].sel({"with": what}).values.ravel()


def null(n_fits: int, first: int = 0) -> None:
    """Print how often p is at most .05 and .5, with standard errors over fits."""
    where_and_when.counts_in = _counts_in
    TEXT_NETWORKS.register("toy", open_toy)
    for design in DESIGNS:
        for kind in KINDS:
            cells: dict[str, list[np.ndarray]] = defaultdict(list)
            for seed in range(first, first + n_fits):
                study = study_of(seed, design=design, kind=kind)
                planted = study_of(seed, design=design, kind=kind, states=True)
                found = [*p_values(study, ALWAYS), *p_of_states(planted, kind)]
                if kind == "noise":
                    found += p_values(study_of(seed, design=design, kind=kind, refit=True), OF_REPEATS)
                for name, p in found:
                    if np.isfinite(p).any():
                        cells[name].append(p[np.isfinite(p)])
            _report(f"{design}, {kind}", cells)


def _report(title: str, cells: dict[str, list[np.ndarray]]) -> None:
    print(f"null, {title}: share of p at most .05, of p at most .5, mean p (standard errors over fits)")
    for name, values in cells.items():
        each = np.array([[(p <= 0.05).mean(), (p <= 0.5).mean(), p.mean()] for p in values])
        error = each.std(axis=0, ddof=1) / np.sqrt(len(each)) if len(each) > 1 else np.full(3, np.nan)
        shown = "  ".join(f"{m:.3f} +- {e:.3f}" for m, e in zip(each.mean(axis=0), error, strict=True))
        beyond = "  !" if each[:, 0].mean() - 0.05 > 3 * error[0] else ""
        print(f"  {name:34s} {shown}  {len(each)} fits{beyond}", flush=True)
