"""Inputs of embeddings, classification and reranking: texts, ids, parts and files as rows of the joint space."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING

from core.errors import DeadlineExceeded, InvalidRequest, MediaTooLarge, PromptTooLong, UnsupportedMedia
from core.types import CacheChoice, FloatArray, MediaBlob, Modality
from server.context import AppContext
from server.forms import UploadedFile
from server.media_reader import MediaReader
from server.schemas.embedding import EmbeddingInput
from server.schemas.parts import BindTextPart, MediaPart, TextPart
from server.trace import RequestTrace

if TYPE_CHECKING:
    from engine.pipeline import ModelDescription


class JointInputs:
    """The inputs of one request; counts the tokens of its texts. Only a `cache` choice lets the cache refine them.

    Raises `UnsupportedMedia` for a model without a joint space and `UnknownName` for one that is not served.
    """

    def __init__(
        self, context: AppContext, trace: RequestTrace, model_name: str | None, cache: CacheChoice | None = None
    ) -> None:
        self._cache = cache
        self._settings = context.settings
        self._service = context.service()
        self._trace = trace
        self.model: ModelDescription = context.request_builder(self._service).model_named(model_name)
        if not self.model.embedded_modalities:
            raise UnsupportedMedia(f"model {self.model.name} has no joint space of embeddings", param="model")
        self._reader = MediaReader(
            self._service.intake,
            model=self.model.name,
            modalities=self.model.embedded_modalities,
            read_file=self._service.file_reader(trace.owner),
        )
        self.num_text_tokens = 0

    async def vectors(
        self,
        named_items: Sequence[tuple[str, EmbeddingInput]],
        files: Sequence[UploadedFile] = (),
        *,
        blend: bool = False,
    ) -> list[FloatArray]:
        """Return one unit vector `(E,)` per item, then one per file; each item comes with the name errors give it.

        With `blend` there is one vector, of all of them.

        Raises what the intake and the encoders raise, `InvalidRequest` for too many inputs, and `DeadlineExceeded`.
        """
        self._check_counts(named_items, files)
        self._trace.facts.update(model=self.model.name, num_inputs=len(named_items) + len(files))
        limit_s = self._settings.request_timeout_s
        try:
            async with asyncio.timeout(limit_s):
                return await self._embedded(named_items, files, blend)
        except TimeoutError:
            raise DeadlineExceeded(f"the embeddings took longer than {limit_s:g} s; send fewer inputs") from None

    def usage(self) -> dict[str, int]:
        """Return the tokens of all texts; media cost none."""
        return {"prompt_tokens": self.num_text_tokens, "total_tokens": self.num_text_tokens}

    async def _embedded(
        self, named_items: Sequence[tuple[str, EmbeddingInput]], files: Sequence[UploadedFile], blend: bool
    ) -> list[FloatArray]:
        with self._trace.timer.stage("take_media"):
            inputs = [await self._media(item, param) for param, item in named_items]
            inputs += [[blob] for blob in await self._reader.uploads(files)]
            if blend:
                inputs = [[blob for blobs in inputs for blob in blobs]]
        try:
            with self._trace.timer.stage("embed"):
                joined = await self._service.pipeline.embed(inputs, tenant=self._trace.owner, cache=self._cache)
                self._trace.note_memo(joint.memo for joint in joined)
                return [joint.vector for joint in joined]
        except InvalidRequest as error:
            if error.param == "messages":  # the engine knows chats only
                error.param = named_items[0][0].partition("[")[0] if named_items else "file"
            raise

    async def _media(self, item: EmbeddingInput, param: str) -> list[MediaBlob]:
        if isinstance(item, str):
            return [self._text(item, param)]
        blobs = []
        for place, part in enumerate(item):
            if isinstance(part, TextPart | BindTextPart):
                weight = part.weight if isinstance(part, BindTextPart) else 1.0
                blobs.append(self._text(part.text, f"{param}[{place}]", weight))
            elif isinstance(part, MediaPart):
                blobs.append(await self._reader.part(part, param=f"{param}[{place}]"))
        if not blobs:
            text = self._service.pipeline.detokenize([i for i in item if isinstance(i, int)], param=param)
            blobs.append(self._text(text, param))
        return blobs

    def _text(self, text: str, param: str, weight: float = 1.0) -> MediaBlob:
        self._reader.check(Modality.TEXT, param=param)
        blob = self._service.intake.from_text(text, weight=weight, param=param)
        self.num_text_tokens += len(self._service.pipeline.tokenize(text))
        return blob

    def _check_counts(self, named_items: Sequence[tuple[str, EmbeddingInput]], files: Sequence[UploadedFile]) -> None:
        items, param = [item for _, item in named_items], "input"
        num_inputs, most = len(items) + len(files), self._settings.max_inputs
        if num_inputs > most:
            raise InvalidRequest(f"{num_inputs} inputs; at most {most} are embedded in one request", param=param)
        parts = [part for item in items if not isinstance(item, str) for part in item]
        num_media = len(files) + sum(isinstance(part, MediaPart) for part in parts)
        if num_media > self._service.intake.limits.max_parts:
            raise MediaTooLarge(
                f"{num_media} media in one request; at most {self._service.intake.limits.max_parts} are taken",
                param=param,
                code="too_many_media",
            )
        num_chars = sum(map(len, items)) + sum(
            len(part.text) for part in parts if isinstance(part, TextPart | BindTextPart)
        )
        if num_chars > self._settings.max_prompt_chars:
            raise PromptTooLong(
                f"the inputs hold {num_chars} characters or ids; at most {self._settings.max_prompt_chars} are read",
                param=param,
            )
