"""The client side of `benchmarks.latency`, against a transport that answers in memory."""

from __future__ import annotations

import json
from itertools import islice

import httpx
import pytest

from benchmarks.chat_client import StreamTiming, picture_message, stream
from benchmarks.latency import PICTURE_SIZE, distinct_pictures, read_bandwidth


def _frame(**fields: object) -> str:
    return f"data: {json.dumps(fields)}\n\n"


def _client(body: str, status: int = 200) -> httpx.AsyncClient:
    answer = httpx.MockTransport(lambda request: httpx.Response(status, text=body))
    return httpx.AsyncClient(transport=answer, base_url="http://server")


@pytest.mark.anyio
async def test_a_stream_is_joined_and_its_usage_read() -> None:
    body = (
        _frame(choices=[{"delta": {"role": "assistant", "content": ""}}])
        + ": keep-alive\n\n"
        + _frame(choices=[{"delta": {"content": "a "}}])
        + _frame(choices=[{"delta": {"content": "cat"}}])
        + _frame(choices=[], usage={"completion_tokens": 2})
        + "data: [DONE]\n\n"
    )
    async with _client(body) as client:
        timing = await stream(client, {"messages": []})
    assert (timing.text, timing.completion_tokens) == ("a cat", 2)
    assert timing.ttft_s >= 0


@pytest.mark.anyio
async def test_an_error_inside_a_stream_stops_the_benchmark() -> None:
    async with _client(_frame(error={"message": "engine fault"})) as client:
        with pytest.raises(RuntimeError, match="engine fault"):
            await stream(client, {})


@pytest.mark.anyio
async def test_a_refused_request_stops_the_benchmark() -> None:
    async with _client("{}", status=429) as client:
        with pytest.raises(httpx.HTTPStatusError):
            await stream(client, {})


def test_the_first_token_does_not_count_in_the_decode_rate() -> None:
    timing = StreamTiming(text="", completion_tokens=11, ttft_s=1.0, decode_s=2.0)
    assert timing.decode_tokens_per_s == 5.0
    assert timing.total_s == 3.0


def test_no_two_pictures_share_their_bytes() -> None:
    pictures = list(islice(distinct_pictures(None), 3))
    assert len(set(pictures)) == 3
    assert PICTURE_SIZE == (500, 375)


def test_a_question_without_a_picture_is_text_alone() -> None:
    assert [part["type"] for part in picture_message("hi", None)["content"]] == ["text"]
    assert [part["type"] for part in picture_message("hi", b"x")["content"]] == ["image_url", "text"]


def test_read_bandwidth_is_a_positive_rate() -> None:
    assert read_bandwidth(1, num_bytes=1 << 16, repeats=1) > 0
