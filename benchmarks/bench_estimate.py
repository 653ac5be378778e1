"""How near the estimate of `nwb-migvis inspect` comes to what a run takes.

    python benchmarks/bench_estimate.py [--scale 0.05]

Runs on a simulated session with a share of the steps of the preset `quick`, and prints the estimate beside
what each stage took. Takes minutes; nothing else should use the machine.
"""

from __future__ import annotations

import argparse
import tempfile
from dataclasses import replace
from pathlib import Path

from nwb_migvis import run
from nwb_migvis.analysis.rehearsal import Sizes, estimate_run
from nwb_migvis.config import Config
from nwb_migvis.read import inspect_session
from nwb_migvis.simulate import simulate_session


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--scale", type=float, default=0.05, help="Share of the steps of the preset.")
    parser.add_argument("--n-stimuli", type=int, default=640)
    asked = parser.parse_args()
    quick = Config.from_preset("quick")

    def fewer(n: int) -> int:
        return max(1, round(asked.scale * n))

    config = replace(
        quick,
        latents=replace(quick.latents, n_steps=fewer(quick.latents.n_steps)),
        prior=replace(quick.prior, n_steps=fewer(quick.prior.n_steps)),
        critic=replace(quick.critic, n_steps=fewer(quick.critic.n_steps)),
        synthesis=replace(quick.synthesis, n_pairs=16, n_dose=2, n_traversal=2, n_samples=16),
        evidence=replace(quick.evidence, reader_steps=fewer(quick.evidence.reader_steps)),
    )
    with tempfile.TemporaryDirectory() as folder:
        path = simulate_session(Path(folder) / "s.nwb", n_stimuli=asked.n_stimuli, n_repeats=8)
        estimate = estimate_run(Sizes.of(inspect_session(path)), config)
        results = run(path, config=config)
    took = results.provenance["times"]["seconds"]
    print(f"{'stage':14} {'estimate s':>10} {'took s':>10} {'ratio':>7}")
    for stage, seconds in estimate.seconds.items():
        print(f"{stage:14} {seconds:10.1f} {took[stage]:10.1f} {seconds / took[stage]:7.2f}")
    total, all_took = sum(estimate.seconds.values()), sum(took[stage] for stage in estimate.seconds)
    print(f"{'together':14} {total:10.1f} {all_took:10.1f} {total / all_took:7.2f}")


if __name__ == "__main__":
    main()
