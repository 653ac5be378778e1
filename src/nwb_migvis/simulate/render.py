"""Grayscale renders of the solids: closed-form ray casting, vectorised over images."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from nwb_migvis.errors import MigvisError
from nwb_migvis.simulate.backgrounds import Backdrop
from nwb_migvis.simulate.solids import CATEGORIES, PRIMITIVES, Category, Part, Primitive

POSE = ("rotation_x", "rotation_y", "rotation_z", "position_x", "position_y", "size")
SHAPE = ("shape_1", "shape_2")
FACTORS = (*POSE, "category", *SHAPE)

RANGES: dict[str, tuple[float, float]] = {
    "rotation_x": (-45.0, 45.0),
    "rotation_y": (-45.0, 45.0),
    "rotation_z": (-45.0, 45.0),
    "position_x": (-0.25, 0.25),
    "position_y": (-0.25, 0.25),
    "size": (0.5, 0.9),
    "shape_1": (-1.0, 1.0),
    "shape_2": (-1.0, 1.0),
}
"""Range of each numeric factor: rotations in degrees, position and size in image half-widths."""

_LIGHT = np.array([-0.45, 0.7, 0.55]) / np.linalg.norm([-0.45, 0.7, 0.55])
_AMBIENT, _DIFFUSE = 0.45, 0.55
_SUPERSAMPLING = 2
_CHUNK_RAYS = 2**16
_FAR = np.float32(1e6)
_N_TERNARY, _N_BISECTIONS = 16, 14

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Stimuli:
    """Rendered images and what they were rendered from.

    Attributes
    ----------
    names : list of str
    images : numpy.ndarray
        (stimulus, y, x) uint8.
    factors : pandas.DataFrame
        One row per image, as from `draw_factors`.
    """

    names: list[str]
    images: NDArray[np.uint8]
    factors: pd.DataFrame


def draw_factors(n: int, *, seed: int, categories: Sequence[str] = tuple(CATEGORIES)) -> pd.DataFrame:
    """Draw the factors of n stimuli: categories balanced and shuffled, numbers uniform and independent.

    Parameters
    ----------
    n : int
        Number of stimuli.
    seed : int
    categories : sequence of str

    Returns
    -------
    pandas.DataFrame
        n rows; columns `FACTORS`: `rotation_x`, `rotation_y`, `rotation_z` (degrees), `position_x`,
        `position_y`, `size` (image half-widths), `category` (str), `shape_1`, `shape_2` (-1 to 1).
    """
    rng = np.random.default_rng([seed, 1])
    columns: dict[str, np.ndarray] = {name: rng.uniform(low, high, n) for name, (low, high) in RANGES.items()}
    names = np.array(list(categories), dtype=object)
    columns["category"] = names[rng.permutation(np.arange(n) % len(names))]
    return pd.DataFrame(columns)[list(FACTORS)]


def render_stimuli(
    factors: pd.DataFrame,
    *,
    size_px: int = 32,
    seed: int = 0,
    background: str = "textured",
    n_threads: int = 2,
    backdrop: Backdrop | None = None,
    kinds: Mapping[str, Category] = CATEGORIES,
) -> NDArray[np.uint8]:
    """Render one image per row of `factors`.

    The camera is orthographic and looks along -z. The object is turned about its own centre by `rotation_y`,
    then `rotation_x`, then `rotation_z` about the image's axes. These are x right, y up and z towards the
    viewer; rotations are counterclockwise seen from the axis' tip. The object is scaled by `size` (its
    radius) and moved by `position_x` (right) and `position_y` (up).

    Parameters
    ----------
    factors : pandas.DataFrame
        As from `draw_factors`. Rotations in degrees, position and size in image half-widths.
    size_px : int
        Side of the square images.
    seed : int
        Seeds the background textures: row i of the same seed has the same texture at every size.
    background : {"textured", "plain"}
        Smooth 1/f noise, or one gray.
    n_threads : int
        Threads; the images do not depend on it.
    backdrop : Backdrop, optional
        What is behind the objects, and their light, in place of `background`.
    kinds : mapping of str to Category
        How the solids of each category are built.

    Returns
    -------
    uint8 (n, y, x)

    Raises
    ------
    MigvisError
        For an unknown category or background, or a size under 8 px.
    """
    backdrop = Backdrop(background) if backdrop is None else backdrop
    if size_px < 8:
        raise MigvisError(f"images of {size_px} px are too small to render; expected at least 8")
    category = factors["category"].to_numpy()
    unknown = sorted(set(category) - set(kinds))
    if unknown:
        raise MigvisError(f"category {unknown[0]!r} is unknown; expected one of {', '.join(kinds)}")
    images = np.empty((len(factors), size_px, size_px), np.uint8)

    def render(rows: NDArray[np.int64], draw: Callable[[Floats], _Canvas]) -> None:
        images[rows] = _developed(draw(backdrop.behind(rows, size_px, seed=seed)), backdrop, rows)

    _each_chunk(factors, kinds, render, size_px=size_px, n_threads=n_threads)
    return images


def render_masks(
    factors: pd.DataFrame,
    *,
    size_px: int,
    n_threads: int = 2,
    kinds: Mapping[str, Category] = CATEGORIES,
) -> NDArray[np.bool_]:
    """Say where objects are, bool (n, y, x): at least half of a pixel. Arguments: see `render_stimuli`."""
    masks = np.empty((len(factors), size_px, size_px), np.bool_)

    def render(rows: NDArray[np.int64], draw: Callable[[Floats], _Canvas]) -> None:
        fine = draw(np.zeros((len(rows), size_px, size_px), np.float32)).depth > -_FAR
        masks[rows] = _pixels(fine.astype(np.float32)) >= 0.5

    _each_chunk(factors, kinds, render, size_px=size_px, n_threads=n_threads)
    return masks


def _each_chunk(
    factors: pd.DataFrame,
    kinds: Mapping[str, Category],
    use: Callable[[NDArray[np.int64], Callable[[Floats], _Canvas]], None],
    *,
    size_px: int,
    n_threads: int,
) -> None:
    """Call `use` with rows of one category and what draws them before what is behind."""
    category = factors["category"].to_numpy()
    per_chunk = max(1, _CHUNK_RAYS // (size_px * _SUPERSAMPLING) ** 2)
    jobs = []
    for name in kinds:
        rows = np.flatnonzero(category == name)
        jobs += [(name, rows[i : i + per_chunk]) for i in range(0, len(rows), per_chunk)]
    values = {name: factors[name].to_numpy(np.float64) for name in (*POSE, *SHAPE)}

    def render(job: tuple[str, NDArray[np.int64]]) -> None:
        name, rows = job
        parts = {key: column[rows] for key, column in values.items()}
        use(rows, lambda behind: _render_category(kinds[name], parts, behind, size_px))

    with ThreadPoolExecutor(n_threads) as pool:
        list(pool.map(render, jobs))


def _render_category(
    category: Category, values: dict[str, NDArray[np.float64]], behind: Floats, size_px: int
) -> _Canvas:
    """Draw n solids of one category before what is behind them, supersampled."""
    turn = _rotation(values["rotation_x"], values["rotation_y"], values["rotation_z"])
    zero = np.zeros(1)
    turn = turn @ _rotation(np.array([category.pitch]), np.array([category.yaw]), zero)
    shift = np.stack([values["position_x"], values["position_y"], np.zeros(len(turn))], axis=-1)
    n_rays = size_px * _SUPERSAMPLING
    x = ((2 * np.arange(n_rays) + 1) / n_rays - 1).astype(np.float32)
    depth = np.full((len(turn), n_rays, n_rays), -_FAR, np.float32)
    shade = behind.repeat(_SUPERSAMPLING, axis=1).repeat(_SUPERSAMPLING, axis=2)
    placement = _Placement(turn, category.scale * values["size"], shift)
    canvas = _Canvas(depth, shade)
    for part in category.build(values["shape_1"], values["shape_2"]):
        _cast(part, placement, canvas, x)
    return canvas


def _developed(canvas: _Canvas, backdrop: Backdrop, rows: NDArray[np.int64]) -> NDArray[np.uint8]:
    """Return the images of a canvas, objects in the light of their images."""
    shade = canvas.shade
    if backdrop.light is not None:
        shade = np.where(canvas.depth > -_FAR, backdrop.lit(shade, rows), shade)
    return np.clip(np.rint(_pixels(shade) * 255), 0, 255).astype(np.uint8)


def _pixels(rays: Floats) -> Floats:
    """Average rays (n, y, x) over pixels."""
    size_px = rays.shape[1] // _SUPERSAMPLING
    mean: Floats = rays.reshape(len(rays), size_px, _SUPERSAMPLING, size_px, _SUPERSAMPLING).mean((2, 4))
    return mean


@dataclass(frozen=True)
class _Placement:
    """How n solids are turned (n, 3, 3), scaled (n,) and shifted (n, 3)."""

    turn: NDArray[np.float64]
    size: NDArray[np.float64]
    shift: NDArray[np.float64]


@dataclass(frozen=True)
class _Canvas:
    """What has been drawn of n images, (n, y, x) each: depth of the front surface, and its gray level."""

    depth: Floats
    shade: Floats


@dataclass(frozen=True)
class _Rays:
    """Rays along z through n primitives, and where they enter and leave.

    Attributes
    ----------
    dx : (n, 1, x), dy : (n, y, 1)
        Offsets of the rays from the centres.
    near, far, light : (n, y, x)
        Front and back surface along z, and the cosine between the front's normal and the light.
    """

    dx: Floats
    dy: Floats
    near: Floats
    far: Floats
    light: Floats


def _cast(part: Part, placement: _Placement, canvas: _Canvas, x: Floats) -> None:
    """Draw one part of n solids onto the canvas where it is in front; pixels are centred at x and -x."""
    turn, size, shift = placement.turn, placement.size, placement.shift
    depth = canvas.depth
    primitive = PRIMITIVES[part.kind]
    tilt = _rotation(*(np.array([angle]) for angle in part.tilt))[0]
    axes = turn @ tilt
    local = np.swapaxes(axes, 1, 2) / (size[:, None, None] * part.half[:, :, None])
    centre = shift + size[:, None] * np.einsum("nij,nj->ni", turn, np.broadcast_to(part.centre, shift.shape))
    dx = (x - centre[:, :1]).astype(np.float32)[:, None, :]
    dy = (-x - centre[:, 1:2]).astype(np.float32)[:, :, None]
    near = np.full(depth.shape, _FAR, np.float32)
    far = np.full(depth.shape, -_FAR, np.float32)
    light = np.zeros(depth.shape, np.float32)
    rays = _Rays(dx, dy, near, far, light)
    if primitive.quadric is not None:
        _cast_quadric(np.array(primitive.quadric), local, rays)
    if primitive.power is not None:
        _cast_power(primitive.power, local, rays)
    _cast_planes(primitive, local, rays)
    near += centre[:, 2:].astype(np.float32)[:, :, None]
    far += centre[:, 2:].astype(np.float32)[:, :, None]
    hit = (near > far) & (near > depth)
    np.copyto(depth, near, where=hit)
    np.copyto(canvas.shade, np.float32(part.albedo) * (_AMBIENT + _DIFFUSE * np.maximum(light, 0)), where=hit)


def _cast_quadric(weights: NDArray[np.float64], local: NDArray[np.float64], rays: _Rays) -> None:
    """Intersect q . (local p)**2 <= 1: a quadratic in z for every ray."""
    dx, dy, near, far = rays.dx, rays.dy, rays.near, rays.far
    a = (np.swapaxes(local, 1, 2) * weights) @ local
    c = {(i, j): a[:, i, j].astype(np.float32)[:, None, None] for i in range(3) for j in range(i, 3)}
    linear = (c[0, 2] / c[2, 2]) * dx + (c[1, 2] / c[2, 2]) * dy
    constant = (
        (c[0, 0] / c[2, 2]) * dx**2 + (c[1, 1] * dy**2 - 1) / c[2, 2] + 2 * (c[0, 1] / c[2, 2]) * dy * dx
    )
    root = linear**2 - constant
    miss = root < 0
    root = np.sqrt(np.maximum(root, 0))
    np.subtract(root, linear, out=near)
    np.subtract(-root, linear, out=far)
    far[miss] = _FAR
    towards, length = np.float32(0), np.float32(0)
    for i, row in enumerate((0, 1, 2)):
        nx, ny, nz = (c[min(row, j), max(row, j)] for j in range(3))
        normal = (nx * dx + ny * dy) + nz * near
        towards = towards + np.float32(_LIGHT[i]) * normal
        length = length + normal**2
    rays.light[:] = towards / np.sqrt(length + np.float32(1e-12))


def _cast_power(power: float, local: NDArray[np.float64], rays: _Rays) -> None:
    """Intersect |u|**p + |v|**p + |w|**p <= 1, (u, v, w) = local p: it is convex in z."""
    rows = [local[:, i].astype(np.float32)[:, :, None, None] for i in range(3)]
    across = [row[:, 0] * rays.dx + row[:, 1] * rays.dy for row in rows]

    def outside(z: NDArray[Any]) -> NDArray[Any]:
        return sum(np.abs(u + row[:, 2] * z) ** power for u, row in zip(across, rows, strict=True)) - 1

    reach = np.float32(np.abs(np.linalg.inv(local)).sum(axis=(1, 2)).max())
    low, high = np.full(rays.near.shape, -reach), np.full(rays.near.shape, reach)
    for _ in range(_N_TERNARY):
        a, b = low + (high - low) / 3, high - (high - low) / 3
        is_left = outside(a) < outside(b)
        low, high = np.where(is_left, low, a), np.where(is_left, b, high)
    middle = (low + high) / 2
    is_hit = outside(middle) <= 0
    for end, edge in ((reach, rays.near), (-reach, rays.far)):
        within, beyond = middle, np.full(middle.shape, end)
        for _ in range(_N_BISECTIONS):
            half = (within + beyond) / 2
            is_in = outside(half) <= 0
            within, beyond = np.where(is_in, half, within), np.where(is_in, beyond, half)
        edge[:] = within
    rays.far[~is_hit] = _FAR
    gradient = [
        np.sign(v) * np.abs(v) ** (power - 1)
        for v in (u + row[:, 2] * rays.near for u, row in zip(across, rows, strict=True))
    ]
    normal = [sum(g * row[:, j] for g, row in zip(gradient, rows, strict=True)) for j in range(3)]
    length = np.sqrt(sum(n**2 for n in normal) + np.float32(1e-12))
    rays.light[:] = sum(np.float32(w) * n for w, n in zip(_LIGHT, normal, strict=True)) / length


def _cast_planes(primitive: Primitive, local: NDArray[np.float64], rays: _Rays) -> None:
    """Cut by n . (local p) <= offset: a bound on z from above or below, by the sign of n's z."""
    dx, dy, near, far, light = rays.dx, rays.dy, rays.near, rays.far, rays.light
    for normal, offset in zip(primitive.normals, primitive.offsets, strict=True):
        world = np.einsum("i,nij->nj", np.asarray(normal, float), local)
        facing = world[:, 2] > 0
        nz = np.where(np.abs(world[:, 2]) < 1e-6, np.where(facing, 1e-6, -1e-6), world[:, 2])
        slope_x, slope_y, at = (
            v.astype(np.float32)[:, None, None] for v in (-world[:, 0] / nz, -world[:, 1] / nz, offset / nz)
        )
        shine = ((world @ _LIGHT) / np.linalg.norm(world, axis=1)).astype(np.float32)
        for rows, front in ((np.flatnonzero(facing), True), (np.flatnonzero(~facing), False)):
            if not len(rows):
                continue
            bound = slope_x[rows] * dx[rows] + (slope_y[rows] * dy[rows] + at[rows])
            if front:
                light[rows] = np.where(bound < near[rows], shine[rows, None, None], light[rows])
                near[rows] = np.minimum(near[rows], bound)
            else:
                far[rows] = np.maximum(far[rows], bound)


def _rotation(about_x: NDArray[Any], about_y: NDArray[Any], about_z: NDArray[Any]) -> NDArray[np.float64]:
    """Return rotation matrices (n, 3, 3): about y first, then x, then z; degrees."""
    (cx, cy, cz), (sx, sy, sz) = (
        [f(np.deg2rad(v)) for v in (about_x, about_y, about_z)] for f in (np.cos, np.sin)
    )
    one, zero = np.ones_like(cx), np.zeros_like(cx)
    x = np.array([[one, zero, zero], [zero, cx, -sx], [zero, sx, cx]])
    y = np.array([[cy, zero, sy], [zero, one, zero], [-sy, zero, cy]])
    z = np.array([[cz, -sz, zero], [sz, cz, zero], [zero, zero, one]])
    x, y, z = (np.moveaxis(m, -1, 0) for m in (x, y, z))
    return z @ x @ y
