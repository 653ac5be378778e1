"""Latents of images: what a prior is conditioned on, and what a critic reads off images."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch

from nwb_migvis.groups import LatentGroups, LatentScale


@dataclass(frozen=True, eq=False)
class Conditions:
    """Latents of images, with their groups and their scale.

    Parameters
    ----------
    z : numpy.ndarray, shape (n, n_latents)
        Posterior means, one row per image.
    groups : LatentGroups
    scale : LatentScale
        Of the training stimuli: one for prior and critic.
    """

    z: np.ndarray
    groups: LatentGroups
    scale: LatentScale

    def __len__(self) -> int:
        return len(self.z)

    def __getitem__(self, rows: Any) -> Conditions:
        """Return the latents of some rows: indices, a mask or a slice."""
        return replace(self, z=self.z[rows])

    def standardised(self, device: torch.device | str) -> torch.Tensor:
        """Return the latents (n, n_latents) in standard deviations, float32, on a device."""
        return self.scale.standardise(torch.as_tensor(self.z, dtype=torch.float32, device=device))
