"""Seconds of the stage "evidence" of the demo's size, alone and beside busy processes.

    python benchmarks/bench_evidence_stage.py session.nwb --busy 0 2 0 2

The session is the demo's (`nwb-migvis simulate`). Networks and edits are those of the demo with few steps:
the stage reads as many images. Ratios are to the first count of processes.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

from busy import busy

from nwb_migvis import read_session
from nwb_migvis.analysis import Study
from nwb_migvis.demo import demo_config


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("session", type=Path)
    parser.add_argument("--busy", type=int, nargs="+", default=[0, 2, 0, 2])
    options = parser.parse_args()
    config = demo_config()
    config = replace(
        config,
        n_threads=2,
        latents=replace(config.latents, n_steps=300),
        prior=replace(config.prior, n_steps=2),
        critic=replace(config.critic, n_steps=2),
        synthesis=replace(config.synthesis, n_steps=4),
        evidence=replace(config.evidence, stability_seeds=0),
    )
    study = Study(read_session(options.session), config)
    study.fit_latents()
    study.train_prior()
    study.train_critic()
    study.edit()
    first = None
    for n_busy in options.busy:
        with busy(n_busy):
            before = study.seconds.get("evidence", 0.0)
            study.measure()
            seconds = study.seconds["evidence"] - before
        first = first or seconds
        print(f"{n_busy} busy processes: {seconds:.1f} s, {seconds / first:.2f}", flush=True)


if __name__ == "__main__":
    main()
