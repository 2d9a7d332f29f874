"""Which decoder keys an adapter file must hold: the expected names and shapes, to refuse a partial or foreign file.

D width, r LoRA rank, H heads.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Self

from torch import Tensor

from core.errors import CheckpointError
from models.llama.config import LlamaConfig

Shape = tuple[int, ...]

_WITHOUT_BIAS = ("wk", "wv")  # V2 multimodal and ImageBind-LLM never bias these


@dataclass(frozen=True, slots=True, kw_only=True)
class TunedParts:
    """What of the decoder a checkpoint tuned; `scales` is V2 chat: every map has a scale and a bias."""

    gates: bool = False
    new_gates: bool = False
    biases: bool = False
    scales: bool = False
    norms: bool = False
    lora_rank: int = 0

    @classmethod
    def of(cls, state: Mapping[str, Tensor]) -> Self:
        """Read off a checkpoint which parts it has, so that the rest of each part can be demanded."""
        ranks = [value.shape[0] for key, value in state.items() if key.endswith("lora_wq_l1.weight")]
        return cls(
            gates=_any_ends(state, ".gate"),
            new_gates=_any_ends(state, ".new_gate"),
            biases=_any_ends(state, ".wq.bias"),
            scales=_any_ends(state, "_scale"),
            norms=_any_ends(state, "attention_norm.weight"),
            lora_rank=ranks[0] if ranks else 0,
        )

    def shapes(self, config: LlamaConfig, *, prefix: str = "llama.") -> dict[str, Shape]:
        """Return name to shape of every tuned decoder tensor for a decoder of this size."""
        shapes: dict[str, Shape] = {}
        for layer in range(config.num_layers):
            shapes |= self._layer_shapes(config, f"{prefix}layers.{layer}")
        return shapes | ({f"{prefix}norm.weight": (config.width,)} if self.norms else {})

    def _layer_shapes(self, config: LlamaConfig, layer: str) -> dict[str, Shape]:
        width, shapes = config.width, dict[str, Shape]()
        for name, (outputs, inputs) in _linears(config).items():
            module = f"{layer}.{'attention' if name in ('wq', 'wk', 'wv', 'wo') else 'feed_forward'}"
            if self.biases and name not in _WITHOUT_BIAS:
                shapes[f"{module}.{name}.bias"] = (outputs,)
            if self.scales:
                shapes |= {f"{module}.{name}_bias": (outputs,), f"{module}.{name}_scale": (inputs,)}
            if self.lora_rank:
                shapes[f"{module}.lora_{name}_l1.weight"] = (self.lora_rank, inputs)
                shapes[f"{module}.lora_{name}_l2.weight"] = (outputs, self.lora_rank)
        if self.gates:
            shapes[f"{layer}.attention.gate"] = (1, config.num_heads, 1, 1)
        if self.new_gates:
            shapes[f"{layer}.attention.new_gate"] = (1, 1, 1, 1)
        if self.norms:
            shapes |= {f"{layer}.attention_norm.weight": (width,), f"{layer}.ffn_norm.weight": (width,)}
        return shapes


def require_tuned_keys(
    state: Mapping[str, Tensor], config: LlamaConfig, source: str, *, prefix: str = "llama."
) -> None:
    """Raise `CheckpointError` naming what is missing, unexpected or misshapen among the decoder keys of `state`.

    Gates of layers that take no condition may be absent, as in V2 chat.
    """
    found = {key: tuple(state[key].shape) for key in state if key.startswith((f"{prefix}layers.", f"{prefix}norm."))}
    expected = TunedParts.of(state).shapes(config, prefix=prefix)
    adapted = {f"{prefix}layers.{layer}.attention.gate" for layer in config.adapted_layers}
    idle = {key for key in expected if key.endswith(".gate") and key not in adapted}
    missing, unexpected = sorted(expected.keys() - found.keys() - idle), sorted(found.keys() - expected.keys())
    if missing or unexpected:
        raise CheckpointError(f"{source}: missing keys {missing[:6]}, unexpected keys {unexpected[:6]}")
    for key, shape in found.items():
        if shape != expected[key]:
            raise CheckpointError(f"{source}: {key} has shape {shape}; the base model takes {expected[key]}")


def _linears(config: LlamaConfig) -> dict[str, tuple[int, int]]:
    width, query, kv, hidden = config.width, config.query_width, config.kv_width, config.hidden_width
    return {
        **{"wq": (query, width), "wk": (kv, width), "wv": (kv, width), "wo": (width, query)},
        **{"w1": (hidden, width), "w3": (hidden, width), "w2": (width, hidden)},
    }


def _any_ends(keys: Collection[str], suffix: str) -> bool:
    return any(key.endswith(suffix) for key in keys)
