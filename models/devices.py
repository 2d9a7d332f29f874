"""Where a decoder runs."""

from __future__ import annotations

import torch

from core.errors import ConfigError


def decoder_device(wanted: str) -> str:
    """Return the device that `wanted` means, `auto` being a GPU if there is one. Raises `ConfigError` without one."""
    if wanted == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    if wanted == "cuda" and not torch.cuda.is_available():
        raise ConfigError("device cuda needs a GPU and a CUDA build of torch; use auto or cpu", param="device")
    return wanted
