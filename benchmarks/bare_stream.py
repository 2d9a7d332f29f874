"""Streamed requests over bare sockets: clients that share the processor with the server must cost next to nothing."""

from __future__ import annotations

import asyncio
import json
import time
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

STREAM_LIMIT_BYTES = 1 << 20
_DATA = b"data: {"


@dataclass(frozen=True, slots=True)
class BareRequest:
    """Where to connect, and all bytes to send there."""

    host: str
    port: int
    content: bytes


def prepare(url: str, path: str, body: dict[str, Any]) -> BareRequest:
    """Return a POST of a JSON body, ready before any clock runs. Raises `SystemExit` for anything but plain http."""
    parts = urlsplit(url)
    if parts.scheme != "http" or parts.hostname is None:
        raise SystemExit(f"{url!r} is not an http address; name the server as in http://127.0.0.1:8000")
    content = json.dumps(body).encode()
    head = f"POST {path} HTTP/1.1\r\nHost: {parts.netloc}\r\nContent-Type: application/json\r\n"
    head += f"Content-Length: {len(content)}\r\nConnection: close\r\n\r\n"
    return BareRequest(parts.hostname, parts.port or 80, head.encode() + content)


async def stream_frames(request: BareRequest) -> list[tuple[float, bytes]]:
    """Return each frame of a streamed answer, undecoded, with the second when it came.

    Raises `SystemExit` with the server's words when it refuses.
    """
    reader, writer = await asyncio.open_connection(request.host, request.port, limit=STREAM_LIMIT_BYTES)
    writer.write(request.content)
    frames = []
    try:
        status = await reader.readline()
        if b" 200 " not in status:
            raise SystemExit(f"the server answered {status!r}: {(await reader.read()).decode()[-500:]}")
        async for line in reader:
            if line.startswith(_DATA):
                frames.append((time.perf_counter(), line[len(_DATA) - 1 :]))
    finally:
        writer.close()
    return frames
