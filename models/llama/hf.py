"""Read a Hugging Face LLaMA folder: `config.json` and one or several safetensors files."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from core.errors import CheckpointError
from models.checkpoints import SafetensorsFolder, read_json
from models.llama.config import LlamaConfig, RopeScaling
from models.llama.model import Llama
from models.llama.weights import load_llama


class HfSource(SafetensorsFolder):
    """The decoder tensors of a folder; the inverse frequencies that old exports store are dropped by name."""

    def shapes(self) -> dict[str, tuple[int, ...]]:
        return {key: shape for key, shape in super().shapes().items() if not key.endswith(".rotary_emb.inv_freq")}


def load_hf_llama(folder: Path | str, dtype: torch.dtype) -> Llama:
    """Load the decoder of a Hugging Face LLaMA folder, tensor by tensor.

    Raises `CheckpointError` naming file and key when a key is missing, unexpected or of a wrong shape, or when
    the configuration asks for something a LLaMA decoder does not do.
    """
    folder = Path(folder)
    return load_llama(read_hf_config(folder), HfSource(folder), dtype, where=str(folder))


def read_hf_config(folder: Path) -> LlamaConfig:
    """Return the decoder's shape from `config.json`, of transformers 4 or 5."""
    path = folder / "config.json"
    stored = read_json(path)
    if stored.get("model_type", "llama") != "llama" or stored.get("hidden_act", "silu") != "silu":
        kind, activation = stored.get("model_type"), stored.get("hidden_act")
        raise CheckpointError(f"{path} is for {kind!r} with {activation!r}; only llama with silu is supported")
    try:
        rope_theta, rope_scaling = _rope(path, stored)
        num_heads = int(stored["num_attention_heads"])
        width = int(stored["hidden_size"])
        return LlamaConfig(
            vocab_size=int(stored["vocab_size"]),
            width=width,
            num_layers=int(stored["num_hidden_layers"]),
            num_heads=num_heads,
            num_kv_heads=int(stored.get("num_key_value_heads") or num_heads),
            head_width=int(stored.get("head_dim") or width // num_heads),
            hidden_width=int(stored["intermediate_size"]),
            norm_eps=float(stored.get("rms_norm_eps", 1e-6)),
            rope_theta=rope_theta,
            rope_scaling=rope_scaling,
            max_context=int(stored.get("max_position_embeddings", 2048)),
            tied_embeddings=bool(stored.get("tie_word_embeddings", False)),
            attention_bias=bool(stored.get("attention_bias", False)),
            mlp_bias=bool(stored.get("mlp_bias", False)),
        )
    except KeyError as error:
        raise CheckpointError(f"{path} lacks the entry {error}") from error


def hf_config(config: LlamaConfig) -> dict[str, Any]:
    """Return the `config.json` object that `read_hf_config` reads back to the same decoder."""
    rope: dict[str, Any] = {"rope_type": "default", "rope_theta": config.rope_theta}
    if config.rope_scaling is not None:
        scaling = config.rope_scaling
        rope |= {"rope_type": scaling.kind, "factor": scaling.factor, "low_freq_factor": scaling.low_freq_factor}
        rope |= {"high_freq_factor": scaling.high_freq_factor}
        rope |= {"original_max_position_embeddings": scaling.original_max_context}
    return {
        "architectures": ["LlamaForCausalLM"],
        "model_type": "llama",
        "hidden_act": "silu",
        "vocab_size": config.vocab_size,
        "hidden_size": config.width,
        "num_hidden_layers": config.num_layers,
        "num_attention_heads": config.num_heads,
        "num_key_value_heads": config.num_kv_heads,
        "head_dim": config.head_width,
        "intermediate_size": config.hidden_width,
        "rms_norm_eps": config.norm_eps,
        "rope_theta": config.rope_theta,
        "rope_parameters": rope,
        "max_position_embeddings": config.max_context,
        "tie_word_embeddings": config.tied_embeddings,
        "attention_bias": config.attention_bias,
        "mlp_bias": config.mlp_bias,
    }


def _rope(path: Path, stored: Mapping[str, Any]) -> tuple[float, RopeScaling | None]:
    rope: Mapping[str, Any] = stored.get("rope_parameters") or stored.get("rope_scaling") or {}
    theta = float(rope.get("rope_theta", stored.get("rope_theta", 10000.0)))
    kind = str(rope.get("rope_type", rope.get("type", "default")))
    if kind == "default":
        return theta, None
    if kind == "linear":
        return theta, RopeScaling(kind="linear", factor=float(rope["factor"]))
    if kind == "llama3":
        return theta, RopeScaling(
            kind="llama3",
            factor=float(rope["factor"]),
            low_freq_factor=float(rope["low_freq_factor"]),
            high_freq_factor=float(rope["high_freq_factor"]),
            original_max_context=int(rope["original_max_position_embeddings"]),
        )
    raise CheckpointError(f"{path} asks for rope_type {kind!r}; default, linear and llama3 are supported")
