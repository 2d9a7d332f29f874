"""Strict loading of released ImageBind files, and the digest that names what was loaded."""

from __future__ import annotations

import hashlib
from pathlib import Path

import torch
from torch import nn

from models.checkpoints import load_strictly, read_tensors
from models.imagebind.config import ImageBindConfig
from models.imagebind.model import ImageBind

POINT_KEYS = ("point_trunk.", "modality_heads.point.", "modality_postprocessors.point.")


def load_imagebind(path: Path, dtype: torch.dtype = torch.float32, config: ImageBindConfig | None = None) -> ImageBind:
    """Return a frozen ImageBind with the weights of `path`; the point keys of `imagebind_w3D` are passed over.

    `config` defaults to the released size; logit scales stay float32. Raises `CheckpointError` naming the file and
    the key at fault; code inside a file is refused and never run.
    """
    tensors = {key: value for key, value in read_tensors(path).items() if not key.startswith(POINT_KEYS)}
    with torch.device("meta"):
        model = ImageBind(config or ImageBindConfig())
    for key, value in tensors.items():
        if value.is_floating_point() and not key.startswith("modality_postprocessors."):
            tensors[key] = value.to(dtype)
    return load_strictly(model, tensors, str(path)).eval().requires_grad_(False)


def weights_digest(module: nn.Module) -> str:
    """Return 16 hexadecimal digits of SHA-256 over the names and bytes of a module's weights."""
    digest = hashlib.sha256()
    for key, value in sorted(module.state_dict().items()):
        digest.update(key.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()[:16]
