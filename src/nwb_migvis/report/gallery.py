"""Galleries of a group: pairs at rising strength, controls, traversals with shown images at their ends."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import numpy as np

from nwb_migvis.pictures import picture_uri
from nwb_migvis.plot.axes import short_name
from nwb_migvis.plot.images import Pair, difference, pairs, stimuli, traversals
from nwb_migvis.plot.recorded import extremes
from nwb_migvis.results import Results

MOST_BYTES = 11_000_000
"""Of all pictures of a page."""

MOST_PAIRS, MOST_MAIN, MOST_SOURCES, MOST_ENDS = 8, 12, 4, 5
_CONTROLS = {"none": "no guidance", "shuffled": "shuffled target"}
_BRIGHTER, _DARKER = np.array([213, 94, 0]), np.array([0, 114, 178])


class Album:
    """Pictures of a page or of one part of it, as long as there is room.

    Parameters
    ----------
    n_bytes : float
        Room for their addresses.
    """

    def __init__(self, n_bytes: float) -> None:
        self.room = n_bytes

    @property
    def is_full(self) -> bool:
        """Whether nothing more fits."""
        return self.room <= 0

    def add(self, image: np.ndarray | None, alt: str) -> dict[str, str] | None:
        """Return an image as address and words, None where there is none."""
        if image is None:
            return None
        uri = picture_uri(image)
        self.room -= len(uri)
        return {"uri": uri, "alt": alt}


@dataclass
class Gallery:
    """What a page shows of one group's edits.

    Attributes
    ----------
    strengths : list of str
        Start steps of the pairs.
    pairs, main : list
        Rows: names, and pictures by place. The first ones that the seed drew.
    n_pairs, n_main : int
        How many there are in the file.
    traversals : list
        One item per direction.
    """

    strengths: list[str] = field(default_factory=list)
    pairs: list[Any] = field(default_factory=list)
    n_pairs: int = 0
    main: list[Any] = field(default_factory=list)
    n_main: int = 0
    traversals: list[Any] = field(default_factory=list)

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to show."""
        return not (self.pairs or self.main or self.traversals)


def gallery(results: Results, group: str, images: Any, *, n_bytes: float) -> Gallery:
    """Return the pictures of one group, in the order in which the seed drew them, as far as there is room.

    Parameters
    ----------
    results : Results
    group : str
    images : mapping of str to array, or None
        The shown images at the size of the edits.
    n_bytes : float
        Room for this group.
    """
    made, album = Gallery(), Album(n_bytes)
    dose = pairs(results, group, images=images)
    made.strengths = [f"{s:g} T" for s in sorted({s for pair in dose for s, _ in pair.steps})]
    made.n_pairs = len(dose)
    for pair in dose[:MOST_PAIRS]:
        if not album.is_full:
            made.pairs.append(_pair_row(pair, made.strengths, album))
    _add_traversals(made, results, group, images=images, album=album)
    _add_main(made, results, group, images=images, album=album)
    return made


def first_pairs(results: Results, group: str, images: Any, *, n_pairs: int) -> list[dict[str, Any]]:
    """Return the first pairs of a group at rising strength; `images` as in `plot.pairs`."""
    dose, album = pairs(results, group, images=images)[:n_pairs], Album(MOST_BYTES)
    strengths = [f"{s:g} T" for s in sorted({s for pair in dose for s, _ in pair.steps})]
    return [_pair_row(pair, strengths, album) for pair in dose]


def _pair_row(pair: Pair, strengths: list[str], album: Album) -> dict[str, Any]:
    source, target = short_name(pair.source), short_name(pair.target)
    by_strength = {f"{strength:g} T": image for strength, image in pair.steps}
    steps = []
    for words in strengths:
        image = by_strength.get(words)
        steps.append(
            {
                "strength": words,
                "edit": album.add(image, f"{source} edited towards {target} from {words}"),
                "change": album.add(_change(pair.before, image), f"Change of {source} from {words}"),
            }
        )
    return {**_ends(pair, album), "steps": steps}


def _ends(pair: Pair, album: Album) -> dict[str, Any]:
    source, target = short_name(pair.source), short_name(pair.target)
    first = "source" if pair.is_real else "rebuilt source"
    return {
        "source": source,
        "target": target,
        "first": first,
        "before": album.add(pair.before, f"{first} {source}"),
        "after": album.add(pair.after, f"target {target}"),
    }


def _add_main(made: Gallery, results: Results, group: str, *, images: Any, album: Album) -> None:
    main = pairs(results, group, images=images, role="main")
    made.n_main = len(main)
    controls = {}
    for method in _CONTROLS:
        own = pairs(results, group, role="main", method=method)
        controls[method] = {(p.source, p.target): p.steps[-1][1] for p in own}
    for pair in main[:MOST_MAIN]:
        if album.is_full:
            return
        image = pair.steps[-1][1]
        shown = [("edit", image, "edit"), ("change", _change(pair.before, image), "change")]
        shown += [
            (words, controls[method].get((pair.source, pair.target)), words)
            for method, words in _CONTROLS.items()
        ]
        cells = [
            {"words": words, "picture": album.add(picture, f"{alt} of {short_name(pair.source)}")}
            for words, picture, alt in shown
            if picture is not None
        ]
        made.main.append({**_ends(pair, album), "cells": cells})


def _add_traversals(made: Gallery, results: Results, group: str, *, images: Any, album: Album) -> None:
    by_direction = traversals(results, group)
    for direction, sources in by_direction.items():
        low, high = (names[:MOST_ENDS] for names in extremes(results, group, direction))
        chosen = list(sources.items())[:MOST_SOURCES]
        shown = stimuli(results, {*low, *high, *(source for source, _ in chosen)}, images)
        rows = []
        for source, steps in chosen:
            if album.is_full:
                break
            name = short_name(source)
            cells = [
                (gamma, f"{gamma:+.2g} SD", album.add(image, f"{name} moved by {gamma:+.2g} SD"))
                for gamma, image in steps
            ]
            cells.append((0.0, "source", album.add(shown.get(source), f"source {name}")))
            ordered = sorted((cell for cell in cells if cell[2] is not None), key=lambda cell: cell[0])
            rows.append({"source": name, "cells": [{"words": w, "picture": p} for _, w, p in ordered]})
        made.traversals.append(
            {
                "direction": short_name(direction),
                "rows": rows,
                "n_sources": len(sources),
                "low": _nearest(low, shown, album),
                "high": _nearest(high, shown, album),
            }
        )


def _nearest(names: list[str], shown: dict[str, np.ndarray], album: Album) -> list[dict[str, str] | None]:
    return [
        album.add(shown[name], f"shown image {short_name(name)}")
        for name in names
        if name in shown and not album.is_full
    ]


def _change(before: np.ndarray | None, after: np.ndarray | None) -> np.ndarray | None:
    """Return what changed as colours (y, x, 3): white where nothing did, orange brighter, blue darker."""
    if before is None or after is None or before.shape != after.shape:
        return None
    amount = np.clip((difference(before, after).astype(float) - 128) / 64, -1, 1)[..., None]
    colour = np.where(amount > 0, _BRIGHTER, _DARKER)
    return np.rint(255 + (colour - 255) * np.abs(amount)).astype(np.uint8)
