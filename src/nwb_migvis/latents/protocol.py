"""What the later stages need of a latent model, and how a model of one kind is fitted and rebuilt."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nwb_migvis.config import GroupConfig, LatentsConfig
from nwb_migvis.errors import MigvisError
from nwb_migvis.latents.checks import check_recordings
from nwb_migvis.latents.task import LatentTask, Recording
from nwb_migvis.networks.weights import kind_of
from nwb_migvis.registry import LATENT_MODELS

NEEDS = ("groups", "encode", "rates", "loading", "to_bytes")
"""What every latent model has."""

EARLIER_KINDS = {"group VAE": "group-vae"}
"""What weights call a kind whose registered name is another."""


class LatentModel(Protocol):
    """A fitted model of one session's responses."""

    @property
    def groups(self) -> tuple[GroupConfig, ...]:
        """The groups of its latents, in order."""

    def encode(self, average: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Encode average spike counts.

        Parameters
        ----------
        average : numpy.ndarray, shape (n_stimuli, n_units)
            Mean spike count per presentation of each stimulus, over some of its repeats; NaN where the unit
            was not observed.

        Returns
        -------
        mean, log_var : numpy.ndarray of float32, shape (n_stimuli, n_latents)
            Mean and log variance of the posterior.
        """
        ...

    def rates(self, z: np.ndarray) -> np.ndarray:
        """Predict spike counts from latents.

        Parameters
        ----------
        z : numpy.ndarray, shape (n_stimuli, n_latents)

        Returns
        -------
        numpy.ndarray of float64, shape (n_stimuli, n_units)
            Expected spike count per presentation, above 0.
        """
        ...

    def loading(self) -> np.ndarray:
        """Return the weight of each latent in the prediction of each unit.

        Returns
        -------
        numpy.ndarray of float32, shape (n_units, n_latents)
            Per unit step of the latent, before any output nonlinearity.
        """
        ...

    def to_bytes(self) -> bytes:
        """Return the model as `nwb_migvis.networks.weights.pack` makes it.

        Its kind is the name that the model is registered under.
        """
        ...


class Fit(Protocol):
    """Fits latent models of one kind."""

    def __call__(
        self,
        recordings: Sequence[Recording],
        task: LatentTask,
        *,
        config: LatentsConfig,
        seed: int,
        device: str,
        checkpoints: Path | None,
    ) -> Sequence[LatentModel]:
        """Return one model per recording; parameters as in `fit_models`."""
        ...


@dataclass(frozen=True)
class LatentModelKind:
    """An entry of the registry of latent models.

    Attributes
    ----------
    fit : callable
        As `Fit`.
    load : callable
        Bytes that `to_bytes` of its models returned -> the model.
    """

    fit: Fit
    load: Callable[[bytes], LatentModel]


def fit_models(
    recordings: Sequence[Recording],
    task: LatentTask,
    *,
    config: LatentsConfig,
    seed: int,
    device: str = "cpu",
    checkpoints: Path | None = None,
) -> list[LatentModel]:
    """Fit the latent model that the settings name.

    Parameters
    ----------
    recordings : sequence of Recording
        One or more.
    task : LatentTask
    config : LatentsConfig
        Its `model` is a name in the registry of latent models.
    seed : int
    device : str
        A torch device.
    checkpoints : Path, optional
        Folder for the state of training while it lasts.

    Returns
    -------
    list of LatentModel
        One per recording.

    Raises
    ------
    MigvisError
        If the responses cannot be used, there are too few training stimuli, or what was fitted is not a
        latent model.
    """
    check_recordings(recordings, task)
    fit = LATENT_MODELS[config.model].fit
    models = list(fit(recordings, task, config=config, seed=seed, device=device, checkpoints=checkpoints))
    where = f"latents.model = {config.model!r}"
    if len(models) != len(recordings):
        raise MigvisError(
            f"{where}: fitted {len(models)} models; expected one per session, {len(recordings)}"
        )
    for model in models:
        check_model(model, where=where)
        if (kind := kind_of_model(model)) != config.model:
            raise MigvisError(
                f"{where}: its to_bytes names the kind {kind!r}; expected {config.model!r}, the name that it "
                "is registered under"
            )
    return models


def check_model(model: Any, *, where: str) -> None:
    """Refuse what is not a latent model, beginning with `where` and saying what it lacks."""
    lacking = [need for need in NEEDS if not hasattr(model, need)]
    if lacking:
        raise MigvisError(
            f"{where}: found a {type(model).__name__} without {', '.join(lacking)}; expected a latent model, "
            f"which has {', '.join(NEEDS)}"
        )


def kind_of_model(model: LatentModel) -> str:
    """Return the name that a model's kind is registered under, according to its bytes."""
    return _registered_name(model.to_bytes())


def load_latent_model(weights: bytes) -> LatentModel:
    """Rebuild a model from the bytes that its `to_bytes` returned.

    Raises
    ------
    MigvisError
        If the bytes are not of a network, or of a kind that is not registered.
    """
    return LATENT_MODELS[_registered_name(weights)].load(weights)


def _registered_name(weights: bytes) -> str:
    kind = kind_of(weights)
    return EARLIER_KINDS.get(kind, kind)
