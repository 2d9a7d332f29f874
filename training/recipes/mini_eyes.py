"""Learn what names pictures of one input size: the heads of photographs and of drawings, and when to trust them.

N photographs, F features, K learnt names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from models.mini.encoder import IMAGE_SIZE, THUMBNAIL_SIZE, FeatureNetwork, NameHead
from models.mini.loader import THUMBNAIL_PREFIX
from training.recipes import mini_pictures as pictures
from training.recipes.mini_calibration import FOLD_STEPS, Calibration, fit_calibration
from training.recipes.mini_emoji import DRAWING_STEPS, emoji_features, train_drawings
from training.recipes.mini_pictures import FeatureSimulator, HeadPlan, Name, Photographs

PHOTOGRAPHS = "caltech101_112.zip"


@dataclass(frozen=True, slots=True, kw_only=True)
class EyeRecipe:
    """How the names for one input size are learnt; the tensors to ship begin with `prefix`.

    `shift` is added to the learnt logits: chosen on the validation photographs, for trained classes, and on the classes
    that the calibration's folds leave out, for the others.
    """

    size: int
    prefix: str
    shift: float
    num_steps: int


EYES = (
    EyeRecipe(size=IMAGE_SIZE, prefix="", shift=-2.0, num_steps=1000),
    EyeRecipe(size=THUMBNAIL_SIZE, prefix=THUMBNAIL_PREFIX, shift=0.25, num_steps=300),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lesson:
    """What every eye learns from; `out` keeps the parts that an interrupted run made.

    Each n-th photograph and drawing alone is seen, `every` being n, and steps are as many times fewer.
    """

    data: Path
    out: Path
    network: FeatureNetwork
    imagenet: Sequence[Name]
    trained: Sequence[str]
    seed: int
    every: int


@dataclass(frozen=True, slots=True)
class LearntEye:
    """The head, without drawings, its calibration, and every tensor to ship."""

    head: NameHead
    calibration: Calibration
    tensors: dict[str, Tensor]


def made_once(path: Path, make: Callable[[], Any]) -> Any:
    """Return what an earlier start of the same run kept in `path`, or make and keep it."""
    if not path.exists():
        torch.save(make(), path)
    return torch.load(path, weights_only=True)


def learn_eye(recipe: EyeRecipe, lesson: Lesson, vectors: Tensor) -> LearntEye:
    """Learn what names pictures of one size; `vectors` `(1000 + K, E)` are of the bank's names."""
    frozen = lesson.network.class_weights()

    def once(part: str, make: Callable[[], Any]) -> Any:
        return made_once(lesson.out / f"{recipe.prefix}{part}.pt", make)

    photographs = cache(lambda: see_photographs(recipe, lesson))

    def learn_head() -> dict[str, Tensor]:
        features, targets = pictures.training_rows(photographs(), lesson.trained, lesson.imagenet)
        plan = HeadPlan(
            num_names=len(vectors) - len(frozen[1]),
            num_steps=max(1, recipe.num_steps // lesson.every),
            shift=recipe.shift,
            seed=lesson.seed,
        )
        return dict(pictures.train_head(features, targets, frozen, plan).state_dict())

    state = once("head", learn_head)
    layer = nn.Linear(frozen[0].shape[1], len(vectors) - len(frozen[1]))
    layer.load_state_dict(state)
    head = NameHead(frozen, layer, vectors).eval().requires_grad_(False)

    def calibrate() -> Tensor:
        steps = max(1, FOLD_STEPS // lesson.every)
        fitted = fit_calibration(
            photographs(), lesson.trained, lesson.imagenet, head, shift=recipe.shift, num_steps=steps
        )
        return fitted.tensor()

    calibration = Calibration(*once("calibration", calibrate).tolist())
    drawings = once("drawings", lambda: learn_drawings(recipe, lesson, photographs()))
    tensors = {"confidence": calibration.tensor()}
    for name, layer_state in (("head", state), ("drawings", drawings)):
        tensors |= {f"{name}.{key}": value for key, value in layer_state.items()}
    return LearntEye(head, calibration, {f"{recipe.prefix}{key}": value for key, value in tensors.items()})


def see_photographs(recipe: EyeRecipe, lesson: Lesson) -> Photographs:
    """Return the features of the photographs at an eye's input size, computed once."""
    archive, kept = lesson.data / PHOTOGRAPHS, lesson.out / f"{recipe.prefix}features.pt"
    return pictures.read_photographs(archive, lesson.network, kept, every=lesson.every, size=recipe.size)


def learn_drawings(recipe: EyeRecipe, lesson: Lesson, photographs: Photographs) -> dict[str, Tensor]:
    """Return `weight` and `bias` of the classifier that tells drawings from photographs and names them."""
    seen, _ = pictures.training_rows(photographs, lesson.trained, lesson.imagenet)  # (N, F)
    spoken = pictures.read_spoken_emoji(pictures.NAMES_FILE, lesson.every)
    archive = lesson.data / "fluent_emoji_3d_112.zip"
    features = made_once(
        lesson.out / f"{recipe.prefix}emoji.pt",
        lambda: emoji_features(archive, spoken, lesson.network, lesson.seed, recipe.size),
    )
    generator = torch.Generator().manual_seed(lesson.seed)
    classes = torch.arange(1000).repeat(3)
    push = 3.5 + 7.0 * torch.rand(len(classes), generator=generator)
    simulator = FeatureSimulator(seen, lesson.network.class_weights())
    undrawn = torch.cat((seen, simulator.draw(classes, push, generator)))
    steps = max(1, DRAWING_STEPS // lesson.every)
    return dict(train_drawings(features, spoken, undrawn, lesson.seed, num_steps=steps).state_dict())
