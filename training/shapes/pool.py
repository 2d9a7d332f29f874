"""The pool of objects that training draws from: clouds sampled once, in chunks that an interrupted run keeps."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from tqdm import tqdm

from training.shapes.catalogue import ANY_WAY_UP, NAMELESS, NAMES, build, draw_label
from training.shapes.clouds import Cloud, augment, sample, to_unit_sphere

POOL_POINTS = 2048
CHUNK = 500
TOPPLED_SHARE = 0.15
FREE = frozenset(NAMES.index(name) for name in ANY_WAY_UP)


def object_of(seed: int, number: int, num_points: int = POOL_POINTS) -> tuple[Cloud, int]:
    """Return the cloud `(num_points, 3)` and the label of one object; it depends on the two numbers alone."""
    random = np.random.default_rng((seed, number))
    label = draw_label(random)
    points, _ = sample(build(label, random), num_points, random)
    return to_unit_sphere(points), label


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
    """Write chunks of augmented views `(500, 1024, 3)` with their labels where `folder` lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    clouds, labels = pool
    for chunk in tqdm(chunks, desc="views", unit=f"{CHUNK}"):
        path = folder / f"{seed}-{chunk:04d}.npz"
        if path.exists():
            continue
        random = np.random.default_rng((seed, 77, chunk))
        views, targets = [], []
        for row in random.integers(len(clouds), size=CHUNK):
            upright = random.random() > TOPPLED_SHARE
            views.append(augment(clouds[row].astype(np.float32), random, upright=upright).astype(np.float16))
            targets.append(int(labels[row]) if upright or labels[row] in FREE else NAMELESS)
        temporary = path.with_suffix(".tmp.npz")
        np.savez(temporary, clouds=np.stack(views), labels=targets)
        temporary.replace(path)


def read_views(folder: Path, num_chunks: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return the views `(n, 1024, 3)` in float16 and their labels `(n,)`."""
    clouds, labels = [], []
    for chunk in range(num_chunks):
        with np.load(folder / f"{seed}-{chunk:04d}.npz") as stored:
            clouds.append(torch.from_numpy(stored["clouds"]))
            labels.append(torch.from_numpy(stored["labels"]))
    return torch.cat(clouds), torch.cat(labels)
