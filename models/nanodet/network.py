"""NanoDet-g: a detector of convolutions only, 3.8 million parameters, for pictures of about 416 pixels a side.

A cross-stage-partial backbone (Wang et al. 2020), a path-aggregation neck without weights of its own (Liu et al. 2018)
and the head of generalised focal loss (Li et al. 2020): per place 80 classes, and for each side of the box a
distribution over its distance. Batch norms are folded into the convolutions, as in the released ONNX form.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

NUM_CLASSES = 80
NUM_BINS = 11  # distances of 0 to 10 strides
STRIDES = (8, 16, 32)
WIDTH = 128  # of neck and head
SLOPE = 0.1
STAGES = ((32, 32, 1, 1), (64, 64, 2, 2), (128, 128, 2, 2), (256, 256, 3, 2))  # width in, width, pairs, stride


class Convolution(nn.Conv2d):
    """A convolution that keeps the size (or halves it), then a leaky ReLU."""

    def __init__(self, width_in: int, width: int, *, stride: int = 1) -> None:
        super().__init__(width_in, width, 3, stride, 1)

    def forward(self, input: Tensor) -> Tensor:
        return F.leaky_relu(super().forward(input), SLOPE)


class Pair(nn.Module):
    """Two narrow convolutions in a row, both of which are handed on."""

    def __init__(self, width_in: int, width: int) -> None:
        super().__init__()
        self.first, self.second = Convolution(width_in, width // 2), Convolution(width // 2, width // 2)

    def forward(self, x: Tensor) -> Tensor:
        first = self.first(x)
        return torch.cat((self.second(first), first), dim=1)


class Stage(nn.Module):
    """What enters goes past the pairs as well as through them, so twice the width leaves."""

    def __init__(self, width_in: int, width: int, num_pairs: int, stride: int) -> None:
        super().__init__()
        self.enter = Convolution(width_in, width, stride=stride)
        self.pairs = nn.Sequential(*(Pair(width, width) for _ in range(num_pairs)))
        self.leave = Convolution(width, width)

    def forward(self, x: Tensor) -> Tensor:
        entered = self.enter(x)
        return torch.cat((self.leave(self.pairs(entered)), entered), dim=1)


class NanoDet(nn.Module):
    """Class logits and distances of the box's sides at every place of three grids."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Convolution(3, 32, stride=2)
        self.stages = nn.ModuleList(Stage(*stage) for stage in STAGES)
        self.laterals = nn.ModuleList(nn.Conv2d(2 * width, WIDTH, 1) for _, width, _, _ in STAGES[1:])
        head = NUM_CLASSES + 4 * NUM_BINS
        self.heads = nn.ModuleList(nn.Sequential(Convolution(WIDTH, WIDTH), nn.Conv2d(WIDTH, head, 1)) for _ in STRIDES)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Return class logits `(B, A, 80)` and boxes `(B, A, 4)` in pixels: left, top, right, bottom.

        `pixels` is `(B, 3, H, W)`, normalised BGR, H and W multiples of 32; A counts the places of all grids.
        """
        x = F.max_pool2d(self.stem(pixels), 3, 2, 1)  # (B, 32, H / 4, W / 4)
        levels: list[Tensor] = []
        for stage in self.stages:
            x = stage(x)
            levels.append(x)
        fine, middle, coarse = (
            lateral(level) for lateral, level in zip(self.laterals, levels[1:], strict=True)
        )  # (B, 128, H / 8, W / 8), ...
        middle = middle + _resized(coarse, middle)
        fine = fine + _resized(middle, fine)
        middle = middle + _resized(fine, middle)
        coarse = coarse + _resized(middle, coarse)
        found = [
            _places(head(level), stride)
            for head, level, stride in zip(self.heads, (fine, middle, coarse), STRIDES, strict=True)
        ]
        logits, boxes = (torch.cat(part, dim=1) for part in zip(*found, strict=True))
        return logits, boxes


def _resized(x: Tensor, like: Tensor) -> Tensor:
    return F.interpolate(x, size=like.shape[-2:], mode="bilinear", align_corners=False)


def _places(head: Tensor, stride: int) -> tuple[Tensor, Tensor]:
    """Return the logits `(B, h w, 80)` of a grid's head `(B, 124, h, w)`, and its boxes: centre and mean distances."""
    height, width = head.shape[-2:]
    rows = head.flatten(2).mT  # (B, h w, 124)
    bins = torch.unflatten(rows[..., NUM_CLASSES:], -1, (4, NUM_BINS)).softmax(-1)  # (B, h w, 4, 11)
    left, top, right, bottom = ((bins @ torch.arange(float(NUM_BINS))) * stride).unbind(-1)
    y, x = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    x, y = ((place.flatten() + 0.5) * stride for place in (x, y))  # (h w)
    return rows[..., :NUM_CLASSES], torch.stack((x - left, y - top, x + right, y + bottom), dim=-1)


def as_bytes(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the convolutions' weights in 8 bits with one float32 scale per output channel; biases as float32."""
    stored: dict[str, Tensor] = {}
    for name, value in weights.items():
        if not name.endswith(".weight"):
            stored[name] = value.float()
            continue
        scale = value.float().abs().amax(dim=(1, 2, 3)) / 127  # (O)
        stored[name] = (value.float() / scale[:, None, None, None]).round().to(torch.int8)
        stored[name.removesuffix("weight") + "scale"] = scale
    return stored


def from_bytes(stored: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return float32 weights of what `as_bytes` made."""
    weights: dict[str, Tensor] = {}
    for name, value in stored.items():
        scale = stored.get(name.removesuffix("weight") + "scale")
        if name.endswith(".weight") and scale is not None:
            weights[name] = value.float() * scale[:, None, None, None]
        elif not name.endswith(".scale"):
            weights[name] = value
    return weights
