"""Two halves of the repeats: responses, and the latents that are encoded from each."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Protocol

import numpy as np

from nwb_migvis.evidence.reliability import half_means


class Encoder(Protocol):
    """What latents are encoded with: a latent model has it."""

    def encode(self, responses: np.ndarray, /) -> tuple[np.ndarray, np.ndarray]:
        """Return mean and log variance, (stimulus, latent) each, of responses (stimulus, unit)."""


@dataclass(frozen=True, eq=False)
class Halves:
    """Mean responses in two halves of the repeats, with the latents of each.

    Parameters
    ----------
    half_a, half_b : numpy.ndarray, shape (n_stimuli, n_units)
        Mean spikes per presentation; NaN where a stimulus was not repeated with the unit.
    latents_a, latents_b : numpy.ndarray, shape (n_stimuli, n_latents)
        Encoded from those responses; rows of stimuli without repeats mean nothing.
    train, test : numpy.ndarray of bool, shape (n_stimuli,)
    """

    half_a: np.ndarray
    half_b: np.ndarray
    latents_a: np.ndarray
    latents_b: np.ndarray
    train: np.ndarray
    test: np.ndarray

    @classmethod
    def of(
        cls,
        model: Encoder,
        spike_count: np.ndarray,
        *,
        stimulus_index: np.ndarray,
        split: np.ndarray,
        seed: int,
        in_first: np.ndarray | None = None,
    ) -> Halves:
        """Split the repeats of each stimulus and encode both halves.

        Parameters
        ----------
        model : Encoder
        spike_count : numpy.ndarray, shape (n_presentations, n_units)
            Spikes in the counting window; NaN where a unit was not observed.
        stimulus_index : numpy.ndarray of int, shape (n_presentations,)
            Row of the stimulus of each presentation.
        split : numpy.ndarray of str, shape (n_stimuli,)
            "train", "validation" or "test".
        seed : int
        in_first : numpy.ndarray of bool, shape (n_presentations,), optional
            The first half (`Order.in_first_half`); at random where it is None.
        """
        half_a, half_b, _, _ = half_means(
            spike_count, stimulus_index, split.size, rng=np.random.default_rng(seed), in_first=in_first
        )
        absent = np.isnan(half_a).all(axis=1, keepdims=True)
        latents_a, latents_b = (model.encode(np.where(absent, 0.0, half))[0] for half in (half_a, half_b))
        return cls(half_a, half_b, latents_a, latents_b, train=split == "train", test=split == "test")

    @property
    def repeated(self) -> np.ndarray:
        """Stimuli that both halves have with some unit, (n_stimuli,) bool."""
        return (np.isfinite(self.half_a) & np.isfinite(self.half_b)).any(axis=1)

    @property
    def repeated_train(self) -> np.ndarray:
        """Training stimuli that both halves have, (n_stimuli,) bool."""
        return np.asarray(self.train, dtype=bool) & self.repeated

    @property
    def repeated_test(self) -> np.ndarray:
        """Test stimuli that both halves have, (n_stimuli,) bool."""
        return np.asarray(self.test, dtype=bool) & self.repeated

    def of_latents(self, latents: slice) -> Halves:
        """Return the same responses with some of the latents: those of one group."""
        return replace(self, latents_a=self.latents_a[:, latents], latents_b=self.latents_b[:, latents])
