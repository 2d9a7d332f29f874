"""What the HTTP benchmarks share: one chat request with a picture, asked over HTTP and timed."""

from __future__ import annotations

import base64
import json
import time
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any

import httpx

CHAT_PATH = "/v1/chat/completions"
REQUEST_TIMEOUT_S = 300.0


@dataclass(frozen=True, slots=True, kw_only=True)
class StreamTiming:
    """One streamed answer. `ttft_s` runs from the request to the first text, `decode_s` from there to the last."""

    text: str
    completion_tokens: int
    ttft_s: float
    decode_s: float
    prompt_tokens: int = 0

    @property
    def total_s(self) -> float:
        return self.ttft_s + self.decode_s

    @property
    def decode_tokens_per_s(self) -> float:
        """Return the rate after the first token."""
        return (self.completion_tokens - 1) / self.decode_s if self.decode_s > 0 else 0.0


def picture_message(question: str, picture: bytes | None, mime_type: str = "image/jpeg") -> dict[str, Any]:
    """Return one user message in OpenAI's form; without a picture it is text alone."""
    parts: list[dict[str, Any]] = [{"type": "text", "text": question}]
    if picture is not None:
        encoded = base64.b64encode(picture).decode("ascii")
        parts.insert(0, {"type": "image_url", "image_url": {"url": f"data:{mime_type};base64,{encoded}"}})
    return {"role": "user", "content": parts}


async def ask(client: httpx.AsyncClient, body: dict[str, Any]) -> str:
    """Return the whole answer. Raises `httpx.HTTPStatusError` on a refusal."""
    response = await client.post(CHAT_PATH, json=body)
    response.raise_for_status()
    return str(response.json()["choices"][0]["message"]["content"])


async def stream(client: httpx.AsyncClient, body: dict[str, Any]) -> StreamTiming:
    """Stream one answer and time it. Raises `httpx.HTTPStatusError` on a refusal."""
    started = time.perf_counter()
    return timing_of(started, [(time.perf_counter(), frame) async for frame in _frames(client, streamed(body))])


def streamed(body: dict[str, Any]) -> dict[str, Any]:
    """Return the body of the same request, to be streamed with its usage."""
    return {**body, "stream": True, "stream_options": {"include_usage": True}}


def timing_of(started: float, frames: Sequence[tuple[float, dict[str, Any]]]) -> StreamTiming:
    """Return the timing of an answer whose frames came at these seconds."""
    pieces: list[str] = []
    completion_tokens = prompt_tokens = 0
    first = last = started
    for came_s, frame in frames:
        if usage := frame.get("usage"):
            completion_tokens, prompt_tokens = int(usage["completion_tokens"]), int(usage.get("prompt_tokens", 0))
        if piece := "".join(choice["delta"].get("content") or "" for choice in frame["choices"]):
            last = came_s
            first = first if pieces else last
            pieces.append(piece)
    return StreamTiming(
        text="".join(pieces),
        completion_tokens=completion_tokens,
        ttft_s=first - started,
        decode_s=last - first,
        prompt_tokens=prompt_tokens,
    )


async def _frames(client: httpx.AsyncClient, body: dict[str, Any]) -> AsyncIterator[dict[str, Any]]:
    async with client.stream("POST", CHAT_PATH, json=body) as response:
        if response.is_error:
            await response.aread()
        response.raise_for_status()
        async for line in response.aiter_lines():
            if line.startswith("data: {"):
                yield checked(json.loads(line.removeprefix("data: ")))


def checked(frame: dict[str, Any]) -> dict[str, Any]:
    """Return a frame that carries no error. Raises `RuntimeError` for one that does."""
    if "error" in frame:
        raise RuntimeError(f"the stream ended with an error: {frame['error']['message']}")
    return frame
