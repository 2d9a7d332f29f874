"""What operators and probes ask for: health, readiness, version, metrics."""

from __future__ import annotations

import asyncio
import platform
import time
import uuid
from typing import Any

from fastapi import APIRouter, Request
from prometheus_client import CONTENT_TYPE_LATEST
from starlette.responses import Response

from core.errors import NotReady
from core.types import ChatMessage, ChatRequest, SamplingParams
from server import __version__
from server.context import context_of
from server.schemas.answers import answers
from server.schemas.state_answers import Generated, Health, Ready, Version

router = APIRouter(tags=["operations"])


@router.get("/health", **answers(Health))
async def health(request: Request) -> dict[str, Any]:
    """Answer while the process is worth keeping, also during loading.

    Raises `NotReady` when start-up failed or the engine stands still.
    """
    context = context_of(request)
    pipeline_health = context.health()
    if context.load_error is not None or (pipeline_health is not None and not pipeline_health.live):
        raise NotReady("the engine does not make progress; restart the server")
    return {"status": "loading" if pipeline_health is None else "ok"}


@router.get("/ready", **answers(Ready))
async def ready(request: Request) -> dict[str, Any]:
    """Answer once requests are taken, with the load at this moment.

    Raises `NotReady` before that and while draining.
    """
    pipeline_health = context_of(request).service().pipeline.health()
    if not pipeline_health.ready:
        raise NotReady("the engine is starting or stopping; try again in a moment")
    return {
        "status": "ready",
        "slots_in_use": pipeline_health.slots_in_use,
        "slots_total": pipeline_health.slots_total,
        "queue_length": pipeline_health.queue_length,
        "requests_in_flight": pipeline_health.requests_in_flight,
    }


@router.get("/health/generate", **answers(Generated))
async def health_generate(request: Request) -> dict[str, Any]:
    """Make one real token with the model, through queue and step loop.

    Raises `NotReady` when none came within `first_event_wait_s`, and whatever a chat would be refused with.
    """
    context = context_of(request)
    pipeline = context.service().pipeline
    probe = ChatRequest(
        request_id=f"probe-{uuid.uuid4().hex}",
        model=pipeline.describe()[0].name,
        messages=(ChatMessage(role="user", text="Hello"),),
        sampling=SamplingParams(max_tokens=1, temperature=0),
    )
    started_s, wait_s = time.perf_counter(), context.settings.first_event_wait_s
    stream = context.open_stream(pipeline.stream(probe), lambda: None)
    try:
        async with asyncio.timeout(wait_s):
            while await stream.next_event() is not None:
                continue
    except TimeoutError:
        raise NotReady(f"the model made no token within {wait_s:g} s; it is overloaded or stands still") from None
    finally:
        await stream.aclose()
    return {"status": "ok", "generate_ms": round((time.perf_counter() - started_s) * 1000, 3)}


@router.get("/version", **answers(Version))
async def version() -> dict[str, str]:
    """Return the server's version."""
    return {"version": __version__, "python": platform.python_version()}


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(request: Request) -> Response:
    """Return Prometheus metrics."""
    return Response(context_of(request).metrics.exposition(), media_type=CONTENT_TYPE_LATEST)
