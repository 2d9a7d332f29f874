"""The network behind the point-cloud encoder of `mini`, and how a cloud is turned before it looks.

B clouds, N points, V views, G groups, K names, D width, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.types import FloatArray
from models.pointbind.grouping import PointGroups, group_clouds
from models.pointbind.pointbert import PointBertConfig, PointTransformer

NUM_POINTS = 1024
UP_AXES = ((0, 1, 2), (2, 0, 1), (1, 2, 0))  # the coordinates that become x, y, z when z, y or x is up
NUM_VIEWS = 12  # six half axes as the vertical, twice half a turn
GRID_CELLS, PROFILE_CELLS, DISTANCE_CELLS = 12, 14, 25
NUM_DESCRIBED = 2 * GRID_CELLS**3 + PROFILE_CELLS**2 + DISTANCE_CELLS + 3
CONFIG = PointBertConfig(
    width=160,
    depth=4,
    num_heads=5,
    num_groups=64,
    group_size=16,
    token_width=128,
    net_widths=(32, 64),
    position_width=64,
    embedding_width=384,
)


def yaw_of(points: FloatArray) -> float:
    """Return by how many degrees to turn `(N, 3)` about z so that its ground plan lies along x and y, longer on x.

    The plan's tightest box decides; it leaves out the outer 2 % of the points, so that strays do not. Half turns remain
    ambiguous.
    """
    plan = points[:: max(1, len(points) // 512), :2].astype(np.float32)
    coarse = _tightest(plan, np.arange(0.0, 180.0, 6.0))
    return -_tightest(plan, coarse + np.arange(-5.0, 6.0))


def turn_about_z(points: FloatArray, degrees: float) -> FloatArray:
    """Return `(..., 3)` turned counter-clockwise about z."""
    return np.asarray(points @ _rotation_about_z(degrees).T)


def _rotation_about_z(degrees: float) -> FloatArray:
    cosine, sine = np.cos(np.radians(degrees)), np.sin(np.radians(degrees))
    return np.array(((cosine, -sine, 0), (sine, cosine, 0), (0, 0, 1)), dtype=np.float32)


def _tightest(plan: FloatArray, degrees: npt.NDArray[np.float64]) -> float:
    """Return the angle whose box about `plan` `(N, 2)` is smallest, its x side the longer one."""
    angles = np.radians(np.concatenate((degrees, degrees + 90)))
    along = plan @ np.stack((np.cos(angles), np.sin(angles))).astype(np.float32)  # (N, 2A)
    edge = max(1, len(plan) // 50)
    ordered = np.partition(along, (edge, len(plan) - 1 - edge), axis=0)
    extent = ordered[-1 - edge] - ordered[edge]
    length, width = extent[: len(degrees)], extent[len(degrees) :]
    cost = length * width + 1e-3 * width**2 + np.where(length < width, length.max() ** 2, 0.0)
    return float(degrees[cost.argmin()])


def view_rotations(points: FloatArray) -> Tensor:
    """Return the rotations `(V, 3, 3)` under which the network looks at a cloud `(N, 3)`.

    Each of the six half axes is tried as the vertical, each with the ground plan aligned and half a turn from there.
    """
    rotations = []
    for axes in UP_AXES:
        upright = np.eye(3, dtype=np.float32)[list(axes)]
        for sign in (1.0, -1.0):
            standing = np.diag((1.0, sign, sign)).astype(np.float32) @ upright
            aligned = _rotation_about_z(yaw_of(points @ standing.T)) @ standing
            rotations += [aligned, _rotation_about_z(180.0) @ aligned]
    return torch.from_numpy(np.stack(rotations).astype(np.float32))


def describe(clouds: Tensor) -> Tensor:
    """Return `(B, 3680)` of clouds `(B, N, 3)` in the unit sphere: where in space their points lie, at two scalings.

    One grid spans the unit cube, one the cloud's own box, so that thin things fill it too; a profile turns the cloud
    about z, a histogram counts the distances between pairs. Counts are square roots of densities.
    """
    N = clouds.shape[1]
    ordered = clouds.sort(dim=1).values
    low, high = ordered[:, N // 50], ordered[:, N - 1 - N // 50]  # (B, 3)
    size = (high - low).clamp_min(1e-2)
    inside = (clouds - low[:, None]) / size[:, None]  # (B, N, 3), most of it in the unit cube
    flat = clouds - (low + high)[:, None] / 2
    radius = flat[..., :2].norm(dim=-1, keepdim=True)
    profile = torch.cat((radius, (flat[..., 2:] + 1) / 2), dim=-1)  # (B, N, 2)
    others = clouds.roll(N // 2 - 7, dims=1)
    distances = (clouds - others).norm(dim=-1, keepdim=True) / 2
    parts = (
        _densities((clouds + 1) / 2, GRID_CELLS),
        _densities(inside * 0.9 + 0.05, GRID_CELLS),
        _densities(profile, PROFILE_CELLS),
        _densities(distances, DISTANCE_CELLS),
        size.log(),
    )
    return torch.cat(parts, dim=1)


def _densities(places: Tensor, cells: int) -> Tensor:
    """Share each point `(B, N, A)` of [0, 1]^A between its nearest cells; return square roots `(B, cells ** A)`."""
    B, N, A = places.shape
    scaled = (places * cells - 0.5).clamp(0, cells - 1)
    floor = scaled.floor().clamp_max(cells - 2)
    part = scaled - floor
    counts = torch.zeros(B, cells**A)
    for corner in range(2**A):
        bits = torch.tensor([corner >> axis & 1 for axis in range(A)])
        weight = torch.where(bits.bool(), part, 1 - part).prod(dim=-1)  # (B, N)
        strides = torch.tensor([cells**axis for axis in range(A)])
        counts.scatter_add_(1, ((floor.long() + bits) * strides).sum(dim=-1), weight)
    return counts.mul_(float(cells**A) / N / 8).sqrt_()


class OccupancyNetwork(nn.Module):
    """Descriptions `(B, 3680)` to logits `(B, K + 1)` and unnormalised rows `(B, E)`."""

    def __init__(self, num_names: int) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Dropout(0.15),
            nn.Linear(NUM_DESCRIBED, 384),
            nn.BatchNorm1d(384),
            nn.ReLU(),
            nn.Dropout(0.25),
            nn.Linear(384, 256),
            nn.BatchNorm1d(256),
            nn.ReLU(),
            nn.Dropout(0.15),
        )
        self.classifier = nn.Linear(256, num_names + 1)
        self.aligned = nn.Linear(256, CONFIG.embedding_width)

    def forward(self, described: Tensor) -> tuple[Tensor, Tensor]:
        features = self.layers(described)
        return self.classifier(features), self.aligned(features)


class GroupNetwork(nn.Module):
    """A PointBERT over 64 groups of neighbours: groups to logits `(B, K + 1)` and unnormalised rows `(B, E)`."""

    def __init__(self, num_names: int) -> None:
        super().__init__()
        self.trunk = PointTransformer(CONFIG)
        self.classifier = nn.Linear(2 * CONFIG.width, num_names + 1)
        self.aligned = nn.Linear(2 * CONFIG.width, CONFIG.embedding_width)

    def forward(self, groups: PointGroups) -> tuple[Tensor, Tensor]:
        features = self.trunk(groups)  # (B, 2D)
        return self.classifier(features), self.aligned(features)


class ShapeNetwork(nn.Module):
    """Two looks at a cloud, each trained by itself: where its points lie, and a PointBERT over groups of neighbours."""

    def __init__(self, num_names: int) -> None:
        super().__init__()
        self.occupancy = OccupancyNetwork(num_names)
        self.groups = GroupNetwork(num_names)

    def forward(self, described: Tensor, groups: PointGroups) -> tuple[Tensor, Tensor]:
        """Return the logits `(B, 2, K + 1)` and unit rows `(B, 2, E)` of both looks.

        The last logit is of shapes without a name. `described` `(B, 3680)` is what `describe` says of the clouds whose
        `groups` come along.
        """
        logits, rows = zip(self.occupancy(described), self.groups(groups), strict=True)
        return torch.stack(logits, dim=1), F.normalize(torch.stack(rows, dim=1), dim=-1)


def group(clouds: Sequence[Tensor]) -> PointGroups:
    """Return the 64 groups of 16 points of each cloud `(N, 3)`."""
    (groups,) = group_clouds(clouds, CONFIG.rules)
    return groups
