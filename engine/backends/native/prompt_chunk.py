"""What the tokens of a prompt chunk attend to: everything of their slot up to themselves."""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from engine.backends.native.kv_cache import KVCache
from engine.backends.native.scheduler import StepPlan


@dataclass(frozen=True, slots=True)
class PromptChunk:
    """`tokens` is the chunk's place in the flat batch; `mask` `(G * n, T)` is additive."""

    tokens: slice
    slot: int
    num_tokens: int
    mask: Tensor

    def attend(self, layer: int, q: Tensor, cache: KVCache) -> Tensor:
        """Return the attention output `(n, Hkv, G, Dh)` of turned queries `(n, Hkv, G, Dh)` stored already."""
        n, num_kv_heads, num_groups, width = q.shape
        keys, values = cache.read(layer, slice(self.slot, self.slot + 1), self.num_tokens)  # (1, Hkv, T, Dh)
        stacked = q.permute(1, 2, 0, 3).reshape(1, num_kv_heads, num_groups * n, width)
        out = F.scaled_dot_product_attention(stacked, keys, values, attn_mask=self.mask)
        return out.view(num_kv_heads, num_groups, n, width).permute(2, 0, 1, 3)  # (n, Hkv, G, Dh)


def prompt_chunks(plan: StepPlan, cache: KVCache) -> list[PromptChunk]:
    """Return the prompt chunks of a plan, which follow its decode rows in the flat batch."""
    chunks, start = [], len(plan.decode)
    for row in plan.prefill:
        num_tokens = row.start + row.length
        mask = torch.full((row.length, num_tokens), float("-inf"), dtype=cache.keys.dtype, device=cache.keys.device)
        mask = mask.triu_(row.start + 1).repeat(cache.num_groups, 1)  # (G * n, T)
        chunks.append(PromptChunk(slice(start, start + row.length), row.sequence.slot, num_tokens, mask))
        start += row.length
    return chunks
