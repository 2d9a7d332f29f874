"""`POST /v1/classify` and `POST /v1/rerank`: any medium against labels, any query against documents."""

from __future__ import annotations

import time
import uuid
from typing import Any

import numpy as np
from fastapi import APIRouter, Request

from core.errors import InvalidRequest
from core.types import FloatArray
from server.choice_stream import unless_disconnected
from server.context import AppContext, context_of
from server.joint_inputs import JointInputs
from server.picture_classes import classify_pictures
from server.schemas.answers import Classifications, Ranking, answers
from server.schemas.bodies import described_body, parse_body, read_json_only
from server.schemas.embedding import INPUT_KINDS
from server.schemas.ranking import ClassifyBody, RerankBody
from server.trace import RequestTrace, trace_of

router = APIRouter(tags=["ranking"])


@router.post("/v1/classify", openapi_extra=described_body("/v1/classify", ClassifyBody), **answers(Classifications))
async def classify(request: Request) -> dict[str, Any]:
    """Say how likely each label is for each input, by a softmax over cosine similarities divided by `temperature`.

    With a classifier as `model`, say how likely each of its own classes is for each picture.
    """
    context, trace = context_of(request), trace_of(request)
    fields = await read_json_only(request, context.body_limits(context.service()))
    classifiers = context.service().classifiers
    if classifiers is not None and fields.get("model") in classifiers.names:
        body = parse_body(ClassifyBody, fields, tags=INPUT_KINDS)
        return await unless_disconnected(request, classify_pictures(context, trace, body))
    if fields.get("labels") is None:
        raise InvalidRequest(
            "labels are required: this model has no classes of its own, it compares with the labels you name; "
            "the model illama-mini has classes",
            param="labels",
        )
    body = parse_body(ClassifyBody, fields, tags=INPUT_KINDS)
    if len(set(body.labels)) < len(body.labels):
        raise InvalidRequest("labels must differ from each other", param="labels")
    return await unless_disconnected(request, _classify(context, trace, body))


@router.post("/v1/rerank", openapi_extra=described_body("/v1/rerank", RerankBody), **answers(Ranking))
async def rerank(request: Request) -> dict[str, Any]:
    """Order documents by their cosine similarity to the query, the closest first."""
    context, trace = context_of(request), trace_of(request)
    fields = await read_json_only(request, context.body_limits(context.service()))
    body = parse_body(RerankBody, fields, tags=INPUT_KINDS)
    return await unless_disconnected(request, _rerank(context, trace, body, fields["documents"]))


async def _classify(context: AppContext, trace: RequestTrace, body: ClassifyBody) -> dict[str, Any]:
    inputs = JointInputs(context, trace, body.model)
    named: list[tuple[str, Any]] = [(f"input[{index}]", item) for index, item in enumerate(body.input)]
    named += [(f"labels[{i}]", body.label_template.replace("{}", label)) for i, label in enumerate(body.labels)]
    vectors = np.stack(await inputs.vectors(named))  # (inputs + labels, E)
    similarities = vectors[: len(body.input)] @ vectors[len(body.input) :].T  # (inputs, labels)
    rows = [
        _classification(index, body, row, probabilities)
        for index, (row, probabilities) in enumerate(
            zip(similarities, softmax(similarities / body.temperature), strict=True)
        )
    ]
    head = {"id": f"classify-{uuid.uuid4().hex}", "object": "list", "created": int(time.time())}
    return {**head, "model": inputs.model.name, "data": rows, "usage": inputs.usage()}


def _classification(
    index: int, body: ClassifyBody, similarities: FloatArray, probabilities: FloatArray
) -> dict[str, Any]:
    order = np.argsort(-probabilities, kind="stable")
    scores = [
        {"label": body.labels[i], "probability": float(probabilities[i]), "similarity": float(similarities[i])}
        for i in order
    ]
    probs = [float(probability) for probability in probabilities]
    return {
        "object": "classification",
        "index": index,
        "label": scores[0]["label"],
        "probs": probs,
        "num_classes": len(probs),
        "scores": scores,
    }


def softmax(logits: FloatArray) -> FloatArray:
    """Return rows `(B, C)` that sum to 1."""
    raised = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return np.asarray(raised / raised.sum(axis=-1, keepdims=True), dtype=np.float32)


async def _rerank(context: AppContext, trace: RequestTrace, body: RerankBody, documents: list[Any]) -> dict[str, Any]:
    inputs = JointInputs(context, trace, body.model)
    named: list[tuple[str, Any]] = [("query", body.query)]
    named += [(f"documents[{index}]", document) for index, document in enumerate(body.documents)]
    query, *rows = await inputs.vectors(named)
    scores = np.stack(rows) @ query  # (documents,)
    order = np.argsort(-scores, kind="stable")[: body.top_n]
    results = [
        {"index": int(i), "relevance_score": float(scores[i])}
        | ({"document": _shown(documents[i])} if body.return_documents else {})
        for i in order
    ]
    head = {"id": f"rerank-{uuid.uuid4().hex}", "object": "list", "model": inputs.model.name}
    return {**head, "results": results, "usage": inputs.usage()}


def _shown(document: Any) -> Any:
    """Return a document as Cohere and Jina do, text under `text`; media come back as they were sent."""
    return {"text": document} if isinstance(document, str) else document
