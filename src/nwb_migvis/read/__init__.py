"""Read sessions of any lab's layout into one labelled dataset."""

from __future__ import annotations

from nwb_migvis.read.counting import count_spikes
from nwb_migvis.read.session import read_session

__all__ = ["count_spikes", "read_session"]
