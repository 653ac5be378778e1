"""Two simulated animals that share 100 images: do the latents of one predict the responses of the other?

    OMP_NUM_THREADS=1 python benchmarks/bench_shared.py --seeds 0 1 2

Each animal has 80 units of its own and sees 100 images with the other and more alone. Scores are on further
images that both see and no fit has seen; latents come from one half of the repeats, responses from the
other, through the read-out of the animal that is predicted.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import torch

from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.config import LatentsConfig, SplitConfig
from nwb_migvis.evidence.reliability import column_correlation, half_means
from nwb_migvis.evidence.ridge import fit_ridge
from nwb_migvis.evidence.stability import match_groups
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label, as_labels, select
from nwb_migvis.latents import LatentTask, Recording, linked_pairs, resolve_groups, split_shared_stimuli
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.protocol import LatentModel
from nwb_migvis.simulate import draw_counts, draw_factors, draw_population
from nwb_migvis.simulate.render import POSE

UNITS = {"pose": 22, "category": 20, "content": 18, "mixed": 20}
NAMES = ("a", "b")
N_REPEATS = 20
WINDOW_S = 0.1


@dataclass(frozen=True)
class Animal:
    """A recording, and two halves of the responses (image, unit) to images that no fit sees."""

    recording: Recording
    halves: tuple[np.ndarray, np.ndarray]


def simulate(seed: int, n_own: int, n_shared: int, n_new: int) -> tuple[list[Animal], dict[str, Label]]:
    """Draw two animals and the labels of the images that either sees before the test."""
    n = n_shared + 2 * n_own
    factors = draw_factors(n + n_new, seed=1000 + seed)
    labels = {name: factors[name].to_numpy(np.float64)[:n] for name in POSE}
    labels["category"] = factors["category"].to_numpy(object)[:n]
    animals = []
    for i, name in enumerate(NAMES):
        rate_hz = draw_population(UNITS, seed=100 * seed + i).rate_hz(factors)
        rows = np.concatenate([np.arange(n_shared), n_shared + i * n_own + np.arange(n_own)])
        seen, new = (
            draw_counts(
                rate_hz[shown],
                np.tile(np.arange(shown.size), N_REPEATS),
                WINDOW_S,
                seed=1000 * seed + 10 * i + k,
            )
            for k, shown in enumerate((rows, np.arange(n, n + n_new)))
        )
        order = np.tile(np.arange(n_new), N_REPEATS)
        halves = half_means(new, order, n_new, rng=np.random.default_rng(seed))[:2]
        recording = Recording(name, seen, np.tile(np.arange(rows.size), N_REPEATS), rows)
        animals.append(Animal(recording, halves))
    return animals, as_labels(labels)


def explained(model: LatentModel, latents: np.ndarray, animal: Animal) -> float:
    """Return the fraction of an animal's repeatable variance that its read-out predicts from latents."""
    with torch.no_grad():
        rate = model.vae.rate(torch.as_tensor(latents, dtype=torch.float32)).numpy()
    y = animal.halves[1]
    r2 = 1 - ((y - rate) ** 2).sum(axis=0) / ((y - y.mean(axis=0)) ** 2).sum(axis=0)
    return float(r2.mean() / column_correlation(*animal.halves).mean())


def score(models: list[LatentModel], animals: list[Animal], maps: list | None = None) -> dict[str, object]:
    """Return own and cross variance explained, and whether the groups match one to one."""
    z = [model.encode(animal.halves[0])[0] for model, animal in zip(models, animals, strict=True)]
    other = [z[1 - i] if maps is None else maps[i].predict(z[1 - i]) for i in range(2)]
    own = [explained(models[i], z[i], animals[i]) for i in range(2)]
    cross = [explained(models[i], other[i], animals[i]) for i in range(2)]
    groups = LatentGroups.of(models[0].groups)
    matched = match_groups(z[0], other[0], groups_a=groups, groups_b=groups).partner
    n_matched = sum(a == b for a, b in matched.items())
    return {"own": np.mean(own), "cross": np.mean(cross), "matched": f"{n_matched} of {len(matched)}"}


def fit_apart(
    animals: list[Animal], labels: dict[str, Label], split: np.ndarray, config: LatentsConfig, seed: int
) -> tuple[list[LatentModel], list]:
    """Fit each animal alone, and regress its latents on the other's over shared training images."""
    groups = resolve_groups(labels, config)
    models, means = [], []
    for i, animal in enumerate(animals):
        r = animal.recording
        alone = Recording.alone(r.spike_count, r.stimulus_index, r.stimulus_row.size)
        task = LatentTask(select(labels, r.stimulus_row), groups, split[r.stimulus_row])
        models += fit_latents([alone], task, config=config, seed=seed + i)
        average = average_counts(r.spike_count, r.stimulus_index, r.stimulus_row.size)
        means.append(models[i].encode(average)[0])
    rows = [animal.recording.stimulus_row for animal in animals]
    both, in_a, in_b = np.intersect1d(*rows, return_indices=True)
    train = split[both] == "train"
    z_a, z_b = means[0][in_a[train]], means[1][in_b[train]]
    return models, [fit_ridge(z_b, z_a), fit_ridge(z_a, z_b)]


def compare(seed: int, arguments: argparse.Namespace) -> None:
    """Print the rows of one seed."""
    animals, labels = simulate(seed, arguments.n_own, arguments.n_shared, arguments.n_new)
    config = LatentsConfig(n_steps=arguments.n_steps)
    recordings = [animal.recording for animal in animals]
    every = np.arange(len(labels["category"]))
    shown = np.stack([np.isin(every, r.stimulus_row) for r in recordings])
    split = split_shared_stimuli(shown, NAMES, SplitConfig(), rng=np.random.default_rng(seed))
    task = LatentTask(labels, resolve_groups(labels, config), split, linked_pairs(shown, NAMES))
    together = fit_latents(recordings, task, config=config, seed=seed)
    apart, maps = fit_apart(animals, labels, split, config, seed)
    alone = score(apart, animals)["own"]
    for what, found in (
        ("one latent space", score(together, animals)),
        ("apart, ridge map", score(apart, animals, maps)),
        ("apart, as they are", score(apart, animals)),
    ):
        own, cross = found["own"], found["cross"]
        print(
            f"| {seed} | {what} | {own:.3f} | {cross:.3f} | {cross / own:.2f} | {cross / alone:.2f} | "
            f"{found['matched']} |",
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n-own", type=int, default=1400, help="images that only one animal sees")
    parser.add_argument("--n-shared", type=int, default=100)
    parser.add_argument("--n-new", type=int, default=500, help="images for the scores alone")
    parser.add_argument("--n-steps", type=int, default=LatentsConfig().n_steps)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    print("| seed | fit | own | cross | cross / own | cross / own of a fit apart | groups matched |")
    print("|---|---|---|---|---|---|---|")
    for seed in arguments.seeds:
        compare(seed, arguments)


if __name__ == "__main__":
    main()
