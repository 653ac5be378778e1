"""Layouts of presentations and images in NWB files: one adapter each, tried in this order.

An adapter is a function of the file's contents and the presentation column that the user named, if any.
It yields `Presentations` for each place of the file that fits, or a `Problem` where one looks like the
layout but cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nwb_migvis.read.contents import Contents
from nwb_migvis.read.layouts import aggregated, frames, index_series, tables
from nwb_migvis.read.presentations import Presentations, Problem

Adapter = Callable[[Contents, str | None], Iterator[Presentations | Problem]]

LAYOUTS: dict[str, Adapter] = {
    "index_series": index_series.find,
    "frames": frames.find,
    "dicarlo_aggregated": aggregated.find,
    "dicarlo": tables.find_dicarlo,
    "allen": tables.find_allen,
    "intervals": tables.find_intervals,
}
