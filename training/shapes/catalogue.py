"""Every class that can be drawn, in a fixed order, and one seeded object of each."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from training.shapes import (
    beasts,
    bodies,
    buildings,
    craft,
    creatures,
    cycles,
    devices,
    dishes,
    fixtures,
    lamps,
    people,
    plants,
    road,
    rooms,
    seating,
    tools,
    wear,
)
from training.shapes.parts import Dice, Triangles

_MODULES = (
    seating, rooms, lamps, road, craft, cycles, dishes, plants, fixtures, devices, beasts, creatures, people, tools,
    wear, buildings, bodies,
)  # fmt: skip
MAKERS: dict[str, Callable[[Dice], Triangles]] = {
    name: maker for module in _MODULES for name, maker in module.MAKERS.items()
}
NAMES = (
    "chair", "office chair", "armchair", "stool", "bench", "table", "desk", "sofa", "bed", "bookshelf", "cabinet",
    "door", "stairs", "lamp", "pillow", "car", "truck", "bus", "train", "airplane", "helicopter", "rocket",
    "bicycle", "motorcycle", "ship", "sailboat", "skateboard", "mug", "bottle", "bowl", "vase", "teapot",
    "wine glass", "pot", "can", "spoon", "fork", "knife", "potted plant", "tree", "mushroom", "toilet", "bathtub",
    "sink", "keyboard", "monitor", "laptop", "cell phone", "guitar", "piano", "clock", "dog", "cat", "horse", "cow",
    "elephant", "giraffe", "rabbit", "bird", "duck", "fish", "person", "head", "hand", "teddy bear", "snake",
    "spider", "turtle", "dinosaur", "hat", "umbrella", "sword", "pistol", "rifle", "hammer", "axe", "scissors",
    "wrench", "glasses", "headphones", "shoe", "house", "tent", "tower", "ball", "cone", "ring", "box", "gear",
    "screw",
)  # fmt: skip
NAMELESS = len(NAMES)  # the label of objects of no kind
NAMELESS_SHARE, WARPED_SHARE = 0.09, 0.3
ANY_WAY_UP = frozenset(
    {"ball", "ring", "gear", "screw", "box", "can", "pillow", "cell phone", "wrench", "scissors", "knife", "fork"}
    | {"spoon", "sword", "hammer", "axe", "guitar", "rifle", "pistol", "hand", "glasses", "snake", "rocket", "shoe"}
    | {"fish", "bottle", "clock", "skateboard", "keyboard", "headphones"}
)  # these lie about in every position; all others are unfamiliar when they do not stand on their feet


def draw_label(random: np.random.Generator) -> int:
    """Draw a class, all alike, or `NAMELESS`."""
    return NAMELESS if random.random() < NAMELESS_SHARE else int(random.integers(len(NAMES)))


def build(label: int, random: np.random.Generator) -> Triangles:
    """Return one object as triangles `(F, 3, 3)`, its proportions stretched at random."""
    maker = bodies.nameless if label == NAMELESS else MAKERS[NAMES[label]]
    triangles = maker(Dice(random)) * np.exp(random.normal(0, 0.12, 3))
    return warped(triangles, random) if random.random() < WARPED_SHARE else np.asarray(triangles)


def warped(triangles: Triangles, random: np.random.Generator) -> Triangles:
    """Let an object grow wider or narrower with its height, and lean."""
    height = triangles[..., 2:]
    level = (height - height.min()) / np.ptp(height) - 0.5  # (F, 3, 1)
    middle = triangles.reshape(-1, 3).mean(axis=0) * (1, 1, 0)
    grown = (triangles - middle) * np.concatenate((1 + random.normal(0, 0.18) * level,) * 2 + (0 * level + 1,), axis=2)
    lean = random.normal(0, 0.05, 2) * np.ptp(height)
    return np.asarray(grown + middle + level * np.array((*lean, 0.0)))
