"""Tokens over HTTP: text and chats to ids and back."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import pytest

from tests.support.live_server import (
    MODEL,
    LiveServer,
    assert_refused,
    chat_body,
    image_part,
    live_server,
    picture,
)


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


def post(server: LiveServer, path: str, **body: Any) -> httpx.Response:
    with server.client() as client:
        return client.post(path, json=body)


def test_text_becomes_ids_and_comes_back(server: LiveServer) -> None:
    answer = post(server, "/tokenize", prompt="grün <|im_end|>").json()
    assert answer["count"] == len(answer["tokens"]) == len("grün <|im_end|>".encode())
    assert answer["max_model_len"] == 1024
    assert answer["model"] == MODEL
    assert post(server, "/detokenize", tokens=answer["tokens"]).json()["prompt"] == "grün <|im_end|>"


def test_a_chat_has_as_many_tokens_as_its_usage_says(server: LiveServer) -> None:
    content = [{"type": "text", "text": "what is this?"}, image_part(picture())]
    messages = chat_body(content)["messages"]
    counted = post(server, "/tokenize", messages=messages).json()["count"]
    assert counted == server.chat(content).json()["usage"]["prompt_tokens"]


def test_special_tokens_are_left_out_of_text(server: LiveServer) -> None:
    assert post(server, "/detokenize", tokens=[1, 75, 2]).json()["prompt"] == "H"


def test_a_chat_longer_than_the_context_can_still_be_counted(server: LiveServer) -> None:
    answer = post(server, "/tokenize", messages=[{"role": "user", "content": "x" * 2000}]).json()
    assert answer["count"] > answer["max_model_len"]


@pytest.mark.parametrize(
    ("path", "body", "param"),
    [
        ("/tokenize", {}, "prompt"),
        ("/tokenize", {"prompt": "a", "messages": []}, "prompt"),
        ("/tokenize", {"prompt": 3}, "prompt"),
        ("/tokenize", {"prompt": "a", "surprise": 1}, "surprise"),
        (
            "/tokenize",
            {"messages": [{"role": "user", "content": "a"}], "add_special_tokens": True},
            "add_special_tokens",
        ),
        ("/detokenize", {"tokens": ["a"]}, "tokens[0]"),
        ("/detokenize", {"tokens": [0, -1]}, "tokens"),
        ("/detokenize", {"tokens": [259]}, "tokens"),
    ],
)
def test_a_wrong_field_is_named(server: LiveServer, path: str, body: dict[str, Any], param: str) -> None:
    assert_refused(post(server, path, **body), 400, param.partition("[")[0], param=param)


def test_an_unknown_model_is_named(server: LiveServer) -> None:
    assert_refused(post(server, "/tokenize", prompt="a", model="nobody"), 404, "nobody", param="model")
    assert_refused(post(server, "/detokenize", tokens=[5], model="nobody"), 404, "nobody", param="model")


def test_a_form_is_not_read_here(server: LiveServer) -> None:
    with server.client() as client:
        assert_refused(client.post("/tokenize", files={"prompt": (None, "a")}), 415, "application/json")


def test_the_limit_of_text_and_the_key_hold_here_too() -> None:
    with live_server(max_prompt_chars=10, api_keys=("secret",)) as server:
        assert_refused(post(server, "/tokenize", prompt="a"), 401)
        assert_refused(post(server, "/detokenize", tokens=[5]), 401)
        with server.client(headers={"Authorization": "Bearer secret"}) as client:
            assert_refused(client.post("/tokenize", json={"prompt": "a" * 11}), 400, "10", param="prompt")
            assert_refused(client.post("/detokenize", json={"tokens": [5] * 11}), 400, "10", param="tokens")
