"""Multipart bodies: however the bytes are cut, the same parts come out."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from core.errors import InvalidRequest, MediaTooLarge
from core.types import Modality
from server.forms import split_form
from server.uploads import BodyLimits, FormPart, read_multipart

LIMITS = BodyLimits(max_body_bytes=10_000, max_file_bytes=100, max_files=2, timeout_s=5)
BODY = (
    b'--cut\r\nContent-Disposition: form-data; name="prompt"\r\n\r\nwhat is \xc3\xa9 this?\r\n'
    b'--cut\r\nContent-Disposition: form-data; name="image"; filename="a.png"\r\n'
    b"Content-Type: image/png\r\n\r\n\x89PNG\r\n--cu\r\n\x00\r\n"
    b"--cut--\r\n"
)


def request_of(*pieces: bytes) -> Request:
    waiting = [{"type": "http.request", "body": piece, "more_body": True} for piece in pieces]
    waiting.append({"type": "http.request", "body": b"", "more_body": False})

    async def receive() -> dict[str, object]:
        return waiting.pop(0)

    headers = [(b"content-type", b"multipart/form-data; boundary=cut")]
    return Request({"type": "http", "method": "POST", "headers": headers}, receive)


@pytest.mark.anyio
@pytest.mark.parametrize("size", [1, 2, 3, 7, 64, len(BODY)])
async def test_parts_do_not_depend_on_how_the_bytes_arrive(size: int) -> None:
    pieces = [BODY[start : start + size] for start in range(0, len(BODY), size)]
    prompt, image = await read_multipart(request_of(*pieces), LIMITS)
    assert (prompt.name, prompt.content.decode()) == ("prompt", "what is é this?")
    assert (image.filename, image.content_type) == ("a.png", "image/png")
    assert bytes(image.content) == b"\x89PNG\r\n--cu\r\n\x00"


@pytest.mark.anyio
async def test_a_file_is_refused_at_its_first_byte_over_the_limit() -> None:
    read: list[bytes] = []

    async def arriving() -> AsyncIterator[bytes]:
        yield BODY[: BODY.index(b"\x89PNG")]
        while True:
            read.append(b"x" * 50)
            yield read[-1]

    chunks = arriving()

    async def receive() -> dict[str, object]:
        return {"type": "http.request", "body": await anext(chunks), "more_body": True}

    headers = [(b"content-type", b"multipart/form-data; boundary=cut")]
    with pytest.raises(MediaTooLarge, match="100 bytes"):
        await read_multipart(
            Request({"type": "http", "method": "POST", "headers": headers}, receive),
            LIMITS,
        )
    assert len(read) == 3


@given(name=st.sampled_from(["n", "seed", "max_tokens"]), value=st.integers(-(10**9), 10**9))
def test_numbers_of_a_form_keep_their_type(name: str, value: int) -> None:
    parts = [FormPart("prompt", content=bytearray(b"hi")), FormPart(name, content=bytearray(str(value).encode()))]
    body, files = split_form(parts)
    assert body == {"messages": [{"role": "user", "content": "hi"}], name: value}
    assert files == []


def test_words_that_look_like_json_stay_words_where_words_are_meant() -> None:
    parts = [FormPart("prompt", content=bytearray(b"true")), FormPart("stop", content=bytearray(b"[1]"))]
    body, _ = split_form(parts)
    assert body["messages"][0]["content"] == "true"
    assert body["stop"] == ["[1]"]


def test_the_field_of_a_file_says_what_it_is() -> None:
    parts = [FormPart("prompt", content=bytearray(b"?"))]
    parts += [FormPart(name, "f", "application/octet-stream", bytearray(b"x")) for name in ("depth", "file")]
    _, files = split_form(parts)
    assert [(file.expected, file.declared_type) for file in files] == [(Modality.DEPTH, None), (None, None)]


def test_a_form_with_prompt_and_messages_is_refused() -> None:
    parts = [FormPart("prompt", content=bytearray(b"?")), FormPart("messages", content=bytearray(b"[]"))]
    with pytest.raises(InvalidRequest, match="either prompt"):
        split_form(parts)
