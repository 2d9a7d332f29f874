"""Decode steps as CUDA graphs: one for each bucket of slots and of tokens, captured when it is first needed.

A graph replays fixed kernels on fixed memory. So a step covers all slots up to the highest one in use, rounded up to a
bucket; slots without a row in the step compute something that is dropped, and write their key and value to a slot that
nobody reads. Weights, keys, values and conditions stay on the device; token ids go in, and logits stay there too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.scheduler import Row
from models.llama.model import Llama

MIN_TOKENS = 128  # the smallest bucket of context
_WARM_UP_RUNS = 2  # libraries choose their kernels and allocate before a capture


def bucket(needed: int, *, smallest: int, largest: int) -> int:
    """Return the smallest power of two times `smallest` that holds `needed`, at most `largest`."""
    size = smallest
    while size < needed:
        size *= 2
    return min(size, largest)


class SlotAttention:
    """The `AttentionContext` of a step over the slots 0 to S-1, one token each, all shapes fixed."""

    def __init__(self, cache: KVCache, positions: Tensor, places: Tensor, num_tokens: int) -> None:
        self._cache = cache
        self._places = places
        self._slots = slice(0, len(positions))
        self._num_tokens = num_tokens
        hidden = torch.arange(num_tokens, device=positions.device) > positions[:, None]  # (S, T)
        mask = torch.zeros(hidden.shape, dtype=cache.keys.dtype, device=positions.device)
        self._mask = mask.masked_fill(hidden, float("-inf"))[:, None, None]  # (S, 1, 1, T)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store `k`, `v` `(S, Hkv, Dh)` and return the attention output `(S, H, Dh)` of `q` `(S, H, Dh)`."""
        self._cache.write(layer, self._places, k, v)
        keys, values = self._cache.read(layer, self._slots, self._num_tokens)  # (S, Hkv, T, Dh)
        grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[2])  # (S, Hkv, G, Dh)
        return F.scaled_dot_product_attention(grouped, keys, values, attn_mask=self._mask).flatten(1, 2)


@dataclass(frozen=True, slots=True)
class _Captured:
    """A graph with the memory it reads, `(3, S)` ids, positions and places, and the logits `(S, V)` it writes."""

    inputs: Tensor
    logits: Tensor
    replay: Callable[[], None]


class DecodeGraphs:
    """Runs steps of one new token per sequence. The cache needs one slot more than sequences, the last, as waste.

    `captures` False runs the same function without a graph, on any device.
    """

    def __init__(self, decoder: Llama, cache: KVCache, conditions: ConditionSlots, *, captures: bool) -> None:
        self._decoder = decoder
        self._cache = cache
        self._conditions = conditions
        self._captures = captures
        self._num_slots = cache.keys.shape[1] - 1
        self._graphs: dict[tuple[int, int], _Captured] = {}
        self._pool = torch.cuda.graph_pool_handle() if captures else None

    def logits(self, token_ids: list[int], rows: tuple[Row, ...]) -> Tensor:
        """Return the logits `(N, V)` of one token per row, and store its keys and values."""
        slots = [row.sequence.slot for row in rows]
        num_slots = bucket(max(slots) + 1, smallest=1, largest=self._num_slots)
        longest = max(row.start for row in rows) + 1
        num_tokens = bucket(longest, smallest=MIN_TOKENS, largest=self._cache.max_context)
        waste = self._num_slots * self._cache.max_context
        table = torch.zeros(3, num_slots, dtype=torch.int64)
        table[2] = waste + torch.arange(num_slots) % self._cache.max_context
        for token_id, row in zip(token_ids, rows, strict=True):
            slot = row.sequence.slot
            place = slot * self._cache.max_context + row.start
            table[:, slot] = torch.tensor((token_id, row.start, place))
        captured = self._graphs.get((num_slots, num_tokens))
        if captured is None:
            captured = self._capture(table, num_tokens)
            self._graphs[num_slots, num_tokens] = captured
        captured.inputs.copy_(table)
        captured.replay()
        return captured.logits[slots]

    def _capture(self, table: Tensor, num_tokens: int) -> _Captured:
        inputs = table.to(self._cache.keys.device)
        if not self._captures:
            logits = torch.empty_like(self._step(inputs, num_tokens))

            def rerun() -> None:
                logits.copy_(self._step(inputs, num_tokens))

            return _Captured(inputs, logits, rerun)
        stream = torch.cuda.Stream()  # type: ignore[no-untyped-call]
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            for _ in range(_WARM_UP_RUNS):
                self._step(inputs, num_tokens)
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            logits = self._step(inputs, num_tokens)
        return _Captured(inputs, logits, graph.replay)

    def _step(self, inputs: Tensor, num_tokens: int) -> Tensor:
        token_ids, positions, places = inputs
        attention = SlotAttention(self._cache, positions, places, num_tokens)
        hidden = self._decoder(token_ids, positions, attention, self._conditions.first(len(token_ids)))  # (S, D)
        logits: Tensor = self._decoder.output(hidden)  # (S, V)
        return logits
