"""Strict loading of released ImageBind files, and the digest that names what was loaded."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path

import torch
from torch import nn

from models.checkpoints import load_torch_file, tensors_of
from models.imagebind.config import ImageBindConfig
from models.imagebind.model import ImageBind
from models.state import load_strictly, read_checkpoint

FLOAT32_PARTS = ("point_trunk.", "modality_postprocessors.")


def load_imagebind(
    path: Path,
    dtype: torch.dtype = torch.float32,
    config: ImageBindConfig | None = None,
    point_trunk: Callable[[], nn.Module] | None = None,
) -> ImageBind:
    """Return a frozen ImageBind with the weights of `path`: `imagebind_huge`, or `imagebind_w3D` with a point trunk.

    `config` defaults to the released size; `point_trunk` builds the module that fills `config.point_width`. Logit
    scales and the point trunk stay float32, the latter because coordinates decide its groups. Raises
    `CheckpointError` naming the file and the key at fault; code inside a file is refused and never run.
    """
    tensors = tensors_of(path, read_checkpoint(path) if path.suffix == ".safetensors" else load_torch_file(path))
    with torch.device("meta"):
        model = ImageBind(config or ImageBindConfig(), point_trunk() if point_trunk else None)
    for key, value in tensors.items():
        if value.is_floating_point() and not key.startswith(FLOAT32_PARTS):
            tensors[key] = value.to(dtype)
    return load_strictly(model, tensors, str(path)).eval().requires_grad_(False)


def weights_digest(module: nn.Module) -> str:
    """Return 16 hexadecimal digits of SHA-256 over the names and bytes of a module's weights."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
