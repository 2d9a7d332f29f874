"""The point-cloud encoder of `mini`: a small network looks at a cloud from all sides; its class names are blended.

B clouds, V views, K names, E embedding.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
import torch.nn.functional as F
from safetensors import SafetensorError, safe_open
from torch import Tensor

from core.errors import CheckpointError
from core.types import DecodedMedia, Embedding, FloatArray, Modality
from models.checkpoints import file_sha256, load_strictly
from models.mini.points_network import NUM_POINTS, ShapeNetwork, describe, group, view_rotations
from models.mini.space import blend_names
from models.pointbind.encoder import resample
from models.pointbind.grouping import PointGroups, check_cloud, normalize_unit_sphere


@dataclass(frozen=True, slots=True, kw_only=True)
class Calibration:
    """What was fitted on validation objects after training.

    `view_weights` are those of the six verticals +z, -z, +y, -y, +x, -x. `groups_share` of logits and rows is the
    PointBERT's, the rest the occupancy network's. `temperature` divides the logits. The confidence is
    `sigmoid(slope * logit(score) + offset)`. `aligned_share` of the vector is the trained heads', the rest the blend.
    """

    view_weights: tuple[float, ...]
    groups_share: float
    temperature: float
    slope: float
    offset: float
    aligned_share: float


@dataclass(frozen=True, slots=True)
class Seen:
    """`names` `(B, K)` probabilities, `score` `(B,)` of the best one, `aligned` `(B, E)` unit rows."""

    names: Tensor
    score: Tensor
    aligned: Tensor


class MiniPointEncoder:
    """`core.types.ModalityEncoder` for point clouds; rows of unit norm in the 384-d MiniLM space."""

    modality = Modality.POINT_CLOUD

    def __init__(
        self,
        network: ShapeNetwork,
        names: Sequence[str],
        name_vectors: Tensor,
        calibration: Calibration,
        encoder_id: str,
    ) -> None:
        self.encoder_id = encoder_id
        self.names = tuple(names)
        self.name_vectors: FloatArray = name_vectors.numpy()
        self._network = network.eval().requires_grad_(False)
        self._name_rows = name_vectors
        self._calibration = calibration

    def preprocess(self, media: DecodedMedia) -> Tensor:
        """Return `(1024, 3)` of the cloud's points, the same ones each time, in the unit sphere.

        Raises `InvalidRequest` for another shape, NaN, or when all points are one.
        """
        points = torch.from_numpy(media.array)
        check_cloud(points)
        return normalize_unit_sphere(resample(points, NUM_POINTS).float())

    def encode(self, batch: Sequence[Tensor]) -> list[Embedding]:
        """Return one embedding with its confidence per cloud; rows do not depend on their batch."""
        with torch.inference_mode():
            seen = self.look(batch)
            vectors = blend_names(seen.names, self._name_rows).vectors
            share = self._calibration.aligned_share
            vectors = F.normalize((1 - share) * vectors + share * seen.aligned, dim=-1)  # (B, E)
            odds = torch.logit(seen.score, eps=1e-4)
            confidence = torch.sigmoid(self._calibration.slope * odds + self._calibration.offset)  # (B,)
        return [
            Embedding(vector=vector.numpy(), encoder_id=self.encoder_id, confidence=float(trust))
            for vector, trust in zip(vectors, confidence, strict=True)
        ]

    def look(self, batch: Sequence[Tensor]) -> Seen:
        """Return what the network makes of clouds `(1024, 3)` from all sides."""
        logits, rows = look_from_all_sides(self._network, batch)  # (B, V, 2, K + 1), (B, V, 2, E)
        return weigh_views(logits, rows, self._calibration)


def look_from_all_sides(network: ShapeNetwork, batch: Sequence[Tensor]) -> tuple[Tensor, Tensor]:
    """Return both networks' logits `(B, V, 2, K + 1)` and aligned rows `(B, V, 2, E)`, cloud by cloud.

    The groups are found once: farthest points and nearest neighbours stay the same when a cloud is turned.
    """
    outputs = []
    for cloud in batch:
        groups, rotations = group([cloud]), view_rotations(cloud.numpy()).transpose(1, 2)  # (V, 3, 3)
        described = describe(cloud @ rotations)  # (V, 3680) of (V, N, 3)
        turned = PointGroups(
            groups.centres @ rotations,  # (V, G, 3)
            groups.neighbour_ids.expand(len(rotations), -1, -1),
            groups.offsets @ rotations[:, None],  # (V, G, K, 3)
        )
        outputs.append(network(described, turned))
    return torch.stack([logits for logits, _ in outputs]), torch.stack([rows for _, rows in outputs])


def weigh_views(logits: Tensor, rows: Tensor, calibration: Calibration) -> Seen:
    """Merge views: those that look familiar count, by how much of their probability lies on names.

    The score is the probability of the best name, times how familiar the most familiar view is.
    """
    weights = torch.tensor(calibration.view_weights).repeat_interleave(2)  # (V,)
    shares = torch.tensor((1 - calibration.groups_share, calibration.groups_share))
    logits, rows = (torch.einsum("bvnk,n->bvk", part.float(), shares) for part in (logits, rows))
    probabilities = (logits / calibration.temperature).softmax(dim=-1)  # (B, V, K + 1)
    named = probabilities[..., :-1] * weights[:, None]  # (B, V, K)
    names = named.sum(dim=1)
    names = names / names.sum(dim=-1, keepdim=True).clamp_min(1e-9)  # (B, K)
    familiar = (1 - probabilities[..., -1]) * weights  # (B, V)
    aligned = F.normalize((rows * familiar[..., None]).sum(dim=1), dim=-1)  # (B, E)
    return Seen(names, names.amax(dim=-1) * familiar.amax(dim=-1).clamp(0, 1), aligned)


def load_point_encoder(path: Path) -> MiniPointEncoder:
    """Return the trained encoder of a file that `training.recipes.mini_shapes` wrote. Raises `CheckpointError`."""
    try:
        with safe_open(path, framework="pt") as stored:
            tensors = {key: stored.get_tensor(key).float() for key in stored.keys()}  # noqa: SIM118 (not a mapping)
            metadata = stored.metadata() or {}
        names = json.loads(metadata["names"])
        fitted = json.loads(metadata["calibration"])
        calibration = Calibration(**{**fitted, "view_weights": tuple(fitted["view_weights"])})
    except (OSError, ValueError, KeyError, TypeError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged: {error}; restore it from the repository") from error
    name_vectors = tensors.pop("names.vectors")
    network = load_strictly(ShapeNetwork(len(names)), tensors, str(path))
    return MiniPointEncoder(network, names, name_vectors, calibration, f"mini-points-{file_sha256(path)[:16]}")
