"""`POST /v1/embeddings`: any medium the model encodes as a row of its joint space, as JSON and as a form."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from fastapi import APIRouter, Request

from core.errors import DeadlineExceeded, InvalidRequest, MediaTooLarge, PromptTooLong, UnsupportedMedia
from core.types import FloatArray, MediaBlob, Modality
from server.choice_stream import unless_disconnected
from server.context import AppContext, Service, context_of
from server.forms import UploadedFile, split_fields
from server.media_reader import MediaReader
from server.schemas.bodies import described_body, read_json_only
from server.schemas.embedding import EmbeddingBody, EmbeddingInput, parse_embedding_body
from server.schemas.parts import BindTextPart, MediaPart, TextPart
from server.trace import RequestTrace, trace_of
from server.uploads import BodyLimits, body_kind, read_multipart

if TYPE_CHECKING:
    from engine.pipeline import ModelDescription

router = APIRouter(tags=["embeddings"])


@router.post("/v1/embeddings", openapi_extra=described_body("/v1/embeddings", EmbeddingBody))
async def create_embeddings(request: Request) -> dict[str, Any]:
    """Return one embedding per input, then one per file of a form."""
    context, trace = context_of(request), trace_of(request)
    service = context.service()
    with trace.timer.stage("read_body"):
        body, files = await _read_body(request, context.body_limits(service))
    work = _Embedding(context, service, trace).answer(body, files)
    return await unless_disconnected(request, work)


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


class _Embedding:
    """One request for embeddings."""

    def __init__(self, context: AppContext, service: Service, trace: RequestTrace) -> None:
        self._settings = context.settings
        self._context = context
        self._service = service
        self._trace = trace
        self._num_text_tokens = 0

    async def answer(self, body: EmbeddingBody, files: Sequence[UploadedFile]) -> dict[str, Any]:
        model = self._context.request_builder(self._service).model_named(body.model)
        if not model.embedded_modalities:
            raise UnsupportedMedia(f"model {model.name} has no joint space of embeddings", param="model")
        self._check_counts(body, files)
        try:
            async with asyncio.timeout(self._settings.request_timeout_s):
                vectors = await self._vectors(model, body, files)
        except TimeoutError:
            limit_s = self._settings.request_timeout_s
            raise DeadlineExceeded(f"the embeddings took longer than {limit_s:g} s; send fewer inputs") from None
        _check_dimensions(body.dimensions, vectors[0])
        self._trace.facts.update(model=model.name, num_inputs=len(vectors))
        rows = [
            {"object": "embedding", "index": index, "embedding": _encoded(vector, body.encoding_format)}
            for index, vector in enumerate(vectors)
        ]
        usage = {"prompt_tokens": self._num_text_tokens, "total_tokens": self._num_text_tokens}
        return {"object": "list", "data": rows, "model": model.name, "usage": usage}

    async def _vectors(
        self, model: ModelDescription, body: EmbeddingBody, files: Sequence[UploadedFile]
    ) -> list[FloatArray]:
        reader = MediaReader(
            self._service.intake,
            model=model.name,
            modalities=model.embedded_modalities,
            read_file=self._service.file_reader(self._trace.owner),
        )
        with self._trace.timer.stage("take_media"):
            inputs = [await self._media(item, reader, f"input[{index}]") for index, item in enumerate(body.input)]
            inputs += [[blob] for blob in await reader.uploads(files)]
            if body.blend:
                inputs = [[blob for blobs in inputs for blob in blobs]]
        try:
            with self._trace.timer.stage("embed"):
                return await self._service.pipeline.embed(inputs)
        except InvalidRequest as error:
            if error.param == "messages":  # the engine knows chats only
                error.param = "input"
            raise

    async def _media(self, item: EmbeddingInput, reader: MediaReader, param: str) -> list[MediaBlob]:
        if isinstance(item, str):
            return [self._text(item, reader, param)]
        blobs = []
        for place, part in enumerate(item):
            if isinstance(part, TextPart | BindTextPart):
                weight = part.weight if isinstance(part, BindTextPart) else 1.0
                blobs.append(self._text(part.text, reader, f"{param}[{place}]", weight))
            elif isinstance(part, MediaPart):
                blobs.append(await reader.part(part, param=f"{param}[{place}]"))
        if not blobs:
            text = self._service.pipeline.detokenize([i for i in item if isinstance(i, int)], param=param)
            blobs.append(self._text(text, reader, param))
        return blobs

    def _text(self, text: str, reader: MediaReader, param: str, weight: float = 1.0) -> MediaBlob:
        reader.check(Modality.TEXT, param=param)
        blob = self._service.intake.from_text(text, weight=weight, param=param)
        self._num_text_tokens += len(self._service.pipeline.tokenize(text))
        return blob

    def _check_counts(self, body: EmbeddingBody, files: Sequence[UploadedFile]) -> None:
        num_inputs, most = len(body.input) + len(files), self._settings.max_inputs
        if num_inputs > most:
            raise InvalidRequest(f"{num_inputs} inputs; at most {most} are embedded in one request", param="input")
        parts = [part for item in body.input if not isinstance(item, str) for part in item]
        num_media = len(files) + sum(isinstance(part, MediaPart) for part in parts)
        if num_media > self._service.intake.limits.max_parts:
            raise MediaTooLarge(
                f"{num_media} media in one request; at most {self._service.intake.limits.max_parts} are taken",
                param="input",
                code="too_many_media",
            )
        num_chars = sum(len(item) for item in body.input)
        num_chars += sum(len(part.text) for part in parts if isinstance(part, TextPart | BindTextPart))
        if num_chars > self._settings.max_prompt_chars:
            raise PromptTooLong(
                f"the inputs hold {num_chars} characters or ids; at most {self._settings.max_prompt_chars} are read",
                param="input",
            )


def _check_dimensions(asked: int | None, vector: FloatArray) -> None:
    if asked is not None and asked != len(vector):
        raise InvalidRequest(
            f"dimensions is {asked}; embeddings of this model have {len(vector)} and are not shortened",
            param="dimensions",
        )


def _encoded(vector: FloatArray, encoding_format: str) -> str | list[float]:
    if encoding_format == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [float(value) for value in vector]
