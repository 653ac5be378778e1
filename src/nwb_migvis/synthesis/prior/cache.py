"""Trained priors kept in a folder, under the digest of all that their weights follow from."""

from __future__ import annotations

import hashlib
import os
import shutil
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
from safetensors import SafetensorError

from nwb_migvis.config import PriorConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.networks.checkpoints import digest_of
from nwb_migvis.networks.ranks import ranks
from nwb_migvis.synthesis.conditions import Conditions
from nwb_migvis.synthesis.prior.autoencoder_training import autoencoder_state
from nwb_migvis.synthesis.prior.folder import open_prior, save_prior
from nwb_migvis.synthesis.prior.model import Prior
from nwb_migvis.synthesis.prior.training import TrainingImages, train_prior, training_digest

_SHA256 = "sha256.txt"


def check_cache(cache: Path) -> None:
    """Make the folder of a cache, or refuse one that cannot be made or written to."""
    try:
        cache.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise MigvisError(f"cache {cache}: {error.strerror}; give another folder") from None
    if not os.access(cache, os.W_OK):
        raise MigvisError(f"cache {cache} cannot be written to; give another folder")


def cached_prior(
    cache: Path,
    images: np.ndarray | TrainingImages,
    *,
    config: PriorConfig,
    seed: int,
    device: str = "cpu",
    start: Prior | None = None,
    conditions: Conditions | None = None,
) -> Prior:
    """Return what `train_prior` returns, to the bit: from the cache where it is there, else trained.

    A prior is kept as a folder that `open_prior` opens, named by `cache_key`. While it is trained, the state
    of training lies beside it, and training that was killed resumes from there. What is kept appears whole or
    not at all: processes that share a cache at worst train the same prior twice.

    Parameters
    ----------
    cache : Path
        An existing folder.
    images, config, seed, device, start, conditions
        As for `train_prior`.

    Raises
    ------
    MigvisError
        If what is kept is damaged, or nothing can be written.
    """
    key = cache_key(images, config=config, seed=seed, device=device, start=start, conditions=conditions)
    entry, checkpoint = cache / key, cache / f"{key}.checkpoint.pt"
    if ranks().as_first(entry.exists()):
        return _open(entry).to(device)
    prior = train_prior(
        images,
        config=config,
        seed=seed,
        device=device,
        start=start,
        conditions=conditions,
        checkpoint=checkpoint,
    )
    if ranks().is_first:
        _keep(prior, entry)
        for state in (checkpoint, autoencoder_state(checkpoint)):
            state.unlink(missing_ok=True)
    return prior


def cache_key(
    images: np.ndarray | TrainingImages,
    *,
    config: PriorConfig,
    seed: int,
    device: str,
    start: Prior | None,
    conditions: Conditions | None,
) -> str:
    """Return the digest of images, settings, seed, start, conditions, kind of device, threads and versions.

    Threads and versions are part of it because the last bits of the weights depend on them, and with them
    everything that a run writes.
    """
    machine = {
        "device": torch.device(device).type,
        "versions": {package: version(package) for package in ("nwb-migvis", "torch", "diffusers")},
    }
    training = training_digest(images, config, seed=seed, start=start, conditions=conditions)
    return digest_of(training, machine)


def _open(entry: Path) -> Prior:
    """Open a prior that was kept, and check that it has not changed."""
    try:
        prior, expected = open_prior(str(entry)), (entry / _SHA256).read_text(encoding="ascii").strip()
    except (MigvisError, OSError, ValueError) as error:
        raise MigvisError(
            f"{entry} is damaged; remove that folder to train the prior anew ({error})"
        ) from None
    digest = hashlib.sha256(prior.to_bytes()).hexdigest()
    if digest != expected:
        raise MigvisError(
            f"{entry} is damaged: its prior has the sha256 {digest[:12]}..., not {expected[:12]}... as "
            "when it was kept; remove that folder to train it anew"
        )
    return prior


def _keep(prior: Prior, entry: Path) -> None:
    """Write a prior under a name of its own, then give it its place, unless another process has."""
    temporary = None
    try:
        temporary = Path(tempfile.mkdtemp(prefix=".writing-", dir=entry.parent))
        save_prior(prior, temporary)
        (temporary / _SHA256).write_text(hashlib.sha256(prior.to_bytes()).hexdigest(), encoding="ascii")
        temporary.chmod(0o755)
        temporary.rename(entry)
    except (OSError, SafetensorError) as error:
        if not entry.exists():
            raise MigvisError(
                f"cache {entry.parent} could not be written: {error}; make room there, or give another folder"
            ) from None
    finally:
        if temporary is not None:
            shutil.rmtree(temporary, ignore_errors=True)
