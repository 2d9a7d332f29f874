"""The expert `caption`: one sentence about a medium, by an OpenAI-style endpoint or by the served model itself."""

from __future__ import annotations

import asyncio
import base64
from collections.abc import AsyncGenerator
from contextlib import aclosing
from dataclasses import replace
from typing import Any, cast

import httpx

from core.errors import ConfigError, EngineFault
from core.types import DecoderBackend, DecodeRequest, MediaBlob, Modality, SamplingParams, TokenEvent
from engine.encoding.service import EncodingService, joint_confidence
from engine.experts import ExpertContext, ExpertMedium, Reading
from models.bundle import ModelBundle

QUESTION = "Describe the picture in one sentence."
QUESTIONS = {
    Modality.IMAGE: QUESTION,
    Modality.VIDEO: "Describe the film in one sentence.",
    Modality.AUDIO: "Describe the sound in one sentence.",
    Modality.POINT_CLOUD: "Describe the shape in one sentence.",
}
MAX_TOKENS = 64
MAX_REPLY_BYTES = 1 << 20


def build_caption(context: ExpertContext) -> CaptionExpert | RemoteCaptionExpert:
    """Return the expert. Raises `ConfigError` for a model that sees nothing when no endpoint is named."""
    options = context.options
    if options.caption_url:
        return RemoteCaptionExpert(options.caption_url, options.caption_model, options.caption_key)
    modalities = frozenset(QUESTIONS) & frozenset(context.bundle.encoders)
    if not modalities:
        raise ConfigError(
            f"the expert caption needs a model that sees; {context.bundle.name} does not, so name an OpenAI-style "
            "endpoint (expert_caption_url)"
        )
    return CaptionExpert(context, modalities)


class CaptionExpert:
    """The served model in caption mode: its own condition and a question of ours."""

    heading = "A caption of {medium}:"
    instruction = ""
    reads_details = True

    def __init__(self, context: ExpertContext, modalities: frozenset[Modality]) -> None:
        self.modalities = modalities
        encoders = sorted(encoder.encoder_id for encoder in context.bundle.encoders.values())
        self.expert_id = f"caption-{context.bundle.name}-{'-'.join(encoders)}"
        self._describe = context.describe

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return the model's sentence."""
        return Reading(text=await self._describe(medium))

    async def stop(self) -> None: ...


class Captioner:
    """Describe one medium with the served model, as a chat about nothing else would."""

    def __init__(self, bundle: ModelBundle, backend: DecoderBackend, encoding: EncodingService) -> None:
        self.bundle, self._backend, self._encoding = bundle, backend, encoding
        self._num_captions = 0

    async def describe(self, medium: ExpertMedium) -> str:
        """Return one sentence, greedily decoded. Raises what the encoders and the backend raise."""
        blob = replace(medium.blob, weight=1.0)
        joint = await self._encoding.embed([blob], tenant=medium.tenant)
        confidence = joint_confidence(joint.media)
        condition = await asyncio.to_thread(self.bundle.adapter.condition, joint.vector, confidence=confidence)
        tokenizer = self.bundle.conditioned_tokenizer or self.bundle.tokenizer
        question = [{"role": "user", "content": QUESTIONS[blob.modality]}]
        self._num_captions += 1
        request = DecodeRequest(
            request_id=f"caption-{self._num_captions}",
            token_ids=tuple(tokenizer.apply_chat_template(question)),
            sampling=SamplingParams(max_tokens=MAX_TOKENS, temperature=0.0),
            condition=condition,
            tenant=medium.tenant,
        )
        generated = cast("AsyncGenerator[TokenEvent, None]", self._backend.generate(request))
        async with aclosing(generated) as events:  # a caption that takes too long frees its slot
            return "".join([event.text async for event in events])


class RemoteCaptionExpert:
    """Any endpoint with OpenAI's chat completions that sees pictures; the operator names it, no client can."""

    modalities = frozenset({Modality.IMAGE})
    heading = "A caption of {medium}:"
    instruction = ""
    reads_details = True

    def __init__(self, url: str, model: str | None, key: str | None) -> None:
        self.expert_id = f"caption-{url}-{model}"
        self._model = model
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._client = httpx.AsyncClient(base_url=url.rstrip("/") + "/", headers=headers, timeout=None)

    async def read(self, medium: ExpertMedium) -> Reading:
        """Return the endpoint's sentence. Raises `EngineFault` when it cannot be reached or answers something else."""
        body: dict[str, Any] = {"messages": [_picture_turn(medium.blob)], "max_tokens": MAX_TOKENS, "temperature": 0}
        if self._model:
            body["model"] = self._model
        try:
            async with self._client.stream("POST", "chat/completions", json=body) as answer:
                content = await _limited(answer)
            answer.raise_for_status()
            reply = httpx.Response(200, content=content).json()["choices"][0]["message"]["content"]
            return Reading(text=str(reply or ""))
        except httpx.HTTPStatusError as error:
            raise EngineFault(f"the caption endpoint answered {error.response.status_code}") from error
        except (httpx.HTTPError, ValueError, LookupError, TypeError) as error:
            raise EngineFault("the caption endpoint cannot be reached or does not answer as OpenAI's does") from error

    async def stop(self) -> None:
        await self._client.aclose()


async def _limited(answer: httpx.Response) -> bytes:
    content = b""
    async for piece in answer.aiter_bytes():
        content += piece
        if len(content) > MAX_REPLY_BYTES:
            raise ValueError("the reply is too long")
    return content


def _picture_turn(blob: MediaBlob) -> dict[str, Any]:
    encoded = base64.b64encode(blob.data).decode("ascii")
    url = f"data:image/{blob.container};base64,{encoded}"
    parts = [{"type": "image_url", "image_url": {"url": url}}, {"type": "text", "text": QUESTION}]
    return {"role": "user", "content": parts}
