"""What parts of a blend are called, and how that is told."""

from __future__ import annotations

import numpy as np
import pytest

from core.types import FloatArray, Modality
from models.mini.part_names import Part, PartNames

PICTURES, SOUNDS = ("cat", "tabby", "espresso"), ("dog", "rain", "crackling fire")
NAMES = PartNames(
    {
        Modality.IMAGE: (PICTURES, np.eye(6, dtype=np.float32)[:3]),
        Modality.AUDIO: (SOUNDS, np.eye(6, dtype=np.float32)[3:]),
    }
)


def row(name: str) -> FloatArray:
    """Return a row nearest to a name, and next to the one before it."""
    vector = np.zeros(6, dtype=np.float32)
    place = (*PICTURES, *SOUNDS).index(name)
    vector[place], vector[place - 1] = 0.8, 0.6
    return vector


def part(name: str, medium: int = 0, modality: Modality = Modality.IMAGE, sure: float | None = 0.9) -> Part:
    return Part(medium=medium, modality=modality, vector=row(name), weight=1.0, confidence=sure)


def called(name: str, medium: int, modality: Modality) -> Part:
    return Part(medium=medium, modality=modality, vector=row("dog"), weight=1.0, confidence=None, name=name)


def told(*parts: Part, question: str = "What is it?") -> str:
    return NAMES.told(NAMES.name(parts), question)


def test_every_part_is_told_by_the_nearest_name_of_its_own_modality_before_the_question() -> None:
    text = told(part("espresso"), part("rain", 1, Modality.AUDIO))
    context = "This is an espresso and rain. The picture shows an espresso, and the sound is rain."
    assert text.startswith(f"<context>{context}</context>\nWhat is it?\n")
    assert "The pictures show a cat and an espresso." in told(part("cat"), part("espresso", 1))


def test_the_runner_up_is_told_where_the_encoder_is_unsure() -> None:
    unsure, sure = NAMES.name([part("tabby", sure=0.49), part("espresso", 1, sure=0.51)])
    assert (unsure.name, unsure.other, sure.name, sure.other) == ("tabby", "cat", "espresso", None)
    assert unsure.phrase == "maybe a tabby or a cat"


def test_parts_of_one_name_are_one() -> None:
    named = NAMES.name([part("cat"), part("espresso", 1), part("cat", 2)])
    assert [(found.name, found.part.medium) for found in named] == [("cat", 0), ("espresso", 1)]


def test_the_scenes_of_a_film_are_told_in_their_order() -> None:
    scenes = [called("cat", 0, Modality.VIDEO), called("espresso", 0, Modality.VIDEO)]
    assert "The film shows first a cat, then an espresso." in told(*scenes)
    assert "The films show a cat and a dog." in told(scenes[0], called("dog", 1, Modality.VIDEO))


@pytest.mark.parametrize(
    ("text", "phrase"), [("piano", "a piano"), ("the old sea", "the old sea"), ("Paris", "Paris"), ("", "a dog")]
)
def test_a_text_is_told_in_its_own_words_or_by_the_nearest_name_of_all(text: str, phrase: str) -> None:
    named = NAMES.name([part("cat"), called(text, 1, Modality.TEXT)])
    assert named[1].phrase == phrase


def test_media_without_a_question_are_asked_what_they_are() -> None:
    assert "\nWhat is this?\n" in told(part("cat"), part("espresso", 1), question=" ")
