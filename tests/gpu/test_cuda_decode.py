"""The native engine on a CUDA device; `pytest -m gpu` on a machine that has one."""

from __future__ import annotations

import asyncio
import copy
from dataclasses import replace

import pytest
import torch

from engine.backends import DecodingConfig
from engine.backends.native.backend import build_native
from tests.support.tiny_engine import decode_request, generated_ids, random_condition, running_backend, tiny_bundle

pytestmark = [
    pytest.mark.anyio,
    pytest.mark.gpu,
    pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device"),
]


@pytest.mark.parametrize("num_tokens", [1, 10])
async def test_graphs_decode_a_mixed_batch_like_the_cpu_does(num_tokens: int) -> None:
    bundle = tiny_bundle(num_adapter_tokens=num_tokens, max_context=512)
    requests = [
        decode_request(
            f"r{i}",
            "x" * (1 + 40 * i),
            condition=random_condition(i, num_tokens=num_tokens) if i % 2 else None,
            max_tokens=20 + i,
        )
        for i in range(4)
    ]
    on_gpu = replace(bundle, decoder=copy.deepcopy(bundle.decoder))
    async with running_backend(bundle) as backend:
        expected = [await generated_ids(backend, request) for request in requests]
    backend = build_native(on_gpu, DecodingConfig(max_slots=4, max_context=512, device="cuda"))
    await backend.start()
    together = await asyncio.gather(*(generated_ids(backend, request) for request in requests))
    await backend.stop()
    assert list(together) == expected
