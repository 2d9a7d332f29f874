"""Load a running Ray application, kill a replica under it if asked, and count what became of each request.

    python -m benchmarks.scale_load --url http://127.0.0.1:8250 --kill Decoders --kill-after 10

Every client asks one question after the other. Requests begin until `--seconds` are over and are then waited for. After
a refusal (429) a client waits a tenth of a second; refusals are counted. `core_ms_per_request` are the milliseconds of
one core that each part took for a completed request, its worker processes counted in: unlike rates they can be compared
on a shared machine. They are left out when a replica is killed.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import signal
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import asdict, dataclass, field
from pathlib import Path
from random import Random
from typing import Any

import httpx

from benchmarks.chat_client import CHAT_PATH, REQUEST_TIMEOUT_S, picture_message, stream

PROCESS_TITLE = "ray::ServeReplica:bindchat:"
PARTS = {
    "ingress": (f"{PROCESS_TITLE}Ingress", "ray::ProxyActor"),
    "encoders": (f"{PROCESS_TITLE}Encoders",),
    "decoders": (f"{PROCESS_TITLE}Decoders",),
}
WORDS = ("river", "seven", "table", "green", "walk", "under", "music", "paper", "early", "stone", "bright", "cloud")
CLOCK_TICKS_PER_S = os.sysconf("SC_CLK_TCK")
REFUSED = 429


@dataclass(slots=True)
class Tally:
    """What became of the requests: counts by outcome, tokens, and times of those that ended well."""

    outcomes: Counter[str] = field(default_factory=Counter)
    num_tokens: int = 0
    num_prompt_tokens: int = 0
    ttft_s: list[float] = field(default_factory=list)
    total_s: list[float] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Load:
    """What the clients of one run share; `until_s` is on the clock of `time.perf_counter`."""

    tally: Tally
    picture: bytes | None
    until_s: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LoadReport:
    """The figures of one run."""

    clients: int
    seconds: float
    requests_per_s: float
    tokens_per_s: float
    prompt_tokens_per_request: float
    tokens_per_request: float
    ttft_p50_ms: float
    ttft_p95_ms: float
    total_p50_ms: float
    outcomes: dict[str, int]
    killed_after_s: float | None
    core_ms_per_request: dict[str, float]


async def run_load(chosen: argparse.Namespace) -> LoadReport:
    """Load the server and return the figures."""
    picture = None if chosen.picture is None else chosen.picture.read_bytes()
    tally, started_s = Tally(), time.perf_counter()
    limits = httpx.Limits(max_connections=None)
    async with httpx.AsyncClient(base_url=chosen.url, timeout=REQUEST_TIMEOUT_S, limits=limits) as client:
        busy_s = core_seconds()
        killing = asyncio.create_task(_kill_later(chosen.kill, chosen.kill_after, started_s))
        load = Load(tally, picture, started_s + chosen.seconds)
        await asyncio.gather(*(_client(client, number, chosen, load) for number in range(chosen.clients)))
        killed_after_s = await killing
        used_s = {} if chosen.kill else {part: now_s - busy_s[part] for part, now_s in core_seconds().items()}
    elapsed_s = time.perf_counter() - started_s
    return LoadReport(
        clients=chosen.clients,
        seconds=round(elapsed_s, 1),
        requests_per_s=round(len(tally.total_s) / elapsed_s, 2),
        tokens_per_s=round(tally.num_tokens / elapsed_s, 1),
        prompt_tokens_per_request=round(tally.num_prompt_tokens / max(1, len(tally.total_s)), 1),
        tokens_per_request=round(tally.num_tokens / max(1, len(tally.total_s)), 1),
        ttft_p50_ms=_percentile_ms(tally.ttft_s, 0.5),
        ttft_p95_ms=_percentile_ms(tally.ttft_s, 0.95),
        total_p50_ms=_percentile_ms(tally.total_s, 0.5),
        outcomes=dict(sorted(tally.outcomes.items())),
        killed_after_s=killed_after_s,
        core_ms_per_request=_each_ms(used_s, len(tally.total_s)),
    )


async def _client(client: httpx.AsyncClient, number: int, chosen: argparse.Namespace, load: Load) -> None:
    turn = 0
    while time.perf_counter() < load.until_s:
        turn += 1
        message = picture_message(_question(chosen, number, turn), _picture(chosen, load.picture, f"{number}.{turn}"))
        body = {"model": chosen.model, "messages": [message], "max_tokens": chosen.max_tokens}
        is_streamed = chosen.replies == "streamed" or (chosen.replies == "mixed" and turn % 2 == 0)
        outcome = await _outcome(client, body, is_streamed, load.tally)
        load.tally.outcomes[f"{'streamed' if is_streamed else 'whole'}: {outcome}"] += 1


def _question(chosen: argparse.Namespace, number: int, turn: int) -> str:
    """Return the question, or one of its own for every request: that many words, drawn from the numbers."""
    if not chosen.prompt_words:
        return str(chosen.question)
    random = Random(f"{number}.{turn}")
    return " ".join(random.choice(WORDS) for _ in range(chosen.prompt_words))


def _picture(chosen: argparse.Namespace, picture: bytes | None, comment: str) -> bytes | None:
    """Return the JPEG, with a comment that no other has where every picture must be a new one."""
    if picture is None or not chosen.new_pictures:
        return picture
    text = f"{comment} {time.time_ns()}".encode()
    return picture[:2] + b"\xff\xfe" + (len(text) + 2).to_bytes(2, "big") + text + picture[2:]


async def _outcome(client: httpx.AsyncClient, body: dict[str, Any], is_streamed: bool, tally: Tally) -> str:
    """Ask once and say how it ended."""
    started_s = time.perf_counter()
    try:
        if is_streamed:
            timing = await stream(client, body)
            tally.ttft_s.append(timing.ttft_s)
            tally.num_tokens += timing.completion_tokens
            tally.num_prompt_tokens += timing.prompt_tokens
        else:
            answer = await client.post(CHAT_PATH, json=body)
            answer.raise_for_status()
            tally.num_tokens += answer.json()["usage"]["completion_tokens"]
            tally.num_prompt_tokens += answer.json()["usage"]["prompt_tokens"]
    except httpx.HTTPStatusError as error:
        if error.response.status_code == REFUSED:
            await asyncio.sleep(0.1)
        return f"status {error.response.status_code}"
    except RuntimeError:  # an error frame after the stream had begun
        return "ended by an error event"
    except httpx.TransportError as error:
        return f"connection lost ({type(error).__name__})"
    tally.total_s.append(time.perf_counter() - started_s)
    return "complete"


async def _kill_later(deployment: str | None, after_s: float, started_s: float) -> float | None:
    """Kill one replica of a deployment on this machine, and return when."""
    if deployment is None:
        return None
    await asyncio.sleep(after_s)
    pid = replica_processes(deployment)[0]
    os.kill(pid, signal.SIGKILL)
    print(f"killed {deployment} replica, process {pid}")
    return round(time.perf_counter() - started_s, 1)


def replica_processes(deployment: str) -> list[int]:
    """Return the replicas of a deployment on this machine. Raises `SystemExit` when there are none."""
    found = sorted(pid for pid, process in processes().items() if process.title.startswith(PROCESS_TITLE + deployment))
    if not found:
        raise SystemExit(f"no process of {deployment} runs here; is the application up?")
    return found


@dataclass(frozen=True, slots=True)
class Process:
    """A running process: its parent, its title, and the seconds of a core that it and its ended children took."""

    parent: int
    title: str
    busy_s: float


def processes() -> dict[int, Process]:
    """Return the processes of this machine."""
    found = {}
    for folder in Path("/proc").iterdir():
        if folder.name.isdigit():
            with suppress(FileNotFoundError, ProcessLookupError):  # it has just ended
                fields = (folder / "stat").read_text().rpartition(")")[2].split()
                title = (folder / "cmdline").read_text(errors="replace").replace("\0", " ")
                busy_s = sum(map(int, fields[11:15])) / CLOCK_TICKS_PER_S
                found[int(folder.name)] = Process(int(fields[1]), title, busy_s)
    return found


def core_seconds() -> dict[str, float]:
    """Return what the processes of each part, and those below them, have taken so far."""
    running = processes()

    def titles(pid: int) -> list[str]:
        """Return the titles of a process and of those above it."""
        found = []
        while pid in running:
            found.append(running[pid].title)
            pid = running[pid].parent
        return found

    return {
        part: sum(p.busy_s for pid, p in running.items() if any(title.startswith(begin) for title in titles(pid)))
        for part, begin in PARTS.items()
    }


def _each_ms(seconds: Mapping[str, float], number: int) -> dict[str, float]:
    return {part: round(value / number * 1000, 2) for part, value in seconds.items()} if number else {}


def _percentile_ms(seconds: Sequence[float], share: float) -> float:
    if not seconds:
        return 0.0
    return round(sorted(seconds)[min(len(seconds) - 1, int(share * len(seconds)))] * 1000, 1)


def main() -> None:
    parser = argparse.ArgumentParser(description="Load a Ray application and count what became of each request.")
    parser.add_argument("--url", required=True)
    parser.add_argument("--model", default="mini")
    parser.add_argument("--clients", type=int, default=8)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--question", default="What is this?")
    parser.add_argument("--picture", type=Path)
    parser.add_argument("--max-tokens", type=int, default=32)
    parser.add_argument("--prompt-words", type=int, default=0, help="words of a question that every request has alone")
    parser.add_argument("--new-pictures", action="store_true", help="no picture is known; a JPEG")
    parser.add_argument("--replies", choices=["streamed", "whole", "mixed"], default="streamed")
    parser.add_argument("--kill", choices=["Decoders", "Encoders", "Ingress"], help="kill one replica of these")
    parser.add_argument("--kill-after", type=float, default=10, help="seconds")
    report = asyncio.run(run_load(parser.parse_args()))
    print(json.dumps(asdict(report), indent=2))


if __name__ == "__main__":
    main()
