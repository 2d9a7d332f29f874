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
    reads_details = True

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
    """Return how many of each name there are, in the order of how sure the first one is, and a line per name: where.

    "There are two cups and one dog.", "The cups: one on the left; one in the middle.", "The dog is on the right, at the
    top.": of the wordings tried, the one from which a small decoder answers best (benchmarks/RESULTS.md).
    """
    by_name: dict[str, list[str]] = {found.name: [] for found in objects}
    for found in sorted(objects, key=lambda found: _field(found.box)):
        by_name[found.name].append(place(found.box))
    if not by_name:
        return ""
    *most, last = (f"{number(len(places))} {_named(name, len(places))}" for name, places in by_name.items())
    counted = f"{', '.join(most)} and {last}" if most else last
    verb = "is" if counted.startswith("one ") else "are"
    return "\n".join([f"There {verb} {counted}.", *(_line(name, places) for name, places in by_name.items())])


def place(box: tuple[float, float, float, float]) -> str:
    """Return in which of nine fields of the picture the middle of a box lies, in words."""
    row, column = _field(box)
    return f"{('on the left', 'in the middle', 'on the right')[column]}{(', at the top', '', ', at the bottom')[row]}"


def _field(box: tuple[float, float, float, float]) -> tuple[int, int]:
    """Return the row and the column, each 0 to 2, in which the middle of a box lies."""
    left, top, right, bottom = box
    return min(2, int((top + bottom) / 2 / THIRD)), min(2, int((left + right) / 2 / THIRD))


def _line(name: str, places: Sequence[str]) -> str:
    if len(places) == 1:
        return f"The {name} is {places[0]}."
    parts = "; ".join(f"{number(count)} {where}" for where, count in Counter(places).items())
    return f"The {plural(name)}: {parts}."


def _named(name: str, count: int) -> str:
    return name if count == 1 else plural(name)


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
