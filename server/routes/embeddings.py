"""`POST /v1/embeddings`: any medium the model encodes as a row of its joint space, as JSON and as a form."""

from __future__ import annotations

import base64
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from core.errors import InvalidRequest
from core.types import FloatArray
from server.choice_stream import unless_disconnected
from server.context import AppContext, context_of
from server.forms import UploadedFile, split_fields
from server.joint_inputs import JointInputs
from server.schemas.answers import Embeddings, answers
from server.schemas.bodies import described_body, read_json_only
from server.schemas.embedding import EmbeddingBody, parse_embedding_body
from server.trace import RequestTrace, trace_of
from server.uploads import BodyLimits, body_kind, read_multipart

router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings", openapi_extra=described_body("/v1/embeddings", EmbeddingBody), **answers(Embeddings))
async def create_embeddings(request: Request) -> dict[str, Any]:
    """Return one embedding per input, then one per file of a form."""
    context, trace = context_of(request), trace_of(request)
    with trace.timer.stage("read_body"):
        body, files = await _read_body(request, context.body_limits(context.service()))
    return await unless_disconnected(request, _answer(context, trace, body, files))


async def _read_body(request: Request, limits: BodyLimits) -> tuple[EmbeddingBody, list[UploadedFile]]:
    files: list[UploadedFile] = []
    if body_kind(request) == "json":
        fields = await read_json_only(request, limits)
    else:
        fields, files = split_fields(await read_multipart(request, limits))
    body = parse_embedding_body(fields)
    if not body.input and not files:
        raise InvalidRequest("input is required and must not be empty", param="input")
    return body, files


async def _answer(
    context: AppContext, trace: RequestTrace, body: EmbeddingBody, files: list[UploadedFile]
) -> dict[str, Any]:
    inputs = JointInputs(context, trace, body.model, body.cache_choice)
    named = [(f"input[{index}]", item) for index, item in enumerate(body.input)]
    vectors = await inputs.vectors(named, files, blend=bool(body.blend))
    rows = [
        {"object": "embedding", "index": index, "embedding": _encoded(_shortened(vector, body), body.encoding_format)}
        for index, vector in enumerate(vectors)
    ]
    return {"object": "list", "data": rows, "model": inputs.model.name, "usage": inputs.usage()}


def _shortened(vector: FloatArray, body: EmbeddingBody) -> FloatArray:
    """Return the first `dimensions` numbers at unit length, the whole vector when none were asked for."""
    asked = body.dimensions or len(vector)
    if asked > len(vector):
        raise InvalidRequest(f"dimensions is {asked}; embeddings of this model have {len(vector)}", param="dimensions")
    kept = vector[:asked]
    length = float(np.linalg.norm(kept))
    return vector if asked == len(vector) or length == 0 else kept / np.float32(length)


def _encoded(vector: FloatArray, encoding_format: str) -> str | list[float]:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
