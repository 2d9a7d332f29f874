"""Make chair.ply: a chair as `training/shapes` draws them, a seed of its own. Run from the repository's root."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from training.shapes.catalogue import NAMES, build
from training.shapes.clouds import sample
from training.shapes.writers import write_ply

SEED = 2026


def main() -> None:
    random = np.random.default_rng(SEED)
    triangles = build(NAMES.index("chair"), random)
    points, _ = sample(triangles, 2048, random)
    Path(__file__).with_name("chair.ply").write_bytes(write_ply(triangles, points))


if __name__ == "__main__":
    main()
