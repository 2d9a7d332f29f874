"""Which questions are about colour or setting, and what they want to know."""

from __future__ import annotations

import time

import pytest

from models.mini.attribute_questions import AttributeQuestion, attribute_question


@pytest.mark.parametrize(
    ("text", "thing"),
    [
        ("What colour is it?", ""),
        ("And what color?", ""),
        ("what's its color?", ""),
        ("What colour is the car?", "car"),
        ("Which colour does this Koala have?", "Koala"),
        ("Can you tell me what colour the cars are, please?", "cars"),
        ("Nice picture. What is the colour of the woman's hair?", "woman's hair"),
        ("What colour is the thing in this photo?", ""),
    ],
)
def test_a_question_for_a_colour_names_what_it_is_about(text: str, thing: str) -> None:
    assert attribute_question(text) == AttributeQuestion(kind="colour", thing=thing, points=True)


@pytest.mark.parametrize(
    ("text", "thing", "asked"),
    [
        ("Is the car red?", "car", ("red",)),
        ("Is it gray? Answer yes or no.", "", ("grey",)),
        ("Is the zebra black and white?", "zebra", ("black", "white")),
    ],
)
def test_a_question_whether_it_has_a_colour_wants_a_yes_or_no(text: str, thing: str, asked: tuple[str, ...]) -> None:
    found = attribute_question(text)
    assert found == AttributeQuestion(kind="colour", thing=thing, asked=asked, points=True)
    assert found.is_yes_or_no


def test_a_choice_between_colours_wants_one_of_them() -> None:
    found = attribute_question("Is it red or blue?")
    assert found == AttributeQuestion(kind="colour", asked=("red", "blue"), is_choice=True, points=True)
    assert not found.is_yes_or_no


def test_a_coloured_thing_is_asked_for_by_both() -> None:
    found = attribute_question("Is this a red car?")
    assert found == AttributeQuestion(kind="colour", thing="car", asked=("red",), names_thing=True)


@pytest.mark.parametrize(
    ("text", "kind", "asked"),
    [
        ("Is this indoors or outdoors?", "setting", ()),
        ("Was the picture taken inside or outside?", "setting", ()),
        ("Outdoors or indoors?", "setting", ()),
        ("Is it outdoors?", "setting", ("outdoors",)),
        ("Was this photo taken inside?", "setting", ("indoors",)),
        ("Where was this taken?", "place", ()),
        ("What is the setting of the picture?", "place", ()),
        ("What colors do you see?", "palette", ()),
        ("Is the photo black and white?", "palette", ("black", "white")),
    ],
)
def test_settings_places_and_the_colours_of_the_whole_picture_are_asked_for(
    text: str, kind: str, asked: tuple[str, ...]
) -> None:
    found = attribute_question(text)
    assert found is not None
    assert (found.kind, found.asked) == (kind, asked)


@pytest.mark.parametrize(
    "text",
    [
        "What is this?",
        "Describe the picture.",
        "Where is the cat?",
        "Is the cat inside the box?",
        "What is inside the box?",
        "Is this an orange?",
        "Is this an orange or a lemon?",
        "How many colours are there?",
        "What colour do you get when you mix blue and yellow?",
        "Who painted the White House?",
        "What does it say?",
        "What colour is it?" + " Look closely." * 40,
        "",
    ],
)
def test_any_other_question_is_left_alone(text: str) -> None:
    assert attribute_question(text) is None


def test_what_everybody_knows_without_a_picture_points_at_nothing() -> None:
    found = attribute_question("What colour is the sky?")
    assert found is not None
    assert not found.points
    banana = attribute_question("What colour is a banana?")
    assert banana is not None
    assert not banana.points


def test_a_hostile_text_is_read_in_no_time() -> None:
    for text in ("what colour is " + "the " * 70, "is the " + "a " * 140 + "red", "where was this " * 19):
        started_s = time.process_time()
        attribute_question(text[:300])
        assert time.process_time() - started_s < 1
