"""What an operator chooses about vLLM, passed through to its engine."""

from __future__ import annotations

from dataclasses import dataclass

from core.errors import ConfigError


@dataclass(frozen=True, slots=True, kw_only=True)
class VllmOptions:
    """Sizes and precisions of the vLLM engine; None leaves vLLM's own choice.

    `kv_cache_bytes` is the memory of keys and values; without it vLLM takes `gpu_memory_share` of the device.
    `lora_folder` is a PEFT adapter of the decoder, on for every request.
    """

    tensor_parallel_size: int = 1
    pipeline_parallel_size: int = 1
    quantization: str | None = None
    kv_cache_bytes: int | None = None
    gpu_memory_share: float = 0.9
    max_batched_tokens: int | None = None
    block_size: int | None = None
    prefix_caching: bool = True
    eager: bool = False
    lora_folder: str | None = None

    def __post_init__(self) -> None:
        for name in ("tensor_parallel_size", "pipeline_parallel_size"):
            if getattr(self, name) < 1:
                raise ConfigError(f"{name} must be at least 1, got {getattr(self, name)}")
        if not 0 < self.gpu_memory_share <= 1:
            raise ConfigError(f"gpu_memory_share must be in (0, 1], got {self.gpu_memory_share}")
