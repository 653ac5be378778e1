"""Series that sample what is on the screen: many samples are one showing of an image."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.presentations import BLANK, Presentations

SAMPLED_S = 0.1
"""Samples further apart than this, seconds, are presentations of their own."""

_LEAST_SAMPLES = 10
_GAP = 1.5


def showings(reading: Presentations, *, merge: bool | None) -> Presentations:
    """Return a reading with one presentation per showing of an image.

    A reading looks sampled where samples follow each other within 0.1 s and more than half of them hold the
    image of the one before. Merged are samples in a row that hold the same image (or blank) and follow each
    other without a gap, that is, within 1.5 times the median interval.

    Parameters
    ----------
    reading : Presentations
    merge : bool, optional
        Whether to merge; None leaves a reading that does not look sampled as it is, and refuses another.

    Raises
    ------
    MigvisError
        If the reading looks sampled and `merge` is None.
    """
    index, start_time = reading.image_index, reading.start_time
    if merge is False or reading.merges_images or len(index) < _LEAST_SAMPLES:
        return reading
    interval_s = np.diff(start_time)
    if not np.isfinite(interval_s).any():
        return reading
    median_s = float(np.nanmedian(interval_s))
    is_same = index[1:] == index[:-1]
    is_shown = index[1:] != BLANK
    if not 0 < median_s < SAMPLED_S or is_same[is_shown].sum() <= 0.5 * is_shown.sum():
        return reading
    begins = np.append(True, ~(is_same & (interval_s >= 0) & (interval_s <= _GAP * median_s)))
    if merge is None:
        n_shown = int((begins & (index != BLANK)).sum())
        raise MigvisError(
            f"{reading.place} holds {len(index)} samples, {1000 * median_s:.3g} ms apart, that repeat the "
            f"image before them, {n_shown} showings in all; if a showing is one presentation, merge "
            f"its samples "
            "with merge_repeats=True (--merge-repeats); if each sample is one, say merge_repeats=False "
            "(--no-merge-repeats)"
        )
    return replace(reading.taken(begins), n_merged=int((~begins).sum()))
