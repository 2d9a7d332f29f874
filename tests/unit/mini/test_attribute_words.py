"""The sentences that say a colour or a setting, or that it cannot be told."""

from __future__ import annotations

from dataclasses import replace

import pytest

from models.mini.attribute_questions import COLOURS, attribute_question
from models.mini.attribute_words import Attributes, answer, facts


def shares(**chances: float) -> tuple[float, ...]:
    return tuple(chances.get(colour, 0.0) for colour in COLOURS)


CAR = Attributes(name="car", colours=("red",), shares=shares(red=0.9), palette=("red", "grey"), setting="outdoors")
UNCLEAR = replace(CAR, colours=(), shares=shares(brown=0.4, grey=0.3))
GREY_SCALE = replace(CAR, has_colours=False, setting="")
ZEBRA = Attributes(name="zebra", colours=("black", "white"), shares=shares(grey=0.5, white=0.3))


@pytest.mark.parametrize(
    ("attributes", "question", "said"),
    [
        (CAR, "What colour is it?", "The car is red."),
        (replace(CAR, name=""), "What colour is it?", "It is red."),
        (CAR, "What colour is the Beetle?", "The Beetle is red."),
        (CAR, "What colour are the cars?", "The cars are red."),
        (CAR, "Is it red?", "Yes, the car is red."),
        (CAR, "Is the car blue?", "No, the car is red."),
        (CAR, "Is it red or blue?", "The car is red."),
        (ZEBRA, "What colour is it?", "The zebra is black and white."),
        (
            replace(CAR, colours=("red", "white", "blue")),
            "Colour?",
            "The car has several colours: red, white and blue.",
        ),
        (UNCLEAR, "What colour is it?", "I cannot tell the colour of the car; it may be brown or grey."),
        (UNCLEAR, "Is it brown?", "I cannot tell the colour of the car; it may be brown or grey."),
        (GREY_SCALE, "What colour is it?", "The picture is black and white, so I cannot tell the colour of the car."),
        (GREY_SCALE, "Is the picture black and white?", "Yes, the picture is black and white."),
        (CAR, "Is the picture black and white?", "No, the picture is mostly red and grey."),
        (CAR, "What colours do you see?", "The picture is mostly red and grey."),
        (replace(CAR, background=("green",)), "What colour is the background?", "The background is green."),
        (CAR, "What colour is the background?", "I cannot tell the colour of the background."),
        (CAR, "Indoors or outdoors?", "The picture was taken outdoors."),
        (CAR, "Is it indoors?", "No, the picture was taken outdoors."),
        (CAR, "Where was this taken?", "The picture was taken outdoors, but I cannot tell where."),
        (replace(CAR, place="at a lake"), "Where is this?", "The picture was taken outdoors, at a lake."),
        (GREY_SCALE, "Is it indoors?", "I cannot tell whether the picture was taken indoors or outdoors."),
        (GREY_SCALE, "Where was this taken?", "I cannot tell where the picture was taken."),
    ],
)
def test_the_sentence_answers_the_question(attributes: Attributes, question: str, said: str) -> None:
    asked = attribute_question(question)
    assert asked is not None
    assert answer(attributes, asked) == said


def test_a_no_is_not_said_of_a_colour_that_it_may_well_have() -> None:
    asked = attribute_question("Is it orange?")
    assert asked is not None
    near = replace(CAR, shares=shares(red=0.7, orange=0.25))
    assert answer(near, asked) == "I cannot tell the colour of the car; it may be red or orange."


def test_the_colour_of_something_else_is_not_known() -> None:
    sofa, red_sofa = attribute_question("What colour is the sofa?"), attribute_question("Is this a red sofa?")
    assert sofa is not None and red_sofa is not None
    assert answer(CAR, sofa, is_shown=False) == "I cannot tell the colour of the sofa."
    assert answer(CAR, red_sofa, is_shown=False) == "No, it is a car."
    assert answer(CAR, sofa, is_shown=False, is_rival=True) == "I see no sofa; it is a car."


def test_facts_say_what_is_known_without_a_question() -> None:
    assert facts(CAR) == "The car is red.\nThe picture was taken outdoors, but I cannot tell where."
    assert facts(GREY_SCALE) == "The picture is black and white, so I cannot tell the colour of the car."
