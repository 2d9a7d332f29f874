"""How the released ImageBind-LLM generates, as a minimal loop: one request at a time, full precision.

Its `generate` runs one forward pass per token with the visual query as an argument, so that every layer projects its
adapter token to keys and values again in every pass; nothing is shared between requests. The loop below does the same
work on our modules in float32. Argument: threads.
"""

from __future__ import annotations

import sys

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.decode_peers.worker import serve_runs
from models.llama.condition import ConditionView
from models.llama.model import Llama
from models.registry import load_model

EMBEDDING_WIDTH = 384


class GrowingCache:
    """Keys and values of one sequence, written at `start`."""

    def __init__(self, decoder: Llama, max_context: int) -> None:
        config = decoder.config
        shape = (config.num_layers, max_context, config.num_kv_heads, config.head_width)
        self._keys, self._values = torch.zeros(2, *shape, dtype=decoder.tok_embeddings.weight.dtype)
        self._num_groups = config.num_heads // config.num_kv_heads
        self.start = 0

    def attend(self, layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        """Attend from `q` `(1, T, H, Dh)` to everything stored so far and to `k`, `v` `(1, T, Hkv, Dh)`."""
        end = self.start + q.shape[1]
        self._keys[layer, self.start : end], self._values[layer, self.start : end] = k[0], v[0]
        both = (stored[layer, :end].repeat_interleave(self._num_groups, dim=1) for stored in (self._keys, self._values))
        keys, values = (x.transpose(0, 1)[None] for x in both)  # (1, H, end, Dh)
        num_tokens = q.shape[1]
        mask = None if num_tokens == 1 else torch.ones(num_tokens, end, dtype=torch.bool).tril(self.start)
        return F.scaled_dot_product_attention(q.transpose(1, 2), keys, values, attn_mask=mask).transpose(1, 2)


@torch.inference_mode()
def generate(decoder: Llama, prompts: Tensor, prompt_ids: list[int], num_new: int) -> int:
    """Decode one request greedily under adapter tokens `prompts` `(1, L, P, D)`; return the number of new tokens."""
    cache = GrowingCache(decoder, len(prompt_ids) + num_new)
    pending, made = prompt_ids, 0
    while made < num_new:
        table = decoder.project_condition(prompts)  # again for every token
        token_ids = torch.tensor([pending])
        positions = torch.arange(cache.start, cache.start + len(pending))[None]
        view = ConditionView(table, torch.zeros(1, 1, dtype=torch.int64))
        hidden = decoder(token_ids, positions, cache, view)  # (1, T, D)
        cache.start += len(pending)
        pending, made = [int(decoder.logits(hidden[:, -1]).argmax())], made + 1
    return made


def main() -> None:
    torch.set_num_threads(int(sys.argv[1]))
    bundle = load_model("mini", torch.float32)
    vector = np.random.default_rng(0).normal(size=EMBEDDING_WIDTH).astype(np.float32)
    condition = bundle.adapter.condition(vector / np.linalg.norm(vector))
    assert condition is not None
    prompts = torch.from_numpy(condition.prompts)[None]  # (1, L, P, D)
    serve_runs(lambda texts, num_new: sum(generate(bundle.decoder, prompts, text, num_new) for text in texts))


if __name__ == "__main__":
    main()
