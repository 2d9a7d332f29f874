"""Colour and setting through the front door of `mini`: a plain question about a picture gets a true answer."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from torch import Tensor

from models.mini.fused_network import FusedEfficientNet
from tests.support.live_server import LiveServer, image_file, image_part, live_server, reply_text

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
BEAR = (SAMPLES / "teddy_bear.webp").read_bytes()
TOOL = {"type": "function", "function": {"name": "look", "parameters": {"type": "object", "properties": {}}}}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(model="mini") as running:
        yield running


def square(colour: tuple[int, int, int]) -> bytes:
    """Return a PNG of a square on white."""
    pixels = np.full((200, 200, 3), 255, dtype=np.uint8)
    pixels[50:150, 50:150] = colour
    return png(Image.fromarray(pixels))


def black_and_white(photo: bytes) -> bytes:
    return png(Image.open(io.BytesIO(photo)).convert("L"))


def png(image: Image.Image) -> bytes:
    stored = io.BytesIO()
    image.save(stored, "PNG")
    return stored.getvalue()


def ask(server: LiveServer, question: str, *pictures: bytes, **fields: Any) -> tuple[str, dict[str, Any]]:
    """Return the greedy answer and the `bind` object."""
    bind = {"trace": True, **fields.pop("bind", {})}
    options = {"model": "mini", "max_tokens": 40, "temperature": 0, "ignore_eos": False, **fields}
    answer = server.chat([{"type": "text", "text": question}, *map(image_part, pictures)], bind=bind, **options)
    return reply_text(answer), answer.json()["bind"]


@pytest.fixture
def passes(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Return the sizes of the pictures that go through the picture network, as they do."""
    sizes: list[int] = []
    run = FusedEfficientNet.maps

    def noted(network: FusedEfficientNet, picture: Tensor) -> Tensor:
        sizes.append(picture.shape[-1])
        return run(network, picture)

    monkeypatch.setattr(FusedEfficientNet, "maps", noted)
    return sizes


def photo(quality: int) -> bytes:
    """Return the cat with bytes that no other test sends."""
    stored = io.BytesIO()
    Image.open(SAMPLES / "cat.jpg").save(stored, "JPEG", quality=quality)
    return stored.getvalue()


def experts(bind: dict[str, Any]) -> list[str]:
    return [report["expert"] for report in bind.get("experts", [])]


def test_a_form_with_a_picture_and_a_plain_question_gets_the_colour(server: LiveServer) -> None:
    answer = server.upload({"prompt": "What colour is it?", "temperature": "0"}, image_file(BEAR))
    assert reply_text(answer) == "The teddy bear is orange."


@pytest.mark.parametrize(
    ("colour", "name", "other"),
    [((200, 20, 25), "red", "blue"), ((30, 70, 190), "blue", "green"), ((40, 140, 50), "green", "red")],
)
def test_a_square_has_the_colour_it_was_drawn_in(
    server: LiveServer, colour: tuple[int, int, int], name: str, other: str
) -> None:
    drawn = square(colour)
    said, bind = ask(server, "What colour is this?", drawn)
    assert said.endswith(f" is {name}.")
    assert (experts(bind), bind["conditioned"]) == (["attributes"], False)
    assert bind["experts"][0]["prompt_chars"] > 0
    yes, _ = ask(server, f"Is it {name}?", drawn)
    no, _ = ask(server, f"Is it {other}?", drawn)
    assert yes.startswith("Yes, ") and yes.endswith(f" is {name}.")
    assert no.startswith("No, ") and no.endswith(f" is {name}.")


def test_a_black_and_white_picture_has_no_colour_to_tell(server: LiveServer) -> None:
    said, _ = ask(server, "What colour is the bear?", black_and_white(BEAR))
    assert said == "The picture is black and white, so I cannot tell the colour of the bear."


def test_the_colour_of_what_is_not_shown_is_not_invented(server: LiveServer) -> None:
    assert ask(server, "What colour is the sofa?", BEAR)[0] == "I cannot tell the colour of the sofa."


def test_the_thing_has_its_everyday_name_or_the_askers(server: LiveServer) -> None:
    cat = (SAMPLES / "cat.jpg").read_bytes()
    assert ask(server, "What is this?", cat)[0].startswith("This is a cat")
    assert ask(server, "What colour is it?", cat)[0] == "The cat is brown."
    assert ask(server, "What colour is the Egyptian cat?", cat)[0] == "The Egyptian cat is brown."


@pytest.mark.parametrize(
    ("question", "noun"),
    [("What colour is the dog?", "dog"), ("Is the dog brown?", "dog"), ("What colour is the bird?", "bird")],
)
def test_another_animal_than_the_one_asked_about_is_said_to_be_no_such(
    server: LiveServer, question: str, noun: str
) -> None:
    assert ask(server, question, (SAMPLES / "cat.jpg").read_bytes())[0] == f"I see no {noun}; it is a cat."


def test_a_kind_that_the_thing_belongs_to_is_the_thing(server: LiveServer) -> None:
    assert ask(server, "What colour is the animal?", (SAMPLES / "cat.jpg").read_bytes())[0] == "The animal is brown."


@pytest.mark.parametrize("asked", ["car", "man", "house"])
def test_nothing_is_said_of_what_may_be_anywhere_else(server: LiveServer, asked: str) -> None:
    said, _ = ask(server, f"What colour is the {asked}?", (SAMPLES / "cat.jpg").read_bytes())
    assert said == f"I cannot tell the colour of the {asked}."


def test_a_thing_without_surroundings_was_taken_nowhere(server: LiveServer) -> None:
    where, _ = ask(server, "Where was this taken?", BEAR)
    inside, _ = ask(server, "Is this indoors or outdoors?", BEAR)
    assert where == "I cannot tell where the picture was taken."
    assert inside == "I cannot tell whether the picture was taken indoors or outdoors."


def test_a_second_turn_asks_about_the_same_picture(server: LiveServer) -> None:
    messages = [
        {"role": "user", "content": [{"type": "text", "text": "What is this?"}, image_part(BEAR)]},
        {"role": "assistant", "content": "This is a teddy bear."},
        {"role": "user", "content": "And what colour is it?"},
    ]
    body = {"model": "mini", "messages": messages, "temperature": 0, "max_tokens": 40}
    answer = server.post(json=body)
    assert reply_text(answer) == "The teddy bear is orange."


@pytest.mark.parametrize(
    "question",
    ["What is this?", "Describe the picture in one sentence.", "What is the capital of France?", "Is it a bear?"],
)
def test_any_other_question_calls_no_expert(server: LiveServer, question: str) -> None:
    assert experts(ask(server, question, BEAR)[1]) == []


def test_a_client_may_turn_it_off_or_ask_for_it(server: LiveServer) -> None:
    _, off = ask(server, "What colour is it?", BEAR, bind={"experts": []})
    assert experts(off) == []
    said, asked = ask(server, "What is this?", BEAR, bind={"experts": ["attributes"]})
    assert experts(asked) == ["attributes"]
    assert asked["experts"][0]["text"] == "The teddy bear is orange."
    assert "bear" in said
    _, tools = ask(server, "What colour is it?", BEAR, tools=[TOOL])
    assert experts(tools) == []


def test_a_picture_that_is_encoded_and_asked_about_goes_through_the_network_once(
    server: LiveServer, passes: list[int]
) -> None:
    said, bind = ask(server, "What colour is it?", photo(91))
    assert passes == [260]
    assert said.endswith(" is brown.")
    assert (bind["media"][0]["from_memo"], bind["experts"][0]["from_memo"]) == (False, False)


def test_a_picture_that_is_remembered_is_asked_about_without_the_network(server: LiveServer, passes: list[int]) -> None:
    named, _ = ask(server, "What is this?", photo(92))
    said, bind = ask(server, "What colour is it?", photo(92))
    assert passes == [260]
    assert "cat" in named and said.endswith(" is brown.")
    assert (bind["media"][0]["from_memo"], bind["experts"][0]["from_memo"]) == (True, False)


def test_two_pictures_are_both_read(server: LiveServer) -> None:
    _, bind = ask(server, "What colour is it?", BEAR, (SAMPLES / "cat.jpg").read_bytes())
    assert [(report["expert"], report["medium"]) for report in bind["experts"]] == [
        ("attributes", 0),
        ("attributes", 1),
    ]
    assert all(report["prompt_chars"] for report in bind["experts"])


@pytest.mark.parametrize(
    ("sample", "question", "expected"),
    [
        ("cat.jpg", "How many are there?", "I cannot tell how many there are."),
        ("cat.jpg", "How many cats are in this picture?", "I cannot tell how many cats there are."),
        ("coffee.jpg", "What animal is in the photo?", "I see no animal; it is an espresso."),
        ("soccer_ball.webp", "What vehicle is this?", "I see no vehicle; it is a soccer ball."),
    ],
)
def test_what_a_picture_does_not_tell_or_show_is_said_to_be_so(
    server: LiveServer, sample: str, question: str, expected: str
) -> None:
    said, bind = ask(server, question, (SAMPLES / sample).read_bytes())
    assert said == expected
    assert not bind["conditioned"]


def test_an_animal_is_named_where_there_is_one_and_numbers_of_the_world_are_left_alone(server: LiveServer) -> None:
    picture = (SAMPLES / "cat.jpg").read_bytes()
    assert ask(server, "What animal is in the photo?", picture)[0].startswith("This is a cat")
    question = "How many days are there in a week?"
    assert ask(server, question, picture)[0] == ask(server, question)[0]
