"""Fill a decoder from any stored layout, tensor by tensor, strictly.

Every reader shows its file as a `WeightSource`: Hugging Face key names, rows of wq and wk in the half-split order.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode

from core.errors import CheckpointError
from models.checkpoints import require_same_keys
from models.llama.config import LlamaConfig
from models.llama.model import Llama
from models.llama.rope import inverse_frequencies


class WeightSource(Protocol):
    """Stored decoder weights under Hugging Face names."""

    def shapes(self) -> Mapping[str, tuple[int, ...]]: ...

    def read(self, key: str) -> Tensor: ...

    def origin(self, key: str) -> str:
        """Return the file and the key as stored there, for error messages."""
        ...


@dataclass(frozen=True, slots=True)
class Slot:
    """Rows `start : start + shape[0]` of one decoder parameter, where one stored tensor goes."""

    parameter: str
    start: int
    shape: tuple[int, ...]


def decoder_slots(config: LlamaConfig) -> dict[str, Slot]:
    """Return the slot of every Hugging Face key that a decoder of this shape needs."""
    table = (config.vocab_size, config.width)
    slots = {"model.embed_tokens.weight": Slot("tok_embeddings.weight", 0, table)}
    for layer in range(config.num_layers):
        slots.update(_layer_slots(config, layer))
    slots["model.norm.weight"] = Slot("norm.weight", 0, (config.width,))
    if not config.tied_embeddings:
        slots["lm_head.weight"] = Slot("output.weight", 0, table)
    return slots


def _layer_slots(config: LlamaConfig, layer: int) -> dict[str, Slot]:
    query, kv, width, hidden = config.query_width, config.kv_width, config.width, config.hidden_width
    linears = (
        ("self_attn.q_proj", "attention.wqkv", 0, (query, width), config.attention_bias),
        ("self_attn.k_proj", "attention.wqkv", query, (kv, width), config.attention_bias),
        ("self_attn.v_proj", "attention.wqkv", query + kv, (kv, width), config.attention_bias),
        ("self_attn.o_proj", "attention.wo", 0, (width, query), config.attention_bias),
        ("mlp.gate_proj", "feed_forward.w13", 0, (hidden, width), config.mlp_bias),
        ("mlp.up_proj", "feed_forward.w13", hidden, (hidden, width), config.mlp_bias),
        ("mlp.down_proj", "feed_forward.w2", 0, (width, hidden), config.mlp_bias),
    )
    stored, own = f"model.layers.{layer}", f"layers.{layer}"
    slots = {
        f"{stored}.input_layernorm.weight": Slot(f"{own}.attention_norm.weight", 0, (width,)),
        f"{stored}.post_attention_layernorm.weight": Slot(f"{own}.ffn_norm.weight", 0, (width,)),
    }
    for name, parameter, start, shape, has_bias in linears:
        slots[f"{stored}.{name}.weight"] = Slot(f"{own}.{parameter}.weight", start, shape)
        if has_bias:
            slots[f"{stored}.{name}.bias"] = Slot(f"{own}.{parameter}.bias", start, shape[:1])
    return slots


_DRAWS = (Tensor.normal_, Tensor.uniform_, nn.init.normal_, nn.init.uniform_, nn.init.kaiming_uniform_)


class _NoRandomStart(TorchFunctionMode):
    """Leave new parameters unset; drawing them for a shape without storage would import a second of torch."""

    def __torch_function__(
        self, func: Callable[..., Any], types: Sequence[type], args: Any = (), kwargs: Any = None
    ) -> Any:
        if func in _DRAWS:
            return args[0] if args else kwargs["tensor"]
        return func(*args, **(kwargs or {}))


def shape_of_llama(config: LlamaConfig, dtype: torch.dtype) -> Llama:
    """Return a decoder that has shapes and no storage, for whom its weights are elsewhere."""
    with torch.device("meta"), _NoRandomStart():
        return Llama(config).to(dtype).requires_grad_(False)


def empty_llama(config: LlamaConfig, dtype: torch.dtype) -> Llama:
    """Return a frozen decoder with unset weights of `dtype`; rotary frequencies and gates stay float32."""
    model = shape_of_llama(config, dtype)
    for module in model.modules():
        for name, parameter in list(module.named_parameters(recurse=False)):
            setattr(module, name, nn.Parameter(torch.empty(parameter.shape, dtype=dtype), requires_grad=False))
        for name, buffer in list(module.named_buffers(recurse=False)):
            setattr(module, name, torch.zeros(buffer.shape, dtype=dtype))
    if config.tied_embeddings:
        model.output.weight = model.tok_embeddings.weight
    model.frequencies = inverse_frequencies(config.head_width, config.rope_theta, config.rope_scaling)
    model.adapter_gates = torch.zeros(len(config.adapted_layers), config.num_heads)
    return model.eval()


def load_llama(config: LlamaConfig, source: WeightSource, dtype: torch.dtype, *, where: str) -> Llama:
    """Return a frozen decoder with the weights of `source` in `dtype`; no second copy of the model is made.

    Raises `CheckpointError` naming `where` and the keys when one is missing, unexpected or of a wrong shape.
    """
    slots = decoder_slots(config)
    require_matching(slots, source, where)
    model = empty_llama(config, dtype)
    parameters = dict(model.named_parameters())
    with torch.no_grad():
        for key, slot in slots.items():
            rows = slice(slot.start, slot.start + slot.shape[0])
            parameters[slot.parameter][rows].copy_(source.read(key))
    return model


def hf_state(model: Llama) -> dict[str, Tensor]:
    """Return the decoder's weights under Hugging Face names, as views; what `load_llama` reads back."""
    parameters = dict(model.named_parameters())
    slots = decoder_slots(model.config)
    return {key: parameters[slot.parameter][slot.start : slot.start + slot.shape[0]] for key, slot in slots.items()}


def require_matching(slots: Mapping[str, Slot], source: WeightSource, where: str) -> None:
    """Raise `CheckpointError` unless `source` has exactly the keys of `slots`, in their shapes."""
    shapes = source.shapes()
    require_same_keys(where, slots, shapes)
    for key, slot in slots.items():
        if shapes[key] != slot.shape:
            raise CheckpointError(f"{source.origin(key)} has shape {shapes[key]}; the configuration takes {slot.shape}")


def rotary_heads(key: str, num_heads: int, num_kv_heads: int) -> int | None:
    """Return how many heads share the rows of a stored wq or wk that rotary positions turn; None for other tensors."""
    return num_heads if ".q_proj." in key else num_kv_heads if ".k_proj." in key else None


def half_split_rows(weight: Tensor, num_heads: int) -> Tensor:
    """Reorder wq or wk rows from Meta's adjacent rotary pairs (2i, 2i+1) to the half-split layout (i, i + Dh/2)."""
    pairs = weight.reshape(num_heads, -1, 2, *weight.shape[1:])  # (H, Dh/2, 2, ...)
    return pairs.transpose(1, 2).reshape(weight.shape)


def interleaved_rows(weight: Tensor, num_heads: int) -> Tensor:
    """Undo `half_split_rows`: put rows back into Meta's adjacent pairs."""
    halves = weight.reshape(num_heads, 2, -1, *weight.shape[1:])  # (H, 2, Dh/2, ...)
    return halves.transpose(1, 2).reshape(weight.shape)
