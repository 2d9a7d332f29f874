"""Read request bodies with limits, in memory: nothing is written to a disk unless the endpoint is there to keep it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pydantic_core
from python_multipart.exceptions import FormParserError
from python_multipart.multipart import MultipartParser, parse_options_header
from starlette.requests import Request

from core.errors import DeadlineExceeded, InvalidRequest, MediaTooLarge, UnsupportedMedia
from core.types import Modality

if TYPE_CHECKING:
    from python_multipart.multipart import MultipartCallbacks

INLINE_PARSE_BYTES = 64 * 1024  # larger bodies are parsed off the event loop

FILE_FIELDS: dict[str, Modality | None] = {
    "image": Modality.IMAGE,
    "audio": Modality.AUDIO,
    "video": Modality.VIDEO,
    "video_frame": Modality.VIDEO,  # all of them together are one film
    "point_cloud": Modality.POINT_CLOUD,
    "depth": Modality.DEPTH,
    "thermal": Modality.THERMAL,
    "imu": Modality.IMU,
    "file": None,  # the kind is decided from the bytes
}


@dataclass(frozen=True, slots=True, kw_only=True)
class JsonLimits:
    """What one JSON text may unfold to; `max_items` counts lists, objects and commas."""

    max_depth: int = 64
    max_items: int = 1_000_000


@dataclass(frozen=True, slots=True, kw_only=True)
class BodyLimits:
    """What one request body may hold."""

    max_body_bytes: int
    max_file_bytes: int
    max_files: int
    timeout_s: float
    max_fields: int = 64
    json: JsonLimits = JsonLimits()


@dataclass(slots=True)
class FormPart:
    """One part of a multipart body while it grows."""

    name: str = ""
    filename: str | None = None
    content_type: str | None = None
    content: bytearray = field(default_factory=bytearray)
    json: JsonLimits = JsonLimits()

    @property
    def is_file(self) -> bool:
        """Tell whether the part came with a file name, as `curl -F name=@path` sends it."""
        return self.filename is not None


def body_kind(request: Request) -> str:
    """Return `json` or `multipart`. Raises `UnsupportedMedia` naming the two content types."""
    declared = request.headers.get("content-type", "")
    media_type = declared.partition(";")[0].strip().lower()
    if media_type == "application/json":
        return "json"
    if media_type == "multipart/form-data":
        return "multipart"
    raise UnsupportedMedia(
        f"content type {media_type[:80] or '(none)'!r} is not read here; send application/json or multipart/form-data",
        code="unsupported_content_type",
    )


async def read_json(request: Request, limits: BodyLimits) -> Any:
    """Read and decode a JSON body. Raises `InvalidRequest` saying where the JSON is malformed."""
    body = bytearray()
    async with _body_deadline(limits):
        async for chunk in _limited_chunks(request, limits):
            body += chunk
    if len(body) > INLINE_PARSE_BYTES:
        return await asyncio.to_thread(decode_json, bytes(body), limits=limits.json)
    return decode_json(bytes(body), limits=limits.json)


def decode_json(text: bytes | str, *, param: str | None = None, limits: JsonLimits | None = None) -> Any:
    """Decode JSON within limits. Raises `InvalidRequest` saying where it is malformed or what it has too much of."""
    limits, what = limits or JsonLimits(), param or "the body"
    # Three bytes such as "[]," become a hundred in memory, so the size of the text bounds nothing.
    raw = text.encode("utf-8", "surrogatepass") if isinstance(text, str) else text
    if sum(raw.count(mark) for mark in (b",", b"[", b"{")) > limits.max_items:
        raise MediaTooLarge(
            f"{what} holds more than {limits.max_items} JSON items; send fewer", param=param, code="json_too_large"
        )
    try:
        value = pydantic_core.from_json(text, allow_inf_nan=False)
    except ValueError as error:
        raise InvalidRequest(f"{what} is not valid JSON: {error}", param=param, code="malformed_json") from None
    _check_depth(value, limits.max_depth, what)
    return value


def _check_depth(value: Any, max_depth: int, what: str) -> None:
    level = [value]
    for _ in range(max_depth + 1):
        level = [
            child
            for holder in level
            if isinstance(holder, dict | list)
            for child in (holder.values() if isinstance(holder, dict) else holder)
        ]
        if not level:
            return
    raise InvalidRequest(f"{what} is nested deeper than {max_depth} levels; flatten it", code="json_too_deep")


async def read_multipart(
    request: Request, limits: BodyLimits, collector: PartCollector | None = None
) -> list[FormPart]:
    """Read a multipart body, by default into memory, checking every limit while the bytes arrive."""
    _, options = parse_options_header(request.headers["content-type"])
    boundary = options.get(b"boundary")
    if not boundary:
        raise InvalidRequest("multipart/form-data needs a boundary in its content type", code="malformed_multipart")
    collector = collector or PartCollector(limits)
    try:
        parser = MultipartParser(boundary, collector.callbacks())
        async with _body_deadline(limits):
            async for chunk in _limited_chunks(request, limits):
                await collector.feed(parser, chunk)
        parser.finalize()
    except FormParserError as error:
        raise InvalidRequest(f"the multipart body is malformed: {error}", code="malformed_multipart") from None
    if not collector.ended:
        raise InvalidRequest("the multipart body ends before its last boundary", code="malformed_multipart")
    return collector.parts


async def _limited_chunks(request: Request, limits: BodyLimits) -> AsyncIterator[bytes]:
    """Yield the body; stop at the door when the declared length is too long, and in the middle when it lied."""
    declared = request.headers.get("content-length", "")
    if declared.isdigit() and int(declared) > limits.max_body_bytes:
        raise _body_too_large(limits)
    num_bytes = 0
    async for chunk in request.stream():
        num_bytes += len(chunk)
        if num_bytes > limits.max_body_bytes:
            raise _body_too_large(limits)
        yield chunk


def _body_too_large(limits: BodyLimits) -> MediaTooLarge:
    return MediaTooLarge(
        f"the body is larger than {limits.max_body_bytes} bytes; send fewer or smaller media", code="body_too_large"
    )


@asynccontextmanager
async def _body_deadline(limits: BodyLimits) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limits.timeout_s):
            yield
    except TimeoutError:
        raise DeadlineExceeded(f"the body did not arrive within {limits.timeout_s:g} s; send it faster") from None


class PartCollector:
    """Gather the parts that the parser finds, refusing at the first byte over a limit."""

    def __init__(self, limits: BodyLimits) -> None:
        self._limits = limits
        self._part = FormPart()
        self._header_name = b""
        self._header_value = b""
        self.parts: list[FormPart] = []
        self.ended = False

    def callbacks(self) -> MultipartCallbacks:
        """Return the hooks of the parser."""
        return {
            "on_part_begin": self._begin_part,
            "on_header_field": self._extend_header_name,
            "on_header_value": self._extend_header_value,
            "on_header_end": self._end_header,
            "on_headers_finished": self._check_counts,
            "on_part_data": self._extend_content,
            "on_part_end": self._end_part,
            "on_end": self._end,
        }

    def _begin_part(self) -> None:
        self._part = FormPart(json=self._limits.json)

    def _extend_header_name(self, chunk: bytes, start: int, end: int) -> None:
        self._header_name += chunk[start:end]

    def _extend_header_value(self, chunk: bytes, start: int, end: int) -> None:
        self._header_value += chunk[start:end]

    def _end_header(self) -> None:
        name, value = self._header_name.lower(), self._header_value
        self._header_name = self._header_value = b""
        if name == b"content-disposition":
            _, options = parse_options_header(value)
            self._part.name = options.get(b"name", b"").decode("utf-8", "replace")
            if b"filename" in options:
                self._part.filename = options[b"filename"].decode("utf-8", "replace")
        elif name == b"content-type":
            self._part.content_type = value.decode("latin-1").partition(";")[0].strip().lower()

    def _check_counts(self) -> None:
        if not self._part.name:
            raise InvalidRequest("every multipart part needs a name", code="malformed_multipart")
        num_same_kind = sum(part.is_file == self._part.is_file for part in self.parts) + 1
        limit = self._limits.max_files if self._part.is_file else self._limits.max_fields
        if num_same_kind > limit:
            raise MediaTooLarge(f"at most {limit} {'files' if self._part.is_file else 'fields'} fit in one request")

    def _extend_content(self, chunk: bytes, start: int, end: int) -> None:
        self.keep(self._part, chunk[start:end])

    async def feed(self, parser: MultipartParser, chunk: bytes) -> None:
        """Parse some bytes, which calls `keep`."""
        parser.write(chunk)

    def keep(self, part: FormPart, content: bytes) -> None:
        """Append to a part. Raises `MediaTooLarge` for a file over its limit."""
        part.content += content
        if part.is_file and len(part.content) > self._limits.max_file_bytes:
            raise MediaTooLarge(
                f"the file of {part.name} is larger than {self._limits.max_file_bytes} bytes; send a smaller one",
                param=part.name,
            )

    def _end_part(self) -> None:
        self.parts.append(self._part)

    def _end(self) -> None:
        self.ended = True
