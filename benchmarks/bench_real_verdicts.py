"""The verdicts on a real V4 session, over seeds that also draw the split.

    OMP_NUM_THREADS=1 python benchmarks/bench_real_verdicts.py --data ../shared/data --seeds 0 1 2 3 4

640 images of 8 objects, 50 units. Groups: `object`, two free ones. Latents alone: no image is made; low-level
features are those of the images that were shown.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np

from nwb_migvis import Config, read_session
from nwb_migvis.analysis import Study
from nwb_migvis.config import EvidenceConfig, GroupConfig, LatentsConfig

GROUPS = (
    GroupConfig(name="object", size=6, labels=("object",)),
    GroupConfig(name="free_1", size=6),
    GroupConfig(name="free_2", size=6),
)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2, 3, 4])
    options = parser.parse_args()
    arrays = np.load(options.data / "v4_hvm" / "session_210325.npz")
    session = read_session(options.data / "nwb_dicarlo_layout" / "session_with_images.nwb")
    rows = [int(name.removeprefix("im").removesuffix(".png")) for name in session["stimulus"].values]
    session = session.assign_coords(object=("stimulus", arrays["object"][rows].astype(object)))
    for seed in options.seeds:
        config = Config(
            seed=seed,
            n_threads=1,
            latents=LatentsConfig(groups=GROUPS),
            evidence=EvidenceConfig(stability_seeds=2),
        )
        study = Study(session, config)
        study.fit_latents()
        study.measure()
        results = study.results
        for name, row in results.groups.iterrows():
            parts = "  ".join(
                f"{part} {row[part]:.3f} [{row[f'{part}_low']:.3f}, {row[f'{part}_high']:.3f}] "
                f"p {row[f'{part}_p']:.3f}"
                for part in ("repeatable", "decoded", "beyond_labels", "stable")
            )
            print(f"{seed} {name}: {row['verdict']}\n    {parts}", flush=True)
        for note in results.provenance["notes"]:
            print(f"    note: {note}")


if __name__ == "__main__":
    main()
