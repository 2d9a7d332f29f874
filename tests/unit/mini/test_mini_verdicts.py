"""The shipped judge of yes-or-no questions: what it takes for one, what is asked for, and whether that is true."""

from __future__ import annotations

import pytest
import torch

from core.types import FloatArray
from models.mini.assets import WEIGHTS, text_network_file
from models.mini.loader import read_weights
from models.mini.text import MiniTextEncoder
from models.mini.verdicts import MAX_CHARS, Verdicts, best_run, load_verdicts, words_of


@pytest.fixture(scope="module")
def text_encoder() -> MiniTextEncoder:
    return MiniTextEncoder(text_network_file(), "text")


@pytest.fixture(scope="module")
def verdicts(text_encoder: MiniTextEncoder) -> Verdicts:
    return load_verdicts(read_weights()[0], lambda text: text_encoder.embed([text])[0], str(WEIGHTS))


@pytest.mark.parametrize(
    ("question", "asked"),
    [
        ("Is this a lamp?", "lamp"),
        ("is that a grey squirrel", "grey squirrel"),
        ("Is there a piece of furniture in the picture? Answer yes or no.", "piece of furniture"),
        ("I think this is a dalmatian. Am I right?", "dalmatian"),
        ("Could I ride in it? I mean: is it a vehicle?", "vehicle"),
        ("Do you hear a chainsaw?", "chainsaw"),
        ("Is it alive?", "alive"),
        ("My son found this near the river. Is it a frog?", "frog"),
    ],
)
def test_a_yes_or_no_question_is_taken_for_what_it_asks(verdicts: Verdicts, question: str, asked: str) -> None:
    assert verdicts.asked_for(question) == asked


@pytest.mark.parametrize(
    "question",
    [
        "What is this?",
        "Describe the picture in one sentence.",
        "Write a short caption.",
        "Do you know what this is?",
        "Can you identify the thing in the image?",
        "Which animal do you see?",
        "Is this a dog or a wolf?",
        "Is it red?",
        "How many dogs are there?",
        "So what is it called?",
        "Tell me about the dog.",
        "Are you sure?",
        "",
        "?!",
        "Is this a lamp? " + "It stood in the attic of my grandmother. " * (MAX_CHARS // 40),
    ],
)
def test_every_other_question_is_left_to_the_decoder(verdicts: Verdicts, question: str) -> None:
    assert verdicts.judge(question, unit()) is None


def unit() -> FloatArray:
    return torch.nn.functional.normalize(torch.ones(384), dim=0).numpy()


@pytest.mark.parametrize(
    ("shown", "true", "false"),
    [
        ("golden retriever", ("golden retriever", "dog", "animal"), ("cat", "teapot", "vehicle")),
        ("sports car", ("car", "vehicle"), ("animal", "bird", "banana")),
        ("acoustic guitar", ("guitar", "musical instrument"), ("animal", "sunflower", "piece of furniture")),
        ("strawberry", ("strawberry", "fruit"), ("vehicle", "hammer", "dog")),
        ("Persian cat", ("cat", "animal"), ("dog", "sailboat", "musical instrument")),
    ],
)
def test_names_and_kinds_are_judged_by_what_is_shown(
    verdicts: Verdicts, text_encoder: MiniTextEncoder, shown: str, true: tuple[str, ...], false: tuple[str, ...]
) -> None:
    vector = text_encoder.embed([shown])[0].numpy()
    assert {name: verdicts.judge(f"Is this a {name}?", vector) for name in (*true, *false)} == {
        **dict.fromkeys(true, True),
        **dict.fromkeys(false, False),
    }


def test_words_asked_for_stand_side_by_side() -> None:
    assert best_run([-1.0, 2.0, -0.5, 1.0, -3.0, 0.5]) == (1, 4)
    assert best_run([-1.0, -2.0]) == (0, 0)
    assert words_of("Isn't it a jack-o'-lantern?") == ["Isn't", "it", "a", "jack-o'-lantern"]
