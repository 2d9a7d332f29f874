"""What HTTP, server-sent events and JSON cost, and how smoothly replies run while a long prompt is read.

    python -m benchmarks.serve [--quick] [--json] [--port 8189]

It starts `bindchat serve` on the loopback address and, in another process, the engine alone; 64 streams of the same
prompts take turns between them. Clients are bare sockets in this process, because they share the processor with the
server. The smoothness run has a few streams: first quiet, then while prompts of 1,500 tokens arrive one after another.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from itertools import pairwise
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from benchmarks.bare_stream import prepare, stream_frames
from benchmarks.decode import contestant, make_prompts

HOST = "127.0.0.1"
START_TIMEOUT_S = 120.0
LONG_PROMPT_TOKENS = 1500
LONG_PROMPTS = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class ServeReport:
    """The figures of one run; goals: `share_of_engine` at least 0.9, `stall_ratio` at most 3."""

    streams: int
    server_tokens_per_s: float
    engine_tokens_per_s: float
    share_of_engine: float
    smooth_streams: int
    quiet_p50_ms: float
    quiet_p99_ms: float
    admitting_p50_ms: float
    admitting_p99_ms: float
    stall_ratio: float


@contextmanager
def running_server(port: int, num_slots: int, threads: int) -> Iterator[None]:
    """Run the server in a process of its own and wait until it is ready."""
    with TemporaryDirectory() as logs:
        command = [sys.executable, "-m", "server.cli", "serve", "--port", str(port), "--log-dir", logs]
        command += ["--max-slots", str(num_slots), "--max-queue", str(num_slots), "--num-threads", str(threads)]
        command += ["--set", "reuse_prefixes=false"]  # every round reads its prompts, as the engine alone does
        process = subprocess.Popen(command, cwd=Path(__file__).parent.parent, stdout=subprocess.DEVNULL)
        try:
            _wait_until_ready(process, port)
            yield
        finally:
            process.terminate()
            process.wait()


def _wait_until_ready(process: subprocess.Popen[bytes], port: int) -> None:
    deadline_s = time.monotonic() + START_TIMEOUT_S
    while not _is_ready(port):
        if process.poll() is not None:
            raise SystemExit("the server ended early; its messages are above")
        if time.monotonic() > deadline_s:
            raise SystemExit(f"the server was not ready after {START_TIMEOUT_S:.0f} s")
        time.sleep(0.2)


def _is_ready(port: int) -> bool:
    try:
        with urllib.request.urlopen(f"http://{HOST}:{port}/ready", timeout=5) as answer:
            return bool(answer.status == 200)
    except OSError:  # not listening yet, or not ready
        return False


async def stream_times(port: int, prompt: Sequence[int], num_new: int) -> list[float]:
    """Stream one completion of token ids and return when each of its chunks with text or a finish arrived."""
    body = {
        "model": "mini",
        "prompt": list(prompt),
        "max_tokens": num_new,
        "temperature": 0,
        "ignore_eos": True,
        "stream": True,
    }
    request = prepare(f"http://{HOST}:{port}", "/v1/completions", body)
    return [came_s for came_s, _ in await stream_frames(request)]


async def crowd_rate(port: int, prompts: list[list[int]], num_new: int) -> float:
    """Return the tokens per second of all prompts at once."""
    started = time.perf_counter()
    await asyncio.gather(*(stream_times(port, prompt, num_new) for prompt in prompts))
    return len(prompts) * num_new / (time.perf_counter() - started)


async def gaps_ms(port: int, prompts: list[list[int]], num_new: int, long_prompts: list[list[int]]) -> list[float]:
    """Return the milliseconds between tokens of running streams; each long prompt comes when the one before is read.

    With long prompts, only gaps between the first arrival and the last first token count.
    """
    streams = [asyncio.create_task(stream_times(port, prompt, num_new)) for prompt in prompts]
    span = (0.0, float("inf"))
    if long_prompts:
        await asyncio.sleep(1.0)
        first = time.perf_counter()
        for prompt in long_prompts:
            await stream_times(port, prompt, 1)
        span = (first, time.perf_counter())
    found = []
    for times in await asyncio.gather(*streams):
        inside = [t for t in times if span[0] <= t <= span[1]]
        found += [(b - a) * 1e3 for a, b in pairwise(inside)]
    return found


def percentile(values: list[float], share: float) -> float:
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))]


def measure(arguments: argparse.Namespace) -> ServeReport:
    """Take turns between server and engine, then measure the gaps."""
    prompts = make_prompts(arguments.streams)
    few = make_prompts(arguments.smooth_streams)
    long = make_prompts(LONG_PROMPTS, num_tokens=LONG_PROMPT_TOKENS)
    with (
        running_server(arguments.port, arguments.streams, arguments.threads),
        contestant("engine alone", sys.executable, "ours", str(arguments.threads), "auto", "0") as engine,
    ):
        served, alone = [], []
        asyncio.run(crowd_rate(arguments.port, prompts[:2], 4))
        engine.run(prompts[:2], 4)
        for _ in range(arguments.rounds):
            served.append(asyncio.run(crowd_rate(arguments.port, prompts, arguments.tokens)))
            alone.append(engine.run(prompts, arguments.tokens))
        quiet = asyncio.run(gaps_ms(arguments.port, few, arguments.tokens, []))
        admitting = asyncio.run(gaps_ms(arguments.port, few, arguments.smooth_tokens, long))
    return ServeReport(
        streams=arguments.streams,
        server_tokens_per_s=max(served),
        engine_tokens_per_s=max(alone),
        share_of_engine=max(served) / max(alone),
        smooth_streams=arguments.smooth_streams,
        quiet_p50_ms=percentile(quiet, 0.5),
        quiet_p99_ms=percentile(quiet, 0.99),
        admitting_p50_ms=percentile(admitting, 0.5),
        admitting_p99_ms=percentile(admitting, 0.99),
        stall_ratio=percentile(admitting, 0.99) / percentile(quiet, 0.5),
    )


def print_report(report: ServeReport) -> None:
    print(f"{report.streams} streams       server {report.server_tokens_per_s:.1f} tokens/s")
    print(f"                 engine {report.engine_tokens_per_s:.1f} tokens/s")
    print(f"                 {report.share_of_engine:.1%} of the engine (goal 90 %)")
    print(f"{report.smooth_streams} streams, quiet: p50 {report.quiet_p50_ms:.1f} ms, p99 {report.quiet_p99_ms:.1f} ms")
    print(f"while {LONG_PROMPT_TOKENS:,} tokens are read: p50 {report.admitting_p50_ms:.1f} ms", end=", ")
    print(f"p99 {report.admitting_p99_ms:.1f} ms = {report.stall_ratio:.1f} x quiet p50 (goal 3 x)")


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Measure what serving costs beside the engine.")
    parser.add_argument("--quick", action="store_true", help="16 streams of 16 tokens, one round")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON in the last line")
    parser.add_argument("--port", type=int, default=8189)
    parser.add_argument("--streams", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=64, help="new tokens of each stream")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--smooth-streams", type=int, default=4, help="running streams of the smoothness run")
    parser.add_argument("--smooth-tokens", type=int, default=600, help="their new tokens while prompts are read")
    arguments = parser.parse_args()
    if arguments.quick:
        arguments.streams, arguments.tokens, arguments.rounds, arguments.smooth_tokens = 16, 16, 1, 200
    return arguments


def main() -> None:
    arguments = parse_arguments()
    report = measure(arguments)
    print_report(report)
    if arguments.json:
        print(json.dumps(_rounded(asdict(report))))


def _rounded(figures: dict[str, Any]) -> dict[str, Any]:
    return {name: round(value, 4) if isinstance(value, float) else value for name, value in figures.items()}


if __name__ == "__main__":
    main()
