"""Log-probabilities, penalties, biases and stops over HTTP, with the official client."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import openai
import pytest

from tests.support.live_server import MODEL, LiveServer, live_server, reply_text
from tests.support.tiny_engine import TOKENIZER

MESSAGES: Any = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def chat(client: openai.OpenAI, **fields: Any) -> Any:
    """Return a greedy reply of eight tokens unless told otherwise; what OpenAI does not know goes in `extra_body`."""
    options: dict[str, Any] = {"max_tokens": 8, "temperature": 0, "extra_body": {"ignore_eos": True}, **fields}
    return client.chat.completions.create(model=MODEL, messages=MESSAGES, **options)


def test_log_probabilities_name_every_token_of_the_reply(client: openai.OpenAI) -> None:
    (choice,) = chat(client, logprobs=True, top_logprobs=4).choices
    entries = choice.logprobs.content
    assert len(entries) == 8
    joined = bytes(byte for entry in entries for byte in entry.bytes or [])
    assert joined.decode(errors="replace") == choice.message.content
    for entry in entries:
        values = [top.logprob for top in entry.top_logprobs]
        assert values == sorted(values, reverse=True)
        assert len(values) == 4
        assert sum(map(math.exp, values)) <= 1 + 1e-6
        assert (entry.top_logprobs[0].token, entry.top_logprobs[0].logprob) == (entry.token, entry.logprob)  # greedy


def test_a_stream_brings_the_same_log_probabilities_as_the_whole_reply(client: openai.OpenAI) -> None:
    options: dict[str, Any] = {"logprobs": True, "top_logprobs": 2, "temperature": 1, "seed": 4, "n": 2}
    whole = chat(client, **options)
    streamed: dict[int, list[Any]] = {0: [], 1: []}
    with chat(client, **options, stream=True, stream_options={"include_usage": True}) as chunks:
        received = list(chunks)
    for choice in (choice for chunk in received for choice in chunk.choices):
        streamed[choice.index] += choice.logprobs.content if choice.logprobs else []
    for choice in whole.choices:
        expected = [(entry.token, entry.bytes) for entry in choice.logprobs.content]
        assert [(entry.token, entry.bytes) for entry in streamed[choice.index]] == expected
        pairs = zip(streamed[choice.index], choice.logprobs.content, strict=True)
        assert all(math.isclose(a.logprob, b.logprob, abs_tol=1e-4) for a, b in pairs)
    assert received[-1].usage == whole.usage


def test_log_probabilities_are_absent_unless_asked_for(client: openai.OpenAI) -> None:
    assert chat(client).choices[0].logprobs is None
    (choice,) = chat(client, logprobs=True).choices
    assert [entry.top_logprobs for entry in choice.logprobs.content] == [[]] * 8


def test_log_probabilities_do_not_change_what_is_drawn_or_feel_the_bias(client: openai.OpenAI) -> None:
    (bang,) = TOKENIZER.encode("!")
    (free,) = chat(client, logprobs=True, top_logprobs=1, max_tokens=1).choices
    (biased,) = chat(client, logprobs=True, top_logprobs=1, max_tokens=1, logit_bias={str(bang): 100}).choices
    assert biased.message.content == "!"
    assert biased.logprobs.content[0].top_logprobs[0].token == free.logprobs.content[0].token
    assert biased.logprobs.content[0].logprob < free.logprobs.content[0].logprob


def test_a_bias_forces_a_token_and_a_stop_string_still_cuts_it(client: openai.OpenAI) -> None:
    (bang,) = TOKENIZER.encode("!")
    assert chat(client, logit_bias={str(bang): 100}).choices[0].message.content == "!" * 8
    (cut,) = chat(client, logit_bias={str(bang): 100}, stop="!!!", presence_penalty=2, logprobs=True).choices
    assert (cut.message.content, cut.finish_reason) == ("", "stop")
    assert len(cut.logprobs.content) == 3


def test_penalties_keep_a_reply_from_repeating_itself(client: openai.OpenAI) -> None:
    (bang,) = TOKENIZER.encode("!")
    extra = {"ignore_eos": True, "repetition_penalty": 10.0}
    loop = {"logit_bias": {str(bang): 3.0}, "max_tokens": 60}
    free = chat(client, **loop).choices[0].message.content
    for options in ({"frequency_penalty": 2.0}, {"presence_penalty": 2.0}, {"extra_body": extra}):
        assert len(set(chat(client, **loop, **options).choices[0].message.content)) > len(set(free)) - 1
        assert chat(client, **loop, **options).choices[0].message.content != free


def test_a_stop_token_ends_a_reply_and_min_tokens_holds_it_off(client: openai.OpenAI, server: LiveServer) -> None:
    (bang, query) = TOKENIZER.encode("!?")
    bias = {str(bang): 100, str(query): 99}
    stop = {"stop_token_ids": [bang]}
    ended = chat(client, logit_bias=bias, extra_body=stop)
    assert (ended.choices[0].message.content, ended.choices[0].finish_reason) == ("", "stop")
    assert ended.usage.completion_tokens == 1
    held = chat(client, logit_bias=bias, extra_body={**stop, "min_tokens": 3}).choices[0]
    assert (held.message.content, held.finish_reason) == ("???", "stop")
    answer = server.chat(logit_bias=bias, stop_token_ids=[bang], min_tokens=4)
    assert reply_text(answer) == "????"


def test_one_replys_parameters_leave_the_other_replies_alone(server: LiveServer) -> None:
    plain = reply_text(server.chat(max_tokens=24))
    with server.stream(max_tokens=200, repetition_penalty=3.0, logprobs=True, top_logprobs=20) as lines:
        next(lines)
        assert reply_text(server.chat(max_tokens=24)) == plain
