"""Tables of what can be loaded by name."""

from __future__ import annotations

from collections.abc import Callable

import torch

from core.registry import Registry
from models.bundle import ModelBundle

BundleLoader = Callable[[torch.dtype], ModelBundle]

MODELS: Registry[BundleLoader] = Registry(
    "model",
    {
        "mini": "models.mini.loader:load_mini",
        "tiny": "models.tiny:load_tiny",
    },
)
