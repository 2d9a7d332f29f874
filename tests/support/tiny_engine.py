"""A random tiny decoder with a condition of any number of tokens, and shorthand for the front door of a backend."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager

import numpy as np
import torch
from anyio.lowlevel import checkpoint

from core.types import AdapterPrompt, Condition, DecodeRequest, SamplingParams, TokenEvent
from engine.backends import BACKENDS, DecodingConfig
from engine.backends.native.backend import BatchingBackend
from models.bundle import ModelBundle
from models.llama.config import LlamaConfig
from models.llama.model import Llama
from models.tiny import ByteTokenizer, load_tiny

NUM_ADAPTED = 2
WIDTH = 32
ENDLESS = 1_000_000  # tokens no test waits for
TOKENIZER = ByteTokenizer()
EOS = min(TOKENIZER.eos_token_ids)


def tiny_decoder(*, num_adapter_tokens: int = 1, max_context: int = ENDLESS) -> Llama:
    """Return a seeded float32 decoder with grouped-query attention and live gates on its last two layers."""
    torch.manual_seed(11)
    config = LlamaConfig(
        vocab_size=TOKENIZER.vocab_size,
        width=WIDTH,
        num_layers=3,
        num_heads=4,
        num_kv_heads=2,
        head_width=8,
        hidden_width=48,
        norm_eps=1e-5,
        max_context=max_context,
        adapted_layers=(1, 2),
        num_adapter_tokens=num_adapter_tokens,
    )
    decoder = Llama(config).requires_grad_(False)
    for parameter in decoder.parameters():
        if parameter.dim() > 1:
            parameter.normal_(std=0.3)
    decoder.adapter_gates.uniform_(-3, 3)
    return decoder


def tiny_bundle(*, num_adapter_tokens: int = 1, max_context: int = ENDLESS) -> ModelBundle:
    return ModelBundle(
        name="tiny-random",
        decoder=tiny_decoder(num_adapter_tokens=num_adapter_tokens, max_context=max_context),
        tokenizer=TOKENIZER,
        adapter=load_tiny(torch.float32).adapter,
        encoders={},
    )


def random_condition(seed: int, *, num_tokens: int = 1, num_layers: int = NUM_ADAPTED) -> AdapterPrompt:
    prompts = np.random.default_rng(seed).normal(size=(num_layers, num_tokens, WIDTH))
    return AdapterPrompt(prompts=prompts.astype(np.float32))


def decode_request(
    request_id: str,
    prompt: str = "hello",
    *,
    condition: Condition = None,
    max_tokens: int = 8,
    ignore_eos: bool = True,
    **sampling: object,
) -> DecodeRequest:
    """Return a greedy request unless told otherwise; it ignores the end token so that its length is known."""
    options = {"temperature": 0.0, "max_tokens": max_tokens, "ignore_eos": ignore_eos, **sampling}
    return DecodeRequest(
        request_id=request_id,
        token_ids=tuple(TOKENIZER.encode(prompt)),
        sampling=SamplingParams(**options),  # type: ignore[arg-type]
        condition=condition,
    )


def endless_request(request_id: str) -> DecodeRequest:
    """Return a request that runs until it is ended from outside."""
    return decode_request(request_id, max_tokens=ENDLESS - 100)


@asynccontextmanager
async def running_backend(
    bundle: ModelBundle, *, backend: str = "native", **config: int
) -> AsyncIterator[BatchingBackend]:
    """Run a backend for the length of a block."""
    decoding = DecodingConfig(**{"max_slots": 4, "max_queue": 16, "max_context": ENDLESS, "num_threads": 1, **config})
    served = BACKENDS.load(backend)(bundle, decoding)
    assert isinstance(served, BatchingBackend)
    await served.start()
    try:
        yield served
    finally:
        await served.stop()


async def collect(backend: BatchingBackend, request: DecodeRequest) -> list[TokenEvent]:
    return [event async for event in backend.generate(request)]


async def generated_ids(backend: BatchingBackend, request: DecodeRequest) -> list[int]:
    return [event.token_id for event in await collect(backend, request)]


async def until(predicate: Callable[[], bool]) -> None:
    """Let other tasks run until `predicate` holds."""
    while not predicate():
        await checkpoint()
