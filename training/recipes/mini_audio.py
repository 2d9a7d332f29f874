"""Train the ears of `mini`: `python -m training.recipes.mini_audio DATA --pool DIR --out DIR [--minutes M]`.

DATA holds `esc10_16k.zip`; `--pool` is what `mini_audio_pool` wrote. The tower learns the names of its sounds (soft
cross-entropy) and, beside them, YAMNet's features and class scores (distillation). `--folds 1 2 3` leaves fold 4 out,
to choose and to calibrate on. Interrupted runs resume.

B batch, F frames, M mel bins, K names.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from models.mini.audio import AudioTower
from models.mini.yamnet import NUM_CLASSES, NUM_FEATURES, shares_of_names
from training.loop import LoopConfig, run_loop
from training.recipes.mini_audio_pool import name_weights, read_names

BATCH = 64
FEATURES_WEIGHT, CLASSES_WEIGHT = 1.0, 2.0
MAX_FRAME_MASK, MAX_BIN_MASK = 40, 12


@dataclass(frozen=True, slots=True)
class Pool:
    """Inputs `(n, F, M)` float16 and targets: names `(n, K)`, class scores `(n, 521)`, features `(n, 1024)`."""

    mel: Tensor
    names: Tensor
    classes: Tensor
    features: Tensor


def read_shards(folder: Path, folds: Sequence[int]) -> dict[str, Tensor]:
    """Return what `mini_audio_pool` wrote, without the samples that hold a clip of another fold."""
    shards = [load_file(path) for path in sorted(folder.glob("pool-*.safetensors"))]
    kept = [torch.isin(shard["fold"].int(), torch.tensor([0, *folds])) for shard in shards]
    return {key: torch.cat([s[key][rows] for s, rows in zip(shards, kept, strict=True)]) for key in shards[0]}


def read_pool(folder: Path, folds: Sequence[int], name_of_class: Sequence[int], names: Sequence[str]) -> Pool:
    """Return the samples of `read_shards`; what no source tells about names, the teacher does."""
    picked = read_shards(folder, folds)
    logits = picked["logits"].float()
    believed = picked["target"].float()
    teacher = shares_of_names(logits, torch.tensor(name_of_class), name_weights(names))
    teacher = teacher / teacher.sum(dim=1, keepdim=True)
    features = picked["features"].float()
    features = (features - features.mean(dim=0)) / (features.std(dim=0) + 0.05)
    rest = 1 - believed.sum(dim=1, keepdim=True)
    return Pool(picked["mel"], (believed + rest * teacher).half(), logits.sigmoid().half(), features.half())


class Student(nn.Module):
    """The tower with two more heads on its pooled maps, which only training needs."""

    def __init__(self, num_names: int) -> None:
        super().__init__()
        self.tower = AudioTower(num_names)
        self.features = nn.Linear(self.tower.names.in_features, NUM_FEATURES)
        self.classes = nn.Linear(self.tower.names.in_features, NUM_CLASSES)

    def forward(self, mels: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        pooled = self.tower.pooled(mels)
        return self.tower.names(pooled), self.features(pooled), self.classes(pooled)


def mask(mels: Tensor, generator: torch.Generator) -> Tensor:
    """Return log-mels with a stretch of frames and a band of bins at the mean (SpecAugment), and another level."""

    def draw(low: int, high: int) -> int:
        return int(torch.randint(low, high, (1,), generator=generator))

    mels = mels + torch.empty(len(mels), 1, 1).uniform_(-0.3, 0.3, generator=generator)
    mels = torch.roll(mels, draw(-2, 3), dims=2)
    for row in mels:
        frame, bin_ = draw(0, row.shape[0]), draw(0, row.shape[1])
        row[frame : frame + draw(0, MAX_FRAME_MASK)] = 0.0
        row[:, bin_ : bin_ + draw(0, MAX_BIN_MASK)] = 0.0
    return torch.roll(mels, draw(0, mels.shape[1]), dims=1) if draw(0, 2) else mels


def loss_source(student: Student, pool: Pool, seed: int) -> Callable[[int], Tensor]:
    """Return the loss of a step; which samples it sees and how they are masked follow from seed and step."""
    steps_an_epoch = len(pool.mel) // BATCH

    def loss_at(step: int) -> Tensor:
        epoch, position = divmod(step, steps_an_epoch)
        order = np.random.default_rng([seed, epoch]).permutation(len(pool.mel))
        rows = torch.from_numpy(order[position * BATCH : (position + 1) * BATCH])
        mels = mask(pool.mel[rows].float(), torch.Generator().manual_seed(seed * 1_000_003 + step))
        with torch.autocast("cpu", torch.bfloat16):
            named, features, classes = student(mels)
        naming = F.cross_entropy(named.float(), pool.names[rows].float())
        copying = F.mse_loss(features.float(), pool.features[rows].float())
        scoring = F.binary_cross_entropy_with_logits(classes.float(), pool.classes[rows].float()) * NUM_CLASSES / 100
        return naming + FEATURES_WEIGHT * copying + CLASSES_WEIGHT * scoring

    return loss_at


def main(argv: Sequence[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("data", type=Path)
    parser.add_argument("--pool", type=Path, required=True)
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--folds", type=int, nargs="+", default=[1, 2, 3, 4])
    parser.add_argument("--epochs", type=float, default=8)
    parser.add_argument("--minutes", type=float, default=float("inf"))
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args(argv)
    arguments.out.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(arguments.seed)
    names, name_of_class = read_names()
    pool = read_pool(arguments.pool, arguments.folds, name_of_class, names)
    student = Student(len(names)).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    optimizer = torch.optim.AdamW(student.parameters(), lr=2e-3, weight_decay=0.05)
    for group in optimizer.param_groups:
        group["initial_lr"] = group["lr"]
    config = LoopConfig(
        num_steps=int(arguments.epochs * (len(pool.mel) // BATCH)),
        checkpoint_every=200,
        max_minutes=arguments.minutes,
        model_name="audio tower",
        loss_name="names + distillation",
    )
    run_loop(student, optimizer, loss_source(student, pool, arguments.seed), config, arguments.out)
    weights = {key: value.contiguous() for key, value in student.tower.state_dict().items()}
    save_file(weights, arguments.out / "tower.safetensors", {"names": json.dumps(names)})


if __name__ == "__main__":
    main()
