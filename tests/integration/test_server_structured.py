"""Replies held to JSON, schemas, expressions and choices over HTTP, with the official client."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Any, Literal

import openai
import pytest
from pydantic import BaseModel

from tests.support.live_server import MODEL, LiveServer, assert_refused, live_server

MESSAGES: Any = [{"role": "user", "content": "hello"}]
POINT = {
    "type": "object",
    "properties": {"kind": {"enum": ["cat", "dog"]}, "count": {"type": "integer", "minimum": 0, "maximum": 99}},
    "required": ["kind", "count"],
    "additionalProperties": False,
}


class Animal(BaseModel):
    kind: Literal["cat", "dog"]
    is_tame: bool


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def chat(client: openai.OpenAI, **fields: Any) -> Any:
    options: dict[str, Any] = {"max_tokens": 200, "temperature": 1, "seed": 3, **fields}
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, **options)


def schema_format(schema: dict[str, Any]) -> dict[str, Any]:
    return {"type": "json_schema", "json_schema": {"name": "answer", "schema": schema, "strict": True}}


def test_every_choice_of_a_schema_parses_and_validates(client: openai.OpenAI) -> None:
    completion = chat(client, response_format=schema_format(POINT), n=3)
    for choice in completion.choices:
        answer = json.loads(choice.message.content)
        assert set(answer) == {"kind", "count"}
        assert answer["kind"] in {"cat", "dog"}
        assert 0 <= answer["count"] <= 99
        assert choice.finish_reason == "stop"


def test_the_official_client_parses_a_model_class(client: openai.OpenAI) -> None:
    completion = client.chat.completions.parse(
        model=MODEL, messages=MESSAGES, response_format=Animal, max_tokens=200, temperature=1, seed=5
    )
    assert isinstance(completion.choices[0].message.parsed, Animal)


def test_a_guided_stream_is_the_whole_reply_in_pieces(client: openai.OpenAI) -> None:
    options = {"response_format": schema_format(POINT), "logprobs": True}
    whole = chat(client, **options)
    with chat(client, **options, stream=True, stream_options={"include_usage": True}) as chunks:
        received = list(chunks)
    text = "".join(choice.delta.content or "" for chunk in received for choice in chunk.choices)
    assert text == whole.choices[0].message.content
    assert received[-1].usage == whole.usage


def test_json_mode_begins_an_object_and_an_uncut_one_parses(client: openai.OpenAI) -> None:
    (choice,) = chat(client, response_format={"type": "json_object"}, logit_bias={"128": 6}, max_tokens=400).choices
    assert choice.message.content.startswith("{")
    if choice.finish_reason == "stop":
        assert isinstance(json.loads(choice.message.content), dict)


def test_an_expression_and_a_choice_are_matched_whole(client: openai.OpenAI) -> None:
    dated = chat(client, extra_body={"regex": r"[0-9]{4}-[0-9]{2}"}).choices[0].message.content
    assert re.fullmatch(r"[0-9]{4}-[0-9]{2}", dated)
    texts = ["a red circle", "a (blue) square?", "größer\nals"]
    picked = {chat(client, seed=seed, extra_body={"choice": texts}).choices[0].message.content for seed in range(6)}
    assert picked <= set(texts)


def test_a_limit_may_cut_a_guided_reply(client: openai.OpenAI) -> None:
    (choice,) = chat(client, extra_body={"regex": "[ab]{30}"}, max_tokens=10).choices
    assert re.fullmatch("[ab]{10}", choice.message.content)
    assert choice.finish_reason == "length"


def test_a_schema_that_cannot_be_honoured_is_refused_whole_and_streamed(server: LiveServer) -> None:
    fields: dict[str, Any] = {"response_format": schema_format({"type": "array", "uniqueItems": True})}
    for stream in (False, True):
        answer = server.chat(**fields, stream=stream, ignore_eos=False)
        assert_refused(answer, 400, "uniqueItems", "cannot be honoured", param="response_format")
