"""The folder that vLLM loads: a plain Hugging Face LLaMA, written from the bundle or linked from a converted folder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_file

from engine.backends.vllm.plugin import ARCHITECTURE
from models.bundle import ModelBundle
from models.llama.hf import hf_config
from models.llama.tokenizer import BpeTokenizer
from models.llama.weights import hf_state

LINKED = (
    "*.safetensors.index.json",
    "model*.safetensors",
    "tokenizer.json",
    "tokenizer.model",
    "tokenizer_config.json",
)


def write_folder(bundle: ModelBundle, folder: Path) -> Path:
    """Fill `folder` with the decoder of `bundle` and a config for the conditioned architecture; return it.

    A converted model's files are linked, those of others written in the precision they are served in.
    """
    config: dict[str, Any] = hf_config(bundle.decoder.config)
    config["architectures"] = [ARCHITECTURE]
    config["bindchat"] = {
        "layers": list(bundle.decoder.config.adapted_layers),
        "tokens": max(1, bundle.decoder.config.num_adapter_tokens),
        "gates": bundle.decoder.adapter_gates.float().tolist(),
    }
    config["eos_token_id"] = sorted(bundle.tokenizer.eos_token_ids)
    (folder / "config.json").write_text(json.dumps(config, indent=1))
    if bundle.folder is not None:
        for path in {path for pattern in LINKED for path in bundle.folder.glob(pattern)}:
            (folder / path.name).symlink_to(path.resolve())
        return folder
    save_file(
        {name: weight.contiguous() for name, weight in hf_state(bundle.decoder).items()}, folder / "model.safetensors"
    )
    if isinstance(bundle.tokenizer, BpeTokenizer):
        bundle.tokenizer.save(folder)
    return folder


def has_tokenizer(folder: Path) -> bool:
    """Say whether vLLM can build a tokenizer there, which its structured output needs."""
    return any((folder / name).exists() for name in ("tokenizer.json", "tokenizer.model"))
