"""Measure a running server: time to first token, decode speed, and 32 image chats at once.

    python -m benchmarks.latency --url http://127.0.0.1:8000 [--image photo.jpg] [--result out.json]

Every request carries a picture that was never sent before (one pixel differs), so no memo of embeddings helps. Decode
speed is measured with `ignore_eos` and a fixed number of tokens; the natural short answer is reported beside it. The
clients are bare sockets, because they share the processor with the server, and read their frames when all is over. The
memory-bandwidth limit is the read bandwidth measured here, in this process, over the bytes of weights that one decode
step reads.
"""

from __future__ import annotations

import argparse
import asyncio
import io
import json
import os
import platform
import secrets
import statistics
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw
from rich.progress import track

from benchmarks.bare_stream import BareRequest, prepare, stream_frames
from benchmarks.chat_client import CHAT_PATH, StreamTiming, checked, picture_message, streamed, timing_of

QUESTION = "What is this?"
PICTURE_SIZE = (500, 375)
# SmolLM2-135M in bfloat16: 134,515,008 parameters, the tied embedding read once, as the output layer.
MINI_STEP_BYTES = 269_030_016


@dataclass(frozen=True, slots=True, kw_only=True)
class Machine:
    """Where the numbers come from."""

    cpu_model: str
    cores: int
    read_bandwidth_bytes_per_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyReport:
    """All figures of one run; rates are completion tokens per second."""

    machine: Machine
    ttft_median_s: float
    ttft_max_s: float
    decode_tokens_per_s: float
    end_to_end_tokens_per_s: float
    bandwidth_limit_tokens_per_s: float
    natural_answer: str
    natural_answer_median_s: float
    concurrent_chats: int
    concurrent_tokens_per_s: float
    concurrent_ttft_median_s: float
    ratio_to_single_decode: float
    ratio_to_single_end_to_end: float


def draw_picture() -> Image.Image:
    """Return a 500 x 375 picture with some texture, so that its JPEG is of a common size."""
    noise = np.random.default_rng(0).integers(90, 160, size=(PICTURE_SIZE[1], PICTURE_SIZE[0], 3), dtype=np.uint8)
    picture = Image.fromarray(noise)
    ImageDraw.Draw(picture).ellipse((150, 90, 350, 290), fill=(230, 120, 20))
    return picture


def distinct_pictures(path: Path | None) -> Iterator[bytes]:
    """Yield JPEGs of the picture at 500 x 375, each with other bytes than those before."""
    picture = draw_picture() if path is None else Image.open(path).convert("RGB").resize(PICTURE_SIZE)
    first = secrets.randbelow(1 << 24)  # another run against the same server must not meet its memo
    for number in (n % (1 << 24) for n in range(first, first + (1 << 24))):
        picture.putpixel((0, 0), (number & 255, (number >> 8) & 255, number >> 16))
        buffer = io.BytesIO()
        picture.save(buffer, format="JPEG", quality=90, comment=str(number).encode())
        yield buffer.getvalue()


def read_bandwidth(num_threads: int, num_bytes: int = 512 << 20, repeats: int = 5) -> float:
    """Return the best bytes per second that `num_threads` threads read from memory together."""
    parts = np.array_split(np.ones(num_bytes // 4, dtype=np.float32), num_threads)
    best = 0.0
    with ThreadPoolExecutor(num_threads) as pool:
        for _ in range(repeats):
            started = time.perf_counter()
            list(pool.map(lambda part: float(np.dot(part, part)), parts))
            best = max(best, num_bytes / (time.perf_counter() - started))
    return best


def cpu_model() -> str:
    """Return the processor's own name, or the platform's word for it."""
    listing = Path("/proc/cpuinfo")
    if listing.exists():
        for line in listing.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


async def timed(request: BareRequest) -> StreamTiming:
    """Stream one answer and time it; its frames are read when it is over."""
    started = time.perf_counter()
    frames = await stream_frames(request)
    return timing_of(started, [(came_s, checked(json.loads(line))) for came_s, line in frames])


class LatencyRun:
    """One benchmark against one server; every request takes the next distinct picture."""

    def __init__(self, arguments: argparse.Namespace) -> None:
        self._arguments = arguments
        self._pictures = distinct_pictures(arguments.image)

    def request(self, *, fixed_length: bool) -> BareRequest:
        """Return a picture chat, either of exactly `--tokens` tokens or as long as the model likes."""
        body: dict[str, Any] = {
            "model": self._arguments.model,
            "messages": [picture_message(QUESTION, next(self._pictures))],
            "temperature": 0,
            "max_completion_tokens": self._arguments.tokens,
        }
        return prepare(self._arguments.url, CHAT_PATH, streamed(body | {"ignore_eos": fixed_length}))

    async def alone(self, *, repeats: int, fixed_length: bool, label: str) -> list[StreamTiming]:
        """Return the timings of chats that run one after another."""
        requests = [self.request(fixed_length=fixed_length) for _ in range(repeats)]
        return [await timed(request) for request in track(requests, label)]

    async def together(self) -> tuple[float, list[StreamTiming]]:
        """Return the seconds that `--concurrency` chats take together, and their timings."""
        requests = [self.request(fixed_length=True) for _ in range(self._arguments.concurrency)]
        timings = await asyncio.gather(*map(timed, requests))
        return max(timing.total_s for timing in timings), timings


async def measure(arguments: argparse.Namespace, machine: Machine) -> LatencyReport:
    """Run every case in turn against the server and return the figures."""
    run = LatencyRun(arguments)
    await run.alone(repeats=arguments.warm_up, fixed_length=True, label="warm-up")
    natural = await run.alone(repeats=arguments.repeats, fixed_length=False, label="natural answers")
    single = await run.alone(repeats=arguments.repeats, fixed_length=True, label="single stream")
    wall_s, crowd = await run.together()
    ttfts_s = [timing.ttft_s for timing in (*natural, *single)]
    decode = statistics.median(timing.decode_tokens_per_s for timing in single)
    end_to_end = statistics.median(timing.completion_tokens / timing.total_s for timing in single)
    together = sum(timing.completion_tokens for timing in crowd) / wall_s
    return LatencyReport(
        machine=machine,
        ttft_median_s=statistics.median(ttfts_s),
        ttft_max_s=max(ttfts_s),
        decode_tokens_per_s=decode,
        end_to_end_tokens_per_s=end_to_end,
        bandwidth_limit_tokens_per_s=machine.read_bandwidth_bytes_per_s / arguments.step_bytes,
        natural_answer=natural[-1].text,
        natural_answer_median_s=statistics.median(timing.total_s for timing in natural),
        concurrent_chats=len(crowd),
        concurrent_tokens_per_s=together,
        concurrent_ttft_median_s=statistics.median(timing.ttft_s for timing in crowd),
        ratio_to_single_decode=together / decode,
        ratio_to_single_end_to_end=together / end_to_end,
    )


def print_report(report: LatencyReport, arguments: argparse.Namespace) -> None:
    """Print the figures for a person."""
    machine = report.machine
    bandwidth = machine.read_bandwidth_bytes_per_s / 1e9
    limit = report.bandwidth_limit_tokens_per_s
    size = f"{PICTURE_SIZE[0]}x{PICTURE_SIZE[1]} JPEG"
    print(f"machine            {machine.cores} cores, {machine.cpu_model}, reads {bandwidth:.1f} GB/s")
    print(f"first token        {report.ttft_median_s:.3f} s median, {report.ttft_max_s:.3f} s worst, {size}")
    print(f"natural answer     {report.natural_answer_median_s:.3f} s median: {report.natural_answer!r}")
    print(f"single stream      {report.decode_tokens_per_s:.1f} tokens/s decode ({arguments.tokens} tokens)")
    print(f"                   {report.end_to_end_tokens_per_s:.1f} tokens/s with the first token's wait counted in")
    print(f"bandwidth limit    {limit:.1f} tokens/s at {arguments.step_bytes / 1e6:.0f} MB of weights a step")
    print(f"{report.concurrent_chats} chats at once   {report.concurrent_tokens_per_s:.1f} tokens/s in total")
    print(f"                   {report.ratio_to_single_decode:.1f} x single-stream decode")
    print(f"                   {report.ratio_to_single_end_to_end:.1f} x single stream, waits counted in")
    print(f"                   first token {report.concurrent_ttft_median_s:.3f} s median")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure latency and throughput of a running server.")
    parser.add_argument("--url", default="http://127.0.0.1:8000")
    parser.add_argument("--model", default="mini")
    parser.add_argument("--image", type=Path, help="a photo, resized to 500 x 375; drawn when absent")
    parser.add_argument("--tokens", type=int, default=64, help="completion tokens of each timed chat")
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--warm-up", type=int, default=2)
    parser.add_argument("--concurrency", type=int, default=32)
    parser.add_argument("--step-bytes", type=int, default=MINI_STEP_BYTES, help="bytes of weights read by one step")
    parser.add_argument("--result", type=Path, help="write the figures here as JSON")
    return parser.parse_args()


def main() -> None:
    arguments = parse_arguments()
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    machine = Machine(cpu_model=cpu_model(), cores=cores, read_bandwidth_bytes_per_s=read_bandwidth(cores))
    report = asyncio.run(measure(arguments, machine))
    print_report(report, arguments)
    if arguments.result:
        arguments.result.write_text(json.dumps(asdict(report), indent=1))


if __name__ == "__main__":
    main()
