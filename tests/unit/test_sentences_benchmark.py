"""What `benchmarks.sentences` takes for a whole sentence, and for an honest answer."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.phrasings import Photo
from benchmarks.sentences import QUESTIONS, Question, is_right, known_words

PANDA = Photo(Path("panda.webp"), ("panda", "giant panda"), ("animal",), "panda", True)
KNOWN = known_words()


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("A photo of a giant panda.", True),
        ("This is a panda, a kind of bear. It is an animal; I cannot tell more.", True),
        ("A photo of a beaver.", False),
        ("A photo of a panda", False),
        ("I am a panda panda.", False),
        ("The panda is an adorable and addictive bear.", False),
    ],
)
def test_a_sentence_names_the_thing_in_words_that_are_known(answer: str, right: bool) -> None:
    assert is_right(QUESTIONS[0], PANDA, answer, KNOWN) is right


@pytest.mark.parametrize(
    ("question", "answer", "right"),
    [
        (Question("How many are there?", "cannot tell"), "I cannot tell; I only see a panda.", True),
        (Question("How many are there?", "cannot tell"), "There are 100.", False),
        (Question("What animal is in the photo?", "no animal"), "I see no animal: this is a dam.", True),
        (Question("What animal is in the photo?", "no animal"), "This is a dam.", False),
    ],
)
def test_what_cannot_be_told_is_said(question: Question, answer: str, right: bool) -> None:
    assert is_right(question, PANDA, answer, KNOWN) is right
