"""Read Meta's own LLaMA layout: `params.json` and one or several model-parallel `consolidated.*.pth` shards."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from core.errors import CheckpointError
from models.checkpoints import load_torch_file, read_json, require_same_keys, tensors_of
from models.llama.config import LlamaConfig, RopeScaling
from models.llama.model import Llama
from models.llama.weights import half_split_rows, load_llama, rotary_heads

_LAYER_NAMES = {
    "attention_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attention.wq": "self_attn.q_proj",
    "attention.wk": "self_attn.k_proj",
    "attention.wv": "self_attn.v_proj",
    "attention.wo": "self_attn.o_proj",
    "feed_forward.w1": "mlp.gate_proj",
    "feed_forward.w3": "mlp.up_proj",
    "feed_forward.w2": "mlp.down_proj",
}
_TOP_NAMES = {"tok_embeddings": "model.embed_tokens", "norm": "model.norm", "output": "lm_head"}
_LAYER_KEY = re.compile(r"layers\.(\d+)\.(.+)\.(weight|bias)")
_IGNORED = ("rope.freqs",)
_COLUMN_PARALLEL_INPUT = ("self_attn.o_proj.weight", "mlp.down_proj.weight")


def hf_name(meta_key: str) -> str:
    """Map `layers.3.attention.wq.weight` to `model.layers.3.self_attn.q_proj.weight`; others stay as they are."""
    if match := _LAYER_KEY.fullmatch(meta_key):
        layer, part, leaf = match.groups()
        return f"model.layers.{layer}.{_LAYER_NAMES.get(part, part)}.{leaf}"
    stem, _, leaf = meta_key.rpartition(".")
    return f"{_TOP_NAMES.get(stem, stem)}.{leaf}"


def meta_name(hf_key: str) -> str:
    """Invert `hf_name` for the keys of a decoder."""
    layer = re.fullmatch(r"model\.layers\.(\d+)\.(.+)\.(weight|bias)", hf_key)
    if layer is not None:
        part = next(own for own, stored in _LAYER_NAMES.items() if stored == layer[2])
        return f"layers.{layer[1]}.{part}.{layer[3]}"
    stem, _, leaf = hf_key.rpartition(".")
    return f"{next(own for own, stored in _TOP_NAMES.items() if stored == stem)}.{leaf}"


class MetaFolder:
    """The shards of a folder as one set of tensors under Hugging Face names."""

    def __init__(self, folder: Path | str) -> None:
        self.folder = Path(folder)
        self.params = read_json(self.folder / "params.json")
        self.paths = _shard_paths(self.folder)
        self._shards = [_read_shard(path) for path in self.paths]
        self._meta_names = {hf_name(key): key for key in self._shards[0]}
        for path, shard in zip(self.paths[1:], self._shards[1:], strict=True):
            require_same_keys(str(path), self._shards[0], shard)

    def config(self) -> LlamaConfig:
        """Return the decoder's shape from `params.json`; a `vocab_size` of -1 is read off the embedding."""
        path, stored = self.folder / "params.json", self.params
        if "model.embed_tokens.weight" not in self._meta_names:
            raise CheckpointError(f"{self.paths[0]}: missing keys tok_embeddings.weight")
        try:
            width, num_heads = int(stored["dim"]), int(stored["n_heads"])
            num_layers, norm_eps = int(stored["n_layers"]), float(stored["norm_eps"])
        except KeyError as error:
            raise CheckpointError(f"{path} lacks the entry {error}") from error
        vocab_size = int(stored.get("vocab_size", -1))
        if vocab_size < 0:
            vocab_size = self.shapes()["model.embed_tokens.weight"][0]
        return LlamaConfig(
            vocab_size=vocab_size,
            width=width,
            num_layers=num_layers,
            num_heads=num_heads,
            num_kv_heads=int(stored.get("n_kv_heads") or num_heads),
            head_width=width // num_heads,
            hidden_width=_hidden_width(stored, width),
            norm_eps=norm_eps,
            rope_theta=float(stored.get("rope_theta", 10000.0)),
            rope_scaling=_rope_scaling(stored),
            max_context=int(stored.get("max_seq_len", 2048)),
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every tensor after its shards are joined."""
        shapes: dict[str, tuple[int, ...]] = {}
        for key, name in self._meta_names.items():
            shape = list(self._shards[0][name].shape)
            if (axis := self._split_axis(key)) is not None:
                shape[axis] = sum(shard[name].shape[axis] for shard in self._shards)
            shapes[key] = tuple(shape)
        return shapes

    def read(self, key: str) -> Tensor:
        """Return one joined tensor; wq and wk rows are put in the half-split order."""
        name, axis = self._meta_names[key], self._split_axis(key)
        parts = [shard[name] for shard in self._shards]
        weight = parts[0] if axis is None or len(parts) == 1 else torch.cat(parts, dim=axis)
        num_heads = int(self.params["n_heads"])
        heads = rotary_heads(key, num_heads, int(self.params.get("n_kv_heads") or num_heads))
        return weight if heads is None else half_split_rows(weight, heads)

    def origin(self, key: str) -> str:
        """Return the first shard, the number of shards and the key as stored."""
        return f"{self.paths[0]} ({len(self.paths)} shards found): {self._meta_names[key]}"

    def _split_axis(self, key: str) -> int | None:
        """Return the axis along which model parallelism cut a tensor; LLaMA 3 cuts the embedding by rows."""
        shape = self._shards[0][self._meta_names[key]].shape
        if len(shape) < 2:
            return None
        if key == "model.embed_tokens.weight":
            return 0 if shape[1] == self.params.get("dim") else 1
        return 1 if key.endswith(_COLUMN_PARALLEL_INPUT) else 0


def load_meta_llama(folder: Path | str, dtype: torch.dtype, *, num_tokenizer_tokens: int | None = None) -> Llama:
    """Load the decoder of a Meta LLaMA 1, 2 or 3 folder, tensor by tensor, from memory-mapped shards.

    `num_tokenizer_tokens` is checked against the embedding when given. Raises `CheckpointError` naming file and key
    for a damaged file, code inside a pickle, a missing shard, a missing or unexpected key, or another vocabulary.
    """
    stored = MetaFolder(folder)
    config = stored.config()
    if num_tokenizer_tokens is not None and num_tokenizer_tokens != config.vocab_size:
        raise CheckpointError(
            f"{stored.origin('model.embed_tokens.weight')} has {config.vocab_size} rows but the tokenizer has "
            f"{num_tokenizer_tokens} tokens; use the tokenizer.model that came with these weights"
        )
    return load_llama(config, stored, dtype, where=str(folder))


def _shard_paths(folder: Path) -> list[Path]:
    paths = sorted(folder.glob("consolidated.*.pth"))
    if not paths:
        raise CheckpointError(f"{folder} holds no consolidated.*.pth shard")
    expected = [folder / f"consolidated.{i:02d}.pth" for i in range(len(paths))]
    for path in expected:
        if path not in paths:
            raise CheckpointError(f"{path} is missing; {folder} holds {', '.join(p.name for p in paths)}")
    return paths


def _read_shard(path: Path) -> dict[str, Tensor]:
    return {key: value for key, value in tensors_of(path, load_torch_file(path)).items() if key not in _IGNORED}


def _hidden_width(stored: Mapping[str, Any], width: int) -> int:
    """Return the feed-forward width: 2/3 of 4 D, times the multiplier, rounded up to `multiple_of`."""
    hidden = int(2 * 4 * width / 3)
    if (multiplier := stored.get("ffn_dim_multiplier")) is not None:
        hidden = int(float(multiplier) * hidden)
    multiple_of = int(stored.get("multiple_of", 256))
    return multiple_of * -(-hidden // multiple_of)


def _rope_scaling(stored: Mapping[str, Any]) -> RopeScaling | None:
    if not stored.get("use_scaled_rope", False):
        return None
    factor, high = stored.get("rope_scaling_factor") or 8.0, stored.get("rope_high_freq_factor") or 4.0
    return RopeScaling(kind="llama3", factor=float(factor), high_freq_factor=float(high))
