"""Further analyses of real sessions, read in place from the folder that --data names.

    OMP_NUM_THREADS=1 python benchmarks/bench_real_companions.py --data ../shared/data hvm natural it

`hvm`: macaque V4, 640 images of 8 objects, 50 units: retrieval, dimension, states, concepts, and two windows.
`natural`: macaque V4, 1,200 colour photographs, 89 units, single repeats dealt out at random: retrieval and
dimension. Both with the default number of training steps. `it`: macaque IT, 132 units, 399 trials of 7
objects at 3 positions. Each trial counts as an image of its own, 160 of them held out: states against object
and position, by the group VAE and by principal components.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr
from bench_companions import print_curves
from bench_real_edits import SESSIONS

from nwb_migvis import Config, Study, read_session
from nwb_migvis.config import GroupConfig
from nwb_migvis.testing import tiny_config

IT_GROUPS = (
    GroupConfig(name="object", size=3, labels=("object",)),
    GroupConfig(name="position", size=3, labels=("position",)),
)


def with_interval(data: xr.Dataset, name: str) -> list[str]:
    """Return values (cell,) of a variable as text: estimate, interval, and a star where q is below .05."""
    ends = [
        data[f"{name}_{end}"].values.ravel() if f"{name}_{end}" in data else None for end in ("low", "high")
    ]
    q = data[f"{name}_q"].values.ravel() if f"{name}_q" in data else None
    cells = []
    for i, value in enumerate(data[name].values.ravel()):
        star = "*" if q is not None and q[i] < 0.05 else ""
        around = "" if ends[0] is None else f" [{ends[0][i]:.2f}, {ends[1][i]:.2f}]"
        cells.append(f"{value:.2f}{star}{around}")
    return cells


def print_retrieval(study: Study, title: str) -> None:
    found = study.compute("retrieval")
    print(f"{title}: {found.attrs['n_candidates']} images, chance of top1 {found.attrs['chance_top1']:.4f}")
    for name in ("top1", "percentile"):
        for space in found["space"].values:
            own = found.sel(space=space)
            cells = zip(found["layer"].values, with_interval(own, name), strict=True)
            best = str(own["best_layer"].values)
            print(f"  {name} {space} (best {best}): {'; '.join(f'{la} {c}' for la, c in cells)}")
    for by in ("top1_by_repeats_of_latents", "top1_by_repeats_of_counts", "top1_by_units"):
        steps = found[found[by].dims[0]].values
        cells = zip(steps, with_interval(found, by), strict=True)
        print(f"  {by}: {'; '.join(f'{step:g}: {cell}' for step, cell in cells)}")
    print_curves(found, f"  {title}")


def print_dimension(study: Study, title: str) -> None:
    found = study.compute("dimension")
    cells = zip(found["space"].values, with_interval(found, "participation_ratio"), strict=True)
    print(f"{title}, dimension: {'; '.join(f'{space} {cell}' for space, cell in cells)}")
    layers = zip(found["layer"].values, found["features_participation_ratio"].values, strict=True)
    print(f"  features: {'; '.join(f'{name} {value:.1f}' for name, value in layers)}", flush=True)


def print_states(study: Study, title: str) -> None:
    found = study.compute("states")
    n = f"{int(found['n_states'])} states of {int(found['n_components'])} components"
    print(f"{title}: {n}, {found.sizes['trial']} held-out trials", flush=True)
    if "agreement" in found and int(found["n_states"]) > 1:
        for what, cell in zip(found["with"].values, with_interval(found, "agreement"), strict=True):
            print(f"  agreement with {what}: {cell}")


def print_groups(study: Study, title: str, *, refit: bool) -> None:
    """Print coherent ends, and windows by the run's model, or by models that are fitted anew."""
    found = study.compute("concepts")
    for group in found["group"].values:
        ends = found.sel(group=group)
        cells = zip(
            ("low", "high"), with_interval(ends, "coherence"), ends["coherence_q"].values, strict=True
        )
        print(f"{title}, coherence of {group}: {'; '.join(f'{e} {c} (q {q:.2f})' for e, c, q in cells)}")
    windows = study.compute("windows")
    for window in windows["window"].values:
        own = windows.sel(window=window)
        parts = [f"variance {'; '.join(with_interval(own, 'variance'))}"]
        parts += [f"told {'; '.join(with_interval(own, 'told'))}"] if "told" in own else []
        parts += [f"similarity {'; '.join(with_interval(own, 'similarity'))}"] if refit else []
        print(f"{title}, {window}{', fitted anew' if refit else ''}: {'  '.join(parts)}", flush=True)


def v4(name: str, data: Path, seed: int, *, refit: bool) -> None:
    """Analyse a session of V4."""
    with tempfile.TemporaryDirectory() as folder:
        session, groups = SESSIONS[name](data, Path(folder))
        start, stop = session.attrs["window_s"]
        middle = (start + stop) / 2
        config = Config(seed=seed, n_threads=1)
        config = replace(
            config,
            latents=replace(config.latents, groups=groups),
            companions=replace(config.companions, windows_s=((start, middle), (middle, stop)), refit=refit),
        )
        study, begun = Study(session, config), time.process_time()
        study.fit_latents()
        title = f"{name}, seed {seed}"
        print(f"{title}: latents {time.process_time() - begun:.0f} s of CPU", flush=True)
        print_retrieval(study, title)
        print_dimension(study, title)
        if name == "hvm":
            print_states(study, f"{title}, states")
            print_groups(study, title, refit=refit)


def it(data: Path, seed: int) -> None:
    """Cluster trials of IT."""
    path = data / "it_zhang_desimone" / "zd_it_pseudopopulation.nwb"
    session = read_session(path, stimulus="stimulus_ID_position", window_s=(0.1, 0.4))
    shown = session["stimulus_index"].values
    n = len(shown)
    trials = xr.Dataset(
        {
            "spike_count": session["spike_count"],
            "stimulus_index": ("presentation", np.arange(n)),
            "start_time": session["start_time"],
        },
        coords={
            "stimulus": np.array([f"trial {i:03d}" for i in range(n)]),
            "object": ("stimulus", session["stimulus_id"].values[shown].astype(str)),
            "position": ("stimulus", session["stimulus_position"].values[shown].astype(str)),
        },
        attrs={"source": path.name, "window_s": (0.1, 0.4)},
    )
    for model in ("group-vae", "pca"):
        latents: dict[str, Any] = {"n_steps": Config().latents.n_steps, "groups": IT_GROUPS, "model": model}
        evidence = {"n_permutations": 999, "n_bootstrap": 1000}
        split = {"by": "stimulus", "test": 0.4}
        study = Study(trials, tiny_config(seed=seed, latents=latents, evidence=evidence, split=split))
        study.fit_latents()
        print_states(study, f"it, {model}, seed {seed}")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", nargs="+", choices=[*SESSIONS, "it"])
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    parser.add_argument("--refit", action="store_true", help="fit the windows of hvm anew")
    options = parser.parse_args()
    for what in options.what:
        for seed in options.seeds:
            if what == "it":
                it(options.data, seed)
            else:
                v4(what, options.data, seed, refit=options.refit)


if __name__ == "__main__":
    main()
