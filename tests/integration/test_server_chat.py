"""Chat over HTTP as clients use it: JSON, streams, the official client, forms."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import openai
import pytest
from PIL import Image

from tests.support.live_server import (
    LONG,
    MODEL,
    LiveServer,
    chat_body,
    data_uri,
    image_file,
    image_part,
    live_server,
    picture,
    reply_text,
    stream_frames,
)

RED, BLUE = (220, 20, 20), (20, 20, 220)
FORM = {"prompt": "what is this?", "max_tokens": "6", "temperature": "0", "ignore_eos": "true"}


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server() as running:
        yield running


@pytest.fixture
def client(server: LiveServer) -> Iterator[openai.OpenAI]:
    with openai.OpenAI(base_url=f"{server.url}/v1", api_key="none", max_retries=0) as opened:
        yield opened


def question(colour: tuple[int, int, int], text: str = "what is this?") -> list[object]:
    return [{"type": "text", "text": text}, image_part(picture(colour))]


def test_a_whole_reply_has_the_shape_of_openai(server: LiveServer) -> None:
    reply = server.chat().json()
    assert reply["object"] == "chat.completion"
    assert reply["model"] == MODEL
    assert reply["choices"][0]["message"]["role"] == "assistant"
    assert reply["choices"][0]["finish_reason"] == "length"
    usage = reply["usage"]
    assert usage["completion_tokens"] == 4
    assert usage["total_tokens"] == usage["prompt_tokens"] + 4


def test_a_picture_changes_the_reply_and_its_colour_matters(server: LiveServer) -> None:
    plain = reply_text(server.chat("what is this?", max_tokens=12))
    red = reply_text(server.chat(question(RED), max_tokens=12))
    blue = reply_text(server.chat(question(BLUE), max_tokens=12))
    assert len({plain, red, blue}) == 3


def test_equal_requests_get_equal_greedy_replies(server: LiveServer) -> None:
    assert reply_text(server.chat(question(RED))) == reply_text(server.chat(question(RED)))


def test_a_stream_carries_the_same_text_as_the_whole_reply(server: LiveServer) -> None:
    with server.stream(question(RED), max_tokens=12) as lines:
        *chunks, done = stream_frames(lines)
    assert done == "[DONE]"
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == reply_text(server.chat(question(RED), max_tokens=12))


def test_a_stream_starts_with_roles_and_finishes_every_choice_once(server: LiveServer) -> None:
    with server.stream(n=2) as lines:
        *chunks, _ = stream_frames(lines)
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    assert [choice["index"] for choice in choices[:2]] == [0, 1]
    assert all(choice["delta"] == {"role": "assistant", "content": ""} for choice in choices[:2])
    assert sorted(choice["index"] for choice in choices if choice["finish_reason"]) == [0, 1]
    assert len({chunk["id"] for chunk in chunks}) == 1


def test_usage_comes_last_with_no_choices_and_only_when_asked_for(server: LiveServer) -> None:
    with server.stream(n=2, stream_options={"include_usage": True}) as lines:
        *chunks, usage_chunk, _ = stream_frames(lines)
    assert usage_chunk["choices"] == []
    assert usage_chunk["usage"]["completion_tokens"] == 8
    assert {chunk["usage"] for chunk in chunks} == {None}
    with server.stream() as lines:
        assert not any("usage" in chunk for chunk in stream_frames(lines)[:-1])


def test_every_frame_is_one_data_line_and_an_empty_line(server: LiveServer) -> None:
    answer = server.chat(stream=True)
    assert answer.headers["content-type"].startswith("text/event-stream")
    blocks = answer.text.split("\n\n")
    assert blocks[-1] == ""
    assert all(block.startswith("data: ") and "\n" not in block for block in blocks[:-1])


def test_a_silent_stream_is_kept_alive_by_comments() -> None:
    with live_server(keep_alive_s=0.001) as server, server.stream(max_tokens=200) as lines:
        assert ": keep-alive" in list(lines)


def test_the_official_client_chats(client: openai.OpenAI, server: LiveServer) -> None:
    completion = client.chat.completions.create(
        model=MODEL,
        messages=[{"role": "user", "content": "hello"}],
        max_completion_tokens=5,
        temperature=0,
        extra_body={"ignore_eos": True},
    )
    assert completion.usage is not None
    assert completion.usage.completion_tokens == 5
    assert completion.choices[0].message.content == reply_text(server.chat(max_tokens=5))


def test_the_official_client_streams_a_picture_with_usage(client: openai.OpenAI) -> None:
    stream = client.chat.completions.create(
        model=MODEL,
        messages=[
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": [{"type": "image_url", "image_url": {"url": data_uri(picture())}}]},
        ],
        max_tokens=5,
        n=2,
        stream=True,
        stream_options={"include_usage": True},
        extra_body={"ignore_eos": True},
    )
    with stream:
        chunks = list(stream)
    assert {choice.finish_reason for chunk in chunks for choice in chunk.choices} == {None, "length"}
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.completion_tokens == 10


def test_the_official_client_reads_a_reply_back_in_as_history(client: openai.OpenAI) -> None:
    first = client.chat.completions.create(
        model=MODEL, messages=[{"role": "user", "content": "hello"}], max_tokens=4, extra_body={"ignore_eos": True}
    )
    history = [{"role": "user", "content": "hello"}, first.choices[0].message.model_dump()]
    body = chat_body(messages=[*history, {"role": "user", "content": "and?"}])
    with openai.OpenAI(base_url=str(client.base_url), api_key="none") as again:
        second = again.post("/chat/completions", body=body, cast_to=openai.types.chat.ChatCompletion)
    assert second.choices[0].finish_reason == "length"


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"model": "nobody"}, openai.NotFoundError),
        ({"temperature": 3}, openai.BadRequestError),
        ({"tools": [{"type": "function", "function": {"name": "f"}}]}, openai.BadRequestError),
    ],
)
def test_errors_become_the_classes_of_the_official_client(
    client: openai.OpenAI, fields: dict[str, object], expected: type[openai.APIStatusError]
) -> None:
    with pytest.raises(expected) as caught:
        client.post("/chat/completions", body=chat_body(**fields), cast_to=object)
    assert caught.value.param == next(iter(fields))
    assert caught.value.request_id


def test_models_tell_modalities_and_context(client: openai.OpenAI) -> None:
    (model,) = client.models.list().data
    assert model.id == MODEL
    extra = client.models.retrieve(MODEL).model_extra or {}
    assert {"image", "text"} <= set(extra["input_modalities"])
    assert extra["context_length"] == 1024
    with pytest.raises(openai.NotFoundError, match=MODEL):
        client.models.retrieve("nobody")


def test_choices_of_one_request_differ_by_their_seeds(server: LiveServer) -> None:
    def texts() -> list[str]:
        reply = server.chat(n=3, seed=5, temperature=2, max_tokens=12).json()
        return [choice["message"]["content"] for choice in reply["choices"]]

    assert len(set(texts())) == 3
    assert texts() == texts()


def test_a_stop_string_ends_the_reply_before_itself(server: LiveServer) -> None:
    whole = reply_text(server.chat(max_tokens=12))
    stop = whole[2:4]
    stopped = server.chat(max_tokens=12, stop=stop)
    assert reply_text(stopped) == whole[: whole.index(stop)]
    assert stopped.json()["choices"][0]["finish_reason"] == "stop"


def test_developer_and_system_are_one_role(server: LiveServer) -> None:
    texts = {
        reply_text(server.chat(messages=[{"role": role, "content": "Be brief."}, {"role": "user", "content": "hi"}]))
        for role in ("developer", "system")
    }
    assert len(texts) == 1


def test_the_scope_says_which_pictures_count(server: LiveServer) -> None:
    messages = [
        {"role": "user", "content": question(RED)},
        {"role": "assistant", "content": "red"},
        {"role": "user", "content": question(BLUE)},
    ]
    latest = reply_text(server.chat(messages=messages, max_tokens=12))
    both = reply_text(server.chat(messages=messages, max_tokens=12, bind={"scope": "all"}))
    assert latest != both


def test_a_weight_changes_the_blend(server: LiveServer) -> None:
    def blended(weight: float) -> str:
        parts = [{"type": "text", "text": "?"}, image_part(picture(RED)), image_part(picture(BLUE), weight=weight)]
        return reply_text(server.chat(parts, max_tokens=12))

    assert blended(0.01) != blended(100.0)


def test_an_unsaid_limit_gives_way_to_a_long_prompt(server: LiveServer) -> None:
    body = chat_body("x" * 900)
    del body["max_tokens"]
    usage = server.post(json=body).json()["usage"]
    assert usage["total_tokens"] == 1024


def test_a_form_means_the_same_as_json(server: LiveServer) -> None:
    as_form = server.upload(FORM, image_file(picture(RED)))
    as_json = server.chat(question(RED), max_tokens=6)
    assert reply_text(as_form) == reply_text(as_json)


@pytest.mark.parametrize(("container", "media_type"), [("PNG", "image/png"), ("JPEG", "image/jpeg")])
def test_a_form_takes_several_pictures_in_order(server: LiveServer, container: str, media_type: str) -> None:
    files = [image_file(picture(colour, container=container), media_type=media_type) for colour in (RED, BLUE)]
    parts = [image_part(picture(colour, container=container)) for colour in (RED, BLUE)]
    for part in parts:
        part["image_url"]["url"] = part["image_url"]["url"].replace("image/png", media_type)
    as_json = server.chat([{"type": "text", "text": "what is this?"}, *parts], max_tokens=6)
    assert reply_text(server.upload(FORM, *files)) == reply_text(as_json)


def test_files_of_a_form_join_the_last_user_message(server: LiveServer) -> None:
    turns = [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "yes"}]
    fields = {k: v for k, v in FORM.items() if k != "prompt"}
    last = {"role": "user", "content": "what is this?"}
    as_form = server.upload({**fields, "messages": json.dumps([*turns, last])}, image_file(picture(RED)))
    as_json = server.chat(messages=[*turns, {"role": "user", "content": question(RED)}], max_tokens=6)
    assert reply_text(as_form) == reply_text(as_json)


def test_a_form_streams_and_repeats_stop(server: LiveServer) -> None:
    texts = [("stop", (None, "@@")), ("stop", (None, "[x")), *((k, (None, v)) for k, v in FORM.items())]
    answer = server.post(files=[*texts, ("stream", (None, "true")), image_file(picture(), "file", "")])
    assert stream_frames(iter(answer.text.splitlines()))[-1] == "[DONE]"


def test_no_upload_touches_the_disk(server: LiveServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (1024, 1024, 3), dtype=np.uint8)
    path = tmp_path / "noise.png"
    Image.fromarray(noise).save(path, compress_level=0)
    content = path.read_bytes()
    assert len(content) > 2**20  # beyond where form parsers begin to spool
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "missing"))  # a temporary file would fail the request
    assert reply_text(server.upload(FORM, image_file(content)))


def test_many_clients_are_served_at_once_and_alone_alike(server: LiveServer) -> None:
    alone = reply_text(server.chat(question(RED), max_tokens=40))
    with server.stream(max_tokens=LONG) as lines:
        next(lines)
        assert reply_text(server.chat(question(RED), max_tokens=40)) == alone
