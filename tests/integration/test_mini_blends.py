"""Several unlike media through the front door of `mini`: the answer names each and nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from benchmarks.sense import is_clean
from tests.support.live_server import LiveServer, image_file, image_part, live_server, reply_text, stream_frames
from tests.support.sample_films import film, shot
from training.shapes.catalogue import NAMES, build
from training.shapes.clouds import sample
from training.shapes.writers import WRITERS

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
CUP = ("espresso", "coffee", "cup")
BEACH = ("beach", "seashore", "sea")
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(model="mini") as running:
        yield running


def photo(name: str, **siblings: Any) -> dict[str, Any]:
    return image_part((SAMPLES / name).read_bytes(), **siblings)


def sound(name: str) -> dict[str, Any]:
    data = base64.b64encode((SAMPLES / name).read_bytes()).decode()
    return {"type": "input_audio", "input_audio": {"data": data, "format": "ogg"}}


def chair() -> dict[str, Any]:
    """Return the point cloud of a chair that training never saw."""
    random = np.random.default_rng(880_004)
    triangles = build(NAMES.index("chair"), random)
    data = base64.b64encode(WRITERS["ply"](triangles, sample(triangles, 5000, random)[0])).decode()
    return {"type": "input_point_cloud", "input_point_cloud": {"data": data, "format": "ply"}}


def text(words: str, **siblings: Any) -> dict[str, Any]:
    return {"type": "bind_text", "text": words, **siblings}


def ask(server: LiveServer, question: str, *parts: dict[str, Any], **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return the greedy answer in lower case, and the `bind` object."""
    options = {"model": "mini", "max_tokens": 40, "temperature": 0, "ignore_eos": False, **fields}
    bind = {"trace": True, **options.pop("bind", {})}
    answer = server.chat([{"type": "text", "text": question}, *parts], bind=bind, **options)
    return reply_text(answer).lower(), answer.json()["bind"]


def holds(answer: str, *names: tuple[str, ...]) -> bool:
    return all(any(word in answer for word in words) for words in names)


def called(bind: dict[str, Any]) -> list[str]:
    """Return everything that the server called the parts."""
    return [name for part in bind["parts"] for name in (part["name"], part["other"]) if name]


def test_an_answer_about_two_pictures_names_both(server: LiveServer) -> None:
    answer, bind = ask(server, "What is this?", photo("cat.jpg"), photo("coffee.jpg"))
    assert holds(answer, ("cat",), CUP), answer
    assert bind["conditioned"] is False
    assert [part["medium"] for part in bind["parts"]] == [0, 1]
    assert "cat" in bind["parts"][0]["name"]
    form = server.upload(
        {"prompt": "What is this?", "model": "mini", "max_tokens": "40", "temperature": "0"},
        image_file((SAMPLES / "cat.jpg").read_bytes()),
        image_file((SAMPLES / "coffee.jpg").read_bytes()),
    )
    assert reply_text(form).lower() == answer


def test_a_beach_and_the_sound_of_a_dog_are_both_named(server: LiveServer) -> None:
    answer, bind = ask(server, "What is this?", photo("beach.webp"), sound("dog_bark.ogg"))
    assert holds(answer, BEACH, ("dog",)), answer
    assert [part["name"] for part in bind["parts"]][1] == "dog"


def test_a_text_joins_under_its_own_words(server: LiveServer) -> None:
    answer, bind = ask(server, "What is this?", photo("cat.jpg"), text("piano"))
    assert holds(answer, ("cat",), ("piano",)), answer
    assert bind["parts"][1] == {"medium": 1, "name": "piano", "other": None, "weight": 1.0, "confidence": None}


@pytest.mark.parametrize(
    ("other", "words"), [(photo("beach.webp"), BEACH), (sound("dog_bark.ogg"), ("dog",))]
)  # fmt: skip
def test_a_shape_joins_a_picture_or_a_sound(server: LiveServer, other: dict[str, Any], words: tuple[str, ...]) -> None:
    answer, bind = ask(server, "What is this?", other, chair())
    assert holds(answer, words, ("chair", "seat", "stool")), answer
    assert is_clean(answer, called(bind)), answer
    assert [part["medium"] for part in bind["parts"]] == [0, 1]


@pytest.mark.parametrize(
    "question",
    ["What do you see and hear?", "Describe the pictures in one sentence.", "Write a short caption.",
     "What is in the pictures?", "Tell me what you notice."],
)  # fmt: skip
def test_the_usual_questions_are_answered_with_all_names_and_no_nonsense(server: LiveServer, question: str) -> None:
    answer, bind = ask(server, question, photo("beach.webp"), sound("dog_bark.ogg"))
    assert holds(answer, BEACH, ("dog",)), answer
    assert is_clean(answer, called(bind), question), answer


@pytest.mark.parametrize(
    ("question", "start", "names", "others"),
    [
        ("Which animals are there?", "the animals are", (("cat",), ("dog",)), CUP),
        ("What food do you see?", "the food is", (CUP,), ("cat", "dog")),
        ("Which musical instruments are there?", "there is no musical instrument", (("cat",), ("dog",), CUP),
         ("piano",)),
    ],
)  # fmt: skip
def test_a_question_for_one_kind_is_answered_with_that_kind_only(
    server: LiveServer, question: str, start: str, names: tuple[tuple[str, ...], ...], others: tuple[str, ...]
) -> None:
    answer, bind = ask(server, question, photo("cat.jpg"), photo("coffee.jpg"), sound("dog_bark.ogg"))
    assert answer.startswith(start), answer
    assert holds(answer, *names) and not holds(answer, others), answer
    assert len(bind["parts"]) == 3


def test_king_less_man_and_woman_is_said_to_be_a_queen(server: LiveServer) -> None:
    summands = [text("king"), text("man", weight=-1.0), text("woman")]
    answer, bind = ask(server, "What is this?", *summands)
    assert holds(answer, ("queen",)), answer
    assert is_clean(answer, called(bind)), answer
    (part,) = bind["parts"]
    assert (part["medium"], part["name"], part["weight"]) == (None, "queen", 1.0)
    assert bind["conditioned"] is False
    verdicts = [ask(server, f"Is this a {name}?", *summands)[1]["verdict"] for name in ("queen", "car")]
    assert verdicts == ["yes", "no"]


@pytest.mark.parametrize(
    "parts",
    [
        [photo("dog.webp"), text("dog", weight=-1.0), text("cat")],
        [photo("cat.jpg"), photo("coffee.jpg", weight=-0.3)],
    ],
)
def test_what_remains_of_a_picture_is_named(server: LiveServer, parts: list[dict[str, Any]]) -> None:
    answer, bind = ask(server, "What is this?", *parts)
    assert holds(answer, ("cat",)), answer
    assert not holds(answer, CUP), answer
    assert [part["medium"] for part in bind["parts"]] == [None]


def test_a_film_of_two_scenes_is_told_in_their_order(server: LiveServer) -> None:
    content = film(shot("cat.jpg", 20) + shot("coffee.jpg", 20), "mp4")
    url = "data:video/mp4;base64," + base64.b64encode(content).decode()
    part = {"type": "video_url", "video_url": {"url": url}}
    answer, bind = ask(server, "What happens in the film?", part)
    assert holds(answer, ("cat",), CUP), answer
    cat, cup = bind["parts"]
    assert (cat["medium"], cup["medium"]) == (0, 0)
    assert "cat" in cat["name"]


@pytest.mark.parametrize(
    "parts",
    [
        [photo("cat.jpg"), photo("coffee.jpg", weight=0.3)],
        [photo("cat.jpg"), photo("cat.jpg")],
        [photo("cat.jpg")],
    ],
)
def test_what_is_one_thing_is_answered_by_the_condition(server: LiveServer, parts: list[dict[str, Any]]) -> None:
    _, bind = ask(server, "What is this?", *parts)
    assert bind["conditioned"] is True
    assert "parts" not in bind


@pytest.mark.parametrize("fields", [{"bind": {"cache": {"enabled": True}}}, {"tools": [TOOL]}])
def test_a_chosen_cache_and_tools_leave_the_blend_to_the_condition(server: LiveServer, fields: dict[str, Any]) -> None:
    _, bind = ask(server, "What is this?", photo("cat.jpg"), photo("coffee.jpg"), **fields)
    assert (bind["conditioned"], "parts" in bind) == (True, False)


def test_a_question_about_something_else_is_answered_as_without_media(server: LiveServer) -> None:
    question = "What is the capital of France?"
    answer, bind = ask(server, question, photo("cat.jpg"), photo("coffee.jpg"))
    assert answer == ask(server, question)[0]
    assert "parts" not in bind


@pytest.mark.parametrize(
    ("question", "verdict"),
    [("Is there a dog?", "yes"), ("Do you see a beach here?", "yes"), ("Is there a guitar?", "no")],
)
def test_a_yes_or_no_question_is_judged_on_each_part(server: LiveServer, question: str, verdict: str) -> None:
    answer, bind = ask(server, question, photo("beach.webp"), sound("dog_bark.ogg"))
    assert bind["verdict"] == verdict
    assert bind["conditioned"] is True
    assert answer.startswith(verdict)


def test_blends_asked_in_turn_and_several_replies_never_mix(server: LiveServer) -> None:
    blends = [[photo("cat.jpg"), other] for other in (photo("coffee.jpg"), text("piano"), photo("watch.webp"))]
    first = [ask(server, "What is this?", *parts)[0] for parts in blends]
    assert len(set(first)) == 3
    assert [ask(server, "What is this?", *parts)[0] for parts in blends[::-1]] == first[::-1]
    options = {"model": "mini", "max_tokens": 40, "temperature": 0, "ignore_eos": False}
    question = {"type": "text", "text": "What is this?"}
    choices = server.chat([question, *blends[0]], n=2, **options).json()["choices"]
    assert [choice["message"]["content"].lower() for choice in choices] == [first[0]] * 2
    with server.stream([question, *blends[1]], **options) as lines:
        *chunks, _ = stream_frames(lines)
    streamed = "".join(chunk["choices"][0]["delta"].get("content") or "" for chunk in chunks if chunk["choices"])
    assert streamed.lower() == first[1]


def test_a_follow_up_still_knows_every_part(server: LiveServer) -> None:
    media = [photo("cat.jpg"), text("piano")]
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, *media]},
        {"role": "assistant", "content": "This is a cat and a piano."},
        {"role": "user", "content": "Please say again what it is."},
    ]
    body = {"model": "mini", "messages": messages, "temperature": 0, "max_tokens": 40, "bind": {"trace": True}}
    with server.client() as client:
        reply = client.post("/v1/chat/completions", json=body).json()
    assert [part["medium"] for part in reply["bind"]["parts"]] == [0, 1]
    assert holds(reply["choices"][0]["message"]["content"].lower(), ("cat",), ("piano",))


@pytest.mark.parametrize("question", ["Describe the pictures in one sentence.", "What are in these images?"])
def test_a_question_in_the_plural_concerns_several_media(server: LiveServer, question: str) -> None:
    _, bind = ask(server, question, photo("cat.jpg"), photo("coffee.jpg"))
    assert len(bind["parts"]) == 2
