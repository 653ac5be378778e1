"""CPU time of runs of an earlier version and of this one, side by side, with the quality of their edits.

    git worktree add ../earlier 81081b4
    OMP_NUM_THREADS=1 python benchmarks/bench_earlier.py FOLDER --earlier ../earlier --seeds 0 1 2

`quick` is a run of a session of 5,760 renders with a prior of its own, at the size that the earlier version
had for it (32 px); `demo` starts from the prior that comes with the package. Both versions read the same
file, one after the other, in a process of their own. Printed are the ratio of the times, and SI_t and
SI_strict of the edits of both, by this version's readers. What is in FOLDER already is not made again.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

RUN = """
import json, os, sys, warnings
from dataclasses import replace
warnings.simplefilter("ignore")
import nwb_migvis
from nwb_migvis.demo import demo_config
session, out, seed, what, here = sys.argv[1:]
config = demo_config(int(seed), train_prior=what == "quick")
pairs = {"methods": ("pmi", "none", "shuffled")}
config = replace(config, n_threads=1, prior=replace(config.prior, size_px=32),
                 synthesis=replace(config.synthesis, **pairs))
if here == "here":
    evidence = replace(config.evidence, readers=("conv", "kernel"), encoder="none")
    config = replace(config, critic=replace(config.critic, size_px=32), evidence=evidence)
before = sum(os.times()[:4])
nwb_migvis.run(session, out=out, config=config)
open(out + ".json", "w").write(json.dumps(sum(os.times()[:4]) - before))
"""
"""Run by either version: the stages and the evidence that the earlier one has."""


def cpu_s(session: Path, out: Path, *, seed: int, what: str, source: Path, here: bool) -> float:
    """Return the CPU seconds of a run by the version at `source`, made unless it is there."""
    stored = Path(f"{out}.json")
    if not stored.exists():
        environment = {**os.environ, "PYTHONPATH": str(source / "src"), "OMP_NUM_THREADS": "1"}
        arguments = [str(session), str(out), str(seed), what, "here" if here else "earlier"]
        subprocess.run([sys.executable, "-c", RUN, *arguments], check=True, env=environment)
    return float(json.loads(stored.read_text()))


def quality(outs: dict[str, Path]) -> None:
    """Print SI_t and SI_strict of the edits of each file, by the same readers."""
    from nwb_migvis import read_results
    from nwb_migvis.analysis.context import Context
    from nwb_migvis.analysis.edits import SessionEdits
    from nwb_migvis.analysis.judges import open_judges
    from nwb_migvis.analysis.scoring import edit_scoring, edit_selectivity, fit_edit_readers
    from nwb_migvis.read.recorded import small_images
    from nwb_migvis.runs.analysing import checked_weights, run_config, study_of

    path = outs["here"]
    results = read_results(path)
    weights, config = checked_weights(path, results), run_config(path, results)
    study = study_of(path, results, weights=weights, config=config, reading={})
    kinds = ("kernel", "efficientnet-lite0")
    config = replace(config, evidence=replace(config.evidence, readers=kinds))
    session, latents, context = study.sessions[0], study.latents, Context(config)
    images = small_images(session["image"], config.prior.size_px)
    judges = open_judges(config, {"features": "trained", "channels": [1]})
    made = {name: SessionEdits(images, read_results(path).synthesized) for name, path in outs.items()}
    readers = fit_edit_readers(latents, made["here"], context, judges=judges, kinds=kinds)
    for name, edits in made.items():
        stimuli = session["stimulus"].values.tolist()
        scoring = edit_scoring(stimuli, latents, edits, readers, context=context)
        found = edit_selectivity(latents, edits, scoring).sel({"method": "pmi"})
        for reader in found["reader"].values:
            by = found.sel(reader=reader)
            indices = f"SI_t {float(by['si_transfer']):.3f}, SI_strict {float(by['si_strict']):.3f}"
            print(f"  {name:8s} {reader:18s} {indices}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--earlier", type=Path, required=True, help="a working tree of the earlier version")
    parser.add_argument("--runs", nargs="+", choices=("quick", "demo"), default=("quick", "demo"))
    parser.add_argument("--seeds", nargs="+", type=int, default=[0])
    given = parser.parse_args()
    from nwb_migvis import simulate_session

    given.folder.mkdir(parents=True, exist_ok=True)
    versions = {"earlier": given.earlier.resolve(), "here": Path(__file__).resolve().parents[1]}
    for seed in given.seeds:
        session = given.folder / f"session_{seed}.nwb"
        if not session.exists():
            simulate_session(session, seed=seed)
        for what in given.runs:
            outs = {name: given.folder / f"{what}_{seed}_{name}.nwb" for name in versions}
            seconds = {
                name: cpu_s(session, outs[name], seed=seed, what=what, source=source, here=name == "here")
                for name, source in versions.items()
            }
            listed = ", ".join(f"{name} {value:.0f} s of CPU" for name, value in seconds.items())
            print(f"{what}, seed {seed}: {listed}: {seconds['here'] / seconds['earlier']:.2f}", flush=True)
            quality(outs)


if __name__ == "__main__":
    main()
