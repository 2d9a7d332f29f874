"""Tools over HTTP with the official client: forced, chosen and streamed calls, and the turns that answer them."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.live_server import MODEL, LiveServer, assert_refused, live_server

COLOURS = {"type": "string", "enum": ["red", "blue"]}
PAINT: Any = {
    "type": "function",
    "function": {
        "name": "paint",
        "description": "Paint a wall.",
        "parameters": {
            "type": "object",
            "properties": {"colour": COLOURS, "coats": {"type": "integer", "minimum": 1, "maximum": 9}},
            "required": ["colour", "coats"],
            "additionalProperties": False,
        },
    },
}
REST: Any = {"type": "function", "function": {"name": "rest"}}
LISTED: Any = {"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}
HELLO: Any = [{"role": "user", "content": "hello"}]
NAMED_PAINT: Any = {"type": "function", "function": {"name": "paint"}}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def ask(client: openai.OpenAI, **fields: Any) -> Any:
    options = {"tools": [PAINT, REST], "max_tokens": 250, "temperature": 1, "seed": 4, "messages": HELLO, **fields}
    return client.chat.completions.create(model=MODEL, **options)


def test_a_named_function_is_called_with_arguments_of_its_schema(client: openai.OpenAI) -> None:
    completion = ask(client, tool_choice=NAMED_PAINT, n=3)
    for choice in completion.choices:
        (call,) = choice.message.tool_calls
        arguments = json.loads(call.function.arguments)
        assert (choice.finish_reason, call.type, call.function.name) == ("tool_calls", "function", "paint")
        assert set(arguments) == {"colour", "coats"}
        assert arguments["colour"] in COLOURS["enum"]
        assert 1 <= arguments["coats"] <= 9
        assert choice.message.content is None
    assert len({choice.message.tool_calls[0].id for choice in completion.choices}) == 3


def test_a_required_call_may_not_be_text_and_may_be_kept_to_one(client: openai.OpenAI) -> None:
    names = set()
    for seed in range(4):
        message = ask(client, tool_choice="required", parallel_tool_calls=False, seed=seed).choices[0].message
        (call,) = message.tool_calls
        names.add(call.function.name)
        assert isinstance(json.loads(call.function.arguments), dict)
    assert names <= {"paint", "rest"}


def test_parallel_calls_each_have_their_own_index_and_id(client: openai.OpenAI) -> None:
    newline_again = {str(ord("\n") + 3): 5}
    completion = ask(client, tool_choice="required", tools=[REST], logit_bias=newline_again, max_tokens=500)
    calls = completion.choices[0].message.tool_calls
    assert len(calls) > 1
    assert len({call.id for call in calls}) == len(calls)
    assert {call.function.arguments for call in calls[:-1]} <= {"{}", "{\n}"}


def test_a_streamed_call_is_the_whole_one_in_pieces(client: openai.OpenAI) -> None:
    whole = ask(client, tool_choice=NAMED_PAINT)
    with ask(client, tool_choice=NAMED_PAINT, stream=True, stream_options={"include_usage": True}) as stream:
        chunks = list(stream)
    deltas = [call for chunk in chunks for choice in chunk.choices for call in choice.delta.tool_calls or ()]
    assert (deltas[0].index, deltas[0].type, deltas[0].function.name) == (0, "function", "paint")
    assert deltas[0].function.arguments == ""
    assert deltas[0].id.startswith("call_")
    assert all(delta.id is None and delta.function.name is None for delta in deltas[1:])
    arguments = "".join(delta.function.arguments for delta in deltas)
    assert arguments == whole.choices[0].message.tool_calls[0].function.arguments
    finishes = [choice.finish_reason for chunk in chunks for choice in chunk.choices if choice.finish_reason]
    assert finishes == ["tool_calls"]
    assert chunks[-1].usage == whole.usage
    assert not any(choice.delta.content for chunk in chunks for choice in chunk.choices)


def test_a_free_choice_gives_text_or_a_valid_call(client: openai.OpenAI) -> None:
    completion = ask(client, tool_choice="auto", max_tokens=40)
    assert completion.choices[0].message.content
    assert completion.choices[0].message.tool_calls is None
    pushed = {str(ord("<") + 3): 100}
    opened = ask(client, logit_bias=pushed, max_tokens=30).choices[0]
    assert opened.message.content.startswith("<<<")


def test_no_choice_hides_the_tools_from_the_model(client: openai.OpenAI, server: LiveServer) -> None:
    plain = server.chat().json()["usage"]["prompt_tokens"]
    hidden = server.chat(tools=[PAINT], tool_choice="none").json()["usage"]["prompt_tokens"]
    shown = server.chat(tools=[PAINT], ignore_eos=False).json()["usage"]["prompt_tokens"]
    assert plain == hidden < shown


def test_some_of_the_tools_may_be_allowed(client: openai.OpenAI) -> None:
    allowed = {"type": "allowed_tools", "allowed_tools": {"mode": "required", "tools": [NAMED_PAINT]}}
    (call, *_) = ask(client, tool_choice=allowed).choices[0].message.tool_calls
    assert call.function.name == "paint"


def test_the_answer_of_a_function_joins_the_conversation(client: openai.OpenAI) -> None:
    first = ask(client, tool_choice=NAMED_PAINT).choices[0].message
    answer = {"role": "tool", "tool_call_id": first.tool_calls[0].id, "content": [{"type": "text", "text": "done"}]}
    completion = ask(client, messages=[*HELLO, first, answer], tool_choice="none", max_tokens=5)
    assert completion.choices[0].message.content


def test_the_official_client_parses_the_arguments_of_a_call(client: openai.OpenAI) -> None:
    from pydantic import BaseModel

    class Paint(BaseModel):
        coats: int

    completion = client.chat.completions.parse(
        model=MODEL,
        messages=HELLO,
        tools=[openai.pydantic_function_tool(Paint, name="paint")],
        tool_choice=NAMED_PAINT,
        max_tokens=300,
        logit_bias={str(ord("}") + 3): 5},
        temperature=0,
    )
    (call,) = completion.choices[0].message.tool_calls or ()
    assert isinstance(call.function.parsed_arguments, Paint)


@pytest.mark.parametrize(
    ("fields", "words", "param"),
    [
        ({"tool_choice": "required"}, ("needs tools",), "tool_choice"),
        ({"tools": [PAINT, PAINT]}, ("two tools", "paint"), "tools"),
        (
            {"tools": [PAINT], "tool_choice": {"type": "function", "function": {"name": "sing"}}},
            ("sing",),
            "tool_choice",
        ),
        ({"tools": [{"type": "custom", "custom": {"name": "x"}}]}, ("function",), None),
        ({"tools": [{"type": "function", "function": {"name": "a b"}}]}, ("pattern",), "tools[0].function.name"),
        (
            {"tools": [{"type": "function", "function": {"name": "a", "parameters": {"type": "array"}}}]},
            ("object",),
            None,
        ),
        ({"tools": [PAINT], "ignore_eos": True}, ("ignore_eos",), "tools"),
        ({"functions": [{"name": "old"}]}, ("functions", "not supported"), "functions"),
        ({"service_tier": "flex"}, ("service_tier", "flex"), "service_tier"),
        ({"reasoning_effort": "high"}, ("reasoning_effort",), "reasoning_effort"),
        ({"metadata": {"k" * 65: "v"}}, ("64",), None),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(
    server: LiveServer, fields: dict[str, Any], words: tuple[str, ...], param: str | None
) -> None:
    assert_refused(server.chat(**{"ignore_eos": False, **fields}), 400, *words, param=param)


@pytest.mark.parametrize(
    ("messages", "word"),
    [
        ([{"role": "tool", "tool_call_id": "call_x", "content": "hi"}], "names no call"),
        ([{"role": "tool", "content": "hi"}], "tool_call_id"),
        ([{"role": "user", "content": "hi", "tool_call_id": "x"}], "role tool"),
        (
            [
                {
                    "role": "assistant",
                    "tool_calls": [{"id": "1", "type": "function", "function": {"name": "f", "arguments": "[]"}}],
                }
            ],
            "JSON object",
        ),
    ],
)
def test_turns_that_do_not_fit_together_are_refused(server: LiveServer, messages: Any, word: str) -> None:
    assert_refused(server.post(json={"messages": messages}), 400, word)
