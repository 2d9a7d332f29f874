"""Find the objects of a picture with NanoDet-g: which, where, and how surely."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from core.types import AnyArray
from models.checkpoints import load_strictly, read_tensors
from models.nanodet.network import NanoDet, from_bytes

WEIGHTS_FILE = Path(__file__).parent / "nanodet_g.safetensors"
SIDE_PX = 512  # trained on 416, enlarged and shrunk by up to 1.4; 512 and 0.45 were chosen on made scenes (README.md)
MEAN, STD = (103.53, 116.28, 123.675), (57.375, 57.12, 58.395)  # BGR
MIN_SCORE = 0.45
MAX_OVERLAP = 0.6  # of two boxes of one name
MAX_OVERLAP_OF_NAMES = 0.75  # beyond it two names are two guesses at one object
MAX_CANDIDATES, MAX_OBJECTS = 300, 50

NAMES = (
    "person", "bicycle", "car", "motorcycle", "airplane", "bus", "train", "truck", "boat", "traffic light",
    "fire hydrant", "stop sign", "parking meter", "bench", "bird", "cat", "dog", "horse", "sheep", "cow",
    "elephant", "bear", "zebra", "giraffe", "backpack", "umbrella", "handbag", "tie", "suitcase", "frisbee",
    "pair of skis", "snowboard", "sports ball", "kite", "baseball bat", "baseball glove", "skateboard", "surfboard",
    "tennis racket", "bottle", "wine glass", "cup", "fork", "knife", "spoon", "bowl", "banana", "apple", "sandwich",
    "orange", "piece of broccoli", "carrot", "hot dog", "pizza", "donut", "cake", "chair", "couch", "potted plant",
    "bed", "dining table", "toilet", "television", "laptop", "computer mouse", "remote control", "keyboard",
    "cell phone", "microwave", "oven", "toaster", "sink", "refrigerator", "book", "clock", "vase",
    "pair of scissors", "teddy bear", "hair dryer", "toothbrush",
)  # fmt: skip
"""The 80 classes of COCO, in the order of the network's logits."""


@dataclass(frozen=True, slots=True, kw_only=True)
class FoundObject:
    """One object: `score` in [0, 1]; `box` is left, top, right, bottom as shares of the picture's width or height."""

    name: str
    score: float
    box: tuple[float, float, float, float]


class ObjectDetector:
    """NanoDet-g with the released way of preparing pictures and of choosing among overlapping boxes."""

    def __init__(self, network: NanoDet) -> None:
        self._network = network.eval()

    def find(self, pixels: AnyArray) -> list[FoundObject]:
        """Return the objects of `(H, W, 3)` uint8 with a score of at least `MIN_SCORE`, the surest first."""
        square, scale, offset = _in_square(pixels)
        normalised = (square[:, :, ::-1].astype(np.float32) - MEAN) / STD  # (S, S, 3) BGR
        with torch.inference_mode():
            (logits,), (boxes,) = self._network(torch.from_numpy(normalised).float().permute(2, 0, 1)[None])
        scores, classes = logits.sigmoid().max(dim=-1)  # (A), (A)
        likeliest = scores.argsort(descending=True)[:MAX_CANDIDATES]
        likeliest = likeliest[scores[likeliest] >= MIN_SCORE]
        kept = _apart(boxes[likeliest], classes[likeliest])[:MAX_OBJECTS]
        height, width = pixels.shape[:2]
        corners = (boxes - torch.tensor(offset * 2)) / scale / torch.tensor((width, height) * 2)
        return [
            FoundObject(name=NAMES[int(classes[place])], score=round(float(scores[place]), 4), box=_corners(box))
            for place, box in zip(likeliest[kept].tolist(), corners.clamp(0, 1)[likeliest[kept]], strict=True)
        ]


def load_detector() -> ObjectDetector:
    """Return the detector. Raises `CheckpointError` when its weights are missing or damaged."""
    weights = from_bytes(read_tensors(WEIGHTS_FILE))
    return ObjectDetector(load_strictly(NanoDet(), weights, str(WEIGHTS_FILE)).requires_grad_(False))


def overlaps(boxes: Tensor, others: Tensor) -> Tensor:
    """Return intersection over union `(N, M)` of boxes `(N, 4)` and `(M, 4)`."""
    first, second = boxes[:, None], others[None]
    sides = torch.minimum(first[..., 2:], second[..., 2:]) - torch.maximum(first[..., :2], second[..., :2])
    shared = sides.clamp(min=0).prod(-1)  # (N, M)
    areas = [(part[..., 2:] - part[..., :2]).clamp(min=0).prod(-1) for part in (first, second)]
    return shared / (areas[0] + areas[1] - shared).clamp(min=1e-9)


def _apart(boxes: Tensor, classes: Tensor) -> list[int]:
    """Return the places of boxes, the surest first, that are not taken for an object found before."""
    is_same = overlaps(boxes, boxes) > torch.where(
        classes[:, None] == classes[None], MAX_OVERLAP, MAX_OVERLAP_OF_NAMES
    )  # (N, N)
    kept: list[int] = []
    for place in range(len(boxes)):
        if not is_same[place, kept].any():
            kept.append(place)
    return kept


def _in_square(pixels: AnyArray) -> tuple[AnyArray, float, tuple[float, float]]:
    """Return the picture in the middle of a black square `(S, S, 3)`, its scale, and where it begins (x, y)."""
    height, width = pixels.shape[:2]
    scale = SIDE_PX / max(height, width)
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    left, top = (SIDE_PX - size[0]) // 2, (SIDE_PX - size[1]) // 2
    square = np.zeros((SIDE_PX, SIDE_PX, 3), dtype=np.uint8)
    resized = Image.fromarray(pixels).resize(size, Image.Resampling.BILINEAR)
    square[top : top + size[1], left : left + size[0]] = np.asarray(resized)
    return square, scale, (float(left), float(top))


def _corners(box: Tensor) -> tuple[float, float, float, float]:
    left, top, right, bottom = (round(value, 4) for value in box.tolist())
    return left, top, right, bottom
