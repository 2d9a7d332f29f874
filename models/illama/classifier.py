"""Name what a picture shows with iLLaMA."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.errors import ConfigError, InvalidRequest
from core.types import AnyArray
from models.illama.model import Illama
from models.imagebind.vision import resized_and_cropped

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CROP_SHARE = 224 / 256
SQUEEZE_FROM = 384  # from this size on the whole picture is squeezed into the square, nothing is cropped


def normalised_pixels(image: AnyArray, size: int) -> Tensor:
    """Return `(3, size, size)` float32 of an RGB image `(H, W, 3)` uint8, resized bicubically as in evaluation.

    Below 384 the shorter side becomes `size * 256 / 224` and the centre is cropped. Raises `InvalidRequest`.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InvalidRequest(f"an image must be (H, W, 3) uint8 and not empty, got {image.shape} {image.dtype}")
    if size >= SQUEEZE_FROM:
        square = np.asarray(Image.fromarray(image).resize((size, size), Image.Resampling.BICUBIC))
    else:
        square = resized_and_cropped(image, size, int(size / CROP_SHARE))
    pixels = (square.astype(np.float32) / 255 - MEAN) / STD  # (size, size, 3)
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))


class IllamaClassifier:
    """An iLLaMA and the names of its classes; `temperature` divides the logits, so that probabilities are calibrated.

    Raises `ConfigError` when the numbers of classes and names differ.
    """

    def __init__(self, model: Illama, class_names: Sequence[str], *, temperature: float = 1.0) -> None:
        if len(class_names) != model.config.num_classes:
            raise ConfigError(f"the model has {model.config.num_classes} classes, {len(class_names)} names were given")
        self.model = model.eval()
        self.class_names = tuple(class_names)
        self.temperature = temperature

    def likeliest(self, pixels: AnyArray, num_names: int) -> list[tuple[str, float]]:
        """Return the likeliest names of `(H, W, 3)` uint8 with their probabilities, best first."""
        (named,) = self.classify([pixels], top_k=min(num_names, len(self.class_names)))
        return named

    def classify(self, images: Sequence[AnyArray], *, top_k: int = 5) -> list[list[tuple[str, float]]]:
        """Return the `top_k` likeliest `(name, probability)` of each RGB image `(H, W, 3)` uint8, best first."""
        if not 1 <= top_k <= len(self.class_names):
            raise InvalidRequest(f"top_k must be in [1, {len(self.class_names)}], got {top_k}", param="top_k")
        if not images:
            return []
        batch = torch.stack([normalised_pixels(image, self.model.config.image_size) for image in images])
        with torch.inference_mode():
            logits = self.model(batch.to(self.model.pos_embed))  # (B, num_classes)
            probabilities, ids = (logits.float() / self.temperature).softmax(dim=-1).topk(top_k, dim=-1)
        rows = zip(ids.tolist(), probabilities.tolist(), strict=True)
        return [[(self.class_names[i], p) for i, p in zip(*row, strict=True)] for row in rows]
