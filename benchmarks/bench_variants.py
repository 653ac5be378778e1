"""The preset `quick` on simulated sessions that differ from the usual ones (`nwb_migvis.simulate.variants`).

    OMP_NUM_THREADS=1 python benchmarks/bench_variants.py FOLDER --use choose --photographs DIR --pictures DIR
    OMP_NUM_THREADS=1 python benchmarks/bench_variants.py FOLDER --variants compounds-few [--config FILE.toml]

Settings are chosen on the variants of the use `choose` alone. Per variant and reader: SI_t and SI_strict of
guided edits; the largest shift of contrast and of edge energy over groups (standard deviations of real
images); and the Frechet distance of edits from real images, times that between halves of real images.

A variant that needs a folder which is not given is named and omitted. What is in FOLDER already is read.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path

import numpy as np

from nwb_migvis import Config, Results, read_results, run
from nwb_migvis.simulate.variants import VARIANTS, variant

COLUMNS = ("SI_t", "SI_strict", "contrast", "edge energy", "Frechet")


def results_of(folder: Path, name: str, asked: argparse.Namespace) -> Results:
    """Read a variant's results, or make them."""
    folder.mkdir(parents=True, exist_ok=True)
    session, out = folder / "session.nwb", folder / "session_migvis.nwb"
    if out.exists():
        return read_results(out)
    if not session.exists():
        small = {"n_stimuli": asked.stimuli} if asked.stimuli else {}
        variant(name).simulate(session, seed=asked.seed, folders=given_folders(asked), **small)
    config = Config.from_toml(asked.config) if asked.config else Config.from_preset("quick")
    return run(session, out=out, config=config)


def given_folders(asked: argparse.Namespace) -> dict[str, Path]:
    folders = {"photographs": asked.photographs, "pictures": asked.pictures}
    return {name: folder for name, folder in folders.items() if folder is not None}


def side_effect(results: Results, what: str) -> float:
    """Return the largest change of a property over the groups, in size, with its sign."""
    table = results.provenance["appearance"]["side_effects"]
    changes = [cells["pmi"][what]["change"] for cells in table.values() if "pmi" in cells]
    known = [change for change in changes if change is not None]
    return max(known, key=abs) if known else float("nan")


def scores(results: Results, reader: str) -> list[float]:
    """Return the values of `COLUMNS`."""
    of = results.selectivity.sel({"method": "pmi", "reader": reader})
    frechet = results.provenance["appearance"]["frechet"].get(reader, {}).get("pmi", {})
    ratio = frechet["distance"] / frechet["real"] if frechet.get("real") else float("nan")
    shifts = [side_effect(results, what) for what in ("contrast", "edge_energy")]
    return [float(of["si_transfer"]), float(of["si_strict"]), *shifts, ratio]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--use", choices=["choose", "report"])
    parser.add_argument("--variants", nargs="+", default=None, choices=list(VARIANTS))
    parser.add_argument("--photographs", type=Path)
    parser.add_argument("--pictures", type=Path)
    parser.add_argument("--config", type=Path, help="settings in place of the preset quick")
    parser.add_argument("--stimuli", type=int, help="fewer images, for a trial")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args()
    names = asked.variants or [name for name, own in VARIANTS.items() if asked.use in (None, own.use)]
    print(f"| variant | reader | {' | '.join(COLUMNS)} | minutes |")
    print("|---" * (len(COLUMNS) + 3) + "|")
    rows: dict[str, list[list[float]]] = {}
    for name in names:
        lacking = set(variant(name).needs) - set(given_folders(asked))
        if lacking:
            print(f"| {name} | omitted: needs --{', --'.join(sorted(lacking))} |")
            continue
        start = time.monotonic()
        results = results_of(asked.folder / name, name, asked)
        minutes = (time.monotonic() - start) / 60
        for reader in results.selectivity["reader"].values.tolist():
            values = scores(results, reader)
            rows.setdefault(reader, []).append(values)
            cells = " | ".join(f"{value:.2f}" for value in values)
            print(f"| {name} | {reader} | {cells} | {minutes:.1f} |", flush=True)
    for reader, values in rows.items():
        mean = " | ".join(f"{value:.2f}" for value in np.nanmean(values, axis=0))
        print(f"| mean of {len(values)} | {reader} | {mean} | |")


if __name__ == "__main__":
    main()
