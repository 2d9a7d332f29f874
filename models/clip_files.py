"""CLIP's visual tower from the two forms it is published in, under OpenAI's names."""

from __future__ import annotations

import re
from pathlib import Path

import torch
from torch import Tensor

from core.errors import CheckpointError
from models.checkpoints import read_tensors

_PREFIXES = ("clip.visual.", "visual.")
_HF_NAMES = (
    (r"^embeddings\.class_embedding$", "class_embedding"),
    (r"^embeddings\.position_embedding\.weight$", "positional_embedding"),
    (r"^embeddings\.patch_embedding\.weight$", "conv1.weight"),
    (r"^pre_layrnorm\.", "ln_pre."),
    (r"^post_layernorm\.", "ln_post."),
    (r"^encoder\.layers\.", "transformer.resblocks."),
    (r"\.self_attn\.out_proj\.", ".attn.out_proj."),
    (r"\.layer_norm([12])\.", r".ln_\1."),
    (r"\.mlp\.fc1\.", ".mlp.c_fc."),
    (r"\.mlp\.fc2\.", ".mlp.c_proj."),
)


def clip_visual_state(path: Path) -> dict[str, Tensor]:
    """Return the visual tensors of a CLIP file as `visual.*`: a plain state dict or Hugging Face's safetensors.

    Raises `CheckpointError` for OpenAI's own `.pt`, which is a program and never run, and for files without the tower.
    """
    state = read_tensors(path)
    for prefix in _PREFIXES:
        if own := {key: value for key, value in state.items() if key.startswith(prefix)}:
            return {f"visual.{key.removeprefix(prefix)}": value.contiguous() for key, value in own.items()}
    if "visual_projection.weight" not in state:
        raise CheckpointError(f"{path} holds no CLIP visual tower: neither visual.* nor visual_projection.weight")
    return _from_hf(state)


def _from_hf(state: dict[str, Tensor]) -> dict[str, Tensor]:
    renamed = {"visual.proj": state["visual_projection.weight"].T.contiguous()}
    prefix, skipped = "vision_model.", "vision_model.embeddings.position_ids"
    for key in (key for key in state if key.startswith(prefix) and key != skipped):
        if ".k_proj." in key or ".v_proj." in key:
            continue
        name = key.removeprefix(prefix)
        if ".q_proj." in key:  # q, k and v stand one above the other in OpenAI's matrix
            block, leaf = name.split(".self_attn.q_proj.")
            name = f"{block}.attn.in_proj_{leaf}"
            value = torch.cat([state[key.replace(".q_proj.", f".{part}_proj.")] for part in "qkv"])
        else:
            value = state[key]
        for pattern, replacement in _HF_NAMES:
            name = re.sub(pattern, replacement, name)
        renamed[f"visual.{name}"] = value.contiguous()
    return renamed
