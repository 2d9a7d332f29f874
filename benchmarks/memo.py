"""Measure what the memo of embeddings saves: time to first token of a chat with a film, new and sent again.

    bindchat serve --port 8000
    python -m benchmarks.memo --url http://127.0.0.1:8000 [--seconds 10] [--pairs 15] [--result out.json]

The film is 10 s of 320 x 240 H.264 made here; each pair sends one that was never sent before (its first frame differs),
then the same bytes again. `X-BindChat-Memo` must say miss, then hit, or the run stops. `--picture` measures a large
photograph instead.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import io
import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import httpx
import numpy as np
from PIL import Image
from rich.progress import track

from benchmarks.chat_client import CHAT_PATH, REQUEST_TIMEOUT_S

FILM_SIZE, FRAMES_PER_S = (320, 240), 25
PICTURE_SIZE = (4000, 3000)
MEMO_HEADER = "x-bindchat-memo"


@dataclass(frozen=True, slots=True, kw_only=True)
class MemoReport:
    """Medians over all pairs, in milliseconds, and how the pairs differ."""

    medium: str
    medium_bytes: int
    pairs: int
    miss_ms: float
    hit_ms: float
    times_faster: float


def film(number: int, seconds: float) -> bytes:
    """Return an mp4 of a square that moves over noise; `number` changes its first frame and so its digest."""
    file = io.BytesIO()
    rng = np.random.default_rng(number)
    noise = rng.integers(60, 120, (FILM_SIZE[1], FILM_SIZE[0], 3), dtype=np.uint8)
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("h264", rate=FRAMES_PER_S)
        stream.width, stream.height, stream.pix_fmt = *FILM_SIZE, "yuv420p"
        stream.time_base = Fraction(1, FRAMES_PER_S)
        for place in range(round(seconds * FRAMES_PER_S)):
            pixels = noise.copy()
            left = place % (FILM_SIZE[0] - 60)
            pixels[90:150, left : left + 60] = (230, 120, 20)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(pixels)))
        container.mux(stream.encode())
    return file.getvalue()


def photograph(number: int) -> bytes:
    """Return a JPEG of twelve megapixels whose bytes no other number has."""
    noise = np.random.default_rng(number).integers(60, 190, (PICTURE_SIZE[1] // 8, PICTURE_SIZE[0] // 8, 3), np.uint8)
    file = io.BytesIO()
    Image.fromarray(noise).resize(PICTURE_SIZE).save(file, "JPEG", quality=85)
    return file.getvalue()


def body_of(model: str, kind: str, content: bytes) -> dict[str, Any]:
    """Return a streamed chat of a few greedy tokens about one medium."""
    media_type = {"video_url": "video/mp4", "image_url": "image/jpeg"}[kind]
    url = f"data:{media_type};base64,{base64.b64encode(content).decode('ascii')}"
    parts = [{"type": kind, kind: {"url": url}}, {"type": "text", "text": "What is this?"}]
    message = {"role": "user", "content": parts}
    return {"model": model, "messages": [message], "temperature": 0, "max_completion_tokens": 4, "stream": True}


async def first_token_ms(client: httpx.AsyncClient, body: bytes, expected: str) -> float:
    """Return the milliseconds from the request to its first text. Raises `SystemExit` unless the memo does as told."""
    started = time.perf_counter()
    headers = {"content-type": "application/json"}
    async with client.stream("POST", CHAT_PATH, content=body, headers=headers) as answer:
        if answer.status_code != 200 or answer.headers.get(MEMO_HEADER) != expected:
            text = (await answer.aread()).decode(errors="replace")[:300]
            raise SystemExit(f"{answer.status_code}, memo {answer.headers.get(MEMO_HEADER)}, not {expected}: {text}")
        async for line in answer.aiter_lines():
            if line.startswith("data: {") and json.loads(line.removeprefix("data: "))["choices"][0]["delta"].get(
                "content"
            ):
                return 1000 * (time.perf_counter() - started)
    raise SystemExit("the reply had no text")


async def measure(arguments: argparse.Namespace) -> MemoReport:
    """Ask in pairs, new and known, one after another."""
    make: Callable[[int], bytes] = photograph if arguments.picture else lambda number: film(number, arguments.seconds)
    kind = "image_url" if arguments.picture else "video_url"
    first_number = time.time_ns() >> 10  # a server that has seen an earlier run knows its films
    times: dict[str, list[float]] = {"miss": [], "hit": []}
    num_bytes = 0
    async with httpx.AsyncClient(base_url=arguments.url, timeout=httpx.Timeout(REQUEST_TIMEOUT_S)) as client:
        for pair in track(range(arguments.pairs + 1), "pairs"):
            content = make(first_number + pair)
            num_bytes = len(content)
            body = json.dumps(body_of(arguments.model, kind, content)).encode()
            for expected, found in times.items():
                found.append(await first_token_ms(client, body, expected))
    miss_ms, hit_ms = (statistics.median(found[1:]) for found in times.values())  # the first pair warms the server up
    medium = f"{PICTURE_SIZE[0]} x {PICTURE_SIZE[1]} JPEG" if arguments.picture else f"{arguments.seconds:g} s mp4"
    return MemoReport(
        medium=medium,
        medium_bytes=num_bytes,
        pairs=arguments.pairs,
        miss_ms=miss_ms,
        hit_ms=hit_ms,
        times_faster=miss_ms / hit_ms,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure what the memo of embeddings saves.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--seconds", type=float, default=10)
    parser.add_argument("--pairs", type=int, default=15)
    parser.add_argument("--picture", action="store_true", help="a photograph of twelve megapixels instead of a film")
    parser.add_argument("--result", type=Path, help="write the figures here as JSON")
    arguments = parser.parse_args()
    report = asyncio.run(measure(arguments))
    print(f"{report.medium}, {report.medium_bytes / 1e3:.0f} kB, {report.pairs} pairs")
    print(f"first token, new        {report.miss_ms:8.1f} ms")
    print(f"first token, sent again {report.hit_ms:8.1f} ms   {report.times_faster:.1f} times faster")
    if arguments.result:
        arguments.result.write_text(json.dumps(asdict(report), indent=1), encoding="utf-8")


if __name__ == "__main__":
    main()
