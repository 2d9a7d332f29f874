"""The condition inside LLaMA attention: gated attention to a request's adapter tokens.

For every token of a request, per head: `output += g * softmax(q K_a^T / sqrt(d)) V_a`, before the output projection
(LLaMA-Adapter, equations 5-8; ImageBind-LLM, section 3.2, is the case P = 1 where the softmax over one key is 1).
R rows are requests; N is any leading shape of tokens; L adapted layers, P adapter tokens.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class ConditionTable:
    """Keys and values of the adapter tokens of R requests, projected once; all of a row zero means text only.

    `values` is `(L, R, H, Dh)` with the gate multiplied in when P = 1 (then `keys` is None), else
    `(L, R, Hkv, P, Dh)` with `gates` `(L, H)` and `mask` `(L, R, P)`, True where a token is real.
    """

    layers: tuple[int, ...]
    values: Tensor
    keys: Tensor | None = None
    gates: Tensor | None = None
    mask: Tensor | None = None

    def at(self, layer: int) -> int | None:
        """Return the index of a decoder layer among the adapted ones, or None where nothing is injected."""
        return self.layers.index(layer) if layer in self.layers else None


@dataclass(frozen=True, slots=True)
class ConditionView:
    """A table together with `rows`, the row of each token; `rows` broadcasts against the tokens' leading shape.

    A slice takes rows that already stand in the tokens' order, without a copy.
    """

    table: ConditionTable
    rows: Tensor | slice

    def term(self, layer: int, q: Tensor) -> Tensor | None:
        """Return what is added to the attention output of `q` `(*N, H, Dh)`, or None at a layer without adapters."""
        index = self.table.at(layer)
        if index is None:
            return None
        values = self.table.values[index][self.rows]
        if self.table.keys is None:
            return values  # (*N, H, Dh)
        assert self.table.gates is not None and self.table.mask is not None
        keys, mask = self.table.keys[index][self.rows], self.table.mask[index][self.rows]
        return gated_adapter_attention(q, keys, values, self.table.gates[index], mask)


def gated_adapter_attention(q: Tensor, keys: Tensor, values: Tensor, gates: Tensor, mask: Tensor) -> Tensor:
    """Attend from `q` `(*N, H, Dh)` to `keys`, `values` `(*N, Hkv, P, Dh)` and scale each head by `gates` `(H,)`.

    `mask` `(*N, P)` is True at real tokens; a row without any adds zero because its values are zero.
    """
    grouped = q.reshape(*q.shape[:-2], keys.shape[-3], -1, q.shape[-1])  # (*N, Hkv, G, Dh)
    scores = grouped.float() @ keys.float().transpose(-1, -2) / q.shape[-1] ** 0.5  # (*N, Hkv, G, P)
    scores = scores.masked_fill(~mask[..., None, None, :], torch.finfo(scores.dtype).min)
    attention = scores.softmax(dim=-1).to(q.dtype)
    out: Tensor = (attention @ values).flatten(-3, -2) * gates[:, None].to(q.dtype)
    return out  # (*N, H, Dh)
