"""What a picture encoder makes of the pool's objects: one rendered view of each of the first ones, kept in chunks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor
from tqdm import tqdm

from core.types import DecodedMedia, ModalityEncoder
from training.shapes.clouds import render
from training.shapes.pool import triangles_of

SIZE_PX = 96
CHUNK = 20


def portrait(seed: int, number: int) -> DecodedMedia:
    """Return a picture of one object from its front, somewhat to a side and above."""
    triangles, _, random = triangles_of(seed, number)
    aside, above = random.uniform(-1.2, 1.2), random.uniform(0.1, 0.7)
    eye = np.array((np.cos(aside) * np.cos(above), np.sin(aside) * np.cos(above), np.sin(above)), dtype=np.float32)
    return DecodedMedia(container="png", array=render(triangles, eye, SIZE_PX, random))


def make_portraits(folder: Path, num_objects: int, seed: int, encoder: ModalityEncoder) -> Tensor:
    """Return the unit rows `(num_objects, E)` of the first objects' portraits, made where `folder` lacks them."""
    folder.mkdir(parents=True, exist_ok=True)
    chunks = []
    for start in tqdm(range(0, num_objects, CHUNK), desc="portraits", unit=f"{CHUNK}"):
        path = folder / f"{seed}-{start}.npy"
        if not path.exists():
            pictures = [encoder.preprocess(portrait(seed, start + n)) for n in range(CHUNK)]
            rows = np.stack([found.vector for found in encoder.encode(pictures)])  # (CHUNK, E)
            temporary = path.with_suffix(".tmp.npy")
            np.save(temporary, rows.astype(np.float16))
            temporary.replace(path)
        chunks.append(np.load(path))
    rows_of_all = np.concatenate(chunks)[:num_objects] if chunks else np.zeros((0, 1), dtype=np.float16)
    return torch.from_numpy(rows_of_all)
