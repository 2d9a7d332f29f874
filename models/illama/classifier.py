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

MEAN = (0.485, 0.456, 0.406)
STD = (0.229, 0.224, 0.225)
CROP_SHARE = 224 / 256
MAX_ASPECT = 100  # a thin strip would grow to gigabytes when its short side is enlarged
SQUEEZE_FROM = 384  # from this size on the whole picture is squeezed into the square, nothing is cropped


def normalised_pixels(image: AnyArray, size: int) -> Tensor:
    """Return `(3, size, size)` float32 of an RGB image `(H, W, 3)` uint8, resized bicubically as in evaluation.

    Below 384 the shorter side becomes `size * 256 / 224` and the centre is cropped. Raises `InvalidRequest`.
    """
    if image.ndim != 3 or image.shape[2] != 3 or image.dtype != np.uint8 or 0 in image.shape:
        raise InvalidRequest(f"an image must be (H, W, 3) uint8 and not empty, got {image.shape} {image.dtype}")
    if max(image.shape[:2]) > MAX_ASPECT * min(image.shape[:2]):
        raise InvalidRequest(
            f"an image may be at most {MAX_ASPECT} times longer than wide, got {image.shape[:2]}; crop it"
        )
    picture = Image.fromarray(image)
    if size >= SQUEEZE_FROM:
        picture = picture.resize((size, size), Image.Resampling.BICUBIC)
    else:
        short, shorter = int(size / CROP_SHARE), min(picture.size)
        width, height = (short if side == shorter else short * side // shorter for side in picture.size)
        left, top = round((width - size) / 2), round((height - size) / 2)
        picture = picture.resize((width, height), Image.Resampling.BICUBIC)
        picture = picture.crop((left, top, left + size, top + size))
    pixels = (np.asarray(picture, dtype=np.float32) / 255 - MEAN) / STD  # (size, size, 3)
    return torch.from_numpy(pixels.transpose(2, 0, 1).astype(np.float32))


class IllamaClassifier:
    """An iLLaMA and the names of its classes. Raises `ConfigError` when their numbers differ."""

    def __init__(self, model: Illama, class_names: Sequence[str]) -> None:
        if len(class_names) != model.config.num_classes:
            raise ConfigError(f"the model has {model.config.num_classes} classes, {len(class_names)} names were given")
        self.model = model.eval()
        self.class_names = tuple(class_names)

    def classify(self, images: Sequence[AnyArray], *, top_k: int = 5) -> list[list[tuple[str, float]]]:
        """Return the `top_k` likeliest `(name, probability)` of each RGB image `(H, W, 3)` uint8, best first."""
        if not 1 <= top_k <= len(self.class_names):
            raise InvalidRequest(f"top_k must be in [1, {len(self.class_names)}], got {top_k}", param="top_k")
        if not images:
            return []
        batch = torch.stack([normalised_pixels(image, self.model.config.image_size) for image in images])
        with torch.inference_mode():
            logits = self.model(batch.to(self.model.pos_embed))  # (B, num_classes)
            probabilities, ids = logits.float().softmax(dim=-1).topk(top_k, dim=-1)
        rows = zip(ids.tolist(), probabilities.tolist(), strict=True)
        return [[(self.class_names[i], p) for i, p in zip(*row, strict=True)] for row in rows]
