"""The table of decoder backends and the options they share."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

from core.errors import ConfigError
from core.registry import Registry
from core.types import DecoderBackend
from models.bundle import ModelBundle
from models.llama.config import LlamaConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class DecodingConfig:
    """How many sequences decode at once and how much memory and time a step may take.

    `max_context` counts prompt and reply tokens of one sequence; the decoder's own is the ceiling.
    `max_prefill_tokens` bounds the prompt tokens of one step, so that a long prompt does not stall running replies.
    """

    max_slots: int = 32
    max_queue: int = 64
    max_context: int = 4096
    max_prefill_tokens: int = 256
    num_threads: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_slots", "max_context", "max_prefill_tokens"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.max_queue < 0:
            raise ConfigError(f"max_queue must be 0 or more, got {self.max_queue}; 0 refuses when every slot is taken")

    def within(self, decoder: LlamaConfig) -> DecodingConfig:
        """Return the options with the context cut to the decoder's own."""
        return replace(self, max_context=min(self.max_context, decoder.max_context))


BackendFactory = Callable[[ModelBundle, DecodingConfig], DecoderBackend]

BACKENDS: Registry[BackendFactory] = Registry(
    "backend",
    {
        "native": "engine.backends.native.backend:build_native",
        "echo": "engine.backends.echo:build_echo",
    },
)
