"""Farthest-point sampling and nearest-neighbour grouping of point clouds.

N points of one cloud, G groups of K points each, B clouds. Deterministic: sampling starts at point 0 unless told
otherwise, and the first maximum wins.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from core.errors import ConfigError, InvalidRequest

DISTANCES_PER_CHUNK = 16384  # stays in a core's cache, and torch starts no threads, whose barriers cost more
NEVER_FARTHEST = -1.0  # below every squared distance


class GroupingRule(NamedTuple):
    """How many groups of how many points; points with squared norm up to `min_squared_norm` are never sampled."""

    num_groups: int
    group_size: int
    min_squared_norm: float | None = None


class PointGroups(NamedTuple):
    """One level: `centres` `(B, G, 3)`, `neighbour_ids` `(B, G, K)` into the level below, `offsets` `(B, G, K, 3)`."""

    centres: Tensor
    neighbour_ids: Tensor
    offsets: Tensor


def farthest_point_ids(points: Tensor, rule: GroupingRule, *, start: int = 0) -> Tensor:
    """Return the ids `(G,)` of greedily farthest points of one cloud `(N, 3)`, beginning with `start`.

    Each next point maximises the distance to those already chosen (PointNet++, section 3.2).
    """
    rows = np.ascontiguousarray(points.numpy().T)  # (3, N): NumPy's small steps cost less than torch's
    nearest = np.full(rows.shape[1], np.inf, dtype=rows.dtype)
    if rule.min_squared_norm is not None:
        nearest[(rows * rows).sum(axis=0) <= rule.min_squared_norm] = NEVER_FARTHEST
    squares = np.empty_like(rows)
    distances = squares[0]
    ids = np.empty(rule.num_groups, dtype=np.int64)
    chosen = start
    for step in range(rule.num_groups):
        ids[step] = chosen
        np.subtract(rows, rows[:, chosen, None], out=squares)
        np.multiply(squares, squares, out=squares)
        np.add(distances, squares[1], out=distances)
        np.add(distances, squares[2], out=distances)
        np.minimum(nearest, distances, out=nearest)
        chosen = int(nearest.argmax())
    return torch.from_numpy(ids)


def nearest_ids(points: Tensor, centres: Tensor, group_size: int) -> Tensor:
    """Return the ids `(G, K)` of the points `(N, 3)` nearest to each centre `(G, 3)`, in no particular order.

    Distances are sums of squared differences, so a cloud far from the origin loses no precision.
    """
    x, y, z = points.T.contiguous()
    ids = []
    for chunk in torch.split(centres, max(1, DISTANCES_PER_CHUNK // len(points))):
        distances = (chunk[:, 0:1] - x).square_()  # (g, N)
        distances.add_((chunk[:, 1:2] - y).square_()).add_((chunk[:, 2:3] - z).square_())
        ids.append(distances.topk(group_size, largest=False, sorted=False).indices)
    return torch.cat(ids)


def group_clouds(
    clouds: Iterable[Tensor],
    rules: Sequence[GroupingRule],
    *,
    starts: Sequence[int] | None = None,
    device: torch.device | None = None,
) -> list[PointGroups]:
    """Group clouds `(N, 3)`, each of its own N, level by level: a level groups the centres of the one below.

    `starts` gives the first sampled point of each cloud (default 0); the work is done on the CPU and its result moved
    to `device`. Raises `InvalidRequest` for a bad cloud and `ConfigError` when a level has too few points for the next.
    """
    clouds = list(clouds)
    starts = [0] * len(clouds) if starts is None else starts
    if not clouds or len(starts) != len(clouds):
        raise InvalidRequest(f"needs at least one cloud and one start for each, got {len(clouds)} and {len(starts)}")
    columns = [_group_cloud(cloud, rules, start) for cloud, start in zip(clouds, starts, strict=True)]
    return [
        PointGroups(*(torch.stack(parts).to(device) for parts in zip(*level, strict=True)))
        for level in zip(*columns, strict=True)
    ]


def _group_cloud(points: Tensor, rules: Sequence[GroupingRule], start: int) -> list[PointGroups]:
    check_cloud(points, min_points=max(rules[0][:2]))
    if not 0 <= start < len(points):
        raise InvalidRequest(f"start must be a point id in [0, {len(points)}), got {start}")
    points = points.detach().cpu().float()
    levels = []
    for rule in rules:
        if len(points) < max(rule[:2]):
            raise ConfigError(f"a level of {len(points)} groups is too small for the next one, {rule}")
        centres = points[farthest_point_ids(points, rule, start=start)]  # (G, 3)
        ids = nearest_ids(points, centres, rule.group_size)
        levels.append(PointGroups(centres, ids, points[ids] - centres[:, None]))
        points, start = centres, 0
    return levels


def check_cloud(points: Tensor, *, min_points: int = 1) -> None:
    """Raise `InvalidRequest` unless `points` is a finite `(N, 3)` with at least `min_points` rows."""
    if points.ndim != 2 or points.shape[1] != 3:
        raise InvalidRequest(f"a point cloud must have shape (N, 3), got {tuple(points.shape)}; send x, y, z only")
    if len(points) < min_points:
        raise InvalidRequest(f"the point cloud has {len(points)} points; the encoder needs at least {min_points}")
    if not bool(torch.isfinite(points).all()):
        raise InvalidRequest("the point cloud holds NaN or infinite coordinates; remove those points and send it again")


def normalize_unit_sphere(points: Tensor) -> Tensor:
    """Move `(N, 3)` to zero mean and scale its farthest point to norm 1. Raises `InvalidRequest` if all coincide."""
    centred = points - points.mean(dim=0)
    radius = centred.norm(dim=1).max()
    if not radius > 0:
        raise InvalidRequest("every point of the cloud is the same; send at least two different points")
    return torch.div(centred, radius)
