"""Tables of what can be loaded by name."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import torch

from core.errors import ConfigError
from core.registry import Registry
from core.types import AnyArray
from models.adapters.options import ReleasedAdapter
from models.bundle import ModelBundle

BundleLoader = Callable[[torch.dtype], ModelBundle]
AUDIO_ENCODERS = ("auto", "tower", "yamnet")
"""How `mini` may hear; every other model has the one audio encoder of its weights, "auto"."""

DTYPES: dict[str, torch.dtype] = {"bfloat16": torch.bfloat16, "float16": torch.float16, "float32": torch.float32}
"""The precisions a model can be loaded or written in, by the name an operator writes."""

MODELS: Registry[BundleLoader] = Registry(
    "model",
    {
        "mini": "models.mini.loader:load_mini",
        "tiny": "models.tiny:load_tiny",
    },
)

ADAPTERS: Registry[type[ReleasedAdapter]] = Registry(
    "adapter family",
    {
        "imagebind_llm": "models.adapters.imagebind_llm:ImageBindLLMAdapter",
        "llama_adapter_v1": "models.adapters.llama_adapter_v1:StaticPromptAdapter",
        "llama_adapter_v2": "models.adapters.llama_adapter_v2:LlamaAdapterV2",
        "llama_adapter_v2_chat": "models.adapters.llama_adapter_v1:StaticPromptAdapter",
    },
)


class PictureClassifier(Protocol):
    """Name what a picture shows."""

    def likeliest(self, pixels: AnyArray, num_names: int) -> list[tuple[str, float]]:
        """Return the likeliest names of `(H, W, 3)` uint8 with their probabilities, best first."""
        ...


CLASSIFIERS: Registry[Callable[[], PictureClassifier]] = Registry(
    "classifier",
    {
        "efficientnet": "models.mini.classifier:load_efficientnet_names",
        "illama-mini": "models.illama.folder:load_illama_mini",
    },
)
"""What the expert `classify` can look with, each loaded with its first picture."""


def load_model(name: str, dtype: torch.dtype, *, audio_encoder: str = "auto") -> ModelBundle:
    """Load a model by its name in `MODELS`, else from a folder that `bindchat convert` wrote.

    Raises `UnknownName` that lists the names, `CheckpointError` for a folder that cannot be loaded, and `ConfigError`
    for an audio encoder that the model does not have.
    """
    from models.folder import load_folder

    if audio_encoder != "auto":
        if name != "mini":
            raise ConfigError(
                f"audio_encoder is {audio_encoder}, but only mini has a choice; leave it at auto for {name}",
                param="audio_encoder",
            )
        load: Callable[..., ModelBundle] = MODELS.load(name)  # only mini's takes the choice
        return load(dtype, audio_encoder=audio_encoder)
    return load_folder(name, dtype) if is_folder(name) else MODELS.load(name)(dtype)


def is_folder(name: str) -> bool:
    """Say whether `name` is a folder and none of the built-in models."""
    return name not in MODELS.names() and Path(name).is_dir()
