"""The encoder files beside an adapter: the sizes their tensors do not tell, and strict loading by family."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import torch

from core.types import Modality, ModalityEncoder
from models.checkpoints import read_checkpoint
from models.clip import ClipVisionEncoder, ClipVisualTower
from models.clip_files import clip_visual_state
from models.imagebind.checkpoint import POINT_KEYS, load_imagebind, weights_digest
from models.imagebind.config import ImageBindConfig
from models.imagebind.encoders import imagebind_encoders
from models.imagebind.model import ImageBind
from models.imagebind.text import ClipTokenizer, read_merges
from models.pointbind.encoder import PointEncoder, load_point_model
from models.pointbind.pointbert import PointBert, PointBertConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class EncoderSizes:
    """What an encoder's tensors do not tell; the defaults are those of the released files."""

    clip_heads: int = 16
    imagebind: ImageBindConfig = field(default_factory=ImageBindConfig)
    points: PointBertConfig = field(default_factory=PointBertConfig)


@dataclass(frozen=True, slots=True)
class EncoderFile:
    """One encoder checkpoint: where it lies and its sizes."""

    path: Path
    sizes: EncoderSizes

    def imagebind(self, dtype: torch.dtype) -> tuple[ImageBind, PointBert | None]:
        """Return `imagebind_huge`, with PointBERT where the file is an `imagebind_w3D`; its keys tell."""
        model = load_imagebind(self.path, dtype, self.sizes.imagebind)
        state = read_checkpoint(self.path)
        if not any(key.startswith(POINT_KEYS) for key in state):
            return model, None
        with torch.device("meta"):
            points = PointBert(self.sizes.points)
        return model, load_point_model(points, state, str(self.path))  # float32: coordinates decide its groups

    def clip(self, dtype: torch.dtype) -> ClipVisualTower:
        """Return CLIP's visual tower."""
        tower = ClipVisualTower.from_reference(clip_visual_state(self.path), num_heads=self.sizes.clip_heads)
        return tower.to(dtype).requires_grad_(False)


Encoders = Mapping[Modality, ModalityEncoder]


def _imagebind_encoders(file: EncoderFile, dtype: torch.dtype) -> Encoders:
    model, points = file.imagebind(dtype)
    tokenizer = ClipTokenizer(read_merges(), model.config.context)
    encoders: dict[Modality, ModalityEncoder] = {**imagebind_encoders(model, "imagebind", tokenizer)}
    if points is not None:
        point_id = f"pointbert-{weights_digest(points)}"
        encoders[Modality.POINT_CLOUD] = PointEncoder(points, encoder_id=point_id)
    return encoders


def _clip_encoders(file: EncoderFile, dtype: torch.dtype) -> Encoders:
    return {Modality.IMAGE: ClipVisionEncoder(file.clip(dtype))}


CHECKS: dict[str, Callable[[EncoderFile, torch.dtype], object]] = {
    "imagebind_llm": EncoderFile.imagebind,
    "llama_adapter_v2": EncoderFile.clip,
}
"""Build an encoder's modules, which compares every key and shape, for the families that have an encoder."""

LOADERS: dict[str, Callable[[EncoderFile, torch.dtype], Encoders]] = {
    "imagebind_llm": _imagebind_encoders,
    "llama_adapter_v2": _clip_encoders,
}
"""Load the encoders of a family by modality."""
