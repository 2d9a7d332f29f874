"""The expert `detect`: which objects a picture shows, how many of each, and where, by NanoDet-g."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from functools import partial

from core.types import AnyArray, Modality
from engine.experts import ExpertContext, ExpertMedium, Reading
from engine.experts.threads import ExpertThread, IsAbandoned
from models.nanodet.detector import FoundObject, ObjectDetector, load_detector

NUMBERS = ("no", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine", "ten")
PLURALS = {"person": "people", "sheep": "sheep", "knife": "knives", "computer mouse": "computer mice"}
THIRD = 1 / 3


def build_detect(context: ExpertContext) -> DetectExpert:
    """Return the expert."""
    return DetectExpert()


class DetectExpert:
    """Count the objects of each name and say where they are."""

    expert_id = "detect-nanodet-g"
    modalities = frozenset({Modality.IMAGE})
    heading = "Objects found in {medium}:"
    instruction = ""

    def __init__(self) -> None:
        self._thread = ExpertThread("detect")
        self._detector: ObjectDetector | None = None

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return how many objects of which name lie where, the most sure name first."""
        media = await medium.decode()
        objects = await self._thread.run(partial(self._find, media.array))
        return Reading(text=told(objects), objects=tuple(objects))

    async def stop(self) -> None:
        await self._thread.stop()

    def _find(self, pixels: AnyArray, is_abandoned: IsAbandoned) -> list[FoundObject]:
        if self._detector is None:
            self._detector = load_detector()
        return self._detector.find(pixels)


def told(objects: Sequence[FoundObject]) -> str:
    """Return a line per name, the one found most surely first: "two cups: one at the left, one in the middle".

    Places of one name come from the top to the bottom, and from the left to the right.
    """
    by_name: dict[str, list[str]] = {found.name: [] for found in objects}
    for found in sorted(objects, key=lambda found: _field(found.box)):
        by_name[found.name].append(place(found.box))
    return "\n".join(_line(name, places) for name, places in by_name.items())


def place(box: tuple[float, float, float, float]) -> str:
    """Return in which of nine fields of the picture the middle of a box lies, in words."""
    row, column = _field(box)
    sides = f"{('top ', '', 'bottom ')[row]}{('left', '', 'right')[column]}".strip()
    return f"at the {sides}" if sides else "in the middle"


def _field(box: tuple[float, float, float, float]) -> tuple[int, int]:
    """Return the row and the column, each 0 to 2, in which the middle of a box lies."""
    left, top, right, bottom = box
    return min(2, int((top + bottom) / 2 / THIRD)), min(2, int((left + right) / 2 / THIRD))


def _line(name: str, places: Sequence[str]) -> str:
    if len(places) == 1:
        return f"one {name} {places[0]}"
    counted = Counter(places)
    if len(counted) == 1:
        return f"{number(len(places))} {plural(name)} {places[0]}"
    parts = ", ".join(f"{number(count)} {where}" for where, count in counted.items())
    return f"{number(len(places))} {plural(name)}: {parts}"


def number(count: int) -> str:
    """Return a count as a word up to ten, beyond as digits."""
    return NUMBERS[count] if count < len(NUMBERS) else str(count)


def plural(name: str) -> str:
    """Return several of one of the detector's names."""
    if name in PLURALS:
        return PLURALS[name]
    if " of " in name:  # pair of skis
        return name.replace(" of ", "s of ")
    return f"{name}es" if name.endswith(("s", "ch", "sh")) else f"{name}s"
