"""What a report costs: seconds, beside those of reading its file, and bytes.

    python benchmarks/bench_report.py

Results of 200 edits, in gray and in colour, small and large; and of 1,000 groups with long names.
"""

from __future__ import annotations

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from nwb_migvis.report import write_report
from nwb_migvis.results import Results
from nwb_migvis.store import read_results, write_results
from nwb_migvis.testing import mock_results, write_tiny_session

N_EDITS, N_GROUPS = 200, 1000


def with_edits(size_px: int, *, channels: bool) -> Results:
    """Return results of 200 edits: pairs at five strengths, controls and traversals of each group."""
    results = mock_results(channels=channels)
    old = results.synthesized
    kinds = [("dose", "pmi", s, 0.0) for s in (0.3, 0.5, 0.65, 0.8, 0.95)]
    kinds += [("main", method, 0.95, 0.0) for method in ("pmi", "none", "shuffled")]
    kinds += [("traversal", "pmi", 0.95, gamma) for gamma in (-1.0, 1.0)]
    names, groups = results.latents["stimulus"].values.tolist(), list(results.groups.index)
    rows = [
        {
            "group": group,
            "role": role,
            "method": method,
            "strength": strength,
            "gamma": gamma,
            "source": names[k % len(names)],
            "target": "" if gamma else names[(k + 1 + k // len(names)) % len(names)],
            "direction": "ones" if gamma else "",
        }
        for k in range(7)
        for group in groups
        for role, method, strength, gamma in kinds
    ]
    table = pd.DataFrame(rows[:N_EDITS])
    rng = np.random.default_rng(0)
    shape = (size_px, size_px, 3) if channels else (size_px, size_px)
    edits = old.isel(edit=np.zeros(N_EDITS, int)).drop_vars("image")
    for name in table:
        edits[name] = ("edit", table[name].to_numpy(object if table[name].dtype.kind in "OUT" else None))
    pixels = rng.integers(0, 256, (N_EDITS, *shape), dtype=np.uint8)
    return replace(results, synthesized=edits.assign(image=(old["image"].dims, pixels)))


def with_groups() -> Results:
    """Return results of 1,000 groups whose names are long."""
    few = mock_results(without=["edits", "labels"])
    names = [f"group {i} {'long ' * 40}" for i in range(N_GROUPS)]
    groups = few.groups.iloc[np.zeros(N_GROUPS, int)].set_axis(pd.Index(names, name="group"))
    groups = groups.assign(first=np.arange(N_GROUPS), size=1, supervised_by="")
    latents = few.latents.isel(latent=np.zeros(N_GROUPS, int)).assign_coords(group=("latent", names))
    return replace(few, groups=groups, latents=latents, units=few.units.isel(latent=np.zeros(N_GROUPS, int)))


def main() -> None:
    cases = {
        f"{size} px, {'colour' if channels else 'gray'}": with_edits(size, channels=channels)
        for size in (32, 128, 256)
        for channels in (False, True)
    }
    cases["1,000 groups"] = with_groups()
    print(f"{'case':16} {'read s':>8} {'report s':>9} {'MB':>6}")
    with tempfile.TemporaryDirectory() as folder:
        session = write_tiny_session(Path(folder) / "s.nwb", n_stimuli=20, n_repeats=2)
        for i, (name, results) in enumerate(cases.items()):
            path = write_results(results, source=session, out=Path(folder) / f"{i}.nwb")
            start = time.perf_counter()
            read_results(path)
            between = time.perf_counter()
            page = write_report(path)
            took = time.perf_counter() - between
            print(f"{name:16} {between - start:8.2f} {took:9.2f} {page.stat().st_size / 1e6:6.2f}")


if __name__ == "__main__":
    main()
