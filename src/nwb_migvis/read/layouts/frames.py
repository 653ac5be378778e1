"""A stimulus series with one frame per presentation: an `OpticalSeries`, or any `ImageSeries` with times.

Rutishauser lab files (DANDI:000004) are written so. Frames of repeated images are copies of each other:
they become one image by the name that a table gives them, else by their pixels.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import Contents
from nwb_migvis.read.layouts.index_series import series_times
from nwb_migvis.read.presentations import Presentations, Problem
from nwb_migvis.read.sizes import whole
from nwb_migvis.read.table import precision_of

NAME = "frames"


def find(contents: Contents, stimulus: str | None) -> Iterator[Presentations | Problem]:
    """Yield a reading for each image series under the file's stimuli that no `IndexSeries` points at."""
    from pynwb.image import ImageSeries, IndexSeries

    indexed = {id(item.indexed_timeseries) for item in contents.series if isinstance(item, IndexSeries)}
    for series in contents.nwb.stimulus.values():
        if not isinstance(series, ImageSeries) or id(series) in indexed:
            continue
        try:
            images = contents.frames_collection(series).images
            start_time = series_times(series, len(images))
        except MigvisError as error:
            yield Problem(NAME, series.name, str(error), is_certain=False)  # it may be a movie
            continue
        yield Presentations(
            layout=NAME,
            place=series.name,
            start_time=start_time,
            image_index=np.arange(len(images)),
            images=images,
            merges_images=True,
            precision_s=0.0 if series.timestamps is None else precision_of(whole(series.timestamps)),
        )
