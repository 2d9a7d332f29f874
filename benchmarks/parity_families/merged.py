"""A reference state dict as one dense decoder: every layer merged at once, under the decoder's own keys.

`bindchat convert` merges matrix by matrix and writes Hugging Face names; parity runs need neither files nor names.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor

from models.adapters.merge import DenseLinear, Find, adapter_gates, merge_linear, required
from models.adapters.options import ReleasedAdapter
from models.llama.config import LlamaConfig
from models.llama.model import Llama


def overlay(*states: Mapping[str, Tensor]) -> Find:
    """Look keys up in each state in turn, with and without the `llama.` prefix."""

    def find(key: str) -> Tensor | None:
        hits = (state.get(name) for state in states for name in (key, f"llama.{key}"))
        return next((hit for hit in hits if hit is not None), None)

    return find


def merge_layer(find: Find, layer: int, head_width: int, *, adapted: bool) -> dict[str, Tensor]:
    """Return one layer of `models.llama.Llama` under its own keys, merged from released keys.

    A fused matrix gets a bias when any of its parts has one. At an adapted layer with LoRA the low-rank factors of wk
    and wv are kept, because adapter keys and values skip the LoRA path.
    """
    prefix = f"layers.{layer}"
    attention, feed_forward = f"{prefix}.attention", f"{prefix}.feed_forward"
    q, k = (merge_linear(find, attention, name).rotated(head_width) for name in ("wq", "wk"))
    v, wo = (merge_linear(find, attention, name) for name in ("wv", "wo"))
    w1, w2, w3 = (merge_linear(find, feed_forward, name) for name in ("w1", "w2", "w3"))
    merged = {
        f"{prefix}.attention_norm.weight": required(find, f"{prefix}.attention_norm.weight"),
        f"{prefix}.ffn_norm.weight": required(find, f"{prefix}.ffn_norm.weight"),
    }
    fused = {
        f"{attention}.wqkv": (q, k, v),
        f"{attention}.wo": (wo,),
        f"{feed_forward}.w13": (w1, w3),
        f"{feed_forward}.w2": (w2,),
    }
    for name, parts in fused.items():
        merged[f"{name}.weight"] = torch.cat([part.weight for part in parts])
        if any(part.bias is not None for part in parts):
            merged[f"{name}.bias"] = torch.cat([_bias_or_zeros(part) for part in parts])
    if adapted and k.lora is not None and v.lora is not None:
        merged[f"{attention}.adapter_down"] = torch.stack((k.lora[0], v.lora[0]))  # (2, r, D)
        merged[f"{attention}.adapter_up"] = torch.stack((k.lora[1], v.lora[1]))  # (2, Hkv Dh, r)
    return merged


def merge_ends(find: Find) -> dict[str, Tensor]:
    """Return the embeddings, the final norm and the output matrix; a decoder's keys outside its layers."""
    return {key: required(find, key) for key in ("tok_embeddings.weight", "norm.weight", "output.weight")}


def merged_decoder(find: Find, args: Mapping[str, Any], adapter: ReleasedAdapter, *, raw_gates: bool = False) -> Llama:
    """Merge reference weights into a dense decoder; `args` are LLaMA's `params.json` fields."""
    width, num_layers, num_heads = int(args["dim"]), int(args["n_layers"]), int(args["n_heads"])
    num_kv_heads = int(args.get("n_kv_heads") or num_heads)
    adapted = adapter.adapted_layers(num_layers)
    state = merge_ends(find)
    for layer in range(num_layers):
        state |= merge_layer(find, layer, width // num_heads, adapted=layer in adapted)
    factors = [value for key, value in state.items() if key.endswith("adapter_down")]
    config = LlamaConfig(
        vocab_size=state["tok_embeddings.weight"].shape[0],
        width=width,
        num_layers=num_layers,
        num_heads=num_heads,
        num_kv_heads=num_kv_heads,
        head_width=width // num_heads,
        hidden_width=state["layers.0.feed_forward.w2.weight"].shape[1],
        norm_eps=float(args.get("norm_eps", 1e-5)),
        attention_bias="layers.0.attention.wqkv.bias" in state,
        mlp_bias="layers.0.feed_forward.w2.bias" in state,
        adapted_layers=adapted,
        num_adapter_tokens=adapter.num_tokens,
        adapter_lora_rank=factors[0].shape[1] if factors else 0,
    )
    decoder = Llama(config)
    decoder.load_state_dict(state)
    if adapted:
        decoder.adapter_gates.copy_(adapter_gates(find, adapted, raw=raw_gates))
    return decoder.eval()


def _bias_or_zeros(part: DenseLinear) -> Tensor:
    return part.weight.new_zeros(part.weight.shape[0]) if part.bias is None else part.bias.to(part.weight.dtype)
