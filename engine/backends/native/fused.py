"""A decode step on the CPU: torch's matrix products, and one compiled pass over memory between two of them.

The arithmetic is that of `models.llama.model`, with float32 inside every pass; its operators one by one would spend
more time on dispatch and on attention over padded slots than on the products.
"""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import pairwise
from typing import cast

import numpy as np
import torch
from torch import Tensor

from core.types import AnyArray
from engine.backends.native import cpu_kernels as kernels
from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.scheduler import Row
from models.llama.model import Block, Llama

_SHARED_TOKENS = 1024  # attended tokens of a step from which a second thread earns its hand-over


def raw(tensor: Tensor) -> AnyArray:
    """Return the memory of a CPU tensor as the kernels take it: bfloat16 as its bits."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def supports(decoder: Llama) -> bool:
    """Say whether the kernels can run a decoder's steps."""
    weight = decoder.tok_embeddings.weight
    return weight.device.type == "cpu" and weight.dtype in (torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One block with the arrays its kernels read; `constants` `(R, H, Dh)` are None at a layer without adapters."""

    block: Block
    attention_norm: AnyArray
    ffn_norm: AnyArray
    kv: tuple[AnyArray, AnyArray]
    constants: AnyArray | None


class FusedDecoder:
    """Runs steps of one new token per sequence; belongs to the loop's thread."""

    def __init__(self, decoder: Llama, cache: KVCache, conditions: ConditionSlots, *, num_threads: int) -> None:
        config, weight = decoder.config, decoder.tok_embeddings.weight
        self._decoder = decoder
        self._conditions = conditions
        self._num_threads = num_threads
        self._helpers = ThreadPoolExecutor(max(1, num_threads - 1), thread_name_prefix="attention")
        self._frequencies = decoder.frequencies.float().numpy()  # (Dh / 2,)
        self._final_norm = raw(decoder.norm.weight.detach())
        self._layers = [
            _Layer(
                block=cast(Block, block),
                attention_norm=raw(cast(Block, block).attention_norm.weight.detach()),
                ffn_norm=raw(cast(Block, block).ffn_norm.weight.detach()),
                kv=(raw(cache.keys[index]), raw(cache.values[index])),
                constants=None if (table := conditions.constants(index)) is None else raw(table),
            )
            for index, block in enumerate(decoder.layers)
        ]
        rows = cache.keys.shape[1]
        self._normed = weight.new_zeros(rows, config.width)
        self._hidden = weight.new_zeros(rows, config.hidden_width)
        self._queries = weight.new_zeros(rows, config.num_heads, config.head_width)
        self._mixed = torch.zeros_like(self._queries)

    def forward(self, token_ids: Tensor, rows: tuple[Row, ...]) -> Tensor:
        """Return the final normed hidden states `(N, D)` of one token `(N,)` per row, and store its keys and values.

        The result is overwritten by the next call.
        """
        num_rows, eps = len(rows), self._decoder.config.norm_eps
        places = np.array([(row.sequence.slot, row.start) for row in rows], dtype=np.int64)  # (N, 2)
        turns = self._turns(places[:, 1])
        constant_rows = self._conditions.rows(places[:, 0])
        normed, hidden = self._normed[:num_rows], self._hidden[:num_rows]
        mixed = self._mixed[:num_rows]
        x = self._decoder.tok_embeddings(token_ids)  # (N, D)
        state, delta = raw(x), np.zeros_like(raw(x))
        for layer in self._layers:
            attention, feed_forward = layer.block.attention, layer.block.feed_forward
            kernels.add_and_norm(state, delta, layer.attention_norm, eps, raw(normed))
            heads = raw(attention.wqkv(normed)).reshape(num_rows, -1, mixed.shape[2])  # (N, H + 2 Hkv, Dh)
            queries = raw(self._queries[:num_rows])
            kernels.turn_and_store(heads, turns, *layer.kv, places, queries)
            self._attend(queries, layer.kv, places, raw(mixed))
            if layer.constants is not None and constant_rows is not None:
                kernels.add_constants(raw(mixed), layer.constants, constant_rows)
            delta = raw(attention.wo(mixed.flatten(1)))  # (N, D)
            kernels.add_and_norm(state, delta, layer.ffn_norm, eps, raw(normed))
            kernels.gate_with_silu(raw(feed_forward.w13(normed)), raw(hidden))
            delta = raw(feed_forward.w2(hidden))  # (N, D)
        kernels.add_and_norm(state, delta, self._final_norm, eps, raw(normed))
        return normed

    def attend(self, queries: Tensor, layer: int, places: AnyArray) -> Tensor:
        """Return `(N, H, Dh)`: what turned queries find in their slots, for a step that also reads prompts."""
        out = torch.empty_like(queries)
        self._attend(raw(queries), self._layers[layer].kv, places, raw(out))
        return out

    def _attend(self, queries: AnyArray, kv: tuple[AnyArray, AnyArray], places: AnyArray, out: AnyArray) -> None:
        """Attend for all rows, on every thread when there is enough to share."""
        num_rows = len(places)
        if self._num_threads == 1 or num_rows == 1 or int(places[:, 1].sum()) < _SHARED_TOKENS:
            kernels.attend_rows(0, num_rows, queries, kv, places, out)
            return
        parts = np.linspace(0, num_rows, self._num_threads + 1).astype(int)
        spans = [(first, last) for first, last in pairwise(parts) if first < last]
        others = [
            self._helpers.submit(kernels.attend_rows, first, last, queries, kv, places, out)
            for first, last in spans[1:]
        ]
        kernels.attend_rows(*spans[0], queries, kv, places, out)
        for other in others:
            other.result()

    def _turns(self, positions: AnyArray) -> AnyArray:
        """Return the cosines and sines `(N, 2, Dh / 2)` of absolute positions `(N,)`."""
        angles = positions[:, None].astype(np.float32) * self._frequencies  # (N, Dh / 2)
        return np.stack((np.cos(angles), np.sin(angles)), axis=1)
