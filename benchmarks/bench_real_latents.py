"""The group VAE on two real recordings, read in place from the folder that --data names.

    OMP_NUM_THREADS=1 python benchmarks/bench_real_latents.py --data ../shared/data

V4: 640 object images (macaque, 50 units): held-out R2 beside PCA and factor analysis, and decoding of the
object from latents beside that from average counts. IT: 7 objects x 3 positions, single trials (macaque, 132
units): decoding of object and position of held-out combinations, from all latents and from each group.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import torch
from sklearn.linear_model import LogisticRegressionCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from nwb_migvis import read_session
from nwb_migvis.config import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.evidence.decoding import decode_labels
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.reliability import half_means
from nwb_migvis.evidence.variance import group_variance
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import as_labels
from nwb_migvis.latents import LatentTask, Recording, split_stimuli
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.linear import fit_linear

IT_GROUPS = (
    GroupConfig(name="object", size=3, labels=("object",)),
    GroupConfig(name="position", size=3, labels=("position",)),
)
V4_GROUPS = (
    GroupConfig(name="object", size=6, labels=("object",)),
    GroupConfig(name="free_1", size=6),
    GroupConfig(name="free_2", size=6),
)


def v4(folder: Path, config: LatentsConfig, seed: int) -> None:
    arrays = np.load(folder / "v4_hvm" / "session_210325.npz")
    counts = arrays["counts"]
    stimulus, repeat = np.nonzero(counts[0] >= 0)
    spike_count = counts[:, stimulus, repeat].T.astype(np.uint16)
    n = counts.shape[1]
    split = split_stimuli(n, SplitConfig(), rng=np.random.default_rng(seed))
    labels = {"object": arrays["object"].astype(object)}
    task = LatentTask(as_labels(labels), V4_GROUPS, split)
    (model,) = fit_latents([Recording.alone(spike_count, stimulus, n)], task, config=config, seed=seed)
    average = np.stack([np.where(c < 0, np.nan, c) for c in counts.astype(float)])
    average = np.nanmean(average, axis=2).T
    n_latents = sum(group.size for group in V4_GROUPS)
    train, test = split == "train", split == "test"
    fits = {"ours": model}
    for kind in ("pca", "fa"):
        fits[kind] = fit_linear(average[train], kind=kind, groups=V4_GROUPS, seed=seed)
    half_a, half_b, _, _ = half_means(spike_count, stimulus, n, rng=np.random.default_rng(seed + 1000))
    for name, fitted in fits.items():
        found = group_variance(
            Halves(half_a, half_b, *(fitted.encode(half)[0] for half in (half_a, half_b)), train, test),
            LatentGroups(("all",), (n_latents,), ((),)),
            n_permutations=1,
            seed=seed,
        )
        z = fitted.encode(average)[0]
        print(
            f"V4 seed {seed} {name:5s} R2 over half reliability {found.total:.3f}  object from latents: "
            f"{readout(z, labels['object'], train, test):.3f} (linear, training to test), "
            f"{folds(z[test], labels['object'][test], seed):.3f} (test stimuli alone)"
        )
    print(
        f"V4 seed {seed} average counts: {readout(np.sqrt(average), labels['object'], train, test):.3f}, "
        f"{folds(np.sqrt(average)[test], labels['object'][test], seed):.3f}",
        flush=True,
    )


def folds(z: np.ndarray, label: np.ndarray, seed: int) -> float:
    groups = LatentGroups(("all",), (z.shape[1],), ((),))
    found = decode_labels(z, as_labels({"label": label}), groups=groups, seed=seed)
    return float(found["score"].item())


def readout(z: np.ndarray, label: np.ndarray, train: np.ndarray, test: np.ndarray) -> float:
    """Accuracy of logistic regression, its penalty chosen within the training rows."""
    reader = make_pipeline(StandardScaler(), LogisticRegressionCV(Cs=np.logspace(-4, 1, 6), max_iter=500))
    return float(reader.fit(z[train], label[train]).score(z[test], label[test]))


def held_out_cells(objects: np.ndarray, positions: np.ndarray, seed: int) -> np.ndarray:
    """Split cells so that every object and every position stays in training."""
    rng = np.random.default_rng(seed)
    split = np.full(len(objects), "train", dtype="<U10")
    kinds = list(rng.permutation(np.unique(objects)))
    places = np.unique(positions)
    for i, kind in enumerate(kinds[:6]):
        cell = (objects == kind) & (positions == places[i % len(places)])
        split[cell] = "test" if i < 4 else "validation"
    return split


def it(folder: Path, config: LatentsConfig, seed: int, n_permutations: int) -> None:
    path = folder / "it_zhang_desimone" / "zd_it_pseudopopulation.nwb"
    session = read_session(path, stimulus="stimulus_ID_position", window_s=(0.1, 0.4))
    index = session["stimulus_index"].values
    labels = {
        "object": session["stimulus_id"].values.astype(object),
        "position": session["stimulus_position"].values.astype(object),
    }
    split = held_out_cells(labels["object"], labels["position"], seed)
    counts = session["spike_count"].values
    task = LatentTask(as_labels(labels), IT_GROUPS, split)
    (model,) = fit_latents([Recording.alone(counts, index, split.size)], task, config=config, seed=seed)
    z = model.encode(counts)[0]
    train, test = (split == "train")[index], (split == "test")[index]
    rng = np.random.default_rng(seed)
    for name in labels:
        truth = labels[name][index]
        own, other = ((0, 3), (3, 6)) if name == "object" else ((3, 6), (0, 3))
        scores = [readout(z[:, a:b], truth, train, test) for a, b in ((0, 6), own, other)]
        raw = readout(np.sqrt(counts), truth, train, test)
        chance = np.unique(truth[test], return_counts=True)[1].max() / test.sum()
        leak = leakage_p(z[:, slice(*other)], labels[name], index, train, test, n_permutations, rng)
        print(
            f"IT seed {seed} {name:8s} counts {raw:.3f}  all latents {scores[0]:.3f}  "
            f"own group {scores[1]:.3f}  other group {scores[2]:.3f} (p {leak:.3f})  chance {chance:.3f}  "
            f"own / all {scores[1] / scores[0]:.2f}  (own - other) / (own - chance) "
            f"{(scores[1] - scores[2]) / (scores[1] - chance):.2f}",
            flush=True,
        )


def leakage_p(
    z: np.ndarray,
    label: np.ndarray,
    index: np.ndarray,
    train: np.ndarray,
    test: np.ndarray,
    n_permutations: int,
    rng: np.random.Generator,
) -> float:
    """P-value of decoding from the other group, whole cells permuted against their labels."""
    observed = readout(z, label[index], train, test)
    reached = 0
    for _ in range(n_permutations):
        permuted = label.copy()
        for cells in (np.unique(index[train]), np.unique(index[test])):
            permuted[cells] = rng.permutation(label[cells])
        reached += readout(z, permuted[index], train, test) >= observed
    return (1 + reached) / (1 + n_permutations)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--permutations", type=int, default=19)
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the latents")
    options = parser.parse_args()
    torch.set_num_threads(1)
    changes = dict(item.split("=") for item in options.set)
    changed = {name: type(getattr(LatentsConfig(), name))(value) for name, value in changes.items()}
    config = LatentsConfig(**changed)
    for seed in options.seeds:
        v4(options.data, config, seed)
        it(options.data, config, seed, options.permutations)


if __name__ == "__main__":
    main()
