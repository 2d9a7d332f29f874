"""Objects of a picture told in words."""

from __future__ import annotations

import pytest

from engine.experts.detect import place, plural, told
from models.nanodet.detector import NAMES, FoundObject

LEFT, MIDDLE, RIGHT = (0.0, 0.4, 0.2, 0.6), (0.4, 0.4, 0.6, 0.6), (0.8, 0.4, 1.0, 0.6)


def found(name: str, box: tuple[float, float, float, float]) -> FoundObject:
    return FoundObject(name=name, score=0.9, box=box)


def test_each_name_is_counted_and_placed_the_surest_name_first() -> None:
    objects = [found("dog", LEFT), found("cup", RIGHT), found("cup", MIDDLE), found("cup", RIGHT)]
    assert told(objects).splitlines() == [
        "There is one dog and three cups.",
        "The dog is on the left.",
        "The cups: one in the middle; two on the right.",
    ]


def test_three_names_are_joined_and_many_counted_in_digits() -> None:
    several = [found("person", LEFT)] * 2 + [found("cat", MIDDLE)] + [found("sheep", RIGHT)] * 11
    assert told(several).splitlines() == [
        "There are two people, one cat and 11 sheep.",
        "The people: two on the left.",
        "The cat is in the middle.",
        "The sheep: 11 on the right.",
    ]


def test_a_picture_without_objects_says_nothing() -> None:
    assert told([]) == ""


@pytest.mark.parametrize(
    ("box", "words"),
    [
        ((0.0, 0.0, 1.0, 1.0), "in the middle"),
        ((0.0, 0.0, 0.1, 0.1), "on the left, at the top"),
        ((0.9, 0.9, 1.0, 1.0), "on the right, at the bottom"),
        ((0.4, 0.0, 0.6, 0.2), "in the middle, at the top"),
        ((0.0, 0.0, 0.3, 1.0), "on the left"),
        ((1.0, 1.0, 1.0, 1.0), "on the right, at the bottom"),
    ],
)
def test_a_place_is_where_the_middle_of_the_box_lies(box: tuple[float, float, float, float], words: str) -> None:
    assert place(box) == words


def test_every_name_of_the_detector_has_a_plural() -> None:
    plurals = {name: plural(name) for name in NAMES}
    assert plurals["wine glass"] == "wine glasses"
    assert plurals["pair of scissors"] == "pairs of scissors"
    assert [name for name, several in plurals.items() if name == several] == ["sheep"]
