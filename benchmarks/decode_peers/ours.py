"""BindChat's native engine; every request has a condition. Arguments: threads, weights dtype, condition (1 or 0)."""

from __future__ import annotations

import asyncio
import itertools
import sys

import numpy as np
import torch

from benchmarks.decode_peers.worker import serve_runs
from core.types import DecodeRequest, SamplingParams
from engine.backends import DecodingConfig, WeightsDtype
from engine.backends.native.backend import BatchingBackend, build_native
from models.devices import share_threads
from models.registry import load_model

MAX_CONCURRENCY = 64
MAX_CONTEXT = 4096
EMBEDDING_WIDTH = 384


class NativeEngine:
    """The backend on an event loop of its own; prefixes are not reused, so that every run reads its prompts."""

    def __init__(self, num_threads: int, weights_dtype: WeightsDtype, *, has_condition: bool) -> None:
        threads = share_threads(num_threads)
        bundle = load_model("mini", torch.bfloat16)
        vector = np.random.default_rng(0).normal(size=EMBEDDING_WIDTH).astype(np.float32)
        self._condition = bundle.adapter.condition(vector / np.linalg.norm(vector) if has_condition else None)
        config = DecodingConfig(
            max_slots=MAX_CONCURRENCY,
            max_context=MAX_CONTEXT,
            num_threads=threads.decoder,
            weights_dtype=weights_dtype,
            reuse_prefixes=False,
        )
        self._backend: BatchingBackend = build_native(bundle, config)
        self._runner = asyncio.Runner()
        self._runner.run(self._backend.start())
        self._ids = itertools.count()

    def decode(self, prompts: list[list[int]], num_new: int) -> int:
        """Decode all prompts at once and return the number of new tokens."""
        return self._runner.run(self._decode(prompts, num_new))

    async def _decode(self, prompts: list[list[int]], num_new: int) -> int:
        return sum(await asyncio.gather(*(self._reply(prompt, num_new) for prompt in prompts)))

    async def _reply(self, prompt: list[int], num_new: int) -> int:
        request = DecodeRequest(
            request_id=str(next(self._ids)),
            token_ids=tuple(prompt),
            sampling=SamplingParams(max_tokens=num_new, temperature=0.0, ignore_eos=True),
            condition=self._condition,
        )
        return len([event async for event in self._backend.generate(request)])


def main() -> None:
    num_threads, weights_dtype, has_condition = sys.argv[1:]
    engine = NativeEngine(int(num_threads), weights_dtype, has_condition=has_condition == "1")  # type: ignore[arg-type]
    serve_runs(engine.decode)


if __name__ == "__main__":
    main()
