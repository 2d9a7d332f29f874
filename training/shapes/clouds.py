"""From triangles to training clouds: area sampling, views from one side, and the damage that real scans have.

N points. Clouds are `(N, 3)` float32 with z up until `orient` turns them.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from models.mini.points_network import turn_about_z, yaw_of
from training.shapes.parts import Triangles

Cloud = npt.NDArray[np.float32]
NUM_POINTS = 1024
CLEAN_SHARE = 0.4
UP_AXES = {"z": (0, 1, 2), "y": (1, 2, 0), "x": (2, 0, 1)}  # cyclic, so that nothing is mirrored


def sample(triangles: Triangles, num_points: int, random: np.random.Generator) -> tuple[Cloud, Cloud]:
    """Return points spread evenly over the area, and the unit normals there, both `(num_points, 3)`."""
    edge_a, edge_b = triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0]
    normal = np.cross(edge_a, edge_b)
    area = np.linalg.norm(normal, axis=1)
    cumulated = np.cumsum(area)
    face = np.searchsorted(cumulated, random.random(num_points) * cumulated[-1], side="right").clip(0, len(area) - 1)
    u, v = random.random((2, num_points, 1))
    outside = u + v > 1
    u, v = np.where(outside, 1 - u, u), np.where(outside, 1 - v, v)
    points = triangles[face, 0] + u * edge_a[face] + v * edge_b[face]
    return points.astype(np.float32), (normal[face] / area[face, None]).astype(np.float32)


def to_unit_sphere(points: Cloud) -> Cloud:
    """Centre on the mean and scale the farthest point to 1, as the encoder does."""
    centred = points - points.mean(axis=0)
    return np.asarray(centred / (np.linalg.norm(centred, axis=1).max() + 1e-9), dtype=np.float32)


def random_direction(random: np.random.Generator, *, lowest: float = -1.0) -> Cloud:
    """Draw a unit vector whose height is at least `lowest`."""
    z, angle = random.uniform(lowest, 1), random.uniform(0, 2 * np.pi)
    flat = np.sqrt(1 - z * z)
    return np.array((flat * np.cos(angle), flat * np.sin(angle), z), dtype=np.float32)


def frame_of(direction: Cloud) -> Cloud:
    """Return a rotation `(3, 3)` whose rows are right, up and the direction toward the eye."""
    helper = np.array((0, 0, 1.0)) if abs(direction[2]) < 0.95 else np.array((0, 1.0, 0))
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right)
    return np.stack((right, np.cross(direction, right), direction)).astype(np.float32)


def visible(points: Cloud, direction: Cloud, *, cells: int, slack: float) -> npt.NDArray[np.bool_]:
    """Return which points an eye far away in `direction` sees, by depth in a grid of `cells` x `cells`."""
    x, y, depth = frame_of(direction) @ points.T
    column = np.clip(((x + 1) * 0.5 * cells).astype(int), 0, cells - 1)
    row = np.clip(((y + 1) * 0.5 * cells).astype(int), 0, cells - 1)
    nearest = np.full(cells * cells, -np.inf, dtype=np.float32)
    np.maximum.at(nearest, row * cells + column, depth)
    return np.asarray(depth >= nearest[row * cells + column] - slack)


def orient(points: Cloud, random: np.random.Generator, *, upright: bool) -> Cloud:
    """Turn about the vertical at random, tilt a little, and align the ground plan as the encoder does.

    Unless `upright`, another of the six half axes becomes the vertical first.
    """
    if not upright:
        points = points[:, UP_AXES["xyz"[int(random.integers(3))]]]
        points = points * np.array(((1, 1, 1), (1, -1, -1))[int(random.integers(2))], dtype=np.float32)
    angle = random.uniform(0, 2 * np.pi)
    turn = rotation_about(np.array((0, 0, 1.0)), angle)
    if random.random() < 0.4:
        turn = rotation_about(random_direction(random), random.normal(0, 0.07)) @ turn
    turned = points @ turn.T.astype(np.float32)
    return np.asarray(turn_about_z(turned, yaw_of(turned)))


def rotation_about(axis: Cloud, angle: float) -> npt.NDArray[np.float64]:
    """Rodrigues' formula."""
    x, y, z = axis
    cross = np.array(((0, -z, y), (z, 0, -x), (-y, x, 0)), dtype=np.float64)
    return np.asarray(np.eye(3) + np.sin(angle) * cross + (1 - np.cos(angle)) * cross @ cross)


def damage(points: Cloud, random: np.random.Generator) -> Cloud:
    """Return 1024 of the points as a scanner or a careless exporter would leave them, z still up.

    Views from one side, uneven density, holes, a piece of floor, few points, noise and strays, each now and then.
    """
    points = points * np.exp(random.normal(0, 0.07, 3)).astype(np.float32)
    if random.random() < 0.3:
        direction = random_direction(random, lowest=-0.2)
        kept = visible(to_unit_sphere(points), direction, cells=int(random.integers(18, 34)), slack=0.06)
        points = points[kept] if kept.sum() > 150 else points
    for _ in range(int(random.integers(1, 4)) if random.random() < 0.25 else 0):
        middle = points[random.integers(len(points))]
        far = np.linalg.norm(points - middle, axis=1)
        kept = far > random.uniform(0.05, 0.35) * far.max()
        points = points[kept] if kept.sum() > 150 else points
    weights = None
    if random.random() < 0.3:
        centred = to_unit_sphere(points)
        slope = centred @ random_direction(random) * random.uniform(0.5, 2.5)
        weights = np.exp(slope)
        weights = weights / weights.sum()
    if random.random() < 0.06:
        points, weights = with_floor(points, random), None
    few = random.random() < 0.1
    count = int(random.integers(128, 700)) if few else NUM_POINTS
    chosen = random.choice(len(points), min(count, len(points)), replace=False, p=weights)
    points = points[chosen]
    points = points[np.arange(NUM_POINTS) % len(points)]
    size = np.linalg.norm(points - points.mean(axis=0), axis=1).max()
    if random.random() < 0.6:
        points = points + random.normal(0, random.uniform(0.001, 0.025) * size, points.shape).astype(np.float32)
    if random.random() < 0.12:
        strays = random.integers(1, 25)
        points[:strays] = random.uniform(-1, 1, (strays, 3)) * size * random.uniform(0.5, 1.1) + points.mean(axis=0)
    return points


def with_floor(points: Cloud, random: np.random.Generator) -> Cloud:
    low, high = points.min(axis=0), points.max(axis=0)
    count = int(random.uniform(0.1, 0.5) * len(points))
    floor = random.uniform(low - 0.2 * (high - low), high + 0.2 * (high - low), (count, 3)).astype(np.float32)
    floor[:, 2] = low[2]
    return np.concatenate((points, floor))


def augment(points: Cloud, random: np.random.Generator, *, upright: bool) -> Cloud:
    """Return one training view `(1024, 3)` of a pool cloud; two in five are whole and almost clean."""
    if random.random() < CLEAN_SHARE:
        chosen = points[random.choice(len(points), NUM_POINTS, replace=False)]
        chosen = chosen + random.normal(0, random.uniform(0, 0.008), chosen.shape).astype(np.float32)
    else:
        chosen = damage(points, random)
    return np.ascontiguousarray(to_unit_sphere(orient(chosen, random, upright=upright)), dtype=np.float32)


def render(triangles: Triangles, direction: Cloud, size_px: int, random: np.random.Generator) -> npt.NDArray[np.uint8]:
    """Return a picture `(size, size, 3)` of an object on white, shaded by its normals; z is up."""
    points, normals = sample(triangles, 6 * size_px * size_px, random)
    points = points - (points.min(axis=0) + points.max(axis=0)) / 2
    points = points / (np.linalg.norm(points, axis=1).max() + 1e-9)
    frame = frame_of(direction)
    x, y, depth = frame @ points.T
    seen = frame @ normals.T
    light = np.abs(0.35 * seen[0] + 0.45 * seen[1] + 0.8 * seen[2])
    column, row = (((part + 1.05) / 2.1 * size_px).astype(int) for part in (x, -y))
    order = np.argsort(depth)
    picture = np.full((size_px, size_px), 255, dtype=np.uint8)
    picture[row[order], column[order]] = (40 + 185 * light[order].clip(0, 1)).astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=2)
