"""Layouts of presentations and images in NWB files: one adapter each, tried in this order.

An adapter is a function of the file's contents and the presentation column that the user named, if any.
It yields `Presentations` for each place of the file that fits, or a `Problem` where one looks like the
layout but cannot be read.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from nwb_migvis.errors import MigvisError
from nwb_migvis.read.contents import Contents
from nwb_migvis.read.presentations import Presentations, Problem
from nwb_migvis.registry import LAYOUTS

Adapter = Callable[[Contents, str | None], Iterator[Presentations | Problem]]


def find_all(contents: Contents, stimulus: str | None) -> list[Presentations | Problem]:
    """Return what every layout finds in a file, in the order of the registry."""
    items = []
    for name, find in LAYOUTS.items():
        for item in find(contents, stimulus):
            if not isinstance(item, Presentations | Problem):
                raise MigvisError(
                    f"layout {name!r}: it yields a {type(item).__name__}; expected Presentations or a Problem"
                )
            items.append(item)
    return items
