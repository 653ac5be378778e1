"""Settings of runs that take seconds."""

from __future__ import annotations

from typing import Any

from nwb_migvis.config import (
    Config,
    CriticConfig,
    EvidenceConfig,
    LatentsConfig,
    PriorConfig,
    SynthesisConfig,
)
from nwb_migvis.config.checking import merge

_TINY = Config(
    n_threads=1,
    latents=LatentsConfig(n_steps=60, n_hidden=32),
    prior=PriorConfig(size_px=16, channels=(8, 16), n_steps=4, batch_size=8, autoencoder_steps=4),
    critic=CriticConfig(features="trained", channels=(8, 8), n_steps=10, batch_size=16, n_negatives=16),
    synthesis=SynthesisConfig(
        n_steps=3, n_pairs=10, n_dose=2, n_traversal=2, dose=(0.5, 0.9), inversion_tolerance=0.05
    ),
    evidence=EvidenceConfig(
        n_permutations=19,
        n_bootstrap=19,
        reader_steps=5,
        readers=("conv", "kernel"),
        encoder="edges",
        min_reader_score=-1e9,
        stability_seeds=0,
        information_draws=1,
    ),
)


def tiny_config(**changes: Any) -> Config:
    """Return the settings of a run that goes through every step in seconds, and learns nothing.

    Every label counts as readable (`evidence.min_reader_score` is low), so that the tables of evidence are
    filled.

    Parameters
    ----------
    **changes
        Fields of `Config`: a value, or a mapping of the settings to change.

    Raises
    ------
    MigvisError
        For an unknown setting, or a value that does not fit.

    Examples
    --------
    >>> config = tiny_config(seed=1, latents={"n_steps": 5})
    >>> config.seed, config.latents.n_steps, config.latents.n_hidden
    (1, 5, 32)
    """
    return merge(_TINY, changes, where="tiny_config")
