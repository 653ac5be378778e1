"""Spike-sorted units from SpikeInterface: their spikes, and NWB sessions made of them."""

from __future__ import annotations

from nwb_migvis.sorting.inspection import describe_sorting, inspect_sorting
from nwb_migvis.sorting.loading import load_sorting, read_presentations
from nwb_migvis.sorting.metadata import SessionMetadata
from nwb_migvis.sorting.units import SortedUnits
from nwb_migvis.sorting.writing import write_sorted_session

__all__ = [
    "SessionMetadata",
    "SortedUnits",
    "describe_sorting",
    "inspect_sorting",
    "load_sorting",
    "read_presentations",
    "write_sorted_session",
]
