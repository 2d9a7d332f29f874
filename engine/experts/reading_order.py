"""Boxes of text to lines in the order in which people read them."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from core.types import AnyArray

SAME_ROW = 0.5  # of the lower box's height between two middles
SAME_PARAGRAPH = 0.6  # of the lower row's height between two rows
SAME_SIZE = 1.35  # ratio of heights up to which two rows are of one size
_ENDS_A_LINE = re.compile(r"(?:[.:;!?]|\d[.,:]\d+)$")  # a mark, or a price, time or date


@dataclass(frozen=True, slots=True, kw_only=True)
class TextBox:
    """A piece of text: its middle, its size and how far it drops from left to right, in pixels."""

    text: str
    x: float
    y: float
    width: float
    height: float
    drop: float

    @classmethod
    def around(cls, corners: AnyArray, text: str) -> TextBox:
        """Return the box of corners `(4, 2)`: top left, top right, bottom right, bottom left."""
        top_left, top_right, bottom_right, bottom_left = np.asarray(corners, dtype=np.float64)
        left, right = (top_left + bottom_left) / 2, (top_right + bottom_right) / 2
        height = (np.linalg.norm(bottom_left - top_left) + np.linalg.norm(bottom_right - top_right)) / 2
        x, y = (left + right) / 2
        return cls(
            text=text.strip(),
            x=float(x),
            y=float(y),
            width=float(right[0] - left[0]),
            height=float(height),
            drop=float(right[1] - left[1]),
        )


def lines_in_order(boxes: Sequence[TextBox]) -> list[str]:
    """Return the text row by row; a picture taken askew is levelled first, and words of one sentence share a line."""
    slope = _slope(boxes)
    levels = {id(box): box.y - slope * box.x for box in boxes}
    rows: list[list[TextBox]] = []
    for box in sorted(boxes, key=lambda box: levels[id(box)]):
        first = rows[-1][0] if rows else None
        if first and abs(levels[id(box)] - levels[id(first)]) < SAME_ROW * min(box.height, first.height):
            rows[-1].append(box)
        else:
            rows.append([box])
    lines: list[str] = []
    for place, row in enumerate(rows):
        text = " ".join(box.text for box in sorted(row, key=lambda box: box.x))
        above = rows[place - 1] if place else None
        if above and _continues(above, row, levels[id(row[0])] - levels[id(above[0])]):
            lines[-1] = f"{lines[-1]} {text}"
        else:
            lines.append(text)
    return lines


def _slope(boxes: Sequence[TextBox]) -> float:
    """Return the median drop per pixel of the long boxes."""
    slopes = [box.drop / box.width for box in boxes if box.width > 2 * box.height > 0]
    return float(np.median(slopes)) if slopes else 0.0


def _continues(above: Sequence[TextBox], row: Sequence[TextBox], distance: float) -> bool:
    """Say whether a row goes on with the sentence above: one box each, one size, close together, no end between."""
    if len(above) > 1 or len(row) > 1:
        return False
    (first,), (second,) = above, row
    gap = distance - (first.height + second.height) / 2
    one_size = max(first.height, second.height) < SAME_SIZE * min(first.height, second.height)
    ends = _ENDS_A_LINE.search(first.text) is not None
    overlaps = abs(first.x - second.x) < (first.width + second.width) / 2
    return one_size and overlaps and not ends and gap < SAME_PARAGRAPH * second.height
