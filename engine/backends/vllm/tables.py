"""The conditions of the running requests inside vLLM's model, by slot; slot 0 stays zero."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor, nn

from engine.backends.vllm.payload import ConditionRow, ConditionShape, unpack


class LayerTable(nn.Module):
    """One adapted layer's slots on one rank: `values` `(S, H, Dh)` when P = 1, else keys and values per key head."""

    values: Tensor
    keys: Tensor
    mask: Tensor
    gates: Tensor

    def __init__(self, shape: ConditionShape, num_slots: int, dtype: torch.dtype) -> None:
        super().__init__()
        self.num_tokens = shape.num_tokens
        sizes: dict[str, tuple[int, ...]] = {"values": (num_slots, shape.num_heads, shape.head_width)}
        if shape.num_tokens > 1:
            by_key_head = (num_slots, shape.num_kv_heads, shape.num_tokens, shape.head_width)
            sizes = {"values": by_key_head, "keys": by_key_head, "mask": (num_slots, shape.num_tokens)}
            self.register_buffer("gates", torch.zeros(shape.num_heads, 1, dtype=dtype), persistent=False)
        for name, size in sizes.items():
            self.register_buffer(name, torch.zeros(size, dtype=dtype), persistent=False)

    def term(self, q: Tensor, token_slots: Tensor, scale: float) -> Tensor:
        """Return what is added to the attention output of flat queries `q` `(N, H Dh)`.

        The formula of `models.llama.condition`, LLaMA-Adapter's equations 5 to 8; P = 1 is a gather.
        """
        if self.num_tokens == 1:
            return self.values[token_slots].flatten(1)  # (N, H Dh)
        num_kv_heads, head_width = self.keys.shape[1], self.keys.shape[3]
        grouped = q.view(q.shape[0], num_kv_heads, -1, head_width)  # (N, G, H/G, Dh)
        scores = torch.matmul(grouped, self.keys[token_slots].transpose(-1, -2)).float() * scale  # (N, G, H/G, P)
        hidden = self.mask[token_slots][:, None, None, :] == 0
        attention = scores.masked_fill(hidden, torch.finfo(torch.float32).min).softmax(dim=-1).to(q.dtype)
        out = torch.matmul(attention, self.values[token_slots])  # (N, G, H/G, Dh)
        return (out.view(q.shape[0], -1, head_width) * self.gates).flatten(1)


class ConditionTables:
    """Write the payloads of requests into this rank's tables, `layers` by their place among the adapted layers."""

    def __init__(self, layers: dict[int, LayerTable], shape: ConditionShape, *, rank: int, num_ranks: int) -> None:
        self._layers = layers
        self.shape = shape
        self._rank = rank
        self._num_ranks = num_ranks

    def read(self, extra_args: Mapping[str, Any] | None) -> ConditionRow | None:
        """Return a request's condition. The server packed and checked it; a foreign one raises `InvalidRequest`."""
        return unpack(extra_args, self.shape)

    @torch.no_grad()
    def write(self, slot: int, row: ConditionRow) -> None:
        """Fill a slot in every layer of this pipeline stage."""
        for index, layer in self._layers.items():
            layer.values[slot] = self._own(row.values[index], layer.values)
            if row.keys is not None and row.mask is not None:
                layer.keys[slot] = self._own(row.keys[index], layer.keys)
                layer.mask[slot] = torch.from_numpy(row.mask[index]).to(layer.mask)

    def _own(self, heads: Any, like: Tensor) -> Tensor:
        """Return this rank's share of a layer's heads `(heads, ...)`; key heads repeat when ranks outnumber them."""
        whole = torch.from_numpy(heads.copy())
        count = like.shape[1]
        start = self._rank * whole.shape[0] // self._num_ranks
        return whole[start : start + count].to(like)
