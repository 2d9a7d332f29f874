"""A small random LLaMA that vLLM's CPU kernels take, served by both backends."""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import anyio
import numpy as np
import torch

from core.types import AdapterPrompt, Condition, DecoderBackend, DecodeRequest, SamplingParams, TokenEvent
from engine.backends import BACKENDS, DecodingConfig
from engine.backends.vllm.options import VllmOptions
from models.bundle import ModelBundle
from models.llama.config import LlamaConfig
from models.llama.model import Llama
from models.tiny import ByteTokenizer, load_tiny

WIDTH, HEAD_WIDTH, NUM_HEADS, NUM_KV_HEADS, NUM_LAYERS = 256, 32, 8, 4, 3
ADAPTED = (1, 2)
TOKENIZER = ByteTokenizer()


def bundle(num_tokens: int = 1) -> ModelBundle:
    """Return a seeded float32 model with grouped-query attention and live gates on its last two layers."""
    torch.manual_seed(5)
    config = LlamaConfig(
        vocab_size=TOKENIZER.vocab_size,
        width=WIDTH,
        num_layers=NUM_LAYERS,
        num_heads=NUM_HEADS,
        num_kv_heads=NUM_KV_HEADS,
        head_width=HEAD_WIDTH,
        hidden_width=384,
        norm_eps=1e-5,
        max_context=1024,
        adapted_layers=ADAPTED,
        num_adapter_tokens=num_tokens,
    )
    decoder = Llama(config).requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.12)
    decoder.adapter_gates.uniform_(-1, 1)
    adapter = load_tiny(torch.float32).adapter
    return ModelBundle(name="small", decoder=decoder, tokenizer=TOKENIZER, adapter=adapter, encoders={})


def condition(seed: int | None, num_tokens: int = 1) -> Condition:
    """Return a random condition, None for a seed of None."""
    if seed is None:
        return None
    prompts = np.random.default_rng(seed).normal(size=(len(ADAPTED), num_tokens, WIDTH))
    return AdapterPrompt(prompts=prompts.astype(np.float32))


def request(request_id: str, prompt: str, given: Condition, *, max_tokens: int = 48, **sampling: Any) -> DecodeRequest:
    """Return a greedy request that ignores the end token unless told otherwise."""
    options = {"temperature": 0.0, "ignore_eos": True, **sampling}
    return DecodeRequest(
        request_id=request_id,
        token_ids=tuple(TOKENIZER.encode(prompt)),
        sampling=SamplingParams(max_tokens=max_tokens, **options),
        condition=given,
    )


@asynccontextmanager
async def running(
    model: ModelBundle, name: str, *, vllm: VllmOptions | None = None, **config: int
) -> AsyncIterator[Any]:
    """Run a backend for the length of a block."""
    decoding = DecodingConfig(
        **{"max_slots": 16, "max_queue": 16, "max_context": 1024, "num_threads": 1, **config},
        vllm=vllm or VllmOptions(eager=True, block_size=32),
    )
    backend = BACKENDS.load(name)(model, decoding)
    await backend.start()
    try:
        yield backend
    finally:
        await backend.stop()


async def collect(backend: DecoderBackend, asked: DecodeRequest) -> list[TokenEvent]:
    return [event async for event in backend.generate(asked)]


async def token_ids(backend: DecoderBackend, requests: Sequence[DecodeRequest]) -> list[list[int]]:
    """Run all requests at once and return the tokens of each."""
    found: dict[int, list[int]] = {}

    async def run(place: int, asked: DecodeRequest) -> None:
        found[place] = [event.token_id for event in await collect(backend, asked)]

    async with anyio.create_task_group() as group:
        for place, asked in enumerate(requests):
            group.start_soon(run, place, asked)
    return [found[place] for place in range(len(requests))]
