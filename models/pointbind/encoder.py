"""Point clouds as a modality of the joint space, and loading of both point encoders."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.errors import ConfigError, UnknownName
from core.types import DecodedMedia, Embedding, Modality
from models.checkpoints import load_strictly, read_checkpoint
from models.imagebind.checkpoint import weights_digest
from models.pointbind.grouping import check_cloud, normalize_unit_sphere
from models.pointbind.i2pmae import I2pMae, I2pMaeConfig
from models.pointbind.pointbert import PointBert, PointBertConfig

SAMPLE_SEED = 0
IMAGEBIND_KEY = re.compile(r"(bind\.)?modality_(preprocessors|trunks|heads|postprocessors)\.(?!point\.)")
PointModelT = TypeVar("PointModelT", bound=nn.Module)


@dataclass(frozen=True, slots=True, kw_only=True)
class PointPreprocessing:
    """What happens to a cloud before the encoder.

    `num_points` resamples it (None keeps it whole). `unit_sphere` centres and scales it to radius 1, as every training
    cloud is; the reference's loader leaves this, like resampling, to the caller.
    """

    num_points: int | None = 8192
    unit_sphere: bool = True

    def __post_init__(self) -> None:
        if self.num_points is not None and self.num_points < 1:
            raise ConfigError(f"num_points must be positive or None, got {self.num_points}")


def resample(points: Tensor, num_points: int) -> Tensor:
    """Return `(num_points, 3)`: a fixed-seed random subset of a larger cloud, or a smaller one repeated in order."""
    if len(points) > num_points:
        order = torch.randperm(len(points), generator=torch.Generator().manual_seed(SAMPLE_SEED))
        return points[order[:num_points].sort().values]
    return points[torch.arange(num_points) % len(points)]


class PointEncoder:
    """Clouds to unit rows of the joint space by PointBERT or I2P-MAE, a `core.types.ModalityEncoder`."""

    modality = Modality.POINT_CLOUD

    def __init__(
        self, model: PointBert | I2pMae, *, encoder_id: str, preprocessing: PointPreprocessing | None = None
    ) -> None:
        self.encoder_id = encoder_id
        self.preprocessing = preprocessing or PointPreprocessing()
        self.model = model.eval()
        self._min_points = max(model.config.rules[0][:2])

    def preprocess(self, media: DecodedMedia) -> Tensor:
        """Return the cloud as float32 `(N, 3)`. Raises `InvalidRequest` on a bad shape, NaN or too few points."""
        points = torch.tensor(media.array, dtype=torch.float32)
        check_cloud(points, min_points=self._min_points)
        if self.preprocessing.num_points is not None:
            points = resample(points, self.preprocessing.num_points)
        return normalize_unit_sphere(points) if self.preprocessing.unit_sphere else points

    def encode(self, batch: Sequence[Tensor]) -> list[Embedding]:
        """Return one unit embedding `(E,)` per cloud; clouds may differ in their number of points."""
        with torch.inference_mode():
            rows = F.normalize(self.model(batch), dim=-1).float().cpu().numpy()  # (B, E)
        return [Embedding(vector=row, encoder_id=self.encoder_id) for row in rows]


def load_point_model(model: PointModelT, state: Mapping[str, Any], source: str) -> PointModelT:
    """Fill `model` from the state dict of `imagebind_w3D` or Point-Bind and return it, ready for inference.

    ImageBind's own keys beside it are passed over; raises `CheckpointError` naming any other key at fault.
    """
    own = {key: value for key, value in state.items() if not IMAGEBIND_KEY.match(key)}
    return load_strictly(model, own, source).eval().requires_grad_(False)


def load_point_encoder(path: Path, family: str, preprocessing: PointPreprocessing | None = None) -> PointEncoder:
    """Return the full-size encoder of a released file; `family` is `pointbert` or `i2p_mae`.

    `encoder_id` is `family-digest`. Raises `UnknownName`, or `CheckpointError` naming the file and the key at fault.
    """
    models: dict[str, Callable[[], PointBert | I2pMae]] = {
        "pointbert": lambda: PointBert(PointBertConfig()),
        "i2p_mae": lambda: I2pMae(I2pMaeConfig()),
    }
    if family not in models:
        raise UnknownName(f"unknown point encoder {family!r}; known: {', '.join(models)}", param="family")
    model = load_point_model(models[family](), read_checkpoint(path), str(path))
    return PointEncoder(model, encoder_id=f"{family}-{weights_digest(model)}", preprocessing=preprocessing)
