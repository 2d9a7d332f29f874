"""`/v1/responses` with the official client: whole, streamed, stored, continued, cancelled, with media and tools."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest
from pydantic import BaseModel

from tests.support.live_server import LONG, MODEL, LiveServer, assert_refused, data_uri, live_server, picture

KEYS = ("first-key-0123456789", "second-key-0123456789")
PAINT: Any = {
    "type": "function",
    "name": "paint",
    "parameters": {"type": "object", "properties": {"coats": {"type": "integer", "maximum": 9}}, "required": ["coats"]},
}
GREEDY: Any = {"model": MODEL, "temperature": 0, "max_output_tokens": 8, "extra_body": {"ignore_eos": True}}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def post(server: LiveServer, **body: Any) -> Any:
    with server.client() as client:
        return client.post("/v1/responses", json={"max_output_tokens": 4, **body})


def test_a_response_is_the_chat_with_the_same_words(server: LiveServer, client: openai.OpenAI) -> None:
    response = client.responses.create(input="hello", instructions="Be brief.", **GREEDY)
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "hello"}]
    chat = server.post(json={"messages": messages, "temperature": 0, "max_tokens": 8, "ignore_eos": True}).json()
    assert response.output_text == chat["choices"][0]["message"]["content"]
    assert (response.status, response.incomplete_details.reason) == ("incomplete", "max_output_tokens")  # type: ignore[union-attr]
    assert response.usage is not None
    assert response.usage.input_tokens == chat["usage"]["prompt_tokens"]
    assert response.usage.output_tokens == 8


def test_media_parts_condition_the_response(client: openai.OpenAI) -> None:
    def ask(*parts: Any) -> str:
        content = [{"type": "input_text", "text": "what is this?"}, *parts]
        return client.responses.create(input=[{"role": "user", "content": content}], **GREEDY).output_text

    image: Any = {"type": "input_image", "image_url": data_uri(picture()), "detail": "auto"}
    file: Any = {"type": "input_file", "file_data": data_uri(picture())}
    assert ask() != ask(image) == ask(file)


def test_a_stream_tells_every_event_in_order_and_ends_with_the_whole(client: openai.OpenAI) -> None:
    with client.responses.create(input="hello", stream=True, **GREEDY) as stream:
        events: list[Any] = list(stream)
    types = [event.type.removeprefix("response.") for event in events]
    deltas = [event.delta for event in events if event.type == "response.output_text.delta"]
    assert types[:4] == ["created", "in_progress", "output_item.added", "content_part.added"]
    assert types[4:-4] == ["output_text.delta"] * len(deltas)
    assert types[-4:] == ["output_text.done", "content_part.done", "output_item.done", "incomplete"]
    assert [event.sequence_number for event in events] == list(range(len(events)))
    whole = client.responses.create(input="hello", **GREEDY)
    assert "".join(deltas) == events[-1].response.output_text == whole.output_text
    streamed = events[-1].response.usage
    assert streamed.input_tokens == whole.usage.input_tokens  # of which the second call finds some kept
    assert streamed.output_tokens == whole.usage.output_tokens
    assert client.responses.retrieve(events[-1].response.id) == events[-1].response


def test_the_clients_own_stream_helper_adds_up(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"temperature": 0, "max_output_tokens": 300, "model": MODEL}
    with client.responses.stream(input="hello", tools=[PAINT], tool_choice="required", **fields) as stream:
        final = stream.get_final_response()
    assert final.output[0].type == "function_call"


def test_a_response_goes_on_from_an_earlier_one(server: LiveServer, client: openai.OpenAI) -> None:
    first = client.responses.create(input="hello", **GREEDY)
    second = client.responses.create(input="and then?", previous_response_id=first.id, **GREEDY)
    messages = [
        {"role": "user", "content": "hello"},
        {"role": "assistant", "content": first.output_text},
        {"role": "user", "content": "and then?"},
    ]
    chat = server.post(json={"messages": messages, "temperature": 0, "max_tokens": 8, "ignore_eos": True}).json()
    assert second.output_text == chat["choices"][0]["message"]["content"]
    client.responses.delete(first.id)
    assert_refused(post(server, input="x", previous_response_id=first.id), 404, first.id, param="previous_response_id")


def test_a_function_is_called_and_answered(client: openai.OpenAI) -> None:
    fields: dict[str, Any] = {"model": MODEL, "temperature": 0, "max_output_tokens": 200, "tools": [PAINT]}
    first = client.responses.create(
        input="hello", tool_choice={"type": "function", "name": "paint"}, parallel_tool_calls=False, **fields
    )
    (call,) = first.output
    assert call.type == "function_call"
    assert json.loads(call.arguments)["coats"] <= 9
    answer: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "done"}
    after = client.responses.create(input=[answer], previous_response_id=first.id, tool_choice="none", **fields)
    assert after.output[0].type == "message"
    by_items = client.responses.create(
        input=[{"role": "user", "content": "hello"}, call.model_dump(), answer], tool_choice="none", **fields
    )
    assert by_items.output_text == after.output_text


def test_text_is_held_to_a_schema(client: openai.OpenAI) -> None:
    class Answer(BaseModel):
        coats: int
        is_dry: bool

    response = client.responses.parse(
        model=MODEL, input="hello", text_format=Answer, temperature=1, max_output_tokens=200
    )
    assert isinstance(response.output_parsed, Answer)


def test_logprobs_come_when_they_are_included(client: openai.OpenAI) -> None:
    response = client.responses.create(
        input="hello", include=["message.output_text.logprobs"], top_logprobs=2, **GREEDY
    )
    part: Any = response.output[0].content[0]  # type: ignore[union-attr]
    assert len(part.logprobs) == 8
    assert len(part.logprobs[0].top_logprobs) == 2


def test_input_items_are_listed_by_pages(client: openai.OpenAI) -> None:
    items: Any = [{"role": "user", "content": text} for text in ("a", "b", "c")]
    response = client.responses.create(input=items, **GREEDY)
    listed = list(client.responses.input_items.list(response.id, limit=2, order="asc"))
    assert [item.content[0].text for item in listed] == ["a", "b", "c"]  # type: ignore[union-attr]


def test_what_is_not_stored_cannot_be_fetched(client: openai.OpenAI) -> None:
    response = client.responses.create(input="hello", store=False, **GREEDY)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response.id)


def test_a_background_response_is_fetched_when_it_is_done(client: openai.OpenAI) -> None:
    response = client.responses.create(input="hello", background=True, **GREEDY)
    assert response.status == "queued"
    while response.status in ("queued", "in_progress"):
        response = client.responses.retrieve(response.id)
    assert response.status == "incomplete"
    assert response.output_text == client.responses.create(input="hello", **GREEDY).output_text


def test_a_background_response_can_be_cancelled(server: LiveServer, client: openai.OpenAI) -> None:
    long: Any = {**GREEDY, "max_output_tokens": LONG}
    response = client.responses.create(input="hello", background=True, **long)
    assert client.responses.cancel(response.id).status == "cancelled"
    server.wait_until_idle()
    done = client.responses.create(input="hello", **GREEDY)
    with pytest.raises(openai.BadRequestError, match="background"):
        client.responses.cancel(done.id)


def test_a_background_response_is_streamed_and_taken_up_again_by_number(client: openai.OpenAI) -> None:
    whole = client.responses.create(input="hello", **GREEDY)
    first = client.responses.create(input="hello", background=True, stream=True, **GREEDY)
    seen: list[Any] = [next(first) for _ in range(4)]
    assert [event.type for event in seen[:3]] == ["response.created", "response.queued", "response.in_progress"]
    response_id, last = seen[0].response.id, seen[-1].sequence_number
    first.close()  # the client leaves, the response goes on
    rest = list(client.responses.retrieve(response_id, stream=True, starting_after=last))
    again = list(client.responses.retrieve(response_id, stream=True))
    assert [event.sequence_number for event in again] == list(range(len(again)))
    assert again == [*seen, *rest]
    assert "".join(event.delta for event in again if event.type == "response.output_text.delta") == whole.output_text
    assert again[-1].type == "response.incomplete"
    client.responses.delete(response_id)
    with pytest.raises(openai.NotFoundError):
        client.responses.retrieve(response_id, stream=True)


def test_the_stream_of_a_cancelled_response_ends(server: LiveServer, client: openai.OpenAI) -> None:
    long: Any = {**GREEDY, "max_output_tokens": LONG}
    events: Any = client.responses.create(input="hello", background=True, stream=True, **long)
    response_id = next(events).response.id
    assert client.responses.cancel(response_id).status == "cancelled"
    *_, last = events
    assert (last.type, last.code) == ("error", "response_cancelled")
    server.wait_until_idle()


def test_what_was_not_streamed_in_the_background_has_no_events(client: openai.OpenAI) -> None:
    done = client.responses.create(input="hello", **GREEDY)
    with pytest.raises(openai.BadRequestError, match="background and stream"):
        client.responses.retrieve(done.id, stream=True)


def test_responses_outlive_the_server_and_belong_to_their_key(tmp_path: Path) -> None:
    def opened(server: LiveServer, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{server.url}/v1", api_key=key, max_retries=0)

    options: dict[str, Any] = {"files_dir": tmp_path, "api_keys": KEYS}
    with live_server(**options) as server, opened(server, KEYS[0]) as client:
        done = client.responses.create(input="hello", **GREEDY)
        cut = client.responses.create(input="hello", background=True, **{**GREEDY, "max_output_tokens": LONG})
    with live_server(**options) as server, opened(server, KEYS[0]) as client, opened(server, KEYS[1]) as other:
        assert client.responses.retrieve(done.id) == done
        assert client.responses.retrieve(cut.id).status == "failed"
        with pytest.raises(openai.NotFoundError):
            other.responses.retrieve(done.id)


@pytest.mark.parametrize(
    ("body", "words", "param"),
    [
        ({}, ("input is required",), "input"),
        ({"input": []}, ("empty",), "input"),
        ({"input": [{"type": "reasoning", "summary": []}]}, ("reasoning",), "input[0].type"),
        ({"input": [{"role": "robot", "content": "x"}]}, ("assistant",), "input[0].role"),
        ({"input": [{"role": "user", "content": [{"type": "input_smell"}]}]}, ("input_smell",), None),
        ({"input": "x", "truncation": "auto"}, ("truncation", "disabled"), "truncation"),
        ({"input": "x", "conversation": "c"}, ("conversation",), "conversation"),
        ({"input": "x", "max_output_tokens": 0}, ("max_output_tokens",), "max_output_tokens"),
        ({"input": "x", "temperature": 3}, ("temperature",), "temperature"),
        ({"input": "x", "surprise": 1}, ("surprise",), "surprise"),
        ({"input": "x", "tools": [{"type": "web_search"}]}, ("function",), None),
        ({"input": "x", "background": True, "store": False}, ("background",), "store"),
        ({"input": "x" * 3000}, ("context",), "input"),
    ],
)
def test_what_cannot_be_honoured_is_refused_by_its_own_name(
    server: LiveServer, body: Any, words: tuple[str, ...], param: str | None
) -> None:
    assert_refused(post(server, **body), 400, *words, param=param)


async def _stream_text(client: openai.AsyncOpenAI) -> str:
    stream: Any = await client.responses.create(input="hello", stream=True, **GREEDY)
    return "".join([event.delta async for event in stream if event.type == "response.output_text.delta"])


@pytest.mark.anyio
async def test_the_asynchronous_client_streams_alike(server: LiveServer) -> None:
    async with openai.AsyncOpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as client:
        whole = await client.responses.create(input="hello", **GREEDY)
        assert await _stream_text(client) == whole.output_text
