"""Weights of iLLaMA: reading released files, changing the resolution, and starting from a LLaMA decoder."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import CheckpointError
from models.checkpoints import load_strictly
from models.illama.model import Illama, IllamaConfig

Q, K, V = "q", "k", "v"
PARTS = (Q, K, V, "attn.proj", "mlp.fc1", "mlp.fc2", "mlp.fc3", "norm1", "norm2")
HUGGING_FACE_PARTS = (
    *(f"self_attn.{name}_proj" for name in ("q", "k", "v", "o")),
    *(f"mlp.{name}_proj" for name in ("gate", "down", "up")),
    *("input_layernorm", "post_attention_layernorm"),
)
META_PARTS = (
    *(f"attention.{name}" for name in ("wq", "wk", "wv", "wo")),
    *(f"feed_forward.{name}" for name in ("w1", "w2", "w3")),
    *("attention_norm", "ffn_norm"),
)


def interpolate_positions(positions: Tensor, grid: int) -> Tensor:
    """Return positions `(1, grid * grid + 1, D)` resampled bicubically from another square grid; the last row stays."""
    trained = math.isqrt(positions.shape[1] - 1)
    patches = torch.unflatten(positions[:, :-1], 1, (trained, trained)).movedim(-1, 1)  # (1, D, h, w)
    patches = F.interpolate(patches.float(), size=(grid, grid), mode="bicubic", align_corners=False)
    return torch.cat((patches.flatten(2).mT.to(positions.dtype), positions[:, -1:]), dim=1)


def load_illama(checkpoint: Mapping[str, Any], config: IllamaConfig, source: str) -> Illama:
    """Return the model of what `models.checkpoints.read_checkpoint` read: bare, or under `model` beside its optimiser.

    Positions trained on another resolution are interpolated to `config.image_size`. Raises `CheckpointError` naming
    every other missing, unexpected or misshapen key of `source`.
    """
    state = dict(checkpoint.get("model", checkpoint))
    positions = state.get("pos_embed")
    if isinstance(positions, Tensor) and positions.ndim == 3 and positions.shape[1] != config.grid**2 + 1:
        if math.isqrt(positions.shape[1] - 1) ** 2 != positions.shape[1] - 1:
            raise CheckpointError(f"{source}: pos_embed has {positions.shape[1]} rows, not a square grid and one more")
        state["pos_embed"] = interpolate_positions(positions, config.grid)
    return load_strictly(Illama(config), state, source).eval()


def select_uniformly(larger: Tensor, shape: torch.Size) -> Tensor:
    """Return evenly spaced elements of `larger` along every axis (Weight selection, section 3.1).

    The step is whole where the size divides, else the positions run from the first to the last element, rounded.
    """
    for axis, size in enumerate(shape):
        length = larger.shape[axis]
        if length < size:
            raise CheckpointError(
                f"weight selection only shrinks: axis {axis} has {length} elements, {size} are needed"
            )
        if length % size == 0:
            ids = torch.arange(size) * (length // size)
        else:
            ids = torch.linspace(0, length - 1, size).round().long()
        larger = larger.index_select(axis, ids)
    return larger


def initialise_from_llama(model: Illama, llama: Mapping[str, Tensor], *, head_width: int = 128) -> None:
    """Overwrite the blocks of `model` with elements selected from the first layers of a LLaMA state dict.

    q, k and v are stacked before the selection, shared key and value heads repeated; embeddings, biases, final norm
    and head keep their start values. As in the reference, q and k rows come in Hugging Face's half-split order although
    iLLaMA turns neighbouring pairs: striding over rows mixes the heads anyway. Meta's rows are put in that order first,
    so both layouts of one LLaMA (`head_width` wide heads) give the same start. Raises `CheckpointError`.
    """
    is_meta = "layers.0.attention.wq.weight" in llama
    prefix, names = ("layers", META_PARTS) if is_meta else ("model.layers", HUGGING_FACE_PARTS)
    own = model.state_dict()
    for layer in range(model.config.depth):
        keys = {part: f"{prefix}.{layer}.{name}.weight" for part, name in zip(PARTS, names, strict=True)}
        if missing := [key for key in keys.values() if key not in llama]:
            raise CheckpointError(f"no LLaMA layer {layer} to select from; missing {', '.join(missing)}")
        found = {part: llama[key] for part, key in keys.items()}
        q, k, v = (torch.unflatten(found.pop(part), 0, (-1, head_width)) for part in (Q, K, V))  # (H, Dh, D)
        if is_meta:
            q, k = (torch.cat((x[:, 0::2], x[:, 1::2]), dim=1) for x in (q, k))
        k, v = (x.repeat_interleave(len(q) // len(k), dim=0) for x in (k, v))
        found["attn.qkv"] = torch.cat((q, k, v)).flatten(0, 1)
        for part, weight in found.items():
            target = own[f"blocks.{layer}.{part}.weight"]  # shares its memory with the model
            target.copy_(select_uniformly(weight, target.shape))
