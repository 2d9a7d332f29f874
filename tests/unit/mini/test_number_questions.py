from __future__ import annotations

import pytest

from models.mini.number_questions import NumberQuestion, number_question


@pytest.mark.parametrize(
    ("text", "thing", "points"),
    [
        ("How many are there?", "", False),
        ("How many of these can you count?", "", True),
        ("Nice photo! How many dogs are in the picture?", "dogs", True),
        ("What is the number of birds in this photo?", "birds", True),
        ("how many people can you see", "people", True),
        ("Please count the cats.", "cats", False),
        ("How many continents are there?", "continents", False),
    ],
)
def test_a_question_for_a_number_is_told_from_its_words(text: str, thing: str, points: bool) -> None:
    assert number_question(text) == NumberQuestion(thing, points)


@pytest.mark.parametrize("text", ["What is this?", "Is this a dog?", "How much is the fish?", "how many " * 60])
def test_other_questions_ask_for_no_number(text: str) -> None:
    assert number_question(text) is None
