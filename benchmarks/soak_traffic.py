"""What the soak sends: every modality, good and bad requests, clients that leave; each with the statuses it may get."""

from __future__ import annotations

import asyncio
import base64
import io
import random
import struct
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import httpx
import numpy as np
from PIL import Image

from benchmarks.chat_client import CHAT_PATH

LEFT = 0
"""The status of a client that left on purpose."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One kind of request; `modality` is what the model must read for it, `allowed` the statuses that are right."""

    name: str
    send: Callable[[Client], Awaitable[int]]
    weight: int = 1
    modality: str = "text"
    allowed: tuple[int, ...] = (200,)


@dataclass(frozen=True, slots=True)
class Client:
    """One of the clients: its connection and its own random numbers."""

    http: httpx.AsyncClient
    random: random.Random
    model: str

    def body(self, content: object, **fields: object) -> dict[str, object]:
        tokens = self.random.choice((1, 8, 24))
        messages = [{"role": "user", "content": content}]
        return {"model": self.model, "messages": messages, "max_tokens": tokens, "ignore_eos": True, **fields}

    async def post(self, path: str, **options: object) -> int:
        return (await self.http.post(path, **options)).status_code  # type: ignore[arg-type]

    async def chat(self, content: object, **fields: object) -> int:
        return await self.post(CHAT_PATH, json=self.body(content, **fields))

    async def stream(self, content: object, *, leave_after: int | None = None, **fields: object) -> int:
        """Read a stream to its end, or leave after some lines."""
        body = self.body(content, stream=True, **fields)
        async with self.http.stream("POST", CHAT_PATH, json=body) as answer:
            num_lines, is_done, error = 0, False, 0
            async for line in answer.aiter_lines():
                num_lines += 1
                is_done = is_done or line == "data: [DONE]"
                error = 500 if line.startswith('data: {"error"') else error
                if leave_after is not None and num_lines >= leave_after:
                    return LEFT
        return error or (answer.status_code if is_done or answer.is_error else 599)

    def picture(self) -> bytes:
        colour = tuple(self.random.randrange(256) for _ in range(3))
        return image_file("JPEG", self.random.randrange(32, 600), colour)

    def sound(self) -> bytes:
        samples = np.random.default_rng(self.random.randrange(1 << 30)).integers(-9000, 9000, 16_000, dtype=np.int16)
        form = struct.pack("<4sIHHIIHH", b"fmt ", 16, 1, 1, 16_000, 32_000, 2, 16)
        data = struct.pack("<4sI", b"data", samples.nbytes) + samples.tobytes()
        return struct.pack("<4sI4s", b"RIFF", 4 + len(form) + len(data), b"WAVE") + form + data

    def film(self) -> bytes:
        frames = [Image.new("RGB", (64, 48), (self.random.randrange(256), 80, 20 * i)) for i in range(8)]
        file = io.BytesIO()
        frames[0].save(file, "GIF", save_all=True, append_images=frames[1:], duration=100)
        return file.getvalue()

    def shape(self) -> bytes:
        points = np.random.default_rng(self.random.randrange(1 << 30)).normal(size=(2000, 3)).astype(np.float32)
        file = io.BytesIO()
        np.save(file, points)
        return file.getvalue()


def image_file(kind: str, side_px: int, colour: object) -> bytes:
    file = io.BytesIO()
    Image.new("RGB", (side_px, side_px), colour).save(file, kind)  # type: ignore[arg-type]
    return file.getvalue()


def parts(kind: str, content: bytes, media_type: str) -> list[dict[str, object]]:
    uri = f"data:{media_type};base64,{base64.b64encode(content).decode()}"
    return [{"type": "text", "text": "What is this?"}, {"type": kind, kind: {"url": uri}}]


async def upload_use_and_delete(client: Client) -> int:
    """Keep a file, chat about it, and remove it again."""
    form = {"files": {"file": ("photo.jpg", client.picture())}, "data": {"purpose": "vision"}}
    kept = await client.http.post("/v1/files", **form)  # type: ignore[arg-type]
    if kept.is_error:
        return kept.status_code
    file_id = kept.json()["id"]
    status = await client.chat([{"type": "image_url", "image_url": {"file_id": file_id}}])
    removed = await client.http.delete(f"/v1/files/{file_id}")
    return max(status, removed.status_code)


async def leave_upload(client: Client) -> int:
    """Send half of a body and leave."""
    url = client.http.base_url
    _, writer = await asyncio.open_connection(url.host, url.port)
    head = (
        f"POST {CHAT_PATH} HTTP/1.1\r\nHost: {url.host}\r\nContent-Type: application/json\r\nContent-Length: 90000\r\n"
    )
    writer.write(head.encode() + b"\r\n" + b'{"messages": ' + b" " * client.random.randrange(60_000))
    await writer.drain()
    writer.close()
    return LEFT


def _bad_json(client: Client) -> Awaitable[int]:
    content = client.random.choice((b"", b"{", b"[" * 5000, b'{"model": 1}', b"\xff\x00"))
    return client.post(CHAT_PATH, content=content, headers={"Content-Type": "application/json"})


def _truncated(client: Client) -> Awaitable[int]:
    """A JPEG without its end, down to the last two bytes: it can always be told."""
    content = client.picture()
    return client.chat(parts("image_url", content[: client.random.randrange(20, len(content))], "image/jpeg"))


def _flipped_png(client: Client) -> Awaitable[int]:
    """A PNG with one wrong bit in its pixel data, which their checksum tells."""
    content = bytearray(image_file("PNG", client.random.randrange(32, 600), (client.random.randrange(256), 80, 20)))
    start = content.index(b"IDAT") + 4
    content[client.random.randrange(start, content.index(b"IEND") - 8)] ^= 1 << client.random.randrange(8)
    return client.chat(parts("image_url", bytes(content), "image/png"))


def _flipped_jpeg(client: Client) -> Awaitable[int]:
    """A JPEG with wrong bytes among its coefficients: most only look odd, since it has no checksum."""
    content = bytearray(client.picture())
    start = content.index(b"\xff\xda") + 14
    for _ in range(30):
        content[client.random.randrange(start, len(content) - 2)] = client.random.randrange(256)
    return client.chat(parts("image_url", bytes(content), "image/jpeg"))


def _headless(client: Client) -> Awaitable[int]:
    """A JPEG whose marker of the frame header is destroyed."""
    content = client.picture()
    return client.chat(parts("image_url", content.replace(b"\xff\xc0", b"\x00\x00", 1), "image/jpeg"))


def _bomb(client: Client) -> Awaitable[int]:
    content = bytearray(image_file("PNG", 8, (0, 0, 0)))
    content[16:24] = struct.pack(">II", 60_000, 60_000)
    return client.post(
        CHAT_PATH, files={"image": ("x.png", bytes(content))}, data={"prompt": "?", "model": client.model}
    )


SCENARIOS = (
    Scenario(name="chat", send=lambda c: c.chat("Tell me about rain."), weight=3),
    Scenario(name="chat, n = 2", send=lambda c: c.chat("Tell me about rain.", n=2)),
    Scenario(name="chat, streamed", send=lambda c: c.stream("Tell me about rain."), weight=3),
    Scenario(
        name="picture", modality="image", weight=4, send=lambda c: c.chat(parts("image_url", c.picture(), "image/jpeg"))
    ),
    Scenario(
        name="picture, streamed",
        modality="image",
        weight=4,
        send=lambda c: c.stream(parts("image_url", c.picture(), "image/jpeg")),
    ),
    Scenario(name="sound", modality="audio", send=lambda c: c.chat(parts("audio_url", c.sound(), "audio/wav"))),
    Scenario(name="film", modality="video", send=lambda c: c.chat(parts("video_url", c.film(), "image/gif"))),
    Scenario(
        name="shape",
        modality="point_cloud",
        send=lambda c: c.chat(parts("point_cloud_url", c.shape(), "application/octet-stream")),
    ),
    Scenario(
        name="embedding",
        modality="image",
        send=lambda c: c.post(
            "/v1/embeddings", json={"model": c.model, "input": parts("image_url", c.picture(), "")[1:]}
        ),
    ),
    Scenario(name="file kept, used, removed", modality="image", send=upload_use_and_delete),
    Scenario(name="tokenize", send=lambda c: c.post("/tokenize", json={"model": c.model, "prompt": "rain"})),
    Scenario(name="bad JSON", send=_bad_json, allowed=(400,)),
    Scenario(name="unknown model", send=lambda c: c.chat("hi", model="nobody"), allowed=(404,)),
    Scenario(name="bad parameter", send=lambda c: c.chat("hi", temperature=9), allowed=(400,)),
    Scenario(name="picture cut short", modality="image", send=_truncated, allowed=(422,)),
    Scenario(name="picture with a false checksum", modality="image", send=_flipped_png, allowed=(422,)),
    Scenario(name="picture without its header", modality="image", send=_headless, allowed=(422,)),
    Scenario(name="picture with wrong coefficients", modality="image", send=_flipped_jpeg, allowed=(200, 422)),
    Scenario(name="pixel bomb", modality="image", send=_bomb, allowed=(422,)),
    Scenario(
        name="leaves a stream",
        weight=2,
        send=lambda c: c.stream("Rain.", leave_after=3, max_tokens=200),
        allowed=(LEFT,),
    ),
    Scenario(
        name="leaves before the first token",
        modality="image",
        allowed=(LEFT,),
        send=lambda c: leave_soon(c, parts("image_url", c.picture(), "image/jpeg")),
    ),
    Scenario(name="leaves an upload", send=leave_upload, allowed=(LEFT,)),
)


async def leave_soon(client: Client, content: object) -> int:
    """Ask, and leave after a moment that may fall into reading, decoding, encoding or generating."""
    try:
        async with asyncio.timeout(client.random.uniform(0.001, 0.3)):
            status = await client.chat(content, max_tokens=200)
    except TimeoutError:
        return LEFT
    return LEFT if status == 200 else status


def pick(scenarios: list[Scenario], chance: random.Random) -> Scenario:
    return chance.choices(scenarios, [scenario.weight for scenario in scenarios])[0]
