"""`/v1/cache`: search the indexes of the visual cache with anything the model embeds, and change what they hold."""

from __future__ import annotations

import asyncio
import base64
import binascii
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
from fastapi import APIRouter, Query, Request

from core.errors import InvalidRequest, UnknownName
from core.types import FloatArray
from server.choice_stream import unless_disconnected
from server.context import AppContext, Service, context_of
from server.forms import UploadedFile, split_fields
from server.guards import require_admin
from server.joint_inputs import JointInputs
from server.media_reports import item_fields, neighbour_object
from server.schemas.answers import answers
from server.schemas.bodies import described_body
from server.schemas.cache import (
    CacheItemsBody,
    CacheSearchBody,
    Embeddable,
    ItemFields,
    parse_form,
    parse_items,
    parse_search,
)
from server.schemas.state_answers import (
    AddedItems,
    CacheFacts,
    ItemDeletion,
    ItemDeletions,
    ItemPage,
    NearItems,
    ReloadedIndexes,
)
from server.trace import RequestTrace, trace_of
from server.uploads import body_kind, read_json, read_multipart

if TYPE_CHECKING:
    from engine.encoding.caches import ItemMetadata, VisualCaches

router = APIRouter(tags=["cache"])

IndexName = Annotated[str | None, Query(min_length=1, max_length=100)]


@router.post(
    "/v1/cache/search", openapi_extra=described_body("/v1/cache/search", CacheSearchBody), **answers(NearItems)
)
async def search_cache(request: Request) -> dict[str, Any]:
    """Return the stored items nearest to a text, to media, or to an embedding."""
    context, trace = context_of(request), trace_of(request)
    fields, files = await _read(request, context)
    body = parse_search(fields)
    body.check_source("", has_file=bool(files))
    return await unless_disconnected(request, _CacheRequest(context, trace).search(body, files))


@router.post("/v1/cache/items", openapi_extra=described_body("/v1/cache/items", CacheItemsBody), **answers(AddedItems))
async def add_cache_items(request: Request) -> dict[str, Any]:
    """Add items to an index, all or none; needs an admin key where keys are asked for."""
    require_admin(request)
    context, trace = context_of(request), trace_of(request)
    fields, files = await _read(request, context)
    adding = _CacheRequest(context, trace)
    if files:
        form = parse_form(fields)
        return await unless_disconnected(request, adding.add_files(form.index, form, files, form.model))
    body = parse_items(fields)
    for place, item in enumerate(body.items):
        item.check_source(f"items[{place}]")
    return await unless_disconnected(request, adding.add(body))


@router.get("/v1/cache/items", **answers(ItemPage))
async def list_cache_items(
    request: Request,
    index: IndexName = None,
    after: Annotated[int, Query(ge=-1)] = -1,
    limit: Annotated[int, Query(ge=1, le=1000)] = 100,
) -> dict[str, Any]:
    """List the items of an index in the order of their ids; `after` is the last id of the page before."""
    name, reader = await asyncio.to_thread(_caches(context_of(request).service()).reader, index)
    found = await asyncio.to_thread(reader.page, after=after, limit=limit + 1)
    page = [{"id": item, **item_fields(metadata)} for item, metadata in found[:limit]]
    last_id = page[-1]["id"] if page else None
    return {"object": "list", "index": name, "data": page, "last_id": last_id, "has_more": len(found) > limit}


@router.delete("/v1/cache/items/{item}", **answers(ItemDeletion))
async def delete_cache_item(request: Request, item: int, index: IndexName = None) -> dict[str, Any]:
    """Remove one item; needs an admin key where keys are asked for."""
    require_admin(request)
    name, _ = await asyncio.to_thread(_caches(context_of(request).service()).remove, index, [item])
    return {"object": "cache.item", "index": name, "id": item, "deleted": True}


@router.delete("/v1/cache/items", **answers(ItemDeletions))
async def delete_cache_items(
    request: Request, ids: Annotated[list[int], Query(min_length=1, max_length=1000)], index: IndexName = None
) -> dict[str, Any]:
    """Remove several items, all or none; needs an admin key where keys are asked for."""
    require_admin(request)
    name, num_removed = await asyncio.to_thread(_caches(context_of(request).service()).remove, index, ids)
    return {"object": "list", "index": name, "num_deleted": num_removed}


@router.post("/v1/cache/reload", **answers(ReloadedIndexes))
async def reload_cache(request: Request, index: IndexName = None) -> dict[str, Any]:
    """Open new generations now and say what came of it; needs an admin key where keys are asked for.

    A changed index is also noticed at its next use. A bad one leaves the old generation in use, with its `error` here.
    """
    require_admin(request)
    outcomes = await asyncio.to_thread(_caches(context_of(request).service()).reload, index)
    rows = [
        {"index": o.name, "generation": o.generation, "items": o.num_items, "changed": o.changed, "error": o.error}
        for o in outcomes
    ]
    return {"object": "list", "data": rows}


@router.get("/v1/cache/stats", **answers(CacheFacts))
async def cache_stats(request: Request) -> dict[str, Any]:
    """Describe every index, how they refine by default, and the memo."""
    service = context_of(request).service()
    memo = service.pipeline.memo_stats()
    lookups = memo.hits + memo.misses if memo else 0
    return {
        "object": "cache.stats",
        "indexes": [] if service.caches is None else await asyncio.to_thread(_describe, service.caches),
        "memo": memo
        and {
            "hits": memo.hits,
            "misses": memo.misses,
            "hit_rate": memo.hits / lookups if lookups else None,
            "entries": memo.entries,
            "size_bytes": memo.size_bytes,
        },
    }


class _CacheRequest:
    """One request that brings something to embed."""

    def __init__(self, context: AppContext, trace: RequestTrace) -> None:
        self._context = context
        self._trace = trace
        self._service = context.service()
        self._caches = _caches(self._service)

    async def search(self, body: CacheSearchBody, files: Sequence[UploadedFile]) -> dict[str, Any]:
        if body.embedding is None:
            named = [] if body.input is None else [("input", body.input)]
            inputs = JointInputs(self._context, self._trace, body.model)
            (vector,) = await inputs.vectors(named, files, blend=True)
        else:
            (vector,) = await self._vectors([body], body.model)
        with self._trace.timer.stage("search"):
            name, found = await asyncio.to_thread(self._caches.search, body.index, vector, body.k)
        return {"object": "list", "index": name, "data": [neighbour_object(neighbour) for neighbour in found]}

    async def add(self, body: CacheItemsBody) -> dict[str, Any]:
        vectors = await self._vectors(body.items, body.model)
        return await self._add(body.index, vectors, [_metadata(item) for item in body.items])

    async def add_files(
        self, index: str | None, fields: ItemFields, files: Sequence[UploadedFile], model: str | None
    ) -> dict[str, Any]:
        vectors = await self._vectors([], model, files)
        return await self._add(index, vectors, [_metadata(fields, file.filename) for file in files])

    async def _add(
        self, index: str | None, vectors: Sequence[FloatArray], items: Sequence[ItemMetadata]
    ) -> dict[str, Any]:
        with self._trace.timer.stage("write_index"):
            name, ids = await asyncio.to_thread(self._caches.add, index, np.stack(vectors), items)
        rows = [{"id": i, **item_fields(item)} for i, item in zip(ids, items, strict=True)]
        return {"object": "list", "index": name, "data": rows}

    async def _vectors(
        self, sources: Sequence[Embeddable], model_name: str | None, files: Sequence[UploadedFile] = ()
    ) -> list[FloatArray]:
        """Return the embedding `(E,)` of each source, given or made, then of each file."""
        most = self._context.settings.max_inputs
        if len(sources) > most:
            raise InvalidRequest(f"{len(sources)} items; at most {most} are added in one request", param="items")
        inputs, width = JointInputs(self._context, self._trace, model_name), self._caches.width
        given = [None if s.embedding is None else _given_vector(s.embedding, width) for s in sources]
        named = [(f"items[{place}].input", s.input) for place, s in enumerate(sources) if s.input is not None]
        if not named and not files:
            return [vector for vector in given if vector is not None]
        made = iter(await inputs.vectors(named, files))
        return [next(made) if vector is None else vector for vector in given] + list(made)


async def _read(request: Request, context: AppContext) -> tuple[dict[str, Any], list[UploadedFile]]:
    limits = context.body_limits(context.service())
    with trace_of(request).timer.stage("read_body"):
        if body_kind(request) == "multipart":
            return split_fields(await read_multipart(request, limits))
        body = await read_json(request, limits)
    if not isinstance(body, dict):
        raise InvalidRequest("the body must be a JSON object")
    return body, []


def _caches(service: Service) -> VisualCaches:
    if service.caches is None or not service.caches.names:
        raise UnknownName("this server has no index; its operator names some with cache_indexes", code="no_index")
    return service.caches


def _given_vector(embedding: list[float] | str, width: int) -> FloatArray:
    """Return the vector a client sent. Raises `InvalidRequest` when it is not one of this joint space."""
    try:
        numbers = (
            np.frombuffer(base64.b64decode(embedding, validate=True), "<f4")
            if isinstance(embedding, str)
            else embedding
        )
        vector = np.asarray(numbers, np.float64)
    except (binascii.Error, ValueError) as error:
        raise InvalidRequest(f"embedding is not base64 of float32 numbers: {error}", param="embedding") from None
    largest = float(np.abs(vector).max(initial=0))  # by its largest number first, so that no square overflows
    if len(vector) != width or not 1e-12 < largest < np.inf:
        raise InvalidRequest(
            f"embedding has {len(vector)} numbers; this joint space takes {width}, finite and not all 0",
            param="embedding",
        )
    scaled = vector / largest
    return (scaled / np.linalg.norm(scaled)).astype(np.float32)


def _metadata(item: ItemFields, filename: str | None = None) -> ItemMetadata:
    from engine.encoding.caches import ItemMetadata

    file = item.file or (filename or "")[:1000] or None
    return ItemMetadata(file=file, caption=item.caption, label=item.label, extra=item.metadata)


def _describe(caches: VisualCaches) -> list[dict[str, Any]]:
    options = caches.options
    rows = []
    for name in caches.names:
        _, reader = caches.reader(name)
        manifest = reader.manifest
        refines = name == caches.own_name
        rows.append(
            {
                "name": name,
                "items": len(reader),
                "encoder_id": manifest.encoder_id or None,
                "dimension": manifest.dimension,
                "metric": manifest.metric,
                "types": list(reader.types),
                "removed": len(manifest.removed),
                "size_bytes": sum(record.size_bytes for record in manifest.files),
                "generation": manifest.generation,
                "created": manifest.created or None,
                "refines_by_default": [str(m) for m in caches.default_modalities] if refines else [],
                "k": options.top_k,
                "inverse_temperature": options.inverse_temperature,
                "blend": options.blend,
            }
        )
    return rows
