"""Eight categories of parametric solids, each a handful of ellipsoids, cylinders and convex blocks.

Object coordinates: x to the right, y up, z towards the viewer; solids fit a sphere of radius of about 1.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

_BOX = ((1, 0, 0), (-1, 0, 0), (0, 1, 0), (0, -1, 0), (0, 0, 1), (0, 0, -1))


@dataclass(frozen=True)
class Primitive:
    """A convex solid: the inside of a quadric cut by half-spaces.

    Attributes
    ----------
    quadric : tuple of float or None
        Weights q of q . p**2 <= 1, or None for a block that only the half-spaces bound.
    normals : tuple of (float, float, float)
        Outward normals n of the half-spaces n . p <= offset.
    offsets : tuple of float
    power : float, optional
        Of a superquadric |x|**power + |y|**power + |z|**power <= 1, at least 1; it has nothing else.
    """

    quadric: tuple[float, float, float] | None
    normals: tuple[tuple[float, float, float], ...] = ()
    offsets: tuple[float, ...] = ()
    power: float | None = None


PRIMITIVES = {
    "ellipsoid": Primitive((1.0, 1.0, 1.0)),
    "bowl": Primitive((1.0, 1.0, 1.0), ((0, 1, 0),), (0.0,)),
    "cylinder": Primitive((1.0, 1e-3, 1.0), ((0, 1, 0), (0, -1, 0)), (1.0, 1.0)),
    "box": Primitive(None, _BOX, (1.0,) * 6),
    "wedge": Primitive(None, ((-1, 0, 0), (0, -1, 0), (1, 1, 0), (0, 0, 1), (0, 0, -1)), (1, 1, 0, 1, 1)),
    "frustum": Primitive(
        None,
        ((1, 0.2, 0), (-1, 0.2, 0), (0, 1, 0), (0, -1, 0), (0, 0.2, 1), (0, 0.2, -1)),
        (0.8, 0.8, 1, 1, 0.8, 0.8),
    ),
    **{f"superquadric_{power}": Primitive(None, power=float(power)) for power in (1, 2, 4, 8)},
}
"""Unit primitives by name, inside the cube [-1, 1]. A wedge is a right-angled triangular prism along z with
its right angle at (-1, -1); a frustum narrows from a half width of 1 at the bottom to 0.6 at the top."""


@dataclass(frozen=True)
class Part:
    """One primitive of n solids, in object coordinates.

    Attributes
    ----------
    kind : str
        A name in `PRIMITIVES`.
    centre, half : (n, 3)
        Centre and half extents; a negative half extent mirrors the primitive.
    tilt : (3,)
        Rotation of the part about x, then y, then z, degrees.
    albedo : float
        Fraction of light that comes back, 0 to 1.
    """

    kind: str
    centre: Array
    half: Array
    tilt: tuple[float, float, float]
    albedo: float


def part(
    kind: str, centre: Sequence[Any], half: Sequence[Any], albedo: float, *, tilt: Sequence[float] = (0, 0, 0)
) -> Part:
    """Return a part of n solids from columns of centre and half extents, each a number or (n,)."""
    columns = np.broadcast_arrays(*centre, *half)
    values = np.stack([np.atleast_1d(c).astype(float) for c in columns], axis=-1)
    return Part(kind, values[:, :3], values[:, 3:], (float(tilt[0]), float(tilt[1]), float(tilt[2])), albedo)


def between(shape: Array, low: float, high: float) -> Array:
    """Map a shape parameter in [-1, 1] onto [low, high]."""
    return low + (high - low) * (shape + 1) / 2


def _animal(body: Array, legs: Array) -> list[Part]:
    length, leg = between(body, 0.34, 0.72), between(legs, 0.08, 0.4)
    girth = between(body, 0.36, 0.2)
    parts = [
        part("ellipsoid", (-0.05, 0.1, 0), (length, girth, girth), 0.8),
        part("ellipsoid", (length - 0.02, 0.34, 0), (0.15, 0.32, 0.15), 0.8, tilt=(0, 0, -30)),
        part("ellipsoid", (length + 0.14, 0.58, 0), (0.23, 0.19, 0.19), 1.0),
        part("ellipsoid", (length + 0.34, 0.5, 0), (0.16, 0.12, 0.13), 0.15),
        part("box", (length, 0.8, 0.13), (0.06, 0.14, 0.06), 0.2),
        part("box", (length, 0.8, -0.13), (0.06, 0.14, 0.06), 0.2),
        part("box", (-length - 0.1, 0.34, 0), (0.04, 0.24, 0.04), 0.2, tilt=(0, 0, 40)),
    ]
    for x, albedo in ((length - 0.22, 1.0), (-length + 0.12, 0.3)):
        for z in (0.15, -0.15):
            parts.append(part("box", (x, -0.05 - leg, z), (0.08, leg, 0.08), albedo))
    return parts


def _boat(hull: Array, sail: Array) -> list[Part]:
    length, height = between(hull, 0.5, 1.0), between(sail, 0.22, 0.68)
    draught = between(hull, 0.3, 0.13)
    return [
        part("frustum", (0, -0.3 - draught, 0), (length, -draught, 0.32), 0.25),
        part("box", (0, -0.28, 0), (length, 0.06, 0.32), 1.0),
        part("box", (0.94 * length, -0.32 - 0.8 * draught, 0), (0.08, 0.8 * draught, 0.2), 0.9),
        part("box", (-0.6 * length, -0.12, 0), (0.28 * length, 0.14, 0.2), 0.6),
        part("cylinder", (0.1, height - 0.2, 0), (0.04, height + 0.08, 0.04), 0.1),
        part("wedge", (-0.34, height - 0.1, 0), (-0.42, height, 0.03), 1.0),
        part("wedge", (0.42, 0.8 * height - 0.1, 0), (0.26, 0.8 * height, 0.03), 0.3),
    ]


def _car(body: Array, cabin: Array) -> list[Part]:
    length, height = between(body, 0.52, 1.0), between(cabin, 0.07, 0.36)
    deep = between(body, 0.27, 0.14)
    parts = [
        part("box", (0, 0.07 - deep, 0), (length, deep, 0.38), 0.85),
        part("frustum", (-0.2 * length, 0.06 + height, 0), (0.6 * length, height, 0.36), 0.18),
        part("box", (-0.2 * length, 0.08 + 2 * height, 0), (0.38 * length, 0.035, 0.24), 1.0),
        part("box", (length, 0.07 - 0.7 * deep, 0), (0.04, 0.6 * deep, 0.34), 1.0),
        part("box", (length, 0.1 - 2 * deep, 0), (0.05, 0.06, 0.38), 0.1),
        part("box", (-length + 0.06, 0.08 - deep, 0), (0.08, deep, 0.39), 0.3),
    ]
    for x in (-0.58, 0.58):
        for z in (0.36, -0.36):
            wheel = (x * length, 0.05 - 2 * deep, z)
            parts.append(part("cylinder", wheel, (0.19, 0.06, 0.19), 0.08, tilt=(90, 0, 0)))
    return parts


def _chair(back: Array, legs: Array) -> list[Part]:
    height, leg = between(back, 0.14, 0.54), between(legs, 0.1, 0.46)
    parts = [
        part("box", (0, -0.1, 0), (0.45, 0.07, 0.45), 0.65),
        part("box", (0, -0.03 + height, -0.39), (0.45, height, 0.06), 1.0),
        part("box", (0, -0.08 + 2 * height, -0.36), (0.46, 0.07, 0.07), 0.15),
    ]
    for z, albedo in ((0.38, 0.12), (-0.38, 0.9)):
        for x in (0.38, -0.38):
            parts.append(part("box", (x, -0.17 - leg, z), (0.07, leg, 0.07), albedo))
    return parts


def _face(width: Array, features: Array) -> list[Part]:
    half, eye = between(width, 0.42, 0.84), between(features, 0.06, 0.18)
    tall = between(width, 0.92, 0.7)
    parts = [
        part("ellipsoid", (0, 0, 0), (half, tall, 0.62), 0.9),
        part("ellipsoid", (0, 0.42 * tall, -0.14), (1.06 * half, 0.7 * tall, 0.6), 0.12),
        part("cylinder", (0, 0.05 - tall, -0.12), (0.28, 0.25, 0.26), 0.6),
        part("ellipsoid", (0, -0.1, 0.64), (0.1, 0.17, 0.16), 1.0),
        part("ellipsoid", (0, -0.52 * tall, 0.5), (2.5 * eye, 0.6 * eye, 0.1), 0.15),
    ]
    for side in (-1, 1):
        parts.append(part("ellipsoid", (side * 0.45 * half, 0.1, 0.53), (1.2 * eye, eye, 0.1), 0.05))
        parts.append(part("ellipsoid", (side * half, -0.05, 0), (0.1, 0.17, 0.12), 0.8))
    return parts


def _fruit(pear: Array, leaf: Array) -> list[Part]:
    neck, blade = between(pear, 0.05, 0.6), between(leaf, 0.1, 0.6)
    girth = between(pear, 0.74, 0.54)
    return [
        part("ellipsoid", (0, -0.25, 0), (girth, 0.6, girth), 0.95),
        part("ellipsoid", (0, 0.05, 0), (0.76 * girth, 0.42 + 0.5 * neck, 0.76 * girth), 0.95),
        part("ellipsoid", (0, 0.1 + neck, 0), (0.6 * girth, 0.34, 0.6 * girth), 0.95),
        part("ellipsoid", (0.45 * girth, -0.3, 0.52 * girth), (0.34, 0.34, 0.3), 0.35),
        part("bowl", (0, -0.77, 0), (0.22, 0.14, 0.22), 0.1),
        part("cylinder", (0, 0.5 + neck, 0), (0.05, 0.2, 0.05), 0.1, tilt=(0, 0, -15)),
        part(
            "ellipsoid",
            (blade + 0.05, 0.52 + neck, 0.05),
            (blade, 0.1, 0.12 + 0.25 * blade),
            0.15,
            tilt=(25, 0, 15),
        ),
    ]


def _plane(wings: Array, body: Array) -> list[Part]:
    span, radius = between(wings, 0.3, 1.1), between(body, 0.11, 0.28)
    parts = [
        part("ellipsoid", (0, 0, 0), (1.0, radius, radius), 1.0),
        part("ellipsoid", (0.68, 0.5 * radius, 0), (0.18, 0.5 * radius, 0.6 * radius), 0.05),
        part("ellipsoid", (0.86, 0, 0), (0.18, 0.6 * radius, 0.6 * radius), 0.35),
        part("wedge", (-0.72, radius + 0.16, 0), (0.22, 0.26, 0.04), 0.15),
        part("box", (-0.82, 0.04, 0), (0.13, 0.03, 0.38), 0.2),
    ]
    for side in (-1, 1):
        sweep = 0.14 - 0.12 * span
        parts.append(part("box", (sweep, 0, side * 0.5 * span), (0.2, 0.035, 0.5 * span), 1.0))
        parts.append(part("box", (sweep, 0, side * span), (0.22, 0.06, 0.07), 0.08))
        engine = (sweep + 0.1, -0.13, side * 0.5 * span)
        parts.append(part("cylinder", engine, (0.09, 0.17, 0.09), 0.1, tilt=(0, 0, 90)))
    return parts


def _table(top: Array, legs: Array) -> list[Part]:
    width, leg = between(top, 0.54, 0.96), between(legs, 0.1, 0.5)
    deep = between(top, 0.66, 0.4)
    parts = [
        part("box", (0, 0.24, 0), (width, 0.06, deep), 0.95),
        part("box", (-0.3 * width, 0.09, deep - 0.08), (0.45 * width, 0.1, 0.06), 0.3),
        part("cylinder", (0.55 * width, 0.44, -0.1), (0.17, 0.17, 0.17), 0.12),
    ]
    for z, albedo in ((deep - 0.08, 0.12), (0.08 - deep, 0.9)):
        for side in (-1, 1):
            parts.append(part("box", (side * (width - 0.08), 0.18 - leg, z), (0.075, leg, 0.075), albedo))
    return parts


@dataclass(frozen=True)
class Category:
    """How to build a category's solids, and the pose that counts as unrotated.

    Attributes
    ----------
    build : callable
        (shape_1, shape_2), both (n,) in [-1, 1] -> parts of n solids.
    pitch, yaw : float
        Rotation about x after rotation about y, degrees, before any rotation of the stimulus.
    scale : float
        Evens out how large the categories look.
    """

    build: Callable[[Array, Array], list[Part]]
    pitch: float
    yaw: float
    scale: float


CATEGORIES = {
    "animal": Category(_animal, 12.0, -25.0, 1.15),
    "boat": Category(_boat, 12.0, -22.0, 1.1),
    "car": Category(_car, 16.0, -28.0, 1.15),
    "chair": Category(_chair, 18.0, 25.0, 1.15),
    "face": Category(_face, 0.0, 0.0, 1.0),
    "fruit": Category(_fruit, 8.0, 0.0, 0.95),
    "plane": Category(_plane, 38.0, -30.0, 1.2),
    "table": Category(_table, 24.0, 20.0, 1.15),
}
