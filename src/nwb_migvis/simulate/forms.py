"""Further kinds of solids: compounds of simple parts, and superquadrics, eight kinds each.

Coordinates are those of `nwb_migvis.simulate.solids`.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import numpy as np
from numpy.typing import NDArray

from nwb_migvis.simulate.solids import CATEGORIES, Category, Part, between, part

Array = NDArray[np.float64]

_N_KINDS = 8


def _compounds() -> dict[str, Category]:
    """Return eight kinds of three to five parts each, drawn once for all from a fixed seed."""
    rng = np.random.default_rng(8)
    kinds = {}
    for k in range(_N_KINDS):
        n = int(rng.integers(3, 6))
        shapes = rng.choice(["ellipsoid", "cylinder", "box", "frustum", "wedge", "bowl"], n)
        centre = np.concatenate([np.zeros((1, 3)), rng.uniform(-0.6, 0.6, (n - 1, 3))])
        half = np.concatenate([rng.uniform(0.35, 0.65, (1, 3)), rng.uniform(0.12, 0.42, (n - 1, 3))])
        tilt = np.concatenate([np.zeros((1, 3)), rng.uniform(-60, 60, (n - 1, 3))])
        light = rng.permutation(np.linspace(0.1, 1.0, n))
        build = partial(_compound, tuple(map(str, shapes)), centre, np.stack([half, tilt]), light)
        pitch, yaw = rng.uniform(5, 25), rng.uniform(-30, 30)
        kinds[f"compound_{'abcdefgh'[k]}"] = Category(build, float(pitch), float(yaw), 1.0)
    return kinds


def _compound(
    shapes: tuple[str, ...], centre: Array, extent: Array, light: Array, *shape: Array
) -> list[Part]:
    """Build a compound: the first shape parameter stretches its body, the second spreads the other parts."""
    stretch, spread = between(shape[0], 0.7, 1.35), between(shape[1], 0.65, 1.3)
    parts = []
    for i, kind in enumerate(shapes):
        at, half, tilt = centre[i], extent[0, i], extent[1, i]
        if i == 0:
            size = (stretch * half[0], half[1] / np.sqrt(stretch), half[2])
            parts.append(part(kind, tuple(at), size, float(light[i])))
        else:
            moved = tuple(spread * x for x in at)
            parts.append(part(kind, moved, tuple(half), float(light[i]), tilt=tuple(tilt)))
    return parts


def _brick(a: Array, b: Array) -> list[Part]:
    long, flat = between(a, 0.55, 1.0), between(b, 0.2, 0.5)
    return [
        part("superquadric_8", (0, 0, 0), (long, flat, 0.5), 0.8),
        part("superquadric_2", (0.5 * long, flat, 0), (0.2, 0.2, 0.2), 0.2),
    ]


def _lens(a: Array, b: Array) -> list[Part]:
    wide, thick = between(a, 0.5, 1.0), between(b, 0.12, 0.4)
    return [
        part("superquadric_2", (0, 0, 0), (wide, wide, thick), 0.9),
        part("superquadric_4", (0, 0, thick), (0.3 * wide, 0.3 * wide, 0.1), 0.15),
    ]


def _octahedron(a: Array, b: Array) -> list[Part]:
    tall, wide = between(a, 0.6, 1.1), between(b, 0.5, 0.9)
    return [
        part("superquadric_1", (0, 0, 0), (wide, tall, wide), 1.0),
        part("superquadric_8", (0, -0.6 * tall, 0), (0.5 * wide, 0.1, 0.5 * wide), 0.3),
    ]


def _pillow(a: Array, b: Array) -> list[Part]:
    wide, tall = between(a, 0.5, 0.9), between(b, 0.4, 0.9)
    return [
        part("superquadric_4", (0, 0, 0), (wide, tall, 0.3), 0.55),
        part("superquadric_4", (0, 0, 0.25), (0.5 * wide, 0.12, 0.15), 1.0),
    ]


def _rod(a: Array, b: Array) -> list[Part]:
    long, girth = between(a, 0.7, 1.1), between(b, 0.12, 0.3)
    return [
        part("superquadric_4", (0, 0, 0), (long, girth, girth), 0.95),
        part("superquadric_2", (long, 0, 0), (1.4 * girth, 1.4 * girth, 1.4 * girth), 0.25),
    ]


def _dumbbell(a: Array, b: Array) -> list[Part]:
    apart, large = between(a, 0.45, 0.8), between(b, 0.25, 0.5)
    return [
        part("superquadric_4", (-apart, 0, 0), (large, large, large), 0.85),
        part("superquadric_4", (apart, 0, 0), (0.7 * large, 0.7 * large, 0.7 * large), 0.4),
        part("superquadric_8", (0, 0, 0), (apart, 0.1, 0.1), 0.1),
    ]


def _mushroom(a: Array, b: Array) -> list[Part]:
    cap, stem = between(a, 0.45, 0.95), between(b, 0.2, 0.6)
    return [
        part("superquadric_2", (0, 0.4, 0), (cap, 0.35, cap), 0.7),
        part("superquadric_8", (0, 0.3 - stem, 0), (0.16, stem, 0.16), 1.0),
    ]


def _cross(a: Array, b: Array) -> list[Part]:
    long, other = between(a, 0.5, 1.0), between(b, 0.5, 1.0)
    return [
        part("superquadric_8", (0, 0, 0), (long, 0.17, 0.17), 1.0),
        part("superquadric_8", (0, 0, 0), (0.17, other, 0.17), 0.5),
        part("superquadric_8", (0, 0, 0), (0.17, 0.17, 0.7), 0.2),
    ]


_BUILDERS: dict[str, tuple[Callable[[Array, Array], list[Part]], float, float]] = {
    "brick": (_brick, 20, -28),
    "cross": (_cross, 15, 25),
    "dumbbell": (_dumbbell, 10, -20),
    "lens": (_lens, 15, 30),
    "mushroom": (_mushroom, 12, 10),
    "octahedron": (_octahedron, 12, -20),
    "pillow": (_pillow, 10, -15),
    "rod": (_rod, 12, -25),
}

SOLIDS: dict[str, dict[str, Category]] = {
    "objects": CATEGORIES,
    "compounds": _compounds(),
    "superquadrics": {
        name: Category(build, float(pitch), float(yaw), 1.1)
        for name, (build, pitch, yaw) in _BUILDERS.items()
    },
}
"""Kinds of solids by name, eight categories each."""
