"""The judge of `benchmarks.sense`: which answers about several media are clean."""

from __future__ import annotations

import pytest

from benchmarks.sense import is_clean

NAMES = ("Egyptian cat", "tiger cat", "espresso")


@pytest.mark.parametrize(
    "answer",
    [
        "This is an Egyptian cat and an espresso.",
        "The pictures show maybe an Egyptian cat or a tiger cat, and an espresso.",
        "The picture shows a tiger cat, and the sound is an espresso.",
        "I see two things. They are an Egyptian cat and espressos!",
    ],
)
def test_names_and_ordinary_words_are_clean(answer: str) -> None:
    assert is_clean(answer, NAMES)


@pytest.mark.parametrize(
    "answer",
    [
        "The Egyptian cat and an espresso are two of the many Egyptian cats and espresso.",
        "This is an Egyptian cat and an espresso. I see an espresso.",
        "This is an Egyptian cat drinking an espresso.",
        "This is an Egyptian cat and an espresso",
        "A cat. An espresso. That is it.",
        "The Egyptian cat is an espresso.",
        "",
    ],
)
def test_other_words_repetition_a_cut_or_long_answer_and_confusion_are_not(answer: str) -> None:
    assert not is_clean(answer, NAMES)


def test_words_of_the_question_may_be_said_once() -> None:
    assert not is_clean("There is one animal: a tiger cat.", NAMES)
    assert is_clean("There is one animal: a tiger cat.", NAMES, "Which animals are there?")
