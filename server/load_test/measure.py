"""Send a plan's requests and write down when each token came."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import httpx

from server.load_test.traffic import ChatMaker, TrafficPlan

PATH = "/chat/completions"


@dataclass(slots=True, kw_only=True)
class Measurement:
    """One request; times are seconds, `due_s` and `sent_s` from the start of the test, the others from when it was due.

    A request that waited for a place in flight was due before it was sent: what its user would have waited counts.
    """

    kind: str
    due_s: float
    sent_s: float = 0.0
    first_token_s: float | None = None
    total_s: float = 0.0
    gaps_s: list[float] = field(default_factory=list)  # between two pieces of the reply
    num_tokens: int = 0
    num_prompt_tokens: int = 0
    error: str | None = None  # a status with a code, or what became of the connection


async def run_load(
    client: httpx.AsyncClient, plan: TrafficPlan, maker: ChatMaker, on_done: Callable[[Measurement], None]
) -> list[Measurement]:
    """Send every request at its time and return all measurements in the order they were due.

    Cancelling the call closes what is open.
    """
    places = asyncio.Semaphore(plan.max_in_flight)
    started_s = time.perf_counter()

    async def one(number: int, kind: str, due_s: float) -> Measurement:
        await asyncio.sleep(max(0.0, due_s - (time.perf_counter() - started_s)))
        body = maker.body(kind, number)
        measured = Measurement(kind=kind, due_s=due_s)
        async with places:
            measured.sent_s = time.perf_counter() - started_s
            if plan.rate_per_s is None:
                measured.due_s = measured.sent_s  # nobody was waiting for it
            await _ask(client, body, measured, started_s)
        on_done(measured)
        return measured

    async with asyncio.TaskGroup() as group:
        numbered = enumerate(zip(plan.kinds(), plan.arrivals_s(), strict=True))
        tasks = [group.create_task(one(number, kind, due_s)) for number, (kind, due_s) in numbered]
    return [task.result() for task in tasks]


async def _ask(client: httpx.AsyncClient, body: dict[str, Any], measured: Measurement, started_s: float) -> None:
    """Stream one reply into its measurement."""

    def since_due_s() -> float:
        return time.perf_counter() - started_s - measured.due_s

    try:
        async with client.stream("POST", PATH, json=body) as answer:
            if answer.status_code != 200:
                measured.error = f"{answer.status_code} {_code(await answer.aread())}"
            else:
                await _read_stream(answer, measured, since_due_s)
    except httpx.HTTPError as error:
        measured.error = type(error).__name__
    measured.total_s = since_due_s()
    if measured.error is None and measured.first_token_s is None:
        measured.first_token_s = measured.total_s  # the reply was empty


async def _read_stream(answer: httpx.Response, measured: Measurement, since_due_s: Callable[[], float]) -> None:
    last_s, is_over, num_pieces = 0.0, False, 0
    async for line in answer.aiter_lines():
        if not line.startswith("data:"):
            continue
        payload = line.removeprefix("data:").strip()
        if payload == "[DONE]":
            is_over = True
            continue
        chunk = json.loads(payload)
        if "error" in chunk:
            measured.error = f"in the stream: {chunk['error'].get('code') or chunk['error'].get('message')}"
            return
        if usage := chunk.get("usage"):
            measured.num_tokens, measured.num_prompt_tokens = usage["completion_tokens"], usage["prompt_tokens"]
        if not any(choice["delta"].get("content") for choice in chunk.get("choices", ())):
            continue
        now_s, num_pieces = since_due_s(), num_pieces + 1
        if measured.first_token_s is None:
            measured.first_token_s = now_s
        else:
            measured.gaps_s.append(now_s - last_s)
        last_s = now_s
    measured.num_tokens = measured.num_tokens or num_pieces
    if not is_over:
        measured.error = "the stream ended without [DONE]"


def _code(body: bytes) -> str:
    """Return the code of an error body, or how it begins."""
    try:
        error = json.loads(body)["error"]
        return str(error.get("code") or error.get("type") or error.get("message"))[:80]
    except (ValueError, LookupError, TypeError, AttributeError):
        return body[:80].decode("utf-8", "replace")
