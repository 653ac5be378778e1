"""The next experiment on simulated units that respond to pixels: what `compare` finds, against what is true.

    OMP_NUM_THREADS=1 python benchmarks/bench_loop.py FOLDER --seeds 0 1 2
    OMP_NUM_THREADS=1 python benchmarks/bench_loop.py FOLDER --seeds 0 1 2 --guided

Each seed simulates a session of units that respond to pixels. Its edits are flawless (drawn by the simulator)
or, with --guided, those of a run with the preset `quick`. The same units see them in a next session. With
--blind no unit carries pose, which is a label and has a group all the same.

- encoder: correlation of predicted with true rates of held-out images, over what the same features allow when
  the encoding model is fitted to true rates without noise; median over units.
- transfer: what `compare` measures of each planted group, minus the same statistic of true expected counts.
- called: groups that follow their targets at q < 0.05. Planted groups should; those of edits that are not
  towards their targets (`none` and `shuffled`) should not.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from pathlib import Path

import numpy as np
import xarray as xr

from nwb_migvis import Config, compare, export_stimuli, read_results, read_session, run, simulate_session
from nwb_migvis.analysis.latents import average_counts
from nwb_migvis.evidence.encoding import fit_encoding_model, training_sample
from nwb_migvis.evidence.reliability import column_correlation
from nwb_migvis.networks.describing import open_describer
from nwb_migvis.results.measured import MeasuredEdits
from nwb_migvis.simulate import read_ground_truth, simulate_next_session
from nwb_migvis.testing import write_flawless_run

UNITS = {"pose": 45, "category": 40, "content": 35, "mixed": 40}
BLIND = {"category": 60, "content": 60}
PLANTED = ("pose", "category")
WINDOW_S = 0.1


def make(folder: Path, seed: int, asked: argparse.Namespace) -> tuple[Path, Path, Path]:
    """Simulate a session, make its run, and simulate the session in which its pictures are shown."""
    folder.mkdir(parents=True, exist_ok=True)
    first, done, later = (folder / f"{name}.nwb" for name in ("first", "run", "next"))
    if later.exists():
        return first, done, later
    sizes = {"n_stimuli": asked.stimuli, "n_repeats": asked.repeats, "size_px": asked.size}
    how = {"population": "pixels", "features": asked.features}
    units = BLIND if asked.blind else UNITS
    simulate_session(first, seed=seed, units=units, overwrite=True, **sizes, **how)
    config = replace(Config.from_preset("quick"), seed=seed)
    if asked.guided:
        run(first, out=done, config=config, overwrite=True)
    else:
        config = replace(config, latents=replace(config.latents, n_steps=asked.steps))
        write_flawless_run(first, done, config=config, n_pairs=asked.pairs)
    export_stimuli(done, folder / "pictures")
    simulate_next_session(
        later, folder / "pictures", units_of=first, seed=seed + 10**6, n_repeats=asked.next_repeats
    )
    return first, done, later


def noiseless(later: Path) -> xr.Dataset:
    """Return the next session with expected counts, one presentation of each picture."""
    session, truth = read_session(later), read_ground_truth(later)
    rates = truth["rate_hz"].sel(stimulus=session["stimulus"].values).values
    n = session.sizes["stimulus"]
    return session.isel(presentation=np.arange(n)).assign(
        spike_count=(("presentation", "unit"), rates * WINDOW_S),
        stimulus_index=("presentation", np.arange(n)),
    )


def encoder_share(first: Path, done: Path, seed: int) -> tuple[float, float]:
    """Return the median correlation of predicted and true rates, and what fits to true rates reach."""
    session, truth = read_session(first), read_ground_truth(first)["rate_hz"].values * WINDOW_S
    split = read_results(done).latents["split"].values
    train, validation, test = (split == part for part in ("train", "validation", "test"))
    features = open_describer("efficientnet-lite0")(session["image"].values)
    counts = average_counts(session["spike_count"].values, session["stimulus_index"].values, len(split))
    used = training_sample(train, seed=seed)
    reached = []
    for goal in (counts, truth):
        model = fit_encoding_model(features, goal, train=used, validation=validation)
        reached.append(float(np.median(column_correlation(model.counts(features)[test], truth[test]))))
    return reached[0], reached[1]


def calls(found: MeasuredEdits) -> dict[str, list[str]]:
    """Return the groups that are called, by method."""
    called = {}
    for method in dict.fromkeys(found.cells["method"]):
        own = found.own(method).loc[list(PLANTED)]
        called[method] = own.index[(own["q_value"] < 0.05) & (own["transfer_low"] > 0)].tolist()
    return called


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--stimuli", type=int, default=1500)
    parser.add_argument("--repeats", type=int, default=8)
    parser.add_argument("--next-repeats", type=int, default=10)
    parser.add_argument("--size", type=int, default=32)
    parser.add_argument("--pairs", type=int, default=64)
    parser.add_argument("--steps", type=int, default=1000, help="of the latent model, with flawless edits")
    parser.add_argument("--features", default="random")
    parser.add_argument("--guided", action="store_true")
    parser.add_argument("--blind", action="store_true")
    parser.add_argument("--no-encoder", action="store_true")
    asked = parser.parse_args()
    errors, called = [], []
    for seed in asked.seeds:
        first, done, later = make(asked.folder / str(seed), seed, asked)
        found, known = compare(done, later), compare(done, noiseless(later))
        own, true = found.own().loc[list(PLANTED)], known.own().loc[list(PLANTED)]
        errors.append((own["transfer"] - true["transfer"]).to_numpy())
        called.append(calls(found))
        cells = ", ".join(
            f"{g} {own['transfer'][g]:.2f} (true {true['transfer'][g]:.2f}) / {own['retention'][g]:.2f}"
            for g in PLANTED
        )
        print(f"seed {seed}: {cells}; called: {called[-1]}", flush=True)
        if not asked.no_encoder:
            reached, allowed = encoder_share(first, done, seed)
            print(f"  encoder {reached:.2f} of {allowed:.2f}: {reached / allowed:.2f}", flush=True)
    print(
        f"transfer minus true: mean {np.mean(errors):+.3f}, largest {np.abs(errors).max():.3f}; within 0.1: "
        f"{int((np.abs(errors) <= 0.1).sum())} of {np.size(errors)}"
    )
    for method in called[0]:
        counts = (f"{group} {sum(group in own[method] for own in called)}" for group in PLANTED)
        print(f"called of {len(called)} by {method}: {', '.join(counts)}")


if __name__ == "__main__":
    main()
