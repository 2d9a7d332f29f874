"""The shape of a LLaMA decoder and of the condition it accepts."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class RopeScaling:
    """LLaMA 3's frequency-dependent scaling (`llama3`) or a plain division of the positions (`linear`)."""

    kind: str
    factor: float
    low_freq_factor: float = 1.0
    high_freq_factor: float = 4.0
    original_max_context: int = 8192


@dataclass(frozen=True, slots=True, kw_only=True)
class LlamaConfig:
    """Every dimension of one decoder; derived values are properties.

    `adapted_layers` are the layer indices that take the condition, in the order of `AdapterPrompt.prompts`.
    `adapter_lora_rank` above 0 keeps the merged LoRA factors of wk and wv, which adapter tokens must not pass.
    """

    vocab_size: int
    width: int
    num_layers: int
    num_heads: int
    num_kv_heads: int
    head_width: int
    hidden_width: int
    norm_eps: float
    rope_theta: float = 10000.0
    rope_scaling: RopeScaling | None = None
    max_context: int = 2048
    tied_embeddings: bool = False
    attention_bias: bool = False
    mlp_bias: bool = False
    adapted_layers: tuple[int, ...] = ()
    num_adapter_tokens: int = 0
    adapter_lora_rank: int = 0

    def __post_init__(self) -> None:
        if self.num_heads % self.num_kv_heads:
            raise ConfigError(f"num_heads {self.num_heads} must be a multiple of num_kv_heads {self.num_kv_heads}")
        if self.head_width % 2:
            raise ConfigError(f"head_width must be even for rotary positions, got {self.head_width}")
        if any(not 0 <= layer < self.num_layers for layer in self.adapted_layers):
            raise ConfigError(f"adapted_layers must lie in [0, {self.num_layers}), got {self.adapted_layers}")

    @property
    def query_width(self) -> int:
        return self.num_heads * self.head_width

    @property
    def kv_width(self) -> int:
        return self.num_kv_heads * self.head_width

    def kv_cache_bytes(self, num_tokens: int, bytes_per_value: int) -> int:
        """Return the bytes that keys and values of `num_tokens` tokens take over all layers."""
        return 2 * self.num_layers * self.kv_width * num_tokens * bytes_per_value
