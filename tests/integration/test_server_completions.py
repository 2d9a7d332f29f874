"""Text completions over HTTP: prompts go on as they are, without a template."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httpx
import openai
import pytest
import torch

from models.tiny import load_tiny
from tests.support.live_server import MODEL, LiveServer, assert_refused, live_server, stream_frames
from tests.support.tiny_engine import TOKENIZER

PATH = "/v1/completions"


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def complete(server: LiveServer, prompt: Any = "once upon", **fields: Any) -> httpx.Response:
    body = {"model": MODEL, "prompt": prompt, "max_tokens": 8, "temperature": 0, "ignore_eos": True, **fields}
    with server.client() as client:
        return client.post(PATH, json=body)


def texts(answer: httpx.Response) -> list[str]:
    assert answer.status_code == 200, answer.text
    return [choice["text"] for choice in answer.json()["choices"]]


def test_the_official_client_completes_a_prompt(client: openai.OpenAI) -> None:
    answer = client.completions.create(
        model=MODEL, prompt="once upon", max_tokens=8, temperature=0, extra_body={"ignore_eos": True}
    )
    assert answer.object == "text_completion"
    assert answer.choices[0].finish_reason == "length"
    assert answer.usage is not None
    assert (answer.usage.prompt_tokens, answer.usage.completion_tokens) == (len("once upon"), 8)


def test_no_template_is_put_around_the_prompt(server: LiveServer) -> None:
    chat = [{"role": "user", "content": "once upon"}]
    with server.client() as client:
        rendered = client.post("/tokenize", json={"messages": chat}).json()["tokens"]
    as_chat = server.chat("once upon", max_tokens=8).json()["choices"][0]["message"]["content"]
    assert texts(complete(server, rendered)) == [as_chat]
    assert texts(complete(server)) != [as_chat]


def test_text_and_its_ids_mean_the_same(server: LiveServer) -> None:
    assert texts(complete(server, TOKENIZER.encode("once upon"))) == texts(complete(server))


def test_several_prompts_come_back_in_order_with_their_choices(server: LiveServer) -> None:
    answer = complete(server, ["once upon", "twice"], n=2, seed=3, temperature=2)
    alone = [
        text
        for prompt in ("once upon", "twice")
        for text in texts(complete(server, prompt, n=2, seed=3, temperature=2))
    ]
    assert texts(answer) == alone
    assert [choice["index"] for choice in answer.json()["choices"]] == [0, 1, 2, 3]
    usage = answer.json()["usage"]
    assert usage["prompt_tokens"] == len("once upon") + len("twice")
    assert usage["completion_tokens"] == 4 * 8


def test_lists_of_ids_are_several_prompts(server: LiveServer) -> None:
    ids = [TOKENIZER.encode("once upon"), TOKENIZER.encode("twice")]
    assert texts(complete(server, ids)) == texts(complete(server, ["once upon", "twice"]))


def test_an_echo_puts_the_prompt_before_the_text(server: LiveServer) -> None:
    (plain,) = texts(complete(server))
    assert texts(complete(server, echo=True)) == ["once upon" + plain]
    assert texts(complete(server, TOKENIZER.encode("once upon"), echo=True)) == ["once upon" + plain]


def test_a_stream_carries_the_same_text_and_the_usage(client: openai.OpenAI, server: LiveServer) -> None:
    stream = client.completions.create(
        model=MODEL,
        prompt=["once upon", "twice"],
        max_tokens=8,
        temperature=0,
        stream=True,
        echo=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    pieces = ["", ""]
    finished: list[int] = []
    with stream:
        chunks = list(stream)
    for choice in (choice for chunk in chunks for choice in chunk.choices):
        pieces[choice.index] += choice.text
        finished += [choice.index] if choice.finish_reason else []
    assert pieces == texts(complete(server, ["once upon", "twice"], echo=True))
    assert sorted(finished) == [0, 1]
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 16


def test_a_stream_ends_with_done(server: LiveServer) -> None:
    assert stream_frames(iter(complete(server, stream=True).text.splitlines()))[-1] == "[DONE]"


def test_sixteen_tokens_are_written_unless_told_otherwise(server: LiveServer) -> None:
    assert complete(server, max_tokens=None).json()["usage"]["completion_tokens"] == 16


@pytest.mark.parametrize("prompt", [None, 3, [], [[]], ["a", 3], [True], [[True]], {"a": 1}, "", ["a", ""]])
def test_a_prompt_of_another_kind_is_refused(server: LiveServer, prompt: Any) -> None:
    assert_refused(complete(server, prompt), 400, "prompt", param="prompt")


@pytest.mark.parametrize(
    ("fields", "param"),
    [
        ({"suffix": "end"}, "suffix"),
        ({"best_of": 2}, "best_of"),
        ({"messages": []}, "messages"),
        ({"bind": {"scope": "all"}}, "bind"),
        ({"max_tokens": 0}, "max_tokens"),
        ({"n": 99}, "n"),
        ({"surprise": 1}, "surprise"),
        ({"stream_options": {"include_usage": True}}, "stream_options"),
        ({"prompt": [0, 259]}, "prompt"),
        ({"prompt": ["a"] * 200}, "prompt"),
        ({"prompt": "a" * 1020}, "prompt"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_name(server: LiveServer, fields: dict[str, Any], param: str) -> None:
    assert_refused(complete(server, **fields), 400, param.partition("[")[0], param=param)


def test_values_that_ask_for_nothing_are_taken(server: LiveServer) -> None:
    assert texts(complete(server, best_of=1, suffix=None, logprobs=None, echo=False)) == texts(complete(server))


def test_an_unknown_model_is_not_found(server: LiveServer) -> None:
    assert_refused(complete(server, model="nobody"), 404, "nobody", param="model")


def test_logprobs_come_in_the_form_of_completions(client: openai.OpenAI, server: LiveServer) -> None:
    fields: dict[str, Any] = {"model": MODEL, "prompt": "once upon", "max_tokens": 8, "temperature": 0, "logprobs": 2}
    extra = {"ignore_eos": True}
    whole = client.completions.create(**fields, extra_body=extra).choices[0].logprobs
    assert whole is not None
    assert whole.tokens and whole.token_logprobs and whole.top_logprobs and whole.text_offset
    assert len(whole.tokens) == len(whole.token_logprobs) == 8
    best = [max(likely.values()) for likely in whole.top_logprobs]
    assert best == whole.token_logprobs
    assert whole.text_offset == [sum(map(len, whole.tokens[:place])) for place in range(8)]
    with client.completions.create(**fields, stream=True, extra_body=extra) as stream:
        found = [choice.logprobs for chunk in stream for choice in chunk.choices if choice.logprobs is not None]
    assert [token for part in found for token in part.tokens or []] == whole.tokens
    assert [start for part in found for start in part.text_offset or []] == whole.text_offset


@pytest.mark.parametrize("logprobs", [True, -1, 21, 1.5, "2"])
def test_logprobs_out_of_range_are_refused(server: LiveServer, logprobs: Any) -> None:
    assert_refused(complete(server, logprobs=logprobs), 400, "logprobs", param="logprobs")


def test_an_echo_with_logprobs_says_how_likely_the_prompt_is(server: LiveServer) -> None:
    ids = TOKENIZER.encode("once upon a time")
    (choice,) = complete(server, ids, echo=True, logprobs=2, max_tokens=3).json()["choices"]
    found = choice["logprobs"]
    assert "".join(found["tokens"]) == choice["text"]
    assert (found["token_logprobs"][0], found["top_logprobs"][0], len(found["tokens"])) == (None, None, len(ids) + 3)
    decoder = load_tiny(torch.float32).decoder
    expected = decoder.score(torch.tensor([ids])).log_softmax(dim=-1)[0, range(len(ids) - 1), ids[1:]]
    assert found["token_logprobs"][1 : len(ids)] == pytest.approx(expected.tolist(), abs=1e-4)
    best = [max(top.values()) for top in found["top_logprobs"][1:]]
    assert all(top >= value for top, value in zip(best, found["token_logprobs"][1:], strict=True))
    again = complete(server, ids, echo=True, logprobs=2, max_tokens=3).json()  # its keys and values are parked by now
    assert again["choices"][0]["logprobs"] == found
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == 0


def test_a_prompt_longer_than_a_step_is_scored_whole(server: LiveServer) -> None:
    ids = TOKENIZER.encode("once upon a time " * 40)
    with server.client() as client:
        body = {"model": MODEL, "prompt": ids, "max_tokens": 1, "echo": True, "logprobs": 0, "stream": True}
        frames = stream_frames(iter(client.post(PATH, json=body).text.splitlines()))
    (found,) = [c["logprobs"] for f in frames if f != "[DONE]" for c in f["choices"] if c["logprobs"]]
    assert len(found["token_logprobs"]) == len(ids) + 1
    expected = load_tiny(torch.float32).decoder.score(torch.tensor([ids])).log_softmax(dim=-1)
    likely = expected[0, range(len(ids) - 1), ids[1:]].tolist()
    assert found["token_logprobs"][1 : len(ids)] == pytest.approx(likely, abs=1e-3)
