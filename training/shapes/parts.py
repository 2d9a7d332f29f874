"""Primitives from which objects are built, as triangles `(F, 3, 3)`: z is up, x is forward, lengths are free.

Every solid is a grid of points `(R, C, 3)` wrapped by `skin`. Letters: F triangles, R rings, C corners of a ring.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float64]
Triangles = npt.NDArray[np.float64]  # (F, 3, 3)
Point = Sequence[float] | Array
AXES = {"x": (1, 2), "y": (2, 0), "z": (0, 1)}


class Dice:
    """A seeded source of proportions: calling it draws uniformly between two bounds."""

    def __init__(self, random: np.random.Generator) -> None:
        self.random = random

    def __call__(self, low: float, high: float) -> float:
        return float(self.random.uniform(low, high))

    def maybe(self, probability: float) -> bool:
        return bool(self.random.random() < probability)

    def whole(self, low: int, high: int) -> int:
        """Draw an integer, both bounds included."""
        return int(self.random.integers(low, high + 1))

    def pick(self, *options: str) -> str:
        return options[int(self.random.integers(len(options)))]


def join(*parts: Triangles) -> Triangles:
    return np.concatenate([part for part in parts if len(part)]) if parts else np.zeros((0, 3, 3))


def skin(grid: Array, *, closed: bool = True, caps: bool = True) -> Triangles:
    """Return the triangles over a grid `(R, C, 3)`; `closed` joins the last corner to the first, `caps` the ends."""
    if caps:
        ends = [np.repeat(ring.mean(axis=0)[None], grid.shape[1], axis=0) for ring in (grid[0], grid[-1])]
        grid = np.concatenate((ends[0][None], grid, ends[1][None]))
    if closed:
        grid = np.concatenate((grid, grid[:, :1]), axis=1)
    a, b, c, d = grid[:-1, :-1], grid[:-1, 1:], grid[1:, 1:], grid[1:, :-1]
    quads = np.stack((np.stack((a, b, c), axis=2), np.stack((a, c, d), axis=2)))
    return np.asarray(quads.reshape(-1, 3, 3), dtype=np.float64)


def box(centre: Point, size: Point, *, taper: float = 1.0) -> Triangles:
    """Return a cuboid; `taper` scales its top face."""
    x, y, z = (side / 2 for side in size)
    ring = np.array([(-x, -y), (x, -y), (x, y), (-x, y)])
    grid = np.stack([np.column_stack((ring * scale, np.full(4, height))) for scale, height in ((1, -z), (taper, z))])
    return skin(grid) + np.asarray(centre, dtype=np.float64)


def spans(low: Point, high: Point) -> Triangles:
    """Return the cuboid between two corners."""
    a, b = np.asarray(low, dtype=np.float64), np.asarray(high, dtype=np.float64)
    return box((a + b) / 2, np.abs(b - a))


def circle(num_corners: int, exponent: float = 2.0) -> Array:
    """Return a unit superellipse `(C, 2)`; exponent 2 is a circle, more is squarer."""
    angle = np.arange(num_corners) / num_corners * 2 * math.pi + math.pi / num_corners
    corners = np.column_stack((np.cos(angle), np.sin(angle)))
    return np.asarray(np.sign(corners) * np.abs(corners) ** (2 / exponent))


def lathe(profile: Sequence[Point], *, num_corners: int = 20, caps: bool = False) -> Triangles:
    """Turn `(radius, height)` pairs about the z axis."""
    radius, height = np.asarray(profile, dtype=np.float64).T
    ring = circle(num_corners)
    grid = np.concatenate(
        (radius[:, None, None] * ring, np.broadcast_to(height[:, None, None], (len(height), num_corners, 1))), axis=2
    )
    return skin(grid, caps=caps)


def disc(centre: Point, radius: float, thickness: float, *, num_corners: int = 20, axis: str = "z") -> Triangles:
    """Return a cylinder about `axis`, `thickness` long."""
    solid = lathe([(radius, -thickness / 2), (radius, thickness / 2)], num_corners=num_corners, caps=True)
    return aim(solid, axis) + np.asarray(centre, dtype=np.float64)


def aim(solid: Triangles, axis: str) -> Triangles:
    """Turn the z axis of a solid onto `axis`."""
    return solid if axis == "z" else solid[..., [2, 0, 1]] if axis == "x" else solid[..., [1, 2, 0]]


def ellipsoid(centre: Point, radii: Point, *, exponent: float = 2.0, num_rings: int = 9) -> Triangles:
    """Return a superellipsoid; exponent 2 is an ellipsoid, more is boxier."""
    angle = np.linspace(-math.pi / 2, math.pi / 2, num_rings)
    power = 2 / exponent
    profile = np.column_stack((np.abs(np.cos(angle)) ** power, np.sign(np.sin(angle)) * np.abs(np.sin(angle)) ** power))
    ring = circle(14, exponent)
    grid = np.concatenate(
        (profile[:, :1, None] * ring, np.broadcast_to(profile[:, 1:, None], (num_rings, 14, 1))), axis=2
    )
    return skin(grid * np.asarray(radii, dtype=np.float64), caps=False) + np.asarray(centre, dtype=np.float64)


def tube(path: Sequence[Point] | Array, radius: float | Sequence[float] | Array, *, num_corners: int = 8) -> Triangles:
    """Sweep a round section along `path` `(P, 3)`; `radius` may change from point to point."""
    points = np.asarray(path, dtype=np.float64)
    along = np.gradient(points, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-12
    spread = np.abs(along).sum(axis=0)
    other = np.eye(3)[int(spread.argmin())]
    side = np.cross(along, other)
    side /= np.linalg.norm(side, axis=1, keepdims=True) + 1e-12
    over = np.cross(along, side)
    ring = circle(num_corners)
    radii = np.broadcast_to(np.asarray(radius, dtype=np.float64), (len(points),))[:, None, None]
    grid = points[:, None] + radii * (ring[:, :1] * side[:, None] + ring[:, 1:] * over[:, None])
    return skin(grid)


def bar(start: Point, end: Point, radius: float, end_radius: float | None = None, *, corners: int = 8) -> Triangles:
    """Return a straight rod, round or with few corners."""
    return tube([start, end], [radius, radius if end_radius is None else end_radius], num_corners=corners)


def arc(centre: Point, radius: float, first: float, last: float, *, plane: str = "xz", num: int = 14) -> Array:
    """Return points `(num, 3)` on a circle between two angles in degrees, in a plane such as "xz"."""
    angle = np.radians(np.linspace(first, last, num))
    points = np.zeros((num, 3))
    points[:, "xyz".index(plane[0])] = radius * np.cos(angle)
    points[:, "xyz".index(plane[1])] = radius * np.sin(angle)
    return points + np.asarray(centre, dtype=np.float64)


def hoop(centre: Point, radius: float, thickness: float, *, plane: str = "xz", num: int = 24) -> Triangles:
    """Return a torus."""
    return tube(arc(centre, radius, 0, 360, plane=plane, num=num), thickness)


def loft(
    stations: Sequence[Sequence[float]] | Array, *, exponent: float = 2.0, num_corners: int = 16, smooth: int = 0
) -> Triangles:
    """Skin sections across x: rows of (x, centre z, half width, half height), optionally rounded by interpolation."""
    rows = np.asarray(stations, dtype=np.float64)
    if smooth:
        t, fine = np.arange(float(len(rows))), np.linspace(0, len(rows) - 1, smooth)
        rows = np.column_stack([smoothed(t, column, fine) for column in rows.T])
        rows[:, 2:] = rows[:, 2:].clip(1e-4)
    ring = circle(num_corners, exponent)
    grid = np.zeros((len(rows), num_corners, 3))
    grid[..., 0] = rows[:, 0, None]
    grid[..., 1] = rows[:, 2, None] * ring[:, 0]
    grid[..., 2] = rows[:, 1, None] + rows[:, 3, None] * ring[:, 1]
    return skin(grid)


def smoothed(t: Array, values: Array, fine: Array) -> Array:
    """Interpolate without overshoot: monotone between neighbours, slope zero at extremes."""
    left = np.clip(np.floor(fine).astype(int), 0, len(t) - 2)
    part = fine - left
    slope = np.gradient(values)
    steps = np.diff(values)
    for i in range(1, len(values) - 1):
        if steps[i - 1] * steps[i] <= 0:
            slope[i] = 0.0
    a, b = values[left], values[left + 1]
    p2, p3 = part**2, part**3
    ends = (2 * p3 - 3 * p2 + 1) * a + (3 * p2 - 2 * p3) * b
    return np.asarray(ends + (p3 - 2 * p2 + part) * slope[left] + (p3 - p2) * slope[left + 1])


def plate(outline: Sequence[Point] | Array, thickness: float, *, top: float = 1.0) -> Triangles:
    """Extrude an outline `(C, 2)` in the xy plane, star-shaped about its mean, by `thickness` along z."""
    corners = np.asarray(outline, dtype=np.float64)
    middle = corners.mean(axis=0)
    rings = [
        np.column_stack((middle + (corners - middle) * scale, np.full(len(corners), height)))
        for scale, height in ((1.0, -thickness / 2), (top, thickness / 2))
    ]
    return skin(np.stack(rings))


def sheet(rows: Sequence[Any] | Array) -> Triangles:
    """Return an open surface through a grid of points."""
    return skin(np.asarray(rows, dtype=np.float64), closed=False, caps=False)


def turn(solid: Triangles, axis: str, degrees: float, about: Point = (0, 0, 0)) -> Triangles:
    """Rotate about an axis through a point."""
    first, second = AXES[axis]
    centre = np.asarray(about, dtype=np.float64)
    moved = solid - centre
    angle = math.radians(degrees)
    a, b = moved[..., first].copy(), moved[..., second].copy()
    moved[..., first] = a * math.cos(angle) - b * math.sin(angle)
    moved[..., second] = a * math.sin(angle) + b * math.cos(angle)
    return np.asarray(moved + centre)


def mirror(solid: Triangles, axis: str = "y") -> Triangles:
    """Return the solid and its mirror image in the plane through the origin."""
    other = solid.copy()
    other[..., "xyz".index(axis)] *= -1
    return np.concatenate((solid, other))


def around(solid: Triangles, count: int, axis: str = "z") -> Triangles:
    """Return `count` copies of a solid spaced evenly about an axis."""
    return join(*(turn(solid, axis, 360 * n / count) for n in range(count)))


def at_corners(solid: Triangles, x: float, y: float) -> Triangles:
    """Return four copies mirrored to the corners of a rectangle."""
    moved = solid + np.array((x, y, 0.0))
    return mirror(mirror(moved), "x")


def sprinkle(leaf: Triangles, places: Array, dice: Dice, *, spread: float = 180) -> Triangles:
    """Return a copy of `leaf` at each place `(P, 3)`, turned at random."""
    parts = []
    for place in places:
        turned = turn(turn(leaf, "y", dice(-spread, spread)), "z", dice(0, 360))
        parts.append(turned + place)
    return join(*parts)


def ball_corners(num_points: int) -> npt.NDArray[np.float32]:
    """Return points spread evenly over the unit sphere, on a golden spiral."""
    n = np.arange(num_points) + 0.5
    z, angle = 1 - 2 * n / num_points, n * math.pi * (3 - math.sqrt(5))
    flat = np.sqrt(1 - z * z)
    return np.column_stack((flat * np.cos(angle), flat * np.sin(angle), z)).astype(np.float32)


def vessel(radius: Array, z: Array, wall: float) -> Triangles:
    """Return an open pot: outer and inner wall, rim and both floors."""
    inner_z = np.clip(z, z[0] + wall, None)
    outer = [(0.0, z[0]), *zip(radius, z, strict=True)]
    inner = [*zip((radius - wall).clip(0.002), inner_z, strict=True)][::-1]
    return lathe([*outer, *inner, (0.0, inner_z[0])])
