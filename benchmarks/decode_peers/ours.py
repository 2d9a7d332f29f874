"""BindChat's native engine. Arguments: threads, weights dtype, condition (1 or 0), and 1 to reuse what was read."""

from __future__ import annotations

import asyncio
import itertools
import sys

import numpy as np
import torch

from benchmarks.decode_peers.worker import serve_runs
from core.types import Condition, DecoderBackend, DecodeRequest, SamplingParams
from engine.backends import DecodingConfig
from engine.backends.native.backend import build_native
from models.bundle import ModelBundle
from models.devices import share_threads
from models.registry import load_model

MAX_CONCURRENCY = 64
MAX_CONTEXT = 4096
EMBEDDING_WIDTH = 384


class RunningBackend:
    """A backend on an event loop of its own; every request has the same condition, or none has."""

    def __init__(self, backend: DecoderBackend, condition: Condition) -> None:
        self._backend = backend
        self._condition = condition
        self._runner = asyncio.Runner()
        self._runner.run(self._backend.start())
        self._ids = itertools.count()

    def decode(self, prompts: list[list[int]], num_new: int) -> int:
        """Decode all prompts at once and return the number of new tokens."""
        return self._runner.run(self._decode(prompts, num_new))

    def stop(self) -> None:
        """End the backend and its loop."""
        self._runner.run(self._backend.stop())
        self._runner.close()

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


def any_condition(bundle: ModelBundle) -> Condition:
    """Return what the adapter makes of a random embedding."""
    vector = np.random.default_rng(0).normal(size=EMBEDDING_WIDTH).astype(np.float32)
    return bundle.adapter.condition(vector / np.linalg.norm(vector))


def main() -> None:
    num_threads, weights_dtype, has_condition, reuses = (*sys.argv[1:], "0")[:4]
    threads = share_threads(int(num_threads))  # first, as the server does: loading would leave a second team of threads
    bundle = load_model("mini", torch.bfloat16)
    config = DecodingConfig(
        max_slots=MAX_CONCURRENCY,
        max_context=MAX_CONTEXT,
        num_threads=threads.decoder,
        weights_dtype=weights_dtype,  # type: ignore[arg-type]
        reuse_prefixes=reuses == "1",  # else every run reads its prompts
    )
    condition = any_condition(bundle) if has_condition == "1" else bundle.adapter.condition(None)
    serve_runs(RunningBackend(build_native(bundle, config), condition).decode)


if __name__ == "__main__":
    main()
