"""One toy of each kind that CONTRIBUTING.md tells how to add."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from typing import Self

import numpy as np
import torch
from fastapi import APIRouter
from torch import Tensor, nn

from core.errors import ConfigError
from core.types import (
    AdapterPrompt,
    AnyArray,
    BackendStats,
    Condition,
    DecodedMedia,
    DecoderBackend,
    DecodeRequest,
    Embedding,
    FloatArray,
    Modality,
    TokenEvent,
    TokenUsage,
)
from engine.backends import DecodingConfig
from engine.experts import Expert, ExpertContext, ExpertMedium, Reading
from models.adapters.options import AdapterOptions, last_layers
from models.bundle import ModelBundle
from models.tiny import load_tiny

router = APIRouter()


@router.get("/v1/toy")
async def toy() -> dict[str, str]:
    """Say what this is."""
    return {"object": "toy"}


class ToyEncoder:
    """The mean colour of a picture."""

    encoder_id = "toy-1"
    modality = Modality.IMAGE

    def preprocess(self, media: DecodedMedia) -> FloatArray:
        return np.asarray(media.array.reshape(-1, 3).mean(axis=0) / 255, dtype=np.float32)

    def encode(self, batch: Sequence[FloatArray]) -> list[Embedding]:
        return [
            Embedding(vector=row / max(np.linalg.norm(row), 1e-6), encoder_id=self.encoder_id, confidence=0.75)
            for row in batch
        ]


class ToyAdapter:
    """One adapter token a layer, the same for all."""

    def __init__(self, num_layers: int, width: int) -> None:
        self._shape = (num_layers, 1, width)

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        if vector is None:
            return None
        return AdapterPrompt(prompts=np.full(self._shape, float(vector.sum()), dtype=np.float32))


class ToyFamily(nn.Module):
    """One learnt prompt for all, as its released file has it under `toy.prompt`."""

    takes_image_tokens = False
    embedding_width = None

    def __init__(self, prompt: Tensor) -> None:
        super().__init__()
        self.prompt = nn.Parameter(prompt)  # (L, P, D)

    @property
    def num_tokens(self) -> int:
        return self.prompt.shape[1]

    @classmethod
    def from_reference(cls, state: Mapping[str, Tensor], options: AdapterOptions) -> Self:
        return cls(state["toy.prompt"].unflatten(0, (-1, options.num_static_tokens)))

    def adapted_layers(self, num_decoder_layers: int) -> tuple[int, ...]:
        return last_layers(len(self.prompt), num_decoder_layers)

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        return AdapterPrompt(prompts=self.prompt.numpy())


class ToyClassifier:
    """Red or blue, whichever there is more of."""

    def likeliest(self, pixels: AnyArray, num_names: int) -> list[tuple[str, float]]:
        names = ["blue toy", "red toy"] if pixels[..., 2].mean() > pixels[..., 0].mean() else ["red toy", "blue toy"]
        return list(zip(names, (0.75, 0.25), strict=True))[:num_names]


def load_toy(dtype: torch.dtype) -> ModelBundle:
    tiny = load_tiny(dtype)
    config = tiny.decoder.config
    adapter = ToyAdapter(len(config.adapted_layers), config.width)
    return replace(tiny, name="toy", adapter=adapter, encoders={Modality.IMAGE: ToyEncoder()})


class ToyBackend:
    """Says "toy" and stops."""

    def __init__(self, bundle: ModelBundle) -> None:
        self._tokenizer = bundle.tokenizer

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def generate(self, request: DecodeRequest) -> AsyncIterator[TokenEvent]:
        token_ids = self._tokenizer.encode("toy")
        usage = TokenUsage(prompt_tokens=len(request.token_ids), completion_tokens=len(token_ids))
        for token_id in token_ids[:-1]:
            yield TokenEvent(token_id=token_id, text=self._tokenizer.decode([token_id]), logprob=0.0)
        last = token_ids[-1]
        text = self._tokenizer.decode([last])
        yield TokenEvent(token_id=last, text=text, logprob=0.0, finish="stop", usage=usage)

    def abort(self, request_id: str) -> None: ...

    def stats(self) -> BackendStats:
        return BackendStats(slots_total=1, slots_in_use=0, queue_length=0, num_steps=0, num_tokens=0)


def build_toy(bundle: ModelBundle, config: DecodingConfig) -> DecoderBackend:
    return ToyBackend(bundle)


class ToyExpert:
    """Says "toy" of every picture."""

    expert_id = "toy-1"
    modalities = frozenset({Modality.IMAGE})
    heading = "About {medium}:"
    instruction = ""
    reads_details = True

    async def read(self, medium: ExpertMedium) -> Reading:
        media = await medium.decode()
        return Reading(text="a toy says toy " * (1 + media.array.shape[0] // 8))

    async def stop(self) -> None: ...


class BrokenExpert(ToyExpert):
    """Fails as a library might."""

    async def read(self, medium: ExpertMedium) -> Reading:
        raise RuntimeError("a toy broke")


class SilentExpert(ToyExpert):
    """Never comes back."""

    async def read(self, medium: ExpertMedium) -> Reading:
        await asyncio.Event().wait()
        return Reading(text="")


def build_toy_expert(context: ExpertContext) -> Expert:
    return ToyExpert()


def build_broken_expert(context: ExpertContext) -> Expert:
    return BrokenExpert()


def build_silent_expert(context: ExpertContext) -> Expert:
    return SilentExpert()


def build_uninstalled_expert(context: ExpertContext) -> Expert:
    raise ConfigError("this expert wants glasses; the operator buys them")
