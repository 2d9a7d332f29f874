"""Merge what an adapter tuned into dense LLaMA weights: LoRA, biases, scales, norms and gates.

The reference keeps them apart at run time; here each matrix absorbs them once. Released weights use the interleaved
rotary layout, ours the half-split one, so query and key rows are permuted alike in weights, biases and LoRA factors.
One layer is merged at a time, so a conversion can stream.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from core.errors import CheckpointError
from models.llama.weights import half_split_rows

Find = Callable[[str], Tensor | None]
"""Look a key up without the `llama.` prefix, the adapter's file before the base's; None when neither holds it."""


def merge_lora(weight: Tensor, down: Tensor, up: Tensor) -> Tensor:
    """Return `W + up @ down` `(out, in)` for factors `(r, in)` and `(out, r)`; summed in float32, no rank scaling."""
    return (weight.float() + up.float() @ down.float()).to(weight.dtype)


def merge_scale(weight: Tensor, scale: Tensor) -> Tensor:
    """Return the matrix of `x -> W (x * scale)`: LLaMA-Adapter V2, equation 3."""
    return (weight.float() * scale.float()).to(weight.dtype)


def effective_gate(gate: Tensor, new_gate: Tensor | None = None, *, raw: bool = False) -> Tensor:
    """Return what multiplies each head's adapter term `(H,)`: tanh of the stored gate, times `new_gate` if any.

    `raw` leaves the tanh out, as the released inference code of LLaMA-Adapter V1 does.
    """
    heads = gate.flatten().float()
    heads = heads if raw else heads.tanh()
    return heads if new_gate is None else heads * new_gate.flatten().float()


@dataclass(frozen=True, slots=True)
class DenseLinear:
    """A merged matrix, its bias, and the LoRA factors that went into it."""

    weight: Tensor
    bias: Tensor | None
    lora: tuple[Tensor, Tensor] | None

    def rotated(self, head_width: int) -> DenseLinear:
        """Return the same map with its output rows in the half-split rotary layout."""
        num_heads = self.weight.shape[0] // head_width
        bias = None if self.bias is None else half_split_rows(self.bias, num_heads)
        lora = None if self.lora is None else (self.lora[0], half_split_rows(self.lora[1], num_heads))
        return DenseLinear(half_split_rows(self.weight, num_heads), bias, lora)


def merge_linear(find: Find, module: str, name: str) -> DenseLinear:
    """Merge one linear map, for example module `layers.3.attention`, name `wq`.

    Understands `wq.bias` (V2, ImageBind-LLM), `wq_bias` and `wq_scale` (V2 chat) and `lora_wq_l1/l2`. Raises
    `CheckpointError` when the matrix itself or half of a LoRA pair is missing.
    """
    weight = required(find, f"{module}.{name}.weight")
    down, up = (find(f"{module}.lora_{name}_{half}.weight") for half in ("l1", "l2"))
    if (down is None) != (up is None):
        raise CheckpointError(f"{module}.lora_{name}_l1 and _l2 come as a pair; one of them is missing")
    lora = None if down is None or up is None else (down, up)
    if lora is not None:
        weight = merge_lora(weight, *lora)
    if (scale := find(f"{module}.{name}_scale")) is not None:
        weight = merge_scale(weight, scale)
    bias = find(f"{module}.{name}.bias")
    return DenseLinear(weight, bias if bias is not None else find(f"{module}.{name}_bias"), lora)


def adapter_gates(find: Find, adapted_layers: tuple[int, ...], *, raw: bool = False) -> Tensor:
    """Return `Llama.adapter_gates` `(L, H)` of the adapted layers; see `effective_gate`."""
    modules = [f"layers.{layer}.attention" for layer in adapted_layers]
    rows = [effective_gate(required(find, f"{m}.gate"), find(f"{m}.new_gate"), raw=raw) for m in modules]
    return torch.stack(rows) if rows else torch.zeros(0)


def required(find: Find, key: str) -> Tensor:
    """Return the tensor of a key. Raises `CheckpointError` naming it when there is none."""
    tensor = find(key)
    if tensor is None:
        raise CheckpointError(f"the checkpoint has no key {key!r}; check that adapter and base model belong together")
    return tensor
