"""Are the samples of the shipped prior clean? A reader's confidence in them, beside that in real renders.

    python benchmarks/bench_prior.py [PRIOR ...] [--threads N]

PRIOR is a shipped prior's name or a folder in diffusers' format. Readers of the category learn from 5,500
renders that trained no prior; confidence is the probability that they give the likeliest category, on average
over 256 unguided samples (50 steps) and over as many renders that they have not seen.
"""

from __future__ import annotations

import argparse

import numpy as np
import torch

from nwb_migvis.evidence.readers.protocol import Examples, fit_readers
from nwb_migvis.labels import as_labels
from nwb_migvis.simulate import draw_factors, render_stimuli
from nwb_migvis.synthesis.prior.folder import open_prior
from nwb_migvis.synthesis.prior.samples import sample_prior

SEED = 4242
N_TRAIN, N_VALIDATION, N_SAMPLES = 5500, 500, 256


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("prior", nargs="*", default=["renders"])
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    given = parser.parse_args()
    torch.set_num_threads(given.threads)
    parts = np.cumsum([N_TRAIN, N_VALIDATION])
    factors = draw_factors(int(parts[-1]) + N_SAMPLES, seed=SEED)
    train, validation, real = np.split(render_stimuli(factors, seed=SEED), parts)
    category = np.split(factors["category"].to_numpy(object), parts)
    readers = fit_readers(
        Examples(train, as_labels({"category": category[0]})),
        Examples(validation, as_labels({"category": category[1]})),
        seed=0,
        n_steps=400,
    )
    shown = {"real renders": real} | {
        name: sample_prior(open_prior(name), N_SAMPLES, n_steps=50, seed=1, size=32) for name in given.prior
    }
    for reader in readers:
        confidence = {name: reader.read(images)["category"].max(1).mean() for name, images in shown.items()}
        for name, value in confidence.items():
            print(f"{reader.kind:8s}{value:6.3f}{value / confidence['real renders']:8.3f} of real   {name}")


if __name__ == "__main__":
    main()
