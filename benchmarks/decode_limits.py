"""What the machine allows a decode step of SmolLM2-135M: bytes over bandwidth, operations over peak."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from benchmarks.latency import read_bandwidth
from engine.backends.native.linears import CROWD, Int8Linear, PackedLinear, PlainLinear, has_onednn_bfloat16

# SmolLM2-135M: the matrices of 30 layers, and the output layer (also the embedding, of which a step reads few rows).
LAYER_WEIGHTS = 30 * (960 * 576 + 576 * 576 + 3072 * 576 + 576 * 1536)
HEAD_WEIGHTS = 49152 * 576
KV_BYTES_PER_TOKEN = 2 * 30 * 3 * 64 * 2  # keys and values, 3 heads of 64, bfloat16
ATTENTION_FLOPS_PER_TOKEN = 2 * 2 * 30 * 9 * 64  # per token attended to, 9 heads: scores and sums
MEAN_CONTEXT = 32 + 30  # half of 64 new tokens, and a prompt of about 30
FOUR_BIT_BYTES = 0.5 + 4 / 32  # a level, and a scale and an offset in bfloat16 for 32 of them
FEW_ROWS = 4  # up to about here `auto` reads 4-bit weights, and 8-bit ones from `CROWD` on
PEAK_SIZE = 1024


@dataclass(frozen=True, slots=True)
class Limits:
    """Measured read bandwidth, and the rates of bfloat16 and 8-bit products, of the threads used."""

    bytes_per_s: float
    flops_per_s: float
    int8_ops_per_s: float

    def step_bytes(self, concurrency: int, num_tokens: float = MEAN_CONTEXT) -> float:
        """Return what one step reads: the weights once, and the keys and values of every sequence."""
        layers = LAYER_WEIGHTS * (FOUR_BIT_BYTES if concurrency <= FEW_ROWS else 1 if concurrency >= CROWD else 2)
        return layers + HEAD_WEIGHTS + concurrency * num_tokens * KV_BYTES_PER_TOKEN

    def step_flops(self, concurrency: int, num_tokens: float = MEAN_CONTEXT) -> float:
        """Return the multiplications and additions of one step."""
        weights = 2 * (LAYER_WEIGHTS + HEAD_WEIGHTS)
        return concurrency * (weights + num_tokens * ATTENTION_FLOPS_PER_TOKEN)

    def shortest_step_s(self, concurrency: int, num_tokens: float = MEAN_CONTEXT) -> float:
        """Return the longer of the two bounds."""
        by_bytes = self.step_bytes(concurrency, num_tokens) / self.bytes_per_s
        return max(by_bytes, self.step_flops(concurrency, num_tokens) / self.rate(concurrency))

    def rate(self, concurrency: int) -> float:
        """Return the operations per second of the products that a step of so many replies makes."""
        return self.int8_ops_per_s if concurrency >= CROWD else self.flops_per_s

    def describe(self, concurrency: int, tokens_per_s: float) -> str:
        """Return one line: the two bounds, the step reached, and the fraction."""
        by_bytes = self.step_bytes(concurrency) / self.bytes_per_s
        by_flops = self.step_flops(concurrency) / self.rate(concurrency)
        step_s = concurrency / tokens_per_s
        return (
            f"  {concurrency:>3} at once: {self.step_bytes(concurrency) / 1e6:5.0f} MB = {by_bytes * 1e3:5.1f} ms, "
            f"{self.step_flops(concurrency) / 1e9:5.1f} GFLOP = {by_flops * 1e3:5.1f} ms; a step takes "
            f"{step_s * 1e3:6.1f} ms, {max(by_bytes, by_flops) / step_s:4.0%} of the limit"
        )


def measure_limits(num_threads: int, *, seconds: float) -> Limits:
    """Measure both rates for about `seconds` each; the best try counts."""
    torch.set_num_threads(num_threads)
    x = torch.randn(PEAK_SIZE, PEAK_SIZE).bfloat16()
    linear = nn.Linear(PEAK_SIZE, PEAK_SIZE, bias=False).to(torch.bfloat16).requires_grad_(False)
    ways: list[tuple[Callable[[Tensor], object], Tensor]] = (
        [(PackedLinear(linear), x)] if has_onednn_bfloat16() else [(PlainLinear(linear), x)]
    )
    if torch.cpu._is_vnni_supported():
        ways.append((Int8Linear(linear).multiply, torch.full((PEAK_SIZE, PEAK_SIZE), 7, dtype=torch.uint8)))
    rates = [_best_rate(multiply, rows, seconds) for multiply, rows in ways]
    repeats = max(2, int(seconds * 5))
    return Limits(
        bytes_per_s=read_bandwidth(num_threads, 256 << 20, repeats), flops_per_s=rates[0], int8_ops_per_s=rates[-1]
    )


def _best_rate(multiply: Callable[[Tensor], object], rows: Tensor, seconds: float) -> float:
    """Return the operations per second of the best product of square matrices."""
    best = 0.0
    began = time.perf_counter()
    with torch.inference_mode():
        while time.perf_counter() - began < seconds:
            started = time.perf_counter()
            multiply(rows)
            best = max(best, 2 * PEAK_SIZE**3 / (time.perf_counter() - started))
    return best
