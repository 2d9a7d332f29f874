"""How `benchmarks.attributes` judges answers about colours and settings."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks.attributes import LABELS, Question, Truth, judge, judge_colour, judge_setting


@pytest.mark.parametrize(
    ("truth", "answer", "verdict"),
    [
        ("red/orange+white", "The car is red.", "right"),
        ("red/orange+white", "It is red and white.", "right"),
        ("red/orange+white", "It is white.", "wrong"),
        ("red", "It is red and blue.", "wrong"),
        ("red", "This is a car.", "wrong"),
        ("grey", "It is gray.", "right"),
        ("red", "I cannot tell the colour; it may be red or brown.", "can't tell"),
        ("black&white", "The zebra is black and white.", "right"),
        ("black&white", "The zebra is black.", "wrong"),
        ("red&blue&green", "It has several colours.", "right"),
        ("bw", "I can't tell, the picture is black and white.", "right"),
        ("bw", "It is grey.", "wrong"),
    ],
)
def test_an_answer_is_right_when_all_that_it_says_is_true(truth: str, answer: str, verdict: str) -> None:
    assert judge_colour(Truth.parse(truth), answer) == verdict


@pytest.mark.parametrize(
    ("truth", "answer", "verdict"),
    [
        ("outdoors", "The picture was taken outdoors, but I cannot tell where.", "right"),
        ("outdoors", "It was taken in a park.", "right"),
        ("outdoors", "It was taken in a kitchen.", "wrong"),
        ("indoors", "I cannot tell whether it was taken indoors or outdoors.", "can't tell"),
        ("none", "I cannot tell where the picture was taken.", "right"),
        ("none", "It was taken outdoors.", "wrong"),
        ("indoors", "This is a lamp.", "wrong"),
    ],
)
def test_a_setting_is_right_when_it_is_said_or_rightly_not_known(truth: str, answer: str, verdict: str) -> None:
    assert judge_setting(truth, answer) == verdict


def test_a_yes_or_no_counts_by_its_first_word() -> None:
    asked = Question("colour, yes or no", "Is it red?", Path(), "", colours=Truth.parse("red"), asked="red")
    assert judge(asked, "Yes, the car is red.") == "right"
    assert judge(asked, "No, it is a car.") == "wrong"
    assert judge(asked, "I cannot tell its colour.") == "can't tell"
    where = Question("setting, yes or no", "Is it indoors?", Path(), "", setting="outdoors", asked="indoors")
    assert judge(where, "No, the picture was taken outdoors.") == "right"


def test_no_colour_is_right_of_what_is_not_shown() -> None:
    asked = Question("colour, not shown", "What colour is the dog?", Path(), "", colours=Truth())
    assert judge(asked, "The dog is brown.") == "wrong"
    assert judge(asked, "I see no dog; it is a cat.") == "right"
    assert judge(asked, "I cannot tell the colour of the dog.") == "right"


def test_there_are_labels_enough_and_each_can_be_read() -> None:
    labels = json.loads(LABELS.read_text(encoding="utf-8")).values()
    colours = [Truth.parse(label["colours"]) for label in labels if "colours" in label]
    settings = [label["setting"] for label in labels if "setting" in label]
    assert len(colours) >= 100 and len(settings) >= 60
    assert set(settings) == {"indoors", "outdoors", "none"}
    assert sum(not truth.possible for truth in colours) >= 10
