"""One session or several: their stimuli side by side, the split, and how well latents agree."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import xarray as xr

from nwb_migvis.analysis.observed import with_missing_counts
from nwb_migvis.config import Config
from nwb_migvis.labels import Label, select
from nwb_migvis.levels import Design, choose_design
from nwb_migvis.read import shared_stimuli


@dataclass(frozen=True)
class Sessions:
    """Sessions whose stimulus ids mean the same images.

    Attributes
    ----------
    sessions : tuple of xarray.Dataset
        Their counts are NaN where a unit was not observed.
    names : tuple of str
        Their files' names, with folders where they would be the same.
    stimuli : xarray.Dataset
        Every stimulus of any of them, with its labels.
    rows : tuple of numpy.ndarray of int
        Row among `stimuli` of each session's own.
    """

    sessions: tuple[xr.Dataset, ...]
    names: tuple[str, ...]
    stimuli: xr.Dataset
    rows: tuple[np.ndarray, ...]

    @classmethod
    def of(cls, sessions: Sequence[xr.Dataset]) -> Sessions:
        """Put sessions, as `read_sessions` returns them, side by side; one stands alone."""
        sessions = [with_missing_counts(session) for session in sessions]
        sources = [Path(session.attrs.get("source", "")) for session in sessions]
        short = [source.name for source in sources]
        names = short if len(set(short)) == len(short) else [str(source) for source in sources]
        stimuli = sessions[0] if len(sessions) == 1 else shared_stimuli(sessions)
        index = stimuli.indexes["stimulus"]
        rows = [index.get_indexer(session.indexes["stimulus"]) for session in sessions]
        return cls(tuple(sessions), tuple(names), stimuli, tuple(rows))

    def __len__(self) -> int:
        return len(self.sessions)

    @property
    def shown(self) -> np.ndarray:
        """Which stimuli each session saw, (session, stimulus) bool."""
        every = np.arange(self.stimuli.sizes["stimulus"])
        return np.stack([np.isin(every, rows) for rows in self.rows])

    @property
    def pictured(self) -> list[int]:
        """Positions of the sessions that hold pixels."""
        return [i for i, session in enumerate(self.sessions) if "image" in session]

    def without_pixels(self) -> Sessions:
        """Return the same without images: what latents are fitted to, and less to send to another process."""
        bare = tuple(session.drop_vars("image", errors="ignore") for session in self.sessions)
        stimuli = bare[0] if len(bare) == 1 else self.stimuli.drop_vars("image", errors="ignore")
        return replace(self, sessions=bare, stimuli=stimuli)

    def where(self, i: int) -> str:
        """Return how messages about a session begin: with its name, where there are several."""
        return f"{self.names[i]}: " if len(self) > 1 else ""

    def labels(self, config: Config) -> dict[str, Label]:
        """Return the labels of all stimuli."""
        from nwb_migvis.latents import stimulus_labels

        return stimulus_labels(self.stimuli, circular=config.latents.circular)

    def labels_of(self, i: int, labels: Mapping[str, Label]) -> dict[str, Label]:
        """Return the labels that a session has, with what any session knows of its stimuli."""
        own = {name for name, coord in self.sessions[i].coords.items() if coord.dims == ("stimulus",)}
        return select({name: label for name, label in labels.items() if name in own}, self.rows[i])

    def design(self, config: Config) -> Design:
        """Return what is independent among all stimuli, as the settings or the labels say."""
        from nwb_migvis.latents import resolve_groups

        labels = self.labels(config)
        groups = resolve_groups(labels, config.latents)
        return choose_design(
            labels,
            n=self.stimuli.sizes["stimulus"],
            supervising=[label for group in groups for label in group.labels],
            by=config.split.by,
        )

    def split(self, config: Config, rng: np.random.Generator, *, fold: int = 0) -> np.ndarray:
        """Split all stimuli into training, validation and test, (stimulus,) of str."""
        from nwb_migvis.latents import split_shared_stimuli, split_stimuli

        levels = self.design(config).split
        if len(self) == 1:
            return split_stimuli(len(levels), config.split, rng=rng, levels=levels, fold=fold)
        return split_shared_stimuli(self.shown, self.names, config.split, rng=rng, levels=levels, fold=fold)

    def pairs(self) -> list[tuple[int, int]]:
        """Return the sessions that share enough stimuli to be held together."""
        from nwb_migvis.latents import linked_pairs

        return [] if len(self) == 1 else linked_pairs(self.shown, self.names)
