"""Decode speed of the LLaMA-7B shape on one GPU, random bfloat16 weights, a condition on every request.

    python -m benchmarks.gpu_decode [--json]

Reported: batch 1 and its share of the bandwidth limit (weights and keys and values over the measured copy rate), batch
64 and its share, the time to the first token of 512-token prompts, and steps with CUDA graphs against steps without.
"""

from __future__ import annotations

import argparse
import asyncio
import datetime
import itertools
import json
import statistics
import time
from collections.abc import Sequence

import numpy as np
import torch

from core.telemetry import EventLog
from core.types import AdapterPrompt, DecodeRequest, SamplingParams
from engine.backends import DecodingConfig
from engine.backends.native.backend import BatchingBackend
from engine.backends.native.runner import NativeRunner
from models.llama.config import LlamaConfig
from models.llama.model import Llama
from models.llama.weights import empty_llama
from models.tiny import ByteTokenizer

SEVEN_B = LlamaConfig(
    vocab_size=32000,
    width=4096,
    num_layers=32,
    num_heads=32,
    num_kv_heads=32,
    head_width=128,
    hidden_width=11008,
    norm_eps=1e-6,
    max_context=2048,
    adapted_layers=tuple(range(32)),
    num_adapter_tokens=1,
)
BATCHES = (1, 64)
PROMPT_TOKENS = 512
NEW_TOKENS = 64
COPY_BYTES = 4 << 30


def random_decoder() -> Llama:
    """Return the decoder on the GPU, small random weights, gates open."""
    decoder = empty_llama(SEVEN_B, torch.bfloat16).to("cuda")
    generator = torch.Generator("cuda").manual_seed(0)
    with torch.no_grad():
        for parameter in decoder.parameters():
            parameter.normal_(std=0.02, generator=generator)
        decoder.adapter_gates.fill_(0.1)
    return decoder


def copy_bytes_per_s() -> float:
    """Return the best rate of a copy on the device, reads and writes counted."""
    source = torch.empty(COPY_BYTES, dtype=torch.uint8, device="cuda")
    target = torch.empty_like(source)
    best = 0.0
    for _ in range(10):
        torch.cuda.synchronize()
        started = time.perf_counter()
        target.copy_(source)
        torch.cuda.synchronize()
        best = max(best, 2 * COPY_BYTES / (time.perf_counter() - started))
    return best


class Engine:
    """The native backend on the GPU with an event loop of its own."""

    def __init__(self, decoder: Llama, *, captures: bool) -> None:
        config = DecodingConfig(
            max_slots=max(BATCHES), max_context=1024, max_prefill_tokens=2048, reuse_prefixes=False, device="cuda"
        )
        runner = NativeRunner(decoder, config, captures_graphs=captures)
        log = EventLog("benchmark")
        self._backend = BatchingBackend(runner=runner, tokenizer=ByteTokenizer(), config=config, log=log)
        self._runner = asyncio.Runner()
        self._runner.run(self._backend.start())
        self._ids = itertools.count()
        prompts = np.random.default_rng(0).normal(size=(SEVEN_B.num_layers, 1, SEVEN_B.width)).astype(np.float32)
        self._condition = AdapterPrompt(prompts=prompts)

    def times(self, batch: int, num_prompt: int, num_new: int) -> list[list[float]]:
        """Return, for each of `batch` requests at once, the seconds from the start to each of its tokens."""
        return self._runner.run(self._times(batch, num_prompt, num_new))

    def stop(self) -> None:
        self._runner.run(self._backend.stop())
        self._runner.close()

    async def _times(self, batch: int, num_prompt: int, num_new: int) -> list[list[float]]:
        started = time.perf_counter()
        return await asyncio.gather(*(self._one(started, num_prompt, num_new) for _ in range(batch)))

    async def _one(self, started: float, num_prompt: int, num_new: int) -> list[float]:
        number = next(self._ids)
        request = DecodeRequest(
            request_id=str(number),
            token_ids=tuple((number * 31 + i) % 250 + 3 for i in range(num_prompt)),
            sampling=SamplingParams(max_tokens=num_new, temperature=0.0, ignore_eos=True),
            condition=self._condition,
        )
        return [time.perf_counter() - started async for _ in self._backend.generate(request)]


def step_seconds(times: Sequence[Sequence[float]]) -> float:
    """Return the median time between tokens once every request decodes."""
    return statistics.median(b - a for row in times for a, b in itertools.pairwise(row[1:]))


def measure() -> dict[str, object]:
    """Run every case and return the figures."""
    decoder = random_decoder()
    rate = copy_bytes_per_s()
    weight_bytes = sum(p.numel() * p.element_size() for p in decoder.parameters()) - SEVEN_B.vocab_size * 4096 * 2
    figures: dict[str, object] = {
        "device": torch.cuda.get_device_name(),
        "date": datetime.datetime.now(tz=datetime.UTC).date().isoformat(),
        "torch": torch.__version__,
        "copy_gb_per_s": rate / 1e9,
    }
    for captures in (True, False):
        engine = Engine(decoder, captures=captures)
        label = "graphs" if captures else "eager"
        for batch in BATCHES:
            engine.times(batch, 32, NEW_TOKENS)  # captures the graphs
            step_s = step_seconds(engine.times(batch, 32, NEW_TOKENS))
            kv_bytes = SEVEN_B.kv_cache_bytes(batch * (32 + NEW_TOKENS // 2), 2)
            figures[f"{label}_batch_{batch}_tokens_per_s"] = batch / step_s
            figures[f"{label}_batch_{batch}_share_of_bandwidth"] = (weight_bytes + kv_bytes) / rate / step_s
        first = [engine.times(1, PROMPT_TOKENS, 1)[0][0] for _ in range(5)]
        figures[f"{label}_ttft_{PROMPT_TOKENS}_tokens_ms"] = statistics.median(first) * 1e3
        engine.stop()
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure LLaMA-7B decoding on one GPU.")
    parser.add_argument("--json", action="store_true", help="print the figures as JSON in the last line")
    arguments = parser.parse_args()
    if not torch.cuda.is_available():
        raise SystemExit("this needs a CUDA device and a CUDA build of torch")
    figures = measure()
    for name, value in figures.items():
        print(f"{name:<36} {value:.3f}" if isinstance(value, float) else f"{name:<36} {value}")
    if arguments.json:
        print(json.dumps(figures))


if __name__ == "__main__":
    main()
