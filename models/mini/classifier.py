"""The picture names of `mini` as a classifier of their own: EfficientNet-Lite2 and the trained heads."""

from __future__ import annotations

import torch

from core.types import AnyArray
from models.mini.encoder import MiniImageEncoder, preprocess_image
from models.mini.loader import load_picture_encoder


class NamedPictures:
    """`models.registry.PictureClassifier` over the names of `mini`; one name of several classes adds them up."""

    def __init__(self, encoder: MiniImageEncoder) -> None:
        self._encoder = encoder

    def likeliest(self, pixels: AnyArray, num_names: int) -> list[tuple[str, float]]:
        """Return the likeliest names of `(H, W, 3)` uint8 with their probabilities, best first."""
        with torch.inference_mode():
            (row,) = self._encoder.name_probabilities([preprocess_image(pixels)]).tolist()  # (K,)
        shares: dict[str, float] = {}
        for name, share in zip(self._encoder.names, row, strict=True):
            shares[name] = shares.get(name, 0.0) + share
        return sorted(shares.items(), key=lambda pair: pair[1], reverse=True)[:num_names]


def load_efficientnet_names() -> NamedPictures:
    """Return the classifier. Raises `CheckpointError` when a weights file is missing or damaged."""
    return NamedPictures(load_picture_encoder())
