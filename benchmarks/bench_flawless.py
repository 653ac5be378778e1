"""What flawless edits score: objects drawn anew with what was asked for, read by the readers of a run.

    OMP_NUM_THREADS=1 python benchmarks/bench_flawless.py --seeds 0 1 2

Each seed draws stimuli, trains both readers on those of the training split, and draws pairs of test stimuli
as a run does. A flawless edit of a group is the source's object with the target's pose or category. Its
transfer should be 1, and its retention 0, for every label of the group that the reader reads with a score of
0.5 or more (*); other labels should have 0 and 1. `short` are edits that stop half way in pose: 0.5.

Pairs are many because a transfer errs by about ``sqrt(2 (1 - R2) / (n R2))`` of n test stimuli read with R2.
"""

from __future__ import annotations

import argparse

import numpy as np
import pandas as pd
import torch
import xarray as xr

from nwb_migvis.evidence.readers.protocol import Examples, fit_readers
from nwb_migvis.evidence.selectivity import EditScoring, measure_selectivity
from nwb_migvis.evidence.transfer import Draws
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels, select
from nwb_migvis.simulate.render import POSE, draw_factors, render_stimuli
from nwb_migvis.synthesis.editing.plan import draw_sources, draw_targets

MEASURABLE = 0.5
SWAPPED = {"pose": POSE, "category": ("category",)}
GROUPS = LatentGroups(("pose", "category"), (1, 1), (POSE, ("category",)))


def flawless_edits(factors: pd.DataFrame, pairs: np.ndarray, *, shares: dict[str, float]) -> xr.Dataset:
    """Return renders of the sources' objects with the targets' pose or category, as edits of role `main`."""
    source, target = pairs
    images, coords = [], {"group": [], "method": [], "source": [], "target": [], "role": []}
    for group, names in SWAPPED.items():
        for method, share in shares.items():
            if group == "category" and share != 1:
                continue
            made = factors.iloc[source].reset_index(drop=True)
            for name in names:
                goal = factors[name].to_numpy()[target]
                made[name] = goal if share == 1 else made[name] + share * (goal - made[name])
            images.append(render_stimuli(made, size_px=32, seed=10**6))
            for key, values in {"group": group, "method": method, "role": "main"}.items():
                coords[key] += [values] * len(source)
            coords["source"] += [str(i) for i in source]
            coords["target"] += [str(i) for i in target]
    coords = {name: ("edit", np.array(values, dtype=object)) for name, values in coords.items()}
    return xr.Dataset({"image": (("edit", "y", "x"), np.concatenate(images))}, coords=coords)


def measured(seed: int, *, n_train: int, n_test: int, n_pairs: int, n_steps: int) -> xr.Dataset:
    """Return the selectivity of the flawless edits of one seed."""
    n_stimuli = n_train + n_test
    factors = draw_factors(n_stimuli, seed=seed)
    images = render_stimuli(factors, size_px=32, seed=seed)
    labels = as_labels({name: factors[name].to_numpy() for name in (*POSE, "category")})
    train, validation, test = np.split(np.arange(n_stimuli), [n_train * 7 // 8, n_train])
    examples = (Examples(images[rows], select(labels, rows)) for rows in (train, validation))
    readers = fit_readers(*examples, seed=seed, n_steps=n_steps)
    rng = np.random.default_rng(seed)
    source = draw_sources(test, n_pairs, rng)
    target = np.array([draw_targets(s, test, 1, labels=labels, rng=rng)[0] for s in source])
    edits = flawless_edits(factors, np.stack([source, target]), shares={"pmi": 1.0, "short": 0.5})
    scoring = EditScoring(
        images=images,
        stimulus=[str(i) for i in range(n_stimuli)],
        labels=labels,
        readers=readers,
        test=np.isin(np.arange(n_stimuli), test),
        draws=Draws(seed, 200, 99),
    )
    return measure_selectivity(edits, scoring, groups=GROUPS)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--train", type=int, default=2000, help="stimuli that readers are trained on")
    parser.add_argument("--test", type=int, default=3000, help="stimuli that pairs are drawn from")
    parser.add_argument("--pairs", type=int, default=3000)
    parser.add_argument("--steps", type=int, default=1000, help="of the convolutional reader")
    asked = parser.parse_args()
    torch.set_num_threads(1)
    sizes = {"n_train": asked.train, "n_test": asked.test, "n_pairs": asked.pairs, "n_steps": asked.steps}
    runs = xr.concat([measured(seed, **sizes) for seed in asked.seeds], dim="seed").mean("seed")
    print("transfer / retention, mean over seeds (reader score)")
    for group, names in SWAPPED.items():
        for label in runs["label"].values:
            cells = []
            for method in ("pmi", "short") if group == "pose" else ("pmi",):
                for reader in runs["reader"].values:
                    cell = runs.sel({"group": group, "label": label, "method": method, "reader": reader})
                    score = float(runs["reader_score"].sel({"label": label, "reader": reader}))
                    values = f"{float(cell['transfer']):5.2f} / {float(cell['retention']):5.2f}"
                    mark = "*" if label in names and score >= MEASURABLE else " "
                    cells.append(f"{method} {reader} {values} ({score:.2f}){mark}")
            print(f"{group:9s}{label:12s}{'   '.join(cells)}")
    index = runs.sel({"method": "pmi"})
    for reader in runs["reader"].values:
        si = index.sel({"reader": reader})
        print(f"{reader}: si_transfer {float(si['si_transfer']):.2f}, si_strict {float(si['si_strict']):.2f}")


if __name__ == "__main__":
    main()
