"""Read edits through the planted tuning of a simulated session: which units' rates do they move?

    nwb-migvis demo --out DIR
    python benchmarks/bench_tuning.py DIR/session_migvis.nwb --seeds 0

Readers that took no part in editing, trained on fresh renders of the same kind (shape is subtle: it takes
more of them than a session shows), read pose, category and shape off sources, targets and edits; the planted
tuning turns what was read into rates. For the edits of each group and the units of each planted kind:
transfer (to the target's rates) and retention (of the source's), by the joint regression that labels are
measured with, one column per unit; the last column has the two shape parameters themselves, as they were
read. An edit of pose should move units tuned to pose and no others. `rendered anew` are objects drawn with
the target's pose, category or shape in place of the source's: what flawless edits score.

Several files, each of a session of its own seed, are read by the same readers.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

from nwb_migvis import read_results, read_session
from nwb_migvis.evidence.readers.protocol import Examples, Reader, fit_readers
from nwb_migvis.evidence.transfer import Draws, numeric_transfer
from nwb_migvis.labels import as_labels, select
from nwb_migvis.simulate.ground_truth import read_ground_truth
from nwb_migvis.simulate.population import Population, draw_population
from nwb_migvis.simulate.render import FACTORS, POSE, SHAPE, draw_factors, render_stimuli

SEED = 800_000_000
"""Of the renders that readers learn from: nobody's session, nor those that trained the shipped prior."""

N_STEPS = 3000
"""Training steps of the network that reads."""

SWAPPED = {"pose": POSE, "category": ("category",), "content": SHAPE}
KINDS = tuple(SWAPPED)
COLUMNS = (*KINDS, "shape")


def planted(path: Path, seed: int) -> tuple[pd.DataFrame, Population]:
    """Return the factors of the stimuli and the population, checked against the rates in the file."""
    truth = read_ground_truth(path)
    kind, n = np.unique(truth["planted_group"].values, return_counts=True)
    population = draw_population(dict(zip(kind.tolist(), n.tolist(), strict=True)), seed=seed)
    factors = draw_factors(truth.sizes["stimulus"], seed=seed)
    np.testing.assert_allclose(
        population.rate_hz(factors), truth["rate_hz"], rtol=1e-5, err_msg="the session has another seed"
    )
    return factors, population


def read_factors(reader: Reader, images: np.ndarray) -> pd.DataFrame:
    """Return what a reader takes the factors of images to be; for a category the likeliest."""
    found = {}
    classes = {code.name: code.classes for code in reader.codes if code.classes}
    for name, values in reader.read(images).items():
        found[name] = np.asarray(classes[name])[values.argmax(1)] if values.ndim > 1 else values
    return pd.DataFrame(found)[list(FACTORS)]


def rendered(factors: pd.DataFrame, source: np.ndarray, target: np.ndarray, kind: str) -> np.ndarray:
    """Draw the sources' objects with the targets' pose, category or shape."""
    swapped = factors.iloc[source].reset_index(drop=True)
    for name in SWAPPED[kind]:
        swapped[name] = factors[name].to_numpy()[target]
    return render_stimuli(swapped, size_px=32, seed=10**6)


def row(
    population: Population, reader: Reader, edited: np.ndarray, source: np.ndarray, target: np.ndarray
) -> str:
    """Return transfer and retention of the rates of the units of each kind, and of the shape parameters."""
    read = [read_factors(reader, shown) for shown in (edited, target, source)]
    rates = [population.rate_hz(factors) for factors in read]
    measured = {}
    for kind in KINDS:
        mine = population.planted_group == kind
        if mine.any():
            measured[kind] = [rate[:, mine] / rates[1][:, mine].std(0) for rate in rates]
    measured["shape"] = [factors[list(SHAPE)].to_numpy() for factors in read]
    cells = []
    for kind in COLUMNS:
        if kind not in measured:
            cells.append(f"{'no such units':24s}")
            continue
        edit, goal, own = measured[kind]
        found = numeric_transfer(edit, goal, source=own, draws=Draws(0))
        cells.append(f"{found.transfer:6.2f} / {found.retention:5.2f} (p {found.p_value:.3f})")
    return "   ".join(cells)


def readers_of_factors(n_renders: int) -> list[Reader]:
    """Train readers of all factors, shape included, on renders with a tenth of them for validation."""
    factors = draw_factors(n_renders, seed=SEED)
    images = render_stimuli(factors, seed=SEED)
    labels = as_labels({name: factors[name].to_numpy() for name in FACTORS})
    train, validation = (
        Examples(images[rows], select(labels, rows))
        for rows in np.split(np.arange(n_renders), [n_renders * 9 // 10])
    )
    return fit_readers(train, validation, seed=SEED, n_steps=N_STEPS)


def print_table(path: Path, seed: int, readers: list[Reader]) -> None:
    """Print one table for each reader."""
    factors, population = planted(path, seed)
    results, session = read_results(path), read_session(path)
    images = session["image"].values
    edits = results.synthesized
    edits = edits.isel(edit=np.flatnonzero(edits["role"].values == "main"))
    index = {name: i for i, name in enumerate(session["stimulus"].values.tolist())}
    source, target = (np.array([index[name] for name in edits[end].values]) for end in ("source", "target"))
    for reader in readers:
        print(
            f"seed {seed}, reader {reader.kind}: transfer / retention of rates of units of each planted kind"
        )
        print(" " * 24 + "".join(f"{kind:26s}" for kind in COLUMNS))
        groups, methods = edits["group"].values, edits["method"].values
        for group in dict.fromkeys(groups.tolist()):
            for method in ("pmi", "shuffled"):
                chosen = (groups == group) & (methods == method)
                if chosen.any():
                    shown = (edits["image"].values[chosen], images[source[chosen]], images[target[chosen]])
                    print(f"{group:12s}{method:10s}{row(population, reader, *shown)}")
        pairs = (groups == group) & (methods == "pmi")  # of the last group; all groups have the same
        real = images[source[pairs]], images[target[pairs]]
        for kind in KINDS:
            made = rendered(factors, source[pairs], target[pairs], kind)
            print(f"rendered anew {kind:8s}{row(population, reader, made, real[0], real[1])}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawTextHelpFormatter)
    parser.add_argument("files", type=Path, nargs="+", help="simulated sessions with results")
    parser.add_argument("--seeds", type=int, nargs="+", default=[0], help="of the simulations, in order")
    parser.add_argument("--renders", type=int, default=20_000, help="that the readers learn from")
    asked = parser.parse_args()
    if len(asked.files) != len(asked.seeds):
        parser.error(
            f"found {len(asked.files)} files and {len(asked.seeds)} seeds; expected a seed for each file"
        )
    readers = readers_of_factors(asked.renders)
    for path, seed in zip(asked.files, asked.seeds, strict=True):
        print_table(path, seed, readers)


if __name__ == "__main__":
    main()
