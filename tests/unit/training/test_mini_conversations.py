"""What teaches `mini` to talk: nothing that it is measured on, and only answers that are true."""

from __future__ import annotations

import random
import re
from itertools import pairwise

import pytest

from benchmarks.unrelated import QUESTIONS
from models.mini.articles import article
from training.recipes.mini_chat import is_plain
from training.recipes.mini_held_out import HELD_OUT, is_held_out
from training.recipes.mini_pictures import Name
from training.recipes.mini_questions import Interviewer, Thing, say_heard, say_name, say_what
from training.recipes.mini_topics import plain_questions

DOG = Name("dog", "dog", ("animal",))
BEACH = Name("beach", "landscape", ())
NAMES = (DOG, BEACH, Name("guitar", "musical instrument", ("musical instrument",)), Name("car", "car", ("vehicle",)))
GROUPS = ("animal", "vehicle", "musical instrument", "food")


def test_the_held_out_questions_are_those_of_the_benchmark() -> None:
    assert [question for question, _ in QUESTIONS] == list(HELD_OUT)


@pytest.mark.parametrize(
    "question",
    [
        "Which ocean is the largest?",
        "What is the boiling point of water?",
        "How much is 4 + 3?",
        "Who is the author of Romeo and Juliet?",
        "When did World War II end?",
        "Tell me the capital of Cuba.",
    ],
)
def test_a_rewording_of_a_held_out_question_is_held_out_too(question: str) -> None:
    assert is_held_out(question)


@pytest.mark.parametrize("question", ["What is the capital of Peru?", "How much is 4 + 8?", "Tell me a joke."])
def test_another_question_of_the_same_form_is_not_held_out(question: str) -> None:
    assert not is_held_out(question)


def test_thousands_of_plain_questions_remain_and_follow_from_the_seed() -> None:
    questions = [q for q in plain_questions(["dog", "cat", "violin"], seed=0) if not is_held_out(q)]
    assert len(questions) > 2500
    assert questions == [q for q in plain_questions(["dog", "cat", "violin"], seed=0) if not is_held_out(q)]
    assert plain_questions(["dog"], seed=0) != plain_questions(["dog"], seed=1)


@pytest.mark.parametrize(
    ("turn", "plain"),
    [
        ("How do I boil an egg?", True),
        ("What is shown in this picture?", False),
        ("Summarize the following text.", False),
        ("how", False),
    ],
)
def test_an_invented_question_is_kept_when_it_speaks_of_nothing_shown(turn: str, plain: bool) -> None:
    assert is_plain(turn) is plain


@pytest.mark.parametrize(
    ("name", "spoken"),
    [
        ("rain", "rain"),
        ("barking dog", "a barking dog"),
        ("hourglass", "an hourglass"),
        ("scissors", "some scissors"),
        ("walking stick", "a walking stick"),
        ("octopus", "an octopus"),
        ("folk music", "folk music"),
    ],
)
def test_a_name_gets_the_article_that_english_gives_it(name: str, spoken: str) -> None:
    assert article(name) == spoken


def test_a_blend_names_both_and_a_hedge_names_one_or_the_other() -> None:
    blend = Thing("beach", "landscape", (), beside=(DOG,))
    doubt = Thing("ketch", "boat", ("vehicle",), other="schooner", unsure=True)
    assert say_what(blend) == "This is a beach and a dog."
    assert say_what(doubt) == "It may be a ketch or a schooner."
    assert say_name(doubt) == "Ketch or schooner."
    assert say_heard(Thing("rain", "sound of nature", ())) == "I hear rain."


@pytest.mark.parametrize("sense", ["picture", "sound", "video", "shape"])
def test_a_yes_or_no_is_true_of_the_thing(sense: str) -> None:
    thing = Thing("dog", "dog", ("animal",), other="wolf", sense=sense)  # type: ignore[arg-type]
    interviewer = Interviewer(GROUPS, NAMES, random.Random(5))
    seen = set()
    for _ in range(600):
        conversation = interviewer.conversation(thing)
        for (role, question), (_, answer) in pairwise(conversation):
            word = answer.split(",")[0].strip(".")
            if role == "user" and word in ("Yes", "No") and not re.search(r"sure|certain|right\?$|Really", question):
                of_dog = re.search(r"\b(dog|animal|alive|living)\b", question) is not None
                assert (word == "Yes") == of_dog, (question, answer)
                seen.add(word)
    assert seen == {"Yes", "No"}
