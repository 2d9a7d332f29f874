"""Pictures in class folders, zipped or not, as one tensor, and what training does to a batch of them."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from io import BytesIO
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from kornia.augmentation import (
    ColorJitter,
    RandomCutMixV2,
    RandomErasing,
    RandomHorizontalFlip,
    RandomMixUpV2,
    RandomResizedCrop,
)
from kornia.augmentation.auto import RandAugment
from PIL import Image
from torch import Tensor, nn

from core.errors import ConfigError
from models.illama.classifier import MEAN, STD
from training.recipes.mini_pictures import split_of, spoken

PICTURE_SUFFIXES = (".webp", ".png", ".jpg", ".jpeg")


@dataclass(frozen=True, slots=True)
class LabelledPictures:
    """`pixels` `(N, 3, S, S)` uint8, the class index and the split (`train`, `validation`, `test`) of each."""

    pixels: Tensor
    labels: Tensor
    splits: tuple[str, ...]
    class_names: tuple[str, ...]

    def of(self, *splits: str) -> tuple[Tensor, Tensor]:
        """Return pixels and labels of the named splits."""
        rows = torch.tensor([i for i, split in enumerate(self.splits) if split in splits], dtype=torch.long)
        return self.pixels[rows], self.labels[rows]


def read_labelled_pictures(source: Path, size: int, *, num_classes: int | None = None) -> LabelledPictures:
    """Read `class/file` pictures of a folder or zip, squared to `size`; folders of one spoken name are one class.

    Split by file number as `mini` splits: multiples of 5 test, ending in 1 validate; a file without a number counts by
    its place. `num_classes` keeps that many, those with the most pictures. Raises `ConfigError`.
    """
    by_class: dict[str, list[tuple[PurePosixPath, bytes]]] = {}
    for path, content in _stored(source):
        by_class.setdefault(spoken(path.parent.name), []).append((path, content))
    if len(by_class) < 2:
        raise ConfigError(f"{source} holds {len(by_class)} classes; pictures must lie as class/file, two at least")
    largest = sorted(by_class, key=lambda name: (-len(by_class[name]), name))[:num_classes]
    names = sorted(largest, key=str.lower)
    pixels, labels, splits = [], [], []
    for label, name in enumerate(names):
        for place, (path, content) in enumerate(sorted(by_class[name], key=lambda pair: pair[0])):
            numbers = re.findall(r"\d+", path.stem)
            splits.append(split_of(int(numbers[-1]) if numbers else place))
            labels.append(label)
            pixels.append(_square(content, size))
    return LabelledPictures(torch.from_numpy(np.stack(pixels)), torch.tensor(labels), tuple(splits), tuple(names))


def _stored(source: Path) -> Iterator[tuple[PurePosixPath, bytes]]:
    if source.is_dir():
        for path in filter(_is_picture, sorted(source.glob("*/*"))):
            yield PurePosixPath(path.relative_to(source)), path.read_bytes()
        return
    if not zipfile.is_zipfile(source):
        raise ConfigError(f"{source} is neither a folder nor a zip of class/file pictures")
    with zipfile.ZipFile(source) as archive:
        for name in filter(_is_picture, map(PurePosixPath, archive.namelist())):
            yield name, archive.read(str(name))


def _is_picture(path: PurePath) -> bool:
    return path.suffix.lower() in PICTURE_SUFFIXES


def _square(content: bytes, size: int) -> np.ndarray:
    """Return `(3, size, size)` uint8: the shorter side resized to `size`, the centre kept."""
    image = Image.open(BytesIO(content)).convert("RGB")
    edge = min(image.size)
    left, top = (image.width - edge) // 2, (image.height - edge) // 2
    box = (left, top, left + edge, top + edge)
    return np.asarray(image.resize((size, size), Image.Resampling.BICUBIC, box=box)).transpose(2, 0, 1)


def normalise(pixels: Tensor) -> Tensor:
    """Return float32 of uint8 or [0, 1] pictures `(B, 3, S, S)`, as the classifier normalises."""
    x = pixels.float() / 255 if pixels.dtype == torch.uint8 else pixels
    return (x - x.new_tensor(MEAN).view(3, 1, 1)) / x.new_tensor(STD).view(3, 1, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class AugmentationConfig:
    """Strengths of what the paper augments with (appendix B, table 9), smaller for small data; 0 leaves a part out.

    `mixup` is the largest share of the other picture, drawn evenly per picture (kornia has no Beta here); `cutmix` is
    the parameter of its Beta distribution. Where both are on, each batch takes one of them.
    """

    min_crop_share: float = 0.35
    randaugment_ops: int = 2
    randaugment_magnitude: int = 7
    jitter: float = 0.2
    erasing: float = 0.25
    mixup: float = 0.3
    cutmix: float = 0.5
    label_smoothing: float = 0.1


class Augmentation:
    """Random pictures and soft targets of a batch through kornia; draws from torch's global generator."""

    def __init__(self, config: AugmentationConfig, size: int, num_classes: int) -> None:
        self._config, self._num_classes = config, num_classes
        scale = (config.min_crop_share, 1.0)
        self._steps: list[nn.Module] = [
            RandomResizedCrop((size, size), scale=scale, resample="BILINEAR"),
            RandomHorizontalFlip(p=0.5),
        ]
        if config.randaugment_ops:
            self._steps.append(RandAugment(config.randaugment_ops, config.randaugment_magnitude))
        if config.jitter:
            self._steps.append(ColorJitter(config.jitter, config.jitter, config.jitter, p=0.8))
        if config.erasing:
            self._steps.append(RandomErasing(p=config.erasing, scale=(0.02, 0.2)))
        keys: list[Any] = ["input", "class"]
        self._mixes: list[nn.Module] = []
        if config.mixup:
            self._mixes.append(RandomMixUpV2(lambda_val=(0.0, config.mixup), p=1.0, data_keys=keys))
        if config.cutmix:
            cut = RandomCutMixV2(beta=config.cutmix, p=1.0, data_keys=keys, use_correct_lambda=True)
            self._mixes.append(cut)

    def __call__(self, pixels: Tensor, labels: Tensor) -> tuple[Tensor, Tensor]:
        """Return normalised pictures `(B, 3, S, S)` and target probabilities `(B, C)` of uint8 `pixels`."""
        x = pixels.float() / 255
        for step in self._steps:
            x = step(x).clamp(0, 1)
        targets = self._one_hot(labels)
        if self._mixes:
            mix = self._mixes[int(torch.randint(len(self._mixes), ()))]
            x, mixed = mix(x, labels)
            own, other, share = mixed.reshape(-1, 3).unbind(dim=1)  # (B,) each
            share = share if isinstance(mix, RandomCutMixV2) else 1 - share  # of the own picture
            one, two = self._one_hot(own.long()), self._one_hot(other.long())
            targets = share[:, None] * one + (1 - share[:, None]) * two
        return normalise(x), targets

    def _one_hot(self, labels: Tensor) -> Tensor:
        smoothing = self._config.label_smoothing
        return F.one_hot(labels, self._num_classes) * (1 - smoothing) + smoothing / self._num_classes


def batches(num_rows: int, batch_size: int, epoch: int, seed: int) -> Sequence[Tensor]:
    """Return the row indices of each full batch of one epoch, shuffled anew per epoch; the same whenever asked."""
    order = torch.randperm(num_rows, generator=torch.Generator().manual_seed(seed * 100_003 + epoch))
    return torch.split(order[: num_rows // batch_size * batch_size], batch_size)
