"""Guided edits per second beside the published procedure's, the share of each factor, and what it costs.

    python benchmarks/bench_edits.py [--threads N] [--pairs N] [--only speed|quality] [--guidance demo|critic]
    python benchmarks/bench_edits.py --tiny

The published procedure inverts the source anew for every edit, in 150 steps, and edits one pair and one group
at a time; ours takes 20 steps and records what they miss of the way back, inverts a source once for all its
edits, and edits in batches, in bfloat16. Both use the same networks (the demo's prior, a critic
trained here) and the same guidance by the critic alone, on held-out pairs of a simulated session; beside
them, edits that the conditional prior guides too, as the demo's are. Each factor is switched by itself,
starting from either procedure. Times are of the CPU. Quality: selectivity of our edits in 20 and in 150
steps, by both readers.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from nwb_migvis import Study, read_session, simulate_session
from nwb_migvis.analysis.context import Context, stage_seeds
from nwb_migvis.analysis.edits import SessionEdits
from nwb_migvis.analysis.latents import SessionLatents
from nwb_migvis.analysis.networks import images_for
from nwb_migvis.analysis.scoring import edit_scoring, edit_selectivity, fit_edit_readers
from nwb_migvis.config import Config, SynthesisConfig
from nwb_migvis.demo import demo_config
from nwb_migvis.networks.batches import in_batches
from nwb_migvis.synthesis.editing.batch import EditNetworks
from nwb_migvis.synthesis.editing.critic_guidance import CriticGuidance
from nwb_migvis.synthesis.editing.guidance import GuidedDenoiser
from nwb_migvis.synthesis.editing.plan import plan_edits
from nwb_migvis.synthesis.editing.synthesize import EditStimuli, goals, synthesize
from nwb_migvis.synthesis.prior.ddim import invert, record, sample, time_grid


@dataclass(frozen=True)
class Procedure:
    """How edits are computed; what guides them is the same for all."""

    n_steps: int = 20
    recorded: bool = True
    shared: bool = True
    batch_size: int = 32
    precision: str = "bfloat16"


OURS = Procedure()
PUBLISHED = Procedure(n_steps=150, recorded=False, shared=False, batch_size=1, precision="float32")
GUIDANCE = ("demo", "critic")
FULL = {"n_stimuli": 5760, "n_repeats": 20}
FACTORS = {
    "steps": ("n_steps", "recorded"),
    "shared inversions": ("shared",),
    "batches": ("batch_size",),
    "precision": ("precision",),
}


@dataclass(frozen=True)
class Bench:
    """A simulated session, what was fitted to it, and the settings of its edits."""

    session: xr.Dataset
    latents: SessionLatents
    images: np.ndarray
    networks: EditNetworks
    config: Config

    @classmethod
    def make(cls, config: Config, *, n_stimuli: int, n_repeats: int) -> Bench:
        """Simulate a session, and fit its latents and a critic."""
        with tempfile.TemporaryDirectory() as folder:
            path = Path(folder) / "session.nwb"
            simulate_session(path, seed=config.seed, n_stimuli=n_stimuli, n_repeats=n_repeats)
            session = read_session(path)
            study = Study(session, config)
            latents = study.fit_latents()
            networks = EditNetworks(study.train_prior(), study.train_critic(), latents.groups)
            images = images_for(session["image"], networks.prior)
        return cls(session, latents, images, networks, config)

    @property
    def stimuli(self) -> EditStimuli:
        """The images at the prior's size, with their standardised latents."""
        z = self.networks.critic.scale.standardise(self.latents.mean)
        return EditStimuli(self.session["stimulus"].values, self.images, z)

    def plan(self, settings: SynthesisConfig) -> pd.DataFrame:
        """Lay out the edits of held-out pairs by the method proper, pair by pair."""
        plan = plan_edits(
            np.flatnonzero(self.latents.split == "test"),
            self.latents.groups,
            labels=self.latents.labels,
            config=settings,
            rng=np.random.default_rng(stage_seeds(self.config.seed)["pairs"]),
        )
        pair = plan.groupby("group", sort=False).cumcount()
        return plan.iloc[np.argsort(pair.to_numpy(), kind="stable")].reset_index(drop=True)

    def edit(self, plan: pd.DataFrame, how: Procedure) -> np.ndarray:
        """Make the edits of a plan by a procedure."""
        critic, settings = replace(self.networks.critic, precision=how.precision), self.config.synthesis
        self.networks.prior.denoiser.precision = how.precision
        prior = self.networks.prior.for_inference()
        grid = time_grid(prior.n_timesteps, strength=settings.strength, n_steps=how.n_steps)
        path = {"alpha_bar": prior.alpha_bar, "grid": grid}
        goal = goals(plan, torch.as_tensor(self.stimuli.z), self.latents.groups)
        weight = torch.full((len(plan), len(self.latents.groups)), settings.preservation)
        weight[torch.arange(len(plan)), [self.latents.groups.index(name) for name in plan["group"]]] = 1.0

        def guided(
            x: torch.Tensor, misses: torch.Tensor, goal: torch.Tensor, weight: torch.Tensor
        ) -> torch.Tensor:
            length = torch.full((len(x),), settings.guidance)
            guidance = CriticGuidance(critic, goal, weight, length, prior.n_timesteps)
            denoise = GuidedDenoiser(prior.eps_and_x0_hat, prior.alpha_bar, (guidance,))
            return sample(denoise, x, **path, misses=misses if how.recorded else None)

        def inverted(x0: torch.Tensor) -> torch.Tensor:
            if not how.recorded:
                return invert(prior.eps_and_x0_hat, x0, **path, n_corrections=0)[:, None]
            found = record(prior.eps_and_x0_hat, x0, **path)
            return torch.cat([found.start[:, None], found.misses], dim=1)

        source = plan["source"].to_numpy()
        sources, which = np.unique(source, return_inverse=True) if how.shared else (source, ...)
        found = in_batches(inverted, prior.encode(self.images[sources]), size=how.batch_size)[which]
        edited = in_batches(guided, found[:, 0], found[:, 1:], goal, weight, size=how.batch_size)
        return prior.decode(edited)

    def made(self, plan: pd.DataFrame, settings: SynthesisConfig) -> xr.Dataset:
        """Make the edits of a plan as a run does."""
        self.networks.prior.denoiser.precision = OURS.precision
        return synthesize(plan, self.stimuli, self.networks, config=settings, seed=self.config.seed)


def seconds_an_edit(plan: pd.DataFrame, edit: Callable[[], object], *, repeats: int) -> float:
    """Time edits by the CPU: the least of some repeats."""
    found = []
    for _ in range(repeats):
        start = time.process_time()
        edit()
        found.append(time.process_time() - start)
    return min(found) / len(plan)


def critic_alone(settings: SynthesisConfig) -> SynthesisConfig:
    """Return settings of edits that the critic guides alone, at every step."""
    return replace(settings, source_guidance=0.0, guidance_scale=0.0, critic_stop=1.0)


def switched(how: Procedure, other: Procedure, factor: str) -> Procedure:
    """Return a procedure with one factor of another."""
    return replace(how, **{name: getattr(other, name) for name in FACTORS[factor]})


def speed(bench: Bench, ours: Procedure, published: Procedure, *, repeats: int) -> None:
    """Print edits per second of both procedures and with each factor switched."""
    few = bench.plan(replace(bench.config.synthesis, n_pairs=1))
    demo = replace(bench.config.synthesis, n_steps=ours.n_steps, batch_size=ours.batch_size)
    same = np.array_equal(bench.edit(few, ours), bench.made(few, critic_alone(demo))["image"].values)
    print(f"what is timed as ours makes the edits of a run, bit for bit: {same}", flush=True)

    def planned(how: Procedure) -> pd.DataFrame:
        n_groups = len(bench.latents.groups)
        n_pairs = how.batch_size if how.shared else how.batch_size // n_groups
        return bench.plan(replace(demo, n_pairs=1 if how.batch_size == 1 else n_pairs))

    def measure(how: Procedure) -> float:
        plan = planned(how)
        return seconds_an_edit(plan, lambda: bench.edit(plan, how), repeats=repeats)

    base, best = measure(published), measure(ours)
    plan = planned(ours)
    told = seconds_an_edit(plan, lambda: bench.made(plan, demo), repeats=repeats)
    print(f"\n{'published procedure':32s}{base:10.3f} s per edit{1 / base:10.3f} edits/s")
    print(f"{'ours':32s}{best:10.3f} s per edit{1 / best:10.3f} edits/s    ratio {base / best:.1f}")
    what = "ours, as the demo guides"
    print(f"{what:32s}{told:10.3f} s per edit{1 / told:10.3f} edits/s    ratio {base / told:.1f}\n")
    print(f"{'factor':24s}{'published with it':>20s}{'ours without it':>20s}")
    for factor in FACTORS:
        gain = base / measure(switched(published, ours, factor))
        loss = measure(switched(ours, published, factor)) / best
        print(f"{factor:24s}{gain:>13.2f} faster{loss:>13.2f} slower", flush=True)


def quality(bench: Bench, n_steps: Sequence[int], guidance: str) -> None:
    """Print the selectivity of our edits at each number of steps, by each reader."""
    context, stimulus = Context(bench.config), bench.session["stimulus"].values.tolist()
    demo, latents = bench.config.synthesis, bench.latents
    labelled = [name for name, labels in latents.groups.supervised_by.items() if labels]
    readers, first = None, None
    print(f"\n{demo.n_pairs} held-out pairs per group, guidance: {guidance}")
    heads = ("steps", "reader", "SI_t", "SI_strict", "SI_t lost", "SI_strict lost")
    print("".join(f"{head:>16s}" for head in heads))
    for n in n_steps:
        settings = replace(demo if guidance == "demo" else critic_alone(demo), n_steps=n)
        plan = bench.plan(settings)
        plan = plan[plan["group"].isin(labelled)].reset_index(drop=True)
        edits = SessionEdits(bench.images, bench.made(plan, settings))
        readers = readers or fit_edit_readers(latents, edits, context)
        scoring = edit_scoring(stimulus, latents, edits, readers, context=context)
        found = edit_selectivity(latents, edits, scoring)
        indices = found[["si_transfer", "si_strict"]].sel({"method": "pmi"})
        first = indices if first is None else first
        for reader in found["reader"].values:
            transfer, strict = (float(indices[name].sel(reader=reader)) for name in indices)
            lost = [float((first[name] - indices[name]).sel(reader=reader)) for name in indices]
            row = "".join(f"{v:16.3f}" for v in (transfer, strict, *lost))
            print(f"{n:16d}{reader:>16s}{row}", flush=True)


def settings_of(seed: int, pairs: int, *, tiny: bool) -> Config:
    """Return the demo's settings, for edits of pairs by the method proper."""
    config = demo_config(seed)
    only_pairs = {"n_pairs": pairs, "methods": ("pmi",), "n_dose": 0, "n_traversal": 0, "n_samples": 0}
    edits = replace(config.synthesis, **only_pairs)
    evidence = replace(config.evidence, n_permutations=19, n_bootstrap=19)
    config = replace(config, synthesis=edits, evidence=evidence)
    if not tiny:
        return config
    return replace(
        config,
        latents=replace(config.latents, n_steps=50),
        prior=replace(config.prior, n_steps=2),
        critic=replace(config.critic, n_steps=5, batch_size=16),
        synthesis=replace(edits, n_pairs=min(pairs, 10), batch_size=4),
        evidence=replace(evidence, reader_steps=5, min_reader_score=-1e9),
    )


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--pairs", type=int, default=64, help="held-out pairs per group that are read")
    parser.add_argument("--repeats", type=int, default=2, help="of which the fastest counts")
    parser.add_argument("--only", choices=("speed", "quality"))
    parser.add_argument("--guidance", choices=GUIDANCE, help="of the edits whose quality is read; else both")
    parser.add_argument("--tiny", action="store_true", help="a minute's run that shows that all of it works")
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    torch.use_deterministic_algorithms(True, warn_only=True)
    config = settings_of(given.seed, given.pairs, tiny=given.tiny)
    ours, published, size = OURS, PUBLISHED, FULL
    if given.tiny:
        ours, published = replace(OURS, n_steps=2, batch_size=4), replace(PUBLISHED, n_steps=4)
        size = {"n_stimuli": 200, "n_repeats": 2}
    bench = Bench.make(config, **size)
    print(f"torch {torch.__version__}, {given.threads} threads, seed {given.seed}", flush=True)
    if given.only != "quality":
        speed(bench, ours, published, repeats=given.repeats)
    if given.only != "speed":
        for guidance in [given.guidance] if given.guidance else GUIDANCE:
            quality(bench, (published.n_steps, ours.n_steps), guidance)


if __name__ == "__main__":
    main()
