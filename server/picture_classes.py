"""Classification by a classifier's own classes, for `POST /v1/classify`."""

from __future__ import annotations

import asyncio
import time
import uuid
from typing import Any

from core.errors import DeadlineExceeded, InvalidRequest
from core.types import MediaBlob, Modality
from server.context import AppContext
from server.media_reader import MediaReader
from server.schemas.embedding import EmbeddingInput
from server.schemas.parts import MediaPart
from server.schemas.ranking import ClassifyBody
from server.trace import RequestTrace

NOT_TAKEN = ("labels", "temperature", "label_template")


async def classify_pictures(context: AppContext, trace: RequestTrace, body: ClassifyBody) -> dict[str, Any]:
    """Return the probabilities of the classifier's classes for each picture, the likeliest first.

    Raises `InvalidRequest` for labels, what goes with them and inputs that are not one picture, and what the intake
    and the decoders raise.
    """
    service, limit_s = context.service(), context.settings.request_timeout_s
    name, classifiers = body.model, service.classifiers
    assert name is not None and classifiers is not None
    for field in NOT_TAKEN:
        if field in body.model_fields_set:
            raise InvalidRequest(f"{name} has classes of its own; leave {field} out", param=field)
    if len(body.input) > context.settings.max_inputs:
        most = context.settings.max_inputs
        raise InvalidRequest(f"{len(body.input)} inputs; at most {most} are classified in one request", param="input")
    reader = MediaReader(
        service.intake, model=name, modalities=(Modality.IMAGE,), read_file=service.file_reader(trace.owner)
    )
    trace.facts.update(model=name, num_inputs=len(body.input))
    try:
        async with asyncio.timeout(limit_s):
            with trace.timer.stage("take_media"):
                pictures = [await _picture(reader, item, f"input[{i}]", name) for i, item in enumerate(body.input)]
            with trace.timer.stage("classify"):
                rows = await classifiers.classify(name, pictures)
    except TimeoutError:
        raise DeadlineExceeded(f"the classification took longer than {limit_s:g} s; send fewer inputs") from None
    head = {"id": f"classify-{uuid.uuid4().hex}", "object": "list", "created": int(time.time()), "model": name}
    usage = {"prompt_tokens": 0, "total_tokens": 0}
    return {**head, "data": [_row(index, scores) for index, scores in enumerate(rows)], "usage": usage}


async def _picture(reader: MediaReader, item: EmbeddingInput, param: str, name: str) -> MediaBlob:
    parts = [] if isinstance(item, str) else [part for part in item if isinstance(part, MediaPart)]
    if isinstance(item, str) or len(item) != 1 or len(parts) != 1:
        raise InvalidRequest(f"{name} classifies pictures; {param} must be one image part", param=param)
    return await reader.part(parts[0], param=param)


def _row(index: int, scores: list[tuple[str, float]]) -> dict[str, Any]:
    """Return one classification; `probs` are in the order of `scores`, as there are no labels of the client's."""
    return {
        "object": "classification",
        "index": index,
        "label": scores[0][0],
        "probs": [probability for _, probability in scores],
        "num_classes": len(scores),
        "scores": [{"label": label, "probability": probability} for label, probability in scores],
    }
