"""What parts of a blend are called, and how that is told."""

from __future__ import annotations

import numpy as np
import pytest

from core.types import FloatArray, Modality
from models.mini.kinds import Kinds
from models.mini.part_names import Part, PartNames, told

PICTURES, SOUNDS = ("cat", "tabby", "espresso"), ("dog", "rain", "crackling fire")
NAMES = PartNames(
    {
        Modality.IMAGE: (PICTURES, np.eye(6, dtype=np.float32)[:3]),
        Modality.AUDIO: (SOUNDS, np.eye(6, dtype=np.float32)[3:]),
    },
    words=(("king", "queen", "monarch", "kingdom"), np.eye(6, dtype=np.float32)[:4]),
    kinds=Kinds(
        {"tabby": ["cat", "animal"], "cat": ["animal"], "dog": ["animal"], "espresso": ["food"], "bus": ["vehicle"]}
    ),
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


def turn(*parts: Part, question: str = "What is it?") -> str:
    return told(NAMES.name(parts), question)


def remains(vector: list[float], without: tuple[str, ...] = (), modality: Modality = Modality.TEXT) -> Part:
    """Return what remains of a difference."""
    row = np.array(vector, dtype=np.float32) / np.linalg.norm(vector)
    return Part(medium=None, modality=modality, vector=row, weight=1.0, confidence=None, without=without)


def test_every_part_is_told_by_the_nearest_name_of_its_own_modality_before_the_question() -> None:
    text = turn(part("espresso"), part("rain", 1, Modality.AUDIO))
    context = "This is an espresso and rain. The picture shows an espresso, and the sound is rain."
    assert text.startswith(f"<context>{context}</context>\nWhat is it?\n")
    assert "The pictures show a cat and an espresso." in turn(part("cat"), part("espresso", 1))


def test_the_runner_up_is_told_where_the_encoder_is_unsure() -> None:
    unsure, sure = NAMES.name([part("tabby", sure=0.49), part("espresso", 1, sure=0.51)])
    assert (unsure.name, unsure.other, sure.name, sure.other) == ("tabby", "cat", "espresso", None)
    assert unsure.phrase == "maybe a tabby or a cat"
    assert turn(part("tabby", sure=0.49), part("espresso", 1)).startswith(
        "<context>This is maybe a tabby or a cat, and an espresso. The pictures show maybe a tabby or a cat, and "
    )


def test_parts_of_one_name_are_one() -> None:
    named = NAMES.name([part("cat"), part("espresso", 1), part("cat", 2)])
    assert [(found.name, found.part.medium) for found in named] == [("cat", 0), ("espresso", 1)]


def test_the_scenes_of_a_film_are_told_in_their_order() -> None:
    scenes = [called("cat", 0, Modality.VIDEO), called("espresso", 0, Modality.VIDEO)]
    assert "The film shows first a cat, then an espresso." in turn(*scenes)
    assert "The films show a cat and a dog." in turn(scenes[0], called("dog", 1, Modality.VIDEO))


@pytest.mark.parametrize(
    ("text", "phrase"), [("piano", "a piano"), ("the old sea", "the old sea"), ("Paris", "Paris"), ("", "a dog")]
)
def test_a_text_is_told_in_its_own_words_or_by_the_nearest_name_of_all(text: str, phrase: str) -> None:
    named = NAMES.name([part("cat"), called(text, 1, Modality.TEXT)])
    assert named[1].phrase == phrase


@pytest.mark.parametrize(
    ("question", "said"),
    [
        ("Which animals are there?", "The animals are a tabby and the old dog of my aunt."),
        ("Which cats are there?", "The cat is a tabby."),
        ("What food is there?", "The food is an espresso."),
        (
            "Which vehicles are there?",
            "There is no vehicle; this is a tabby, an espresso and the old dog of my aunt.",
        ),
        ("What is this?", ""),
    ],
)
def test_a_question_for_a_kind_is_answered_with_its_parts_only(question: str, said: str) -> None:
    parts = (part("tabby"), part("espresso", 1), called("the old dog of my aunt", 2, Modality.TEXT))
    assert NAMES.of_kind(NAMES.name(parts), question) == said


def test_media_without_a_question_are_asked_what_they_are() -> None:
    assert "\nWhat is this?\n" in turn(part("cat"), part("espresso", 1), question=" ")


def test_what_remains_of_a_difference_is_the_nearest_word_that_holds_no_summand() -> None:
    vector = [0.9, 0.6, 0.2, 0.7, 0, 0]
    (named,) = NAMES.name([remains(vector, without=("king", "man"))])
    assert (named.name, named.other) == ("queen", None)
    np.testing.assert_array_equal(named.part.vector, np.eye(6)[1])
    assert NAMES.name([remains(vector)])[0].name == "king"


@pytest.mark.parametrize(
    ("vector", "other"), [([0, 0.9, 0.8, 0, 0.3, 0], None), ([0, 0.9, 0.85, 0, 0.3, 0], "monarch"),
                          ([0, 0.3, 0.2, 0, 0.9, 0], "monarch")],
)  # fmt: skip
def test_two_words_are_told_where_they_are_about_as_near_or_both_far(vector: list[float], other: str | None) -> None:
    (named,) = NAMES.name([remains(vector)])
    assert (named.name, named.other) == ("queen", other)


def test_what_remains_of_pictures_may_have_the_names_of_pictures_too() -> None:
    vector = [0, 0.1, 1.0, 0, 0, 0]
    assert NAMES.name([remains(vector)])[0].name == "monarch"
    named = NAMES.name([remains(vector, ("monarch",), Modality.IMAGE)])
    assert named[0].name == "espresso"
    assert told(named, "Who?").startswith("<context>This is an espresso.</context>")
