"""The table of decoder backends and the options they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Literal

from core.errors import ConfigError
from core.registry import Registry
from core.types import DecoderBackend
from engine.backends.vllm.options import VllmOptions
from engine.media_first import MediaFirst
from models.bundle import ModelBundle
from models.llama.config import LlamaConfig

WeightsDtype = Literal["auto", "bfloat16", "int8", "int4"]
"""How a bfloat16 decoder's matrices are kept on the CPU; `auto` measures, and takes fewer bits only where exact."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingConfig:
    """How many sequences decode at once and how much memory and time a step may take.

    `max_context` counts prompt and reply tokens of one sequence; the decoder's own is the ceiling.
    `max_prefill_tokens` bounds the prompt tokens of one step; beside running replies a step takes fewer, so that a
    long prompt does not stall them. `max_cache_tokens` bounds the tokens of all sequences together, those that are
    kept for reuse too (`reuse_prefixes`); None: every slot may be full. `device` is torch's name of where it runs.
    `media_first` says when steps wait for media, on a processor that both need.
    """

    max_slots: int = 32
    max_queue: int = 64
    max_context: int = 4096
    max_prefill_tokens: int = 256
    max_cache_tokens: int | None = None
    reuse_prefixes: bool = True
    weights_dtype: WeightsDtype = "auto"
    device: str = "cpu"
    num_threads: int | None = None
    media_first: MediaFirst | None = None
    vllm: VllmOptions = field(default_factory=VllmOptions)

    def __post_init__(self) -> None:
        for name in ("max_slots", "max_context", "max_prefill_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_cache_tokens is not None and self.max_cache_tokens < 2:
            raise ConfigError(f"max_cache_tokens must be at least 2, got {self.max_cache_tokens}")
        if self.max_queue < 0:
            raise ConfigError(f"max_queue must be 0 or more, got {self.max_queue}; 0 refuses when every slot is taken")

    def within(self, decoder: LlamaConfig) -> DecodingConfig:
        """Return the options with the context cut to the decoder's own."""
        ceilings = (self.max_context, decoder.max_context, self.max_cache_tokens or self.max_context)
        return replace(self, max_context=min(ceilings))


BackendFactory = Callable[[ModelBundle, DecodingConfig], DecoderBackend]

BACKENDS: Registry[BackendFactory] = Registry(
    "backend",
    {
        "native": "engine.backends.native.backend:build_native",
        "echo": "engine.backends.echo:build_echo",
        "vllm": "engine.backends.vllm.backend:build_vllm",
        "ray": "engine.scale.backend:build_ray",
    },
)
