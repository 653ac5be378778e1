"""Readers of stimulus labels: trained on real images only, and never used to guide an edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.evidence.labels import label_score
from nwb_migvis.labels import Label, LabelCode, code_labels
from nwb_migvis.registry import READERS


@dataclass(frozen=True, eq=False)
class Examples:
    """Real images with their labels.

    Parameters
    ----------
    images : numpy.ndarray of uint8, shape (n, y, x) or (n, y, x, channel)
    labels : mapping of str to Label (n,)
    """

    images: np.ndarray
    labels: Mapping[str, Label]

    def __len__(self) -> int:
        return len(self.images)

    def encode(self, codes: Sequence[LabelCode]) -> dict[str, np.ndarray]:
        """Return the coded labels by name, (n, n_columns) each; NaN rows where missing."""
        return {code.name: code.encode(self.labels[code.name].values) for code in codes}


class Reader(Protocol):
    """Something that reads stimulus labels from images.

    Attributes
    ----------
    kind : str
        Its name in the registry of readers.
    codes : tuple of LabelCode
        The labels it reads.
    """

    kind: str
    codes: tuple[LabelCode, ...]

    def read(self, images: np.ndarray) -> dict[str, np.ndarray]:
        """Read every label.

        Parameters
        ----------
        images : array of uint8 (n, y, x) or (n, y, x, channel)
            Of the size that the reader was trained on.

        Returns
        -------
        dict of str to array
            Numeric labels: (n,) in the label's unit, or (n, 2) cosine and sine where the label wraps.
            Categorical labels: (n, n_classes) probabilities.
        """
        ...

    def features(self, images: np.ndarray) -> np.ndarray:
        """Describe images by the features that the reader uses, (n, feature), for `frechet_distance`."""
        ...


class ReaderFactory(Protocol):
    """Trains readers of one kind."""

    def __call__(
        self,
        train: Examples,
        validation: Examples,
        *,
        codes: tuple[LabelCode, ...],
        seed: int,
        n_steps: int,
        checkpoints: Path | None,
    ) -> Reader:
        """Return a reader of `codes`, trained on some examples and chosen by others.

        Parameters
        ----------
        train, validation : Examples
        codes : tuple of LabelCode
            Labels to read, at least one.
        seed : int
        n_steps : int
            Most training steps; nothing to a reader that is solved in one.
        checkpoints : Path or None
            Folder for the state of training while it lasts.
        """
        ...


def fit_readers(
    train: Examples,
    validation: Examples,
    *,
    seed: int,
    n_steps: int = 1000,
    kinds: Sequence[str] | None = None,
    further: Mapping[str, ReaderFactory] | None = None,
    checkpoints: Path | None = None,
) -> list[Reader]:
    """Train one reader of each kind on real images and their labels.

    Parameters
    ----------
    train : Examples
        Training stimuli.
    validation : Examples
        Stimuli on which the network's stopping point and the kernel's width and penalty are chosen.
    seed : int
    n_steps : int
        Most training steps of the network (batches of 96).
    kinds : sequence of str, optional
        Names in the registry of readers, or of `further`; the built-in ones by default.
    further : mapping of str to ReaderFactory, optional
        Kinds that are not registered: those on networks for photographs.
    checkpoints : Path, optional
        Folder that keeps the state of training while it lasts. Training that was killed resumes from it and
        ends with the weights of an uninterrupted one.

    Returns
    -------
    list of Reader
        In the order of `kinds`; none where no label varies.

    Raises
    ------
    MigvisError
        If there is no reader of a kind, or what it trains is not a reader.
    """
    codes = code_labels(train.labels)
    if not codes:
        return []
    how: dict[str, Any] = {"codes": codes, "seed": seed, "n_steps": n_steps, "checkpoints": checkpoints}
    readers = []
    for kind in READERS.builtin if kinds is None else kinds:
        factory = further[kind] if further and kind in further else READERS[kind]
        reader = factory(train, validation, **how)
        lacking = [need for need in ("kind", "codes", "read", "features") if not hasattr(reader, need)]
        if lacking:
            raise MigvisError(
                f"reader {kind!r}: it trains a {type(reader).__name__} without {', '.join(lacking)}; "
                "expected a Reader, which has kind, codes, read, features"
            )
        readers.append(reader)
    return readers


def reader_scores(
    reader: Reader, examples: Examples, *, readings: Mapping[str, np.ndarray] | None = None
) -> dict[str, float]:
    """Score a reader on real images that it was not trained on.

    Parameters
    ----------
    reader : Reader
    examples : Examples

    Returns
    -------
    dict of str to float
        By label, as in `label_score`: R2, or balanced accuracy above chance scaled to 1. NaN for a label
        that the reader does not read.
    """
    if readings is None:
        readings = reader.read(examples.images)
    codes = {code.name: code for code in reader.codes}
    return {
        name: label_score(codes[name], readings[name], label.values) if name in codes else float("nan")
        for name, label in examples.labels.items()
    }
