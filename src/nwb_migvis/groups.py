"""Latent groups and the scale of their latents, which every stage after the fit refers to."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import numpy as np

if TYPE_CHECKING:
    import torch

    Array = TypeVar("Array", np.ndarray, torch.Tensor)


class Group(Protocol):
    """What a group is asked for: `GroupConfig` has it."""

    @property
    def name(self) -> str:
        """Its name."""

    @property
    def size(self) -> int:
        """Number of its latents."""

    @property
    def labels(self) -> tuple[str, ...]:
        """Labels that supervise it."""


@dataclass(frozen=True)
class LatentGroups:
    """How latents are divided into groups.

    Iterating gives the names, in the order of the latents.

    Parameters
    ----------
    names : tuple of str
    sizes : tuple of int
        Number of latents in each group.
    labels : tuple of tuple of str
        Labels that supervise each group; none for a free one.
    """

    names: tuple[str, ...]
    sizes: tuple[int, ...]
    labels: tuple[tuple[str, ...], ...]

    @classmethod
    def of(cls, groups: Iterable[Group]) -> LatentGroups:
        """Return the groups that settings name."""
        groups = tuple(groups)
        return cls(
            tuple(group.name for group in groups),
            tuple(int(group.size) for group in groups),
            tuple(tuple(group.labels) for group in groups),
        )

    def __post_init__(self) -> None:
        if not len(self.names) == len(self.sizes) == len(self.labels):
            raise ValueError(
                f"found {len(self.names)} names, {len(self.sizes)} sizes and {len(self.labels)} sets of "
                "labels; expected one of each per group"
            )

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[str]:
        return iter(self.names)

    @property
    def n_latents(self) -> int:
        """Number of latents of all groups."""
        return sum(self.sizes)

    @cached_property
    def slices(self) -> dict[str, slice]:
        """Where the latents of each group stand, by name."""
        edges = np.cumsum([0, *self.sizes]).tolist()
        return {
            name: slice(first, stop)
            for name, first, stop in zip(self.names, edges[:-1], edges[1:], strict=True)
        }

    @cached_property
    def of_latent(self) -> np.ndarray:
        """Name of the group of each latent, (n_latents,) object."""
        return np.array(
            [name for name, size in zip(self.names, self.sizes, strict=True) for _ in range(size)],
            dtype=object,
        )

    @property
    def supervised_by(self) -> dict[str, tuple[str, ...]]:
        """Labels that supervise each group, by name; empty for a free one."""
        return dict(zip(self.names, self.labels, strict=True))

    def index(self, name: str) -> int:
        """Return the position of a group among the groups."""
        return self.names.index(name)

    def split(self, z: Array) -> dict[str, Array]:
        """Return the latents of each group, by name.

        Parameters
        ----------
        z : numpy.ndarray or torch.Tensor, shape (..., n_latents)

        Returns
        -------
        dict of str to array, shape (..., size)
            Views of `z`.
        """
        if z.shape[-1] != self.n_latents:
            raise ValueError(f"found {z.shape[-1]} latents; expected the {self.n_latents} of {self!r}")
        return {name: z[..., place] for name, place in self.slices.items()}

    def __repr__(self) -> str:
        parts = (
            f"{name} ({size}; {', '.join(labels) or 'free'})"
            for name, size, labels in zip(self.names, self.sizes, self.labels, strict=True)
        )
        return f"LatentGroups: {', '.join(parts)}"

    def _repr_html_(self) -> str:
        from html import escape

        rows = "".join(
            f"<tr><th>{escape(name)}</th><td>{size}</td><td>{escape(', '.join(labels)) or '(free)'}</td></tr>"
            for name, size, labels in zip(self.names, self.sizes, self.labels, strict=True)
        )
        return f"<table><tr><th>group</th><th>latents</th><th>supervised by</th></tr>{rows}</table>"


@dataclass(frozen=True, eq=False)
class LatentScale:
    """Mean and standard deviation of each latent over the training stimuli.

    Parameters
    ----------
    mean, std : numpy.ndarray of float32, shape (n_latents,)
    """

    mean: np.ndarray
    std: np.ndarray

    @classmethod
    def of(cls, latents: np.ndarray) -> LatentScale:
        """Return the scale of latents (n, latent) of the training stimuli, in torch's arithmetic."""
        import torch

        z = torch.as_tensor(latents, dtype=torch.float32)
        return cls(z.mean(0).numpy(), z.std(0).clamp_min(1e-6).numpy())

    def standardise(self, z: Array) -> Array:
        """Return latents (..., latent) in standard deviations, in the type and on the device of `z`."""
        mean, std = self._like(z)
        return (z - mean) / std

    def restore(self, z: Array) -> Array:
        """Return what `standardise` was given."""
        mean, std = self._like(z)
        return z * std + mean

    def _like(self, z: Any) -> tuple[Any, Any]:
        if isinstance(z, np.ndarray):
            return self.mean, self.std
        return tuple(z.new_tensor(part) for part in (self.mean, self.std))
