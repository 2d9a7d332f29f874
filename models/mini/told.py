"""Load what answers about blends need beside the encoders' names: the condition of told prompts, and everyday words."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
from safetensors import SafetensorError, safe_open

from core.errors import CheckpointError
from core.types import AdapterPrompt, FloatArray
from models.adapters.imagebind_llm import ImageBindLLMAdapter
from models.checkpoints import read_tensors


def load_told(path: Path, adapter: ImageBindLLMAdapter) -> AdapterPrompt:
    """Return the learnt condition `(L, 1, D)` of prompts that tell parts, behind the gates of `adapter`.

    Raises `CheckpointError` naming the file when it is missing, damaged, or made for other gates.
    """
    tensors = read_tensors(path)
    told = tensors.get("told")
    if tensors.keys() != {"told"} or told is None or told.shape != adapter.prefix_query.shape:
        raise CheckpointError(
            f"{path} must hold one tensor, told, of the shape {tuple(adapter.prefix_query.shape)}; restore it from the "
            "repository, or train it again (training.recipes.mini_told)"
        )
    return AdapterPrompt(prompts=told.float().numpy()[:, None])  # (L, 1, D)


def load_words(path: Path) -> tuple[list[str], FloatArray]:
    """Return everyday words and their unit embeddings `(K, E)`, stored as bytes and a scale a row.

    Raises `CheckpointError` naming the file when it is missing or damaged.
    """
    try:
        with safe_open(path, framework="np") as stored:
            words = json.loads((stored.metadata() or {}).get("words", "[]"))
            rows = stored.get_tensor("rows").astype(np.float32) * stored.get_tensor("scales")[:, None]  # (K, E)
    except (OSError, ValueError, SafetensorError) as error:
        raise CheckpointError(f"{path} is missing or damaged: {error}; restore it from the repository") from error
    if len(words) != len(rows):
        raise CheckpointError(f"{path} holds {len(words)} words for {len(rows)} rows; restore it from the repository")
    return words, rows / np.linalg.norm(rows, axis=1, keepdims=True)
