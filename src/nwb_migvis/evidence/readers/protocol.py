"""Readers of stimulus labels: trained on real images only, and never used to guide an edit."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Protocol

import numpy as np

from nwb_migvis.evidence.labels import LabelCode, code_labels, label_score

KINDS = ("conv", "kernel")
"""Architectures: a convolutional network, and kernel ridge regression on fixed features."""


class Reader(Protocol):
    """Something that reads stimulus labels from images.

    Attributes
    ----------
    kind : str
        The architecture, one of `KINDS`.
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
        """Describe images by what the reader reads them from, (n, feature), for `frechet_distance`."""
        ...


def fit_readers(
    images: np.ndarray,
    labels: Mapping[str, np.ndarray],
    *,
    images_validation: np.ndarray,
    labels_validation: Mapping[str, np.ndarray],
    seed: int,
    n_steps: int = 1000,
    circular: Mapping[str, float] | None = None,
    kinds: Sequence[str] = KINDS,
    checkpoints: Path | None = None,
) -> list[Reader]:
    """Train one reader of each kind on real images and their labels.

    Parameters
    ----------
    images : array of uint8 (n, y, x) or (n, y, x, channel)
        Training stimuli.
    labels : mapping of str to array (n,)
        Numbers, or text for categories; NaN, "" and None are missing.
    images_validation, labels_validation
        The same for the validation stimuli, on which the network's stopping point and the kernel's width
        and penalty are chosen.
    seed : int
    n_steps : int
        Most training steps of the network (batches of 128).
    circular : mapping of str to float, optional
        Period of numeric labels that wrap.
    kinds : sequence of str
    checkpoints : Path, optional
        Folder that keeps the state of training while it lasts: a network whose training was killed goes on
        from it and ends with the weights of an uninterrupted one.

    Returns
    -------
    list of Reader
        In the order of `kinds`; none where no label varies.
    """
    codes = code_labels(labels, circular=circular)
    if not codes:
        return []
    train = {code.name: code.encode(labels[code.name]) for code in codes}
    validation = {code.name: code.encode(labels_validation[code.name]) for code in codes}
    readers: list[Reader] = []
    for kind in kinds:
        if kind == "conv":
            from nwb_migvis.evidence.readers.convolutional import fit_conv_reader

            readers.append(
                fit_conv_reader(
                    images,
                    train,
                    images_validation,
                    validation,
                    codes=codes,
                    seed=seed,
                    n_steps=n_steps,
                    checkpoints=checkpoints,
                )
            )
        elif kind == "kernel":
            from nwb_migvis.evidence.readers.kernel import fit_kernel_reader

            readers.append(
                fit_kernel_reader(images, train, images_validation, validation, codes=codes, seed=seed)
            )
        else:
            raise ValueError(f"reader {kind!r} is unknown; expected one of {', '.join(KINDS)}")
    return readers


def reader_scores(reader: Reader, images: np.ndarray, labels: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Score a reader on real images that it was not trained on.

    Parameters
    ----------
    reader : Reader
    images : array of uint8 (n, y, x) or (n, y, x, channel)
    labels : mapping of str to array (n,)
        True values.

    Returns
    -------
    dict of str to float
        By label of `labels`, as in `label_score`: R2, or balanced accuracy above chance scaled to 1. NaN
        for a label that the reader does not read.
    """
    readings = reader.read(images)
    by_name = {code.name: code for code in reader.codes}
    return {
        name: label_score(by_name[name], readings[name], values) if name in by_name else float("nan")
        for name, values in labels.items()
    }
