"""An index folder in the tiny model's joint space, with metadata that tells its rows apart."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from cache_index.index import train_index
from cache_index.reader import ItemMetadata
from cache_index.store import IndexStore
from cache_index.visual_cache import normalize
from core.types import FloatArray
from models.tiny import EMBEDDING_WIDTH

SPACE = "tiny"


def gallery_rows(count: int = 40, seed: int = 5) -> FloatArray:
    return normalize(np.random.default_rng(seed).normal(size=(count, EMBEDDING_WIDTH)).astype(np.float32))


def write_gallery(folder: Path, count: int = 40, *, space: str = SPACE, seed: int = 5) -> Path:
    """Write an index of seeded rows; row i has the label `thing-i`."""
    index = train_index("flat", count, EMBEDDING_WIDTH, gallery_rows(0))
    index.add(gallery_rows(count, seed))
    items = [ItemMetadata(file=f"{row}.png", label=f"thing-{row}", extra={"shelf": row}) for row in range(count)]
    IndexStore(folder).replace(space, "flat", index, items)
    return folder
