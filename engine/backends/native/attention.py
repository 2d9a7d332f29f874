"""What each token of a mixed batch attends to: decode rows together, each prefill row alone."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from engine.backends.native.fused import FusedDecoder
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.prompt_chunk import prompt_chunks
from engine.backends.native.scheduler import Row, StepPlan


@dataclass(frozen=True, slots=True)
class _DecodeGroup:
    """Decode rows as one attention over the slots 0 to S-1; slots that do not decode are computed and dropped.

    Where the CPU's kernels run, they read each row's own slot instead.
    """

    rows: Tensor | None
    num_rows: int
    num_slots: int
    num_tokens: int
    mask: Tensor | None


class BatchAttention:
    """The `AttentionContext` of one step over flat tokens `(N,)`: decode rows in slot order, then prompt chunks."""

    def __init__(self, plan: StepPlan, cache: KVCache, places: Tensor, *, fused: FusedDecoder | None) -> None:
        self._cache = cache
        self._places = places
        self._fused = fused
        self._decode_places = np.array([(row.sequence.slot, row.start) for row in plan.decode], dtype=np.int64)
        self._decode = self._group_decode(plan.decode) if plan.decode else None
        self._prefill = prompt_chunks(plan, cache)

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Store `k`, `v` `(N, Hkv, Dh)` and return the attention output `(N, H, Dh)` of `q` `(N, H, Dh)`."""
        self._cache.write(layer, self._places, k, v)
        grouped = q.reshape(q.shape[0], k.shape[1], -1, q.shape[2])  # (N, Hkv, G, Dh)
        if self._decode is not None and not self._prefill:
            return self._attend_decode(layer, grouped, self._decode).flatten(1, 2)
        out = torch.empty_like(grouped)
        if self._decode is not None:
            num_rows = self._decode.num_rows
            out[:num_rows] = self._attend_decode(layer, grouped[:num_rows], self._decode)
        for chunk in self._prefill:
            out[chunk.tokens] = chunk.attend(layer, grouped[chunk.tokens], self._cache)
        return out.flatten(1, 2)

    def _attend_decode(self, layer: int, q: Tensor, group: _DecodeGroup) -> Tensor:
        if self._fused is not None:
            return self._fused.attend(q.flatten(1, 2), layer, self._decode_places).view_as(q)
        keys, values = self._cache.read(layer, slice(0, group.num_slots), group.num_tokens)  # (S, Hkv, T, Dh)
        if group.rows is None:
            return F.scaled_dot_product_attention(q, keys, values, attn_mask=group.mask)
        spread = q.new_zeros(group.num_slots, *q.shape[1:])
        spread[group.rows] = q
        return F.scaled_dot_product_attention(spread, keys, values, attn_mask=group.mask)[group.rows]

    def _group_decode(self, rows: tuple[Row, ...]) -> _DecodeGroup:
        keys = self._cache.keys
        slots = [row.sequence.slot for row in rows]
        lengths = [row.start + 1 for row in rows]
        num_slots, num_tokens = max(slots) + 1, max(lengths)
        is_dense = len(rows) == num_slots
        mask = None
        if not is_dense or min(lengths) < num_tokens:
            visible = torch.full((num_slots,), num_tokens)
            visible[slots] = torch.tensor(lengths)
            hidden = torch.arange(num_tokens) >= visible[:, None]  # (S, T)
            mask = torch.zeros(hidden.shape, dtype=keys.dtype).masked_fill_(hidden, float("-inf"))
            mask = mask[:, None, None].to(keys.device)  # (S, 1, 1, T)
        places = None if is_dense else torch.tensor(slots, device=keys.device)
        return _DecodeGroup(places, len(rows), num_slots, num_tokens, mask)
