"""`/v1/batches`: many requests from a file, answered beside the live ones into a file."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Annotated, Any

from fastapi import APIRouter, Query, Request

from core.errors import InvalidRequest, UnknownName
from server.batch_runs import ACTIVE, KIND, BatchRunner, batch_files
from server.context import context_of
from server.schemas.answers import Page, answers
from server.schemas.batch import BatchBody, batch_object, parse_batch_body
from server.schemas.bodies import described_body, read_json_only
from server.schemas.state_answers import BatchObject
from server.trace import trace_of

router = APIRouter(tags=["batches"])
ITEM = "/v1/batches/{batch_id}"


@router.post("/v1/batches", openapi_extra=described_body("/v1/batches", BatchBody), **answers(BatchObject))
async def create_batch(request: Request) -> dict[str, Any]:
    """Start a batch over a file that was uploaded with purpose batch."""
    context, owner = context_of(request), trace_of(request).owner
    service = context.service()
    files, _ = batch_files(service)
    body = parse_batch_body(await read_json_only(request, context.body_limits(service)))
    try:
        stored = await asyncio.to_thread(files.get, owner, body.input_file_id)
    except UnknownName as error:
        error.param = "input_file_id"
        raise
    if stored.purpose != "batch":
        raise InvalidRequest(
            f"the file's purpose is {stored.purpose}; upload it with purpose batch", param="input_file_id"
        )
    batch = batch_object(body, f"batch_{uuid.uuid4().hex}", int(time.time()))
    if body.output_expires_after is not None:
        batch["output_keep_s"] = body.output_expires_after.seconds
    await asyncio.to_thread(service.documents.put, KIND, owner, batch)
    created = _shown(batch)
    _runner(request).start(owner, batch)
    return created


@router.get("/v1/batches", **answers(Page[BatchObject]))
async def list_batches(
    request: Request, after: str | None = None, limit: Annotated[int, Query(ge=1, le=100)] = 20
) -> dict[str, Any]:
    """List the client's batches, the latest first."""
    service, owner = context_of(request).service(), trace_of(request).owner
    found = await asyncio.to_thread(service.documents.page, KIND, owner, after=after, limit=limit + 1, descending=True)
    page = [_shown(_runner(request).live.get(batch["id"], batch)) for batch in found[:limit]]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": len(found) > limit,
    }


@router.get(ITEM, **answers(BatchObject))
async def retrieve_batch(request: Request, batch_id: str) -> dict[str, Any]:
    """Describe a batch, with how many of its lines are answered."""
    return _shown(await _batch(request, batch_id))


@router.post(f"{ITEM}/cancel", **answers(BatchObject))
async def cancel_batch(request: Request, batch_id: str) -> dict[str, Any]:
    """Stop a batch: lines being answered are finished, the others end as cancelled. One that has ended stays."""
    batch = await _batch(request, batch_id)
    if batch["status"] in ACTIVE and batch["status"] != "finalizing":
        batch.update(status="cancelling", cancelling_at=batch["cancelling_at"] or int(time.time()))
        documents = context_of(request).service().documents
        await asyncio.to_thread(documents.put, KIND, trace_of(request).owner, dict(batch))
    return _shown(batch)


def _runner(request: Request) -> BatchRunner:
    runner: BatchRunner = request.app.state.batches
    return runner


async def _batch(request: Request, batch_id: str) -> dict[str, Any]:
    """Return the live object of a running batch, else the stored one. Raises `UnknownName`."""
    documents = context_of(request).service().documents
    stored = await asyncio.to_thread(documents.get, KIND, trace_of(request).owner, batch_id)
    return _runner(request).live.get(batch_id, stored)


def _shown(batch: dict[str, Any]) -> dict[str, Any]:
    shown = {name: value for name, value in batch.items() if name != "output_keep_s"}
    return {**shown, "request_counts": dict(batch["request_counts"])}
