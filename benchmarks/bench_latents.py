"""The group VAE beside its baselines on simulated populations whose factors and rates are known.

    OMP_NUM_THREADS=1 python benchmarks/bench_latents.py --seeds 0 1 2

Every number is of test stimuli. Columns: R2 of one half of the repeats from latents of the other over the
half reliability; bits per spike over those of the simulator's own rates; for models with groups the own-group
gap: decoding (R2, accuracy for the category) from the intended group minus that from the best other one. The
group of the content is the free group that decodes it best on the validation stimuli.
"""

from __future__ import annotations

import argparse
import math
import time
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nwb_migvis.config import GroupConfig, LatentsConfig, SplitConfig
from nwb_migvis.evidence.decoding import decode_labels
from nwb_migvis.evidence.halves import Halves
from nwb_migvis.evidence.likelihood import bits_per_spike
from nwb_migvis.evidence.reliability import half_means
from nwb_migvis.evidence.variance import group_variance
from nwb_migvis.groups import LatentGroups
from nwb_migvis.labels import Label, as_labels, select
from nwb_migvis.latents import LatentTask, Recording, label_targets, resolve_groups, split_stimuli
from nwb_migvis.latents.baselines import fit_plain_vae, fit_swap_vae
from nwb_migvis.latents.fit import fit_latents
from nwb_migvis.latents.label_weights import LabelWeights
from nwb_migvis.latents.linear import fit_linear
from nwb_migvis.latents.model import GroupVae, GroupVaeModel, kl_divergence, target_tensors
from nwb_migvis.latents.protocol import LatentModel
from nwb_migvis.simulate.population import draw_counts, draw_population
from nwb_migvis.simulate.render import POSE, SHAPE, draw_factors

WINDOW_S = 0.1
N_LATENTS = 24
BATCH, EPOCHS = 32, 500


@dataclass(frozen=True)
class Session:
    """Counts of a simulated population, with what the simulator knows."""

    counts: np.ndarray
    order: np.ndarray
    split: np.ndarray
    labels: dict[str, np.ndarray]
    content: dict[str, np.ndarray]
    rate: np.ndarray

    @classmethod
    def draw(cls, seed: int, *, n_stimuli: int, n_repeats: int) -> Session:
        factors = draw_factors(n_stimuli, seed=seed)
        rate_hz = draw_population(seed=seed).rate_hz(factors)
        order = np.tile(np.arange(n_stimuli), n_repeats)
        labels = {name: factors[name].to_numpy(np.float64) for name in POSE}
        labels["category"] = factors["category"].to_numpy(object)
        return cls(
            counts=draw_counts(rate_hz, order, WINDOW_S, seed=seed),
            order=order,
            split=split_stimuli(n_stimuli, SplitConfig(), rng=np.random.default_rng(seed)),
            labels=labels,
            content={name: factors[name].to_numpy(np.float64) for name in SHAPE},
            rate=rate_hz * WINDOW_S,
        )

    def part(self, name: str) -> np.ndarray:
        return self.split == name

    def averages(self) -> np.ndarray:
        n = np.bincount(self.order)
        total = np.zeros((len(n), self.counts.shape[1]))
        np.add.at(total, self.order, self.counts)
        return total / n[:, None]


def keep_labels(labels: dict[str, np.ndarray], fraction: float, *, seed: int) -> dict[str, np.ndarray]:
    """Return labels that are missing for all but a fraction of the stimuli."""
    n = len(next(iter(labels.values())))
    known = np.random.default_rng(seed).random(n) < fraction
    return {
        name: np.where(known, values, "") if values.dtype == object else np.where(known, values, np.nan)
        for name, values in labels.items()
    }


def plain_total_correlation(
    z: torch.Tensor, mean: torch.Tensor, log_var: torch.Tensor, sizes: list[int]
) -> torch.Tensor:
    """Return the total correlation between groups as its formula reads, left to automatic derivatives."""
    density = -0.5 * ((z[:, None] - mean).square() / log_var.exp() + log_var + math.log(2 * math.pi))
    by_group = torch.stack([part.sum(-1) for part in density.split(sizes, dim=-1)])
    joint, marginals = (torch.logsumexp(x, dim=-1) - math.log(len(z)) for x in (by_group.sum(0), by_group))
    return (joint - marginals.sum(0)).mean()


class PublishedForm:
    """The published training loop: averages predict themselves, mini-batches of 32, KL 0.002, 500 epochs."""

    def __init__(self, session: Session, groups: tuple[GroupConfig, ...], *, seed: int) -> None:
        torch.manual_seed(seed)
        train = session.part("train")
        self.groups = groups
        targets = label_targets(as_labels(session.labels), groups, training=train)
        self.sizes = [(t.numeric.shape[1], tuple(n for n, _ in t.classes)) for t in targets]
        tensors = target_tensors(targets, torch.device("cpu"))
        self.counts_of = [(numeric.shape[1], len(classes)) for numeric, classes in tensors]
        average = torch.as_tensor(session.averages()[train], dtype=torch.float32)
        columns = [x[train] for numeric, classes in tensors for x in (numeric, *classes)]
        self.plain = [
            LabelWeights(torch.full((n,), 0.5), tuple(math.log(k) for k in classes))
            for n, classes in self.sizes
        ]
        data = torch.utils.data.TensorDataset(average, *columns)
        self.loader = torch.utils.data.DataLoader(data, batch_size=BATCH, shuffle=True, drop_last=True)
        self.vae = GroupVae(average.shape[1], groups, n_hidden=64, n_layers=2, n_targets=self.sizes)
        self.vae.input_mean.copy_(average.sqrt().mean(0))
        self.vae.input_std.copy_(average.sqrt().std(0).clamp_min(1e-3))
        self.optimiser = torch.optim.Adam(self.vae.parameters(), lr=1e-3)

    def run(self, n_epochs: int) -> GroupVaeModel:
        for _ in range(n_epochs):
            for average, *columns in self.loader:
                self.optimiser.zero_grad()
                self._loss(average, columns).backward()
                self.optimiser.step()
        return GroupVaeModel(self.vae.eval(), self.groups, "gaussian", n_epochs * len(self.loader))

    def _loss(self, average: torch.Tensor, columns: list[torch.Tensor]) -> torch.Tensor:
        left = iter(columns)
        targets = [(next(left), [next(left) for _ in range(k)]) for _, k in self.counts_of]
        mean, log_var = self.vae.encode(average)
        z = mean + torch.randn_like(mean) * torch.exp(0.5 * log_var)
        x = (average.sqrt() - self.vae.input_mean) / self.vae.input_std
        kl, tc = kl_divergence(mean, log_var), plain_total_correlation(z, mean, log_var, self.vae.sizes)
        error = (self.vae.decoder(z) - x).square().mean()
        return error + 0.002 * kl + 0.01 * tc + self.vae.label_loss(z, targets, self.plain)


def measure(model: Any, session: Session, *, seed: int) -> dict[str, float]:
    """Return normalised R2, bits per spike over the simulator's, and gaps where the model has groups."""
    n = session.split.size
    half_a, half_b, _, n_b = half_means(
        session.counts, session.order, n, rng=np.random.default_rng(seed + 1000)
    )
    train, test = session.part("train"), session.part("test")
    variance = group_variance(
        Halves(half_a, half_b, *(model.encode(half)[0] for half in (half_a, half_b)), train, test),
        LatentGroups(("all",), (N_LATENTS,), ((),)),
        n_permutations=1,
        seed=seed,
    )
    base = session.averages()[train].mean(axis=0)
    spikes = (half_b * n_b[:, None])[test], n_b[test]
    bits = bits_per_spike(*spikes, model.rates(model.encode(half_a[test])[0]), base_rate=base)
    best = bits_per_spike(*spikes, session.rate[test], base_rate=base)
    found = {"norm R2": variance.total, "bits/spike": bits, "of simulator's": bits / best}
    names = [group.name for group in getattr(model, "groups", ())]
    return found | (gaps(model, session, seed=seed) if "numeric" in names else {})


def gaps(model: LatentModel, session: Session, *, seed: int) -> dict[str, float]:
    """Return the own-group gaps of pose, category and content."""
    groups = LatentGroups.of(model.groups)
    z = model.encode(session.averages())[0]
    scores = {}
    for part in ("validation", "test"):
        chosen = session.part(part)
        labels = select(as_labels(session.labels | session.content), chosen)
        score = decode_labels(z[chosen], labels, groups=groups, seed=seed)["score"]
        scores[part] = {
            "pose": score.sel(label=list(POSE)).mean("label"),
            "category": score.sel(label="category"),
            "content": score.sel(label=list(SHAPE)).mean("label"),
        }
    free = [g.name for g in model.groups if not g.labels]
    content = str(scores["validation"]["content"].sel(group=free).idxmax("group").item())
    intended = {"pose": "numeric", "category": "category", "content": content}
    return {
        f"gap {what}": float(score.sel(group=intended[what]) - score.drop_sel(group=intended[what]).max())
        for what, score in scores["test"].items()
    }


def models(session: Session, *, seed: int, n_epochs: int, chosen: list[str], config: LatentsConfig) -> Any:
    """Yield name, seconds of CPU time (of one thread) that fitting took, and model."""
    labels = as_labels(session.labels)
    groups = resolve_groups(labels, config)
    train = session.averages()[session.part("train")]
    recording = Recording.alone(session.counts, session.order, session.split.size)
    fixed: dict[str, Any] = {"config": config, "seed": seed}
    whole = (GroupConfig(name="all", size=N_LATENTS),)
    unlabelled = LatentTask({}, whole, session.split)
    some = as_labels(keep_labels(session.labels, 0.1, seed=seed))

    def ours(labels: dict[str, Label], config: LatentsConfig) -> LatentModel:
        task = LatentTask(labels, groups, session.split)
        return fit_latents([recording], task, config=config, seed=seed)[0]

    makers = {
        "ours": lambda: ours(labels, config),
        "ours, 1,000 steps": lambda: ours(labels, replace(config, n_steps=1000)),
        "ours, 10 % of labels": lambda: ours(some, config),
        "published": lambda: PublishedForm(session, groups, seed=seed).run(n_epochs),
        "plain VAE": lambda: fit_plain_vae([recording], unlabelled, **fixed)[0],
        "Swap-VAE": lambda: fit_swap_vae([recording], unlabelled, **fixed)[0],
        "PCA": lambda: fit_linear(train, kind="pca", groups=whole),
        "FA": lambda: fit_linear(train, kind="fa", groups=whole, seed=seed),
    }
    for name, make in makers.items():
        if not chosen or name in chosen:
            start = time.process_time()
            model = make()
            yield name, time.process_time() - start, model


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--n-stimuli", type=int, default=5760)
    parser.add_argument("--n-repeats", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=EPOCHS, help="of the published form")
    parser.add_argument("--models", nargs="*", default=[])
    parser.add_argument("--set", nargs="*", default=[], metavar="NAME=VALUE", help="settings of the latents")
    options = parser.parse_args()
    torch.set_num_threads(1)
    config = LatentsConfig()
    for name, _, value in (item.partition("=") for item in options.set):
        config = replace(config, **{name: type(getattr(config, name))(value)})
    found: dict[str, list[dict[str, float]]] = {}
    for seed in options.seeds:
        session = Session.draw(seed, n_stimuli=options.n_stimuli, n_repeats=options.n_repeats)
        for name, seconds, model in models(
            session, seed=seed, n_epochs=options.epochs, chosen=options.models, config=config
        ):
            row = {**measure(model, session, seed=seed), "seconds": seconds}
            found.setdefault(name, []).append(row)
            print(f"seed {seed}  {name:22s}" + "".join(f"  {k} {v:.3f}" for k, v in row.items()), flush=True)
    print(f"\nmean of seeds {options.seeds}; published form: {options.epochs} epochs")
    for name, rows in found.items():
        means = {key: np.mean([row[key] for row in rows]) for key in rows[0]}
        print(f"{name:22s}" + "".join(f"  {k} {v:.3f}" for k, v in means.items()))
    for name in sorted({"ours", "ours, 1,000 steps"} & found.keys() if "published" in found else ()):
        ratios = [
            p["seconds"] * EPOCHS / options.epochs / o["seconds"]
            for p, o in zip(found["published"], found[name], strict=True)
        ]
        print(f"\n{EPOCHS} epochs of the published form take {np.mean(ratios):.1f} times as long as {name}")


if __name__ == "__main__":
    main()
