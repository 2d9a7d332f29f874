"""A seeded set of pictures with one to five photographs on a ground, each with a question about number or place.

The photographs are those of Caltech-101 whose class is one of the 80 that the detector knows, under its name there.
They lie in a grid of three columns and two rows, each moved a little, on a plain or shaded ground.
"""

from __future__ import annotations

import io
import random
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

CLASSES = {
    "airplanes": ("airplane", "airplanes"), "Motorbikes": ("motorcycle", "motorcycles"), "chair": ("chair", "chairs"),
    "cup": ("cup", "cups"), "Faces": ("person", "people"), "umbrella": ("umbrella", "umbrellas"),
    "laptop": ("laptop", "laptops"), "dalmatian": ("dog", "dogs"), "elephant": ("elephant", "elephants"),
    "car_side": ("car", "cars"), "stop_sign": ("stop sign", "stop signs"), "pizza": ("pizza", "pizzas"),
    "ketch": ("boat", "boats"), "pigeon": ("bird", "birds"), "cellphone": ("cell phone", "cell phones"),
    "scissors": ("pair of scissors", "pairs of scissors"),
}  # fmt: skip
NUMBERS = ("zero", "one", "two", "three", "four", "five")
COLUMN_WORDS = (("left",), ("middle", "center", "centre"), ("right",))
SIZE_PX, CELL_PX = (660, 480), (220, 240)
PHOTO_PX = (150, 200)
KINDS = ("how many", "where", "what")


@dataclass(frozen=True, slots=True, kw_only=True)
class ObjectScene:
    """One JPEG file, a question about it, and words of which a right answer holds one, and none of `excluded`.

    A number must be the first in the answer.
    """

    kind: str
    content: bytes
    question: str
    answer: Sequence[str]
    excluded: Sequence[str]
    objects: Sequence[tuple[str, int, int]]  # Caltech's class, column, row


def object_scenes(archive: Path, num_scenes: int, seed: int) -> list[ObjectScene]:
    """Return `num_scenes` pictures, the kinds of question in turn. `archive` is Caltech-101 as a zip of folders."""
    rng = random.Random(seed)
    with zipfile.ZipFile(archive) as photos:
        names = sorted(photos.namelist())
        files = {folder: [name for name in names if name.startswith(f"{folder}/")] for folder in CLASSES}

        def photo(folder: str) -> Image.Image:
            with Image.open(io.BytesIO(photos.read(rng.choice(files[folder])))) as opened:
                return opened.convert("RGB")

        return [_scene(KINDS[place % len(KINDS)], photo, rng) for place in range(num_scenes)]


def _scene(kind: str, photo: Callable[[str], Image.Image], rng: random.Random) -> ObjectScene:
    asked, other = rng.sample(sorted(CLASSES), 2)
    num_asked = rng.randint(1, 4) if kind == "how many" else 1
    folders = [asked] * num_asked + [other] * rng.randint(0 if kind == "how many" else 1, 5 - num_asked)
    if kind == "how many":
        cells = rng.sample([(column, row) for column in range(3) for row in range(2)], len(folders))
    else:  # alone in its column
        column = rng.randrange(3)
        others = [(x, row) for x in range(3) if x != column for row in range(2)]
        cells = [(column, rng.randrange(2)), *rng.sample(others, len(folders) - 1)]
    objects = [(folder, *cell) for folder, cell in zip(folders, cells, strict=True)]
    question, answer, excluded = _question(kind, folders, num_asked, cells[0][0])
    content = _drawn(objects, photo, rng)
    return ObjectScene(kind=kind, content=content, question=question, answer=answer, excluded=excluded, objects=objects)


def _question(
    kind: str, folders: Sequence[str], num_asked: int, column: int
) -> tuple[str, Sequence[str], Sequence[str]]:
    """Return the question about the first of the classes, what answers it, and what must not be said."""
    one, several = CLASSES[folders[0]]
    words = COLUMN_WORDS[column]
    if kind == "how many":
        return f"How many {several} are in the picture?", (str(num_asked), NUMBERS[num_asked]), ()
    if kind == "where":
        others = [word for place, other in enumerate(COLUMN_WORDS) if place != column for word in other]
        return f"Where in the picture is the {one}?", words, others
    place = "in the middle" if column == 1 else f"on the {words[0]}"
    others = [name for folder in folders[1:] for name in CLASSES[folder]]
    return f"What is {place} of the picture?", (one, one.removeprefix("pair of ")), others


def _drawn(objects: Sequence[tuple[str, int, int]], photo: Callable[[str], Image.Image], rng: random.Random) -> bytes:
    width, height = SIZE_PX
    colours = np.array([[rng.randint(40, 230) for _ in range(3)] for _ in range(2)], dtype=np.float32)
    share = np.linspace(0, rng.choice((0, 1)), width, dtype=np.float32)[None, :, None]  # flat, or shaded to the right
    ground = np.broadcast_to(colours[0] * (1 - share) + colours[1] * share, (height, width, 3))
    picture = Image.fromarray(ground.astype(np.uint8))
    for folder, column, row in objects:
        side = rng.randint(*PHOTO_PX)
        corner = [cell * size + rng.randint(0, size - side) for cell, size in zip((column, row), CELL_PX, strict=True)]
        picture.paste(photo(folder).resize((side, side), Image.Resampling.BICUBIC), (corner[0], corner[1]))
    file = io.BytesIO()
    picture.save(file, "jpeg", quality=90)
    return file.getvalue()
