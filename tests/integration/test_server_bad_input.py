"""Everything a client can get wrong: the right status, one error body, a sentence that names the limit."""

from __future__ import annotations

import json
import struct
import zlib
from collections.abc import Iterator
from typing import Any

import pytest

from tests.support.live_server import (
    CHAT,
    LiveServer,
    assert_refused,
    data_uri,
    image_file,
    image_part,
    live_server,
    picture,
)

FORM = {"prompt": "what is this?", "max_tokens": "2"}
BODY_LIMIT, MEDIUM_LIMIT = 300_000, 100_000


@pytest.fixture(scope="module")
def server() -> Iterator[LiveServer]:
    with live_server(
        max_body_bytes=BODY_LIMIT,
        max_media_bytes=MEDIUM_LIMIT,
        max_media_parts=2,
        max_pixels=1_000_000,
        max_messages=3,
        max_prompt_chars=5000,
    ) as running:
        yield running


def pixel_bomb(side_px: int = 30_000) -> bytes:
    """Return a small PNG whose header claims a huge picture."""

    def chunk(kind: bytes, content: bytes) -> bytes:
        return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))

    header = struct.pack(">IIBBBBB", side_px, side_px, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 100)) + chunk(b"IEND", b"")
    )


BAD_PICTURES = {
    "empty": (b"", 422, "empty"),
    "truncated": (picture(side_px=200)[:120], 422, "truncated"),
    "not a picture": (b"just some words, nothing to see", 422, "bytes do not start like png"),
    "another kind": (b"%PDF-1.7\n%nothing", 415, "PDF"),
    "pixel bomb": (pixel_bomb(), 413, "1000000"),
    "too many bytes": (picture() + b"\0" * MEDIUM_LIMIT, 413, str(MEDIUM_LIMIT)),
}


@pytest.mark.parametrize("name", BAD_PICTURES)
def test_a_bad_picture_is_refused_alike_in_json_and_in_a_form(server: LiveServer, name: str) -> None:
    content, status, word = BAD_PICTURES[name]
    assert_refused(server.chat([{"type": "text", "text": "?"}, image_part(content)]), status, word)
    assert_refused(server.upload(FORM, image_file(content)), status, word)


PARAMETERS: list[tuple[dict[str, Any], str, str]] = [
    ({"n": 0}, "n", "[1, 8]"),
    ({"n": 9}, "n", "[1, 8]"),
    ({"max_tokens": 0}, "max_tokens", "[1, 1024]"),
    ({"max_tokens": 5000}, "max_tokens", "[1, 1024]"),
    ({"max_completion_tokens": 5000, "max_tokens": None}, "max_completion_tokens", "[1, 1024]"),
    ({"max_tokens": 3, "max_completion_tokens": 4}, "max_tokens", "one of them"),
    ({"max_tokens": 2.0}, "max_tokens", "integer"),
    ({"max_tokens": "3"}, "max_tokens", "integer"),
    ({"temperature": 2.5}, "temperature", "[0, 2]"),
    ({"temperature": "hot"}, "temperature", "number"),
    ({"top_p": 0}, "top_p", "(0, 1]"),
    ({"top_k": -1}, "top_k", "0 or more"),
    ({"min_p": 1}, "min_p", "[0, 1)"),
    ({"stop": ["a"] * 5}, "stop", "at most 4"),
    ({"stop": ""}, "stop", "empty"),
    ({"seed": 2**70}, "seed", "seed"),
    ({"stream": "yes"}, "stream", "true or false"),
    ({"stream_options": {"include_usage": True}}, "stream_options", "stream: true"),
    ({"stream": True, "stream_options": {"usage": True}}, "stream_options.usage", "remove"),
    ({"bind": {"scope": "some"}}, "bind.scope", "'latest' or 'all'"),
    ({"messages": []}, "messages", "at least 1"),
    ({"messages": None}, "messages", "list"),
    ({"messages": [{"role": "user", "content": "a"}] * 4}, "messages", "at most 3"),
    ({"messages": [{"role": "robot", "content": "a"}]}, "messages[0].role", "'assistant'"),
    ({"messages": [{"role": "user"}]}, "messages[0].content", "required"),
    ({"messages": [{"role": "user", "content": "a", "tool_calls": [{}]}]}, "messages[0].tool_calls[0].id", "required"),
    ({"frequency_penalty": 2.5}, "frequency_penalty", "[-2, 2]"),
    ({"presence_penalty": -3}, "presence_penalty", "[-2, 2]"),
    ({"repetition_penalty": 0}, "repetition_penalty", "(0, 10]"),
    ({"logit_bias": {"5": 101}}, "logit_bias", "[-100, 100]"),
    ({"logit_bias": {"hello": 1}}, "logit_bias", "token ids"),
    ({"logit_bias": {"9999": 1}}, "logit_bias", "[0, 258]"),
    ({"stop_token_ids": [-1]}, "stop_token_ids", "[0, 258]"),
    ({"min_tokens": 5}, "min_tokens", "[0, 4]"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "[0, 20]"),
    ({"top_logprobs": 3}, "top_logprobs", "logprobs: true"),
    ({"response_format": {"type": "json_object"}}, "response_format", "ignore_eos"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "json_schema"),
    ({"response_format": {"type": "json_schema"}}, "response_format.json_schema", "both or none"),
    ({"regex": "(a", "ignore_eos": False}, "regex", "unclosed group"),
    ({"choice": []}, "choice", "at least 1"),
    ({"choice": ["a", ""]}, "choice[1]", "at least 1"),
    ({"choice": ["a"], "regex": "a"}, "choice", "one of them"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "required"),
    ({"tool_choice": "required"}, "tool_choice", "tools"),
    ({"modalities": ["text", "audio"]}, "modalities", "text"),
    ({"reasoning_effort": "high"}, "reasoning_effort", "none"),
    ({"service_tier": "priority"}, "service_tier", "auto"),
    ({"temprature": 1}, "temprature", "not a field"),
]


@pytest.mark.parametrize(("fields", "param", "word"), PARAMETERS, ids=[json.dumps(row[0])[:60] for row in PARAMETERS])
def test_a_bad_parameter_is_named_with_what_is_allowed(
    server: LiveServer, fields: dict[str, Any], param: str, word: str
) -> None:
    assert_refused(server.chat(**fields), 400, word, param=param)


def test_parameters_that_ask_for_nothing_are_accepted(server: LiveServer) -> None:
    off = {
        "user": "someone",
        "metadata": {"a": "b"},
        "store": False,
        "logprobs": False,
        "frequency_penalty": 0,
        "presence_penalty": 0.0,
        "logit_bias": {},
        "response_format": {"type": "text"},
        "tools": [],
        "tool_choice": "none",
        "parallel_tool_calls": True,
        "service_tier": "auto",
        "modalities": ["text"],
        "audio": None,
    }
    assert server.chat(**off).status_code == 200


PARTS: list[tuple[dict[str, Any], int, str]] = [
    ({"type": "smell", "smell": "roses"}, 400, "image_url"),
    ({"text": "no type"}, 400, "type"),
    ({"type": "image_url", "image_url": "data:image/png;base64,"}, 400, "image_url"),
    ({"type": "image_url", "image_url": {}}, 400, "url"),
    ({"type": "image_url", "image_url": {"file_id": "file-1"}}, 400, "file_id"),
    ({"type": "image_url", "image_url": {"url": data_uri(picture()), "detail": "high"}}, 400, "'auto' or 'low'"),
    ({"type": "image_url", "image_url": {"url": "data:image/png;base64,@@@@"}}, 400, "base64"),
    ({"type": "image_url", "image_url": {"url": "https://example.com/cat.jpg"}}, 422, ""),
    ({"type": "image_url", "image_url": {"url": "file:///etc/passwd"}}, 422, "http"),
    ({"type": "thermal_url", "thermal_url": {"url": data_uri(picture())}}, 415, "reads"),
    ({"type": "imu_url", "imu_url": {"url": data_uri(b"1,2")}}, 415, "image"),
    ({"type": "video_url", "video_url": {"url": data_uri(picture())}, "fps": 0.0}, 400, "fps"),
    ({**image_part(picture()), "weight": 0}, 400, "weight"),
    ({**image_part(picture()), "weight": -1}, 400, "weight"),
    ({**image_part(picture()), "wait": 1}, 400, "remove"),
]


@pytest.mark.parametrize(("part", "status", "word"), PARTS, ids=[json.dumps(row[0])[:60] for row in PARTS])
def test_a_bad_content_part_is_refused_by_its_path(
    server: LiveServer, part: dict[str, Any], status: int, word: str
) -> None:
    answer = server.chat([{"type": "text", "text": "?"}, part])
    assert_refused(answer, status, word)
    assert answer.json()["error"]["param"].startswith("messages")


def test_media_belong_to_users(server: LiveServer) -> None:
    messages = [{"role": "system", "content": [image_part(picture())]}, {"role": "user", "content": "?"}]
    assert_refused(server.chat(messages=messages), 400, "user messages", param="messages[0].content[0]")


def test_too_many_media_are_refused(server: LiveServer) -> None:
    assert_refused(server.chat([image_part(picture())] * 3), 413, "at most 2")
    assert_refused(server.upload(FORM, *[image_file(picture())] * 3), 413, "at most 2")


def test_a_prompt_longer_than_the_context_is_refused_with_the_numbers(server: LiveServer) -> None:
    answer = server.chat("x" * 1500)
    assert_refused(answer, 400, "1024", param="messages")
    assert answer.json()["error"]["code"] == "context_length_exceeded"
    assert_refused(server.chat("x" * 6000), 400, "5000")


def test_a_refusal_before_the_first_token_of_a_stream_is_an_honest_status(server: LiveServer) -> None:
    assert_refused(server.chat("x" * 1500, stream=True), 400, "1024")


def test_an_unknown_model_is_refused_with_the_known_ones(server: LiveServer) -> None:
    assert_refused(server.chat(model="nobody"), 404, "tiny", param="model")


MALFORMED = [b"", b"{", b'{"messages": [}', b"[1, 2", b'{"a": NaN}', b"\xff\xfe", b"[" * 5000, b'"text"', b"[]"]


@pytest.mark.parametrize("body", MALFORMED, ids=lambda body: repr(body[:12]))
def test_malformed_json_is_refused(server: LiveServer, body: bytes) -> None:
    assert_refused(server.post(content=body, headers={"content-type": "application/json"}), 400, "JSON")


@pytest.mark.parametrize("content_type", ["text/plain", "application/x-www-form-urlencoded", "image/png", None])
def test_a_wrong_content_type_is_refused_with_the_two_allowed(server: LiveServer, content_type: str | None) -> None:
    headers = {"content-type": content_type} if content_type else {}
    answer = server.post(content=b"prompt=hello", headers=headers)
    assert_refused(answer, 415, "application/json", "multipart/form-data")


def test_a_body_over_the_limit_is_refused_whether_or_not_it_says_so(server: LiveServer) -> None:
    headers = {"content-type": "application/json"}
    big = b" " * (BODY_LIMIT + 1)
    assert_refused(server.post(content=big, headers=headers), 413, str(BODY_LIMIT))
    pieces = (big[i : i + 4096] for i in range(0, len(big), 4096))
    assert_refused(server.post(content=pieces, headers=headers), 413, str(BODY_LIMIT))


FORMS: list[tuple[dict[str, str], list[Any], str]] = [
    ({"max_tokens": "2"}, [image_file(picture())], "prompt"),
    ({**FORM, "messages": "[]"}, [], "either"),
    ({**FORM, "max_tokens": "two"}, [], "an integer"),
    ({**FORM, "stream": "yes"}, [], "true or false"),
    ({**FORM, "stream_options": "{"}, [], "not valid JSON"),
    ({**FORM, "temperature": "2.5"}, [], "[0, 2]"),
    ({**FORM, "colour": "1"}, [], "colour"),
    ({**FORM, "image": "photo.jpg"}, [], "image=@"),
    (FORM, [image_file(picture(), "photo")], "image, audio"),
    (FORM, [("max_tokens", (None, b"3", ""))], "twice"),
    ({"max_tokens": "2"}, [("prompt", (None, b"\xff\xfe", ""))], "UTF-8"),
    ({"messages": '[{"role": "system", "content": "hi"}]'}, [image_file(picture())], "user message"),
]


@pytest.mark.parametrize(("fields", "files", "word"), FORMS, ids=[row[2] for row in FORMS])
def test_a_bad_form_is_refused_by_the_field_at_fault(
    server: LiveServer, fields: dict[str, str], files: list[Any], word: str
) -> None:
    assert_refused(server.upload(fields, *files), 400, word)


def test_an_unsupported_modality_of_a_form_is_refused_with_the_supported_ones(server: LiveServer) -> None:
    assert_refused(server.upload(FORM, image_file(b"1,2,3", "imu", "text/csv")), 415, "image", param="imu")


def test_a_form_without_boundary_or_end_is_refused(server: LiveServer) -> None:
    headers = {"content-type": "multipart/form-data"}
    assert_refused(server.post(content=b"--x--", headers=headers), 400, "boundary")
    headers = {"content-type": "multipart/form-data; boundary=x"}
    part = b'--x\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nhel'
    assert_refused(server.post(content=part, headers=headers), 400, "last boundary")
    assert_refused(server.post(content=b"nonsense", headers=headers), 400, "malformed")


def test_a_form_with_too_many_fields_is_refused(server: LiveServer) -> None:
    fields = {f"field{index}": "1" for index in range(70)}
    assert_refused(server.upload(fields), 413, "64")


def test_unknown_paths_and_methods_have_the_same_error_body(server: LiveServer) -> None:
    assert_refused(server.get("/v1/nothing"), 404, "/v1/nothing")
    assert_refused(server.get("/nothing"), 404, "/openapi.json")
    refused = server.get("/v1/completions")
    assert_refused(refused, 405, "POST")
    assert refused.headers["allow"] == "POST"
    with server.client() as client:
        refused = client.put(CHAT)
    assert_refused(refused, 405, "GET, POST")
    assert refused.headers["allow"] == "GET, POST"


def test_a_picture_in_the_field_of_a_sound_is_refused(server: LiveServer) -> None:
    assert_refused(server.upload(FORM, image_file(picture(), "audio", "")), 415, "audio", param="audio")


def test_refused_requests_leave_nothing_running(server: LiveServer) -> None:
    server.chat([image_part(pixel_bomb())])
    ready = server.get("/ready").json()
    assert (ready["slots_in_use"], ready["requests_in_flight"], ready["queue_length"]) == (0, 0, 0)
