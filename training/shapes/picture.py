"""Draw one object of every class: `python -m training.shapes.picture OUT.png [--seed S]`."""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from training.shapes.catalogue import NAMES, build
from training.shapes.clouds import render

SIZE_PX, LABEL_PX, COLUMNS = 96, 14, 10


def draw(seed: int) -> Image.Image:
    """Return a labelled grid of all classes, each seen from its front left, a little from above."""
    rows = -(-len(NAMES) // COLUMNS)
    picture = Image.new("L", (COLUMNS * SIZE_PX, rows * (SIZE_PX + LABEL_PX)), 255)
    pen = ImageDraw.Draw(picture)
    eye = np.array((0.72, -0.52, 0.46), dtype=np.float32)
    for label, name in enumerate(NAMES):
        random = np.random.default_rng((seed, label))
        x, y = label % COLUMNS * SIZE_PX, label // COLUMNS * (SIZE_PX + LABEL_PX)
        picture.paste(Image.fromarray(render(build(label, random), eye, SIZE_PX, random)[..., 0]), (x, y))
        pen.text((x + SIZE_PX // 2, y + SIZE_PX), name, fill=0, anchor="ma")
    return picture


def main() -> None:
    parser = argparse.ArgumentParser(description="Draw one object of every class.")
    parser.add_argument("out", type=Path)
    parser.add_argument("--seed", type=int, default=2)
    arguments = parser.parse_args()
    draw(arguments.seed).save(arguments.out, optimize=True)


if __name__ == "__main__":
    main()
