"""The pool of objects that training draws from: clouds sampled once, in chunks that an interrupted run keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from training.shapes.catalogue import ANY_WAY_UP, NAMELESS, NAMES, build, draw_label
from training.shapes.clouds import Cloud, augment, sample, to_unit_sphere
from training.shapes.parts import Triangles

POOL_POINTS = 2048
CHUNK = 500
TOPPLED_SHARE = 0.15
FREE = frozenset(NAMES.index(name) for name in ANY_WAY_UP)


def object_of(seed: int, number: int, num_points: int = POOL_POINTS) -> tuple[Cloud, int]:
    """Return the cloud `(num_points, 3)` and the label of one object; it depends on the two numbers alone."""
    triangles, label, random = triangles_of(seed, number)
    points, _ = sample(triangles, num_points, random)
    return to_unit_sphere(points), label


def triangles_of(seed: int, number: int) -> tuple[Triangles, int, np.random.Generator]:
    """Return one object as triangles `(F, 3, 3)`, its label, and the source of chance for what is done with it."""
    random = np.random.default_rng((seed, number))
    label = draw_label(random)
    return build(label, random), label, random


def make_pool(folder: Path, num_objects: int, seed: int) -> tuple[npt.NDArray[np.float16], npt.NDArray[np.int64]]:
    """Return clouds `(n, 2048, 3)` and labels `(n,)`, made where `folder` lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    clouds, labels = [], []
    for start in tqdm(range(0, num_objects, CHUNK), desc="objects", unit=f"{CHUNK}"):
        path = folder / f"{seed}-{start}.npz"
        if not path.exists():
            made = [object_of(seed, start + n) for n in range(CHUNK)]
            temporary = path.with_suffix(".tmp.npz")
            np.savez(temporary, clouds=np.stack([c for c, _ in made]).astype(np.float16), labels=[n for _, n in made])
            temporary.replace(path)
        with np.load(path) as stored:
            clouds.append(stored["clouds"])
            labels.append(stored["labels"])
    return np.concatenate(clouds)[:num_objects], np.concatenate(labels)[:num_objects]


def make_views(
    folder: Path, pool: tuple[npt.NDArray[np.float16], npt.NDArray[np.int64]], chunks: range, seed: int
) -> None:
    """Write chunks of augmented views `(500, 1024, 3)`, their labels and objects, where `folder` lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    clouds, labels = pool
    for chunk in tqdm(chunks, desc="views", unit=f"{CHUNK}"):
        path = folder / f"{seed}-{chunk:04d}.npz"
        if path.exists():
            continue
        random = np.random.default_rng((seed, 77, chunk))
        views, targets = [], []
        rows = random.integers(len(clouds), size=CHUNK)
        for row in rows:
            upright = random.random() > TOPPLED_SHARE
            views.append(augment(clouds[row].astype(np.float32), random, upright=upright).astype(np.float16))
            targets.append(int(labels[row]) if upright or labels[row] in FREE else NAMELESS)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, clouds=np.stack(views), labels=targets, objects=rows)
        temporary.replace(path)


def read_views(folder: Path, num_chunks: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return the views `(n, 1024, 3)` in float16, their labels `(n,)` and the numbers `(n,)` of their objects."""
    parts: dict[str, list[torch.Tensor]] = {"clouds": [], "labels": [], "objects": []}
    for chunk in range(num_chunks):
        with np.load(folder / f"{seed}-{chunk:04d}.npz") as stored:
            for key, part in parts.items():
                part.append(torch.from_numpy(stored[key]))
    return torch.cat(parts["clouds"]), torch.cat(parts["labels"]), torch.cat(parts["objects"])
