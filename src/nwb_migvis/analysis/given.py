"""Latents that were not fitted here: an array in place of a model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import xarray as xr

from nwb_migvis.config import GroupConfig
from nwb_migvis.errors import MigvisError

if TYPE_CHECKING:
    from nwb_migvis.latents.protocol import LatentModel


@dataclass(frozen=True, eq=False)
class GivenLatents:
    """An array of latents under the protocol of a latent model, which knows nothing about responses.

    Attributes
    ----------
    mean : numpy.ndarray of float32, shape (n_stimuli, n_latents)
    groups : tuple of GroupConfig
    n_units : int
    """

    mean: np.ndarray
    groups: tuple[GroupConfig, ...]
    n_units: int

    @classmethod
    def of(cls, latents: Any, session: xr.Dataset, groups: Sequence[GroupConfig] | None) -> GivenLatents:
        """Take an array (stimulus, latent) of a session's stimuli.

        A DataArray with a coordinate `group` along its latents brings its groups along.

        Raises
        ------
        MigvisError
            If the array is of another shape, not finite, or the groups do not fit it.
        """
        if groups is None:
            groups = _groups_of(latents)
        mean = np.asarray(latents)
        n_stimuli = session.sizes["stimulus"]
        if mean.ndim != 2 or len(mean) != n_stimuli or mean.dtype.kind not in "fiu":
            raise MigvisError(
                f"found latents of shape {mean.shape} and type {mean.dtype}; expected numbers of shape "
                f"({n_stimuli}, n_latents), a row for each stimulus of the session"
            )
        if not np.isfinite(mean).all():
            raise MigvisError(
                f"found {int((~np.isfinite(mean)).sum())} latents that are not finite; expected numbers"
            )
        if groups is None:
            groups = (GroupConfig(name="given", size=mean.shape[1]),)
        n_latents = sum(group.size for group in groups)
        if n_latents != mean.shape[1]:
            raise MigvisError(
                f"found {mean.shape[1]} latents and groups of {n_latents}; expected as many; name the groups "
                "with groups=[GroupConfig(name=..., size=...), ...]"
            )
        return cls(mean.astype(np.float32), tuple(groups), session.sizes["unit"])

    def encode(self, average: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return NaN: nothing is known about responses."""
        nothing = np.full((len(average), self.mean.shape[1]), np.nan, dtype=np.float32)
        return nothing, nothing

    def rates(self, z: np.ndarray) -> np.ndarray:
        """Return NaN: nothing is known about responses."""
        return np.full((len(z), self.n_units), np.nan)

    def loading(self) -> np.ndarray:
        """Return NaN: nothing is known about responses."""
        return np.full((self.n_units, self.mean.shape[1]), np.nan, dtype=np.float32)

    def to_bytes(self) -> bytes:
        """Return nothing: there are no weights."""
        return b""


def given_model(
    given: Any, session: xr.Dataset, groups: Sequence[GroupConfig] | None
) -> LatentModel | GivenLatents:
    """Return a model as it is, or an array in place of one.

    Raises
    ------
    MigvisError
        If a model lacks something, or is of a kind that is not registered; or as `GivenLatents.of`.
    """
    from nwb_migvis.latents.protocol import check_model, kind_of_model
    from nwb_migvis.registry import LATENT_MODELS

    if not hasattr(given, "encode"):
        return GivenLatents.of(given, session, groups)
    check_model(given, where="latents")
    if (kind := kind_of_model(given)) not in LATENT_MODELS:
        raise MigvisError(
            f"latents: the model's to_bytes names the kind {kind!r}; expected one of "
            f"{', '.join(LATENT_MODELS)}; register it with LATENT_MODELS.register({kind!r}, ...)"
        )
    return given


def _groups_of(latents: Any) -> tuple[GroupConfig, ...] | None:
    if not (isinstance(latents, xr.DataArray) and "group" in latents.coords):
        return None
    names = [str(name) for name in latents["group"].values]
    runs = list(dict.fromkeys(names))
    if sorted(names, key=runs.index) != names:
        raise MigvisError(f"found the latents' groups {names}; expected the latents of a group side by side")
    return tuple(GroupConfig(name=name, size=names.count(name)) for name in runs)
