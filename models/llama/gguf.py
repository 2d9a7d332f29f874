"""Read a LLaMA GGUF file: configuration from its metadata, weights dequantised tensor by tensor."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import torch
from gguf import GGUFReader, GGUFValueType, quants
from torch import Tensor

from core.errors import CheckpointError
from models.llama.config import LlamaConfig, RopeScaling
from models.llama.model import Llama
from models.llama.rope import inverse_frequencies
from models.llama.weights import half_split_rows, load_llama, rotary_heads

_TOP_NAMES = {"token_embd": "model.embed_tokens", "output_norm": "model.norm", "output": "lm_head"}
_LAYER_NAMES = {
    "attn_norm": "input_layernorm",
    "ffn_norm": "post_attention_layernorm",
    "attn_q": "self_attn.q_proj",
    "attn_k": "self_attn.k_proj",
    "attn_v": "self_attn.v_proj",
    "attn_output": "self_attn.o_proj",
    "ffn_gate": "mlp.gate_proj",
    "ffn_up": "mlp.up_proj",
    "ffn_down": "mlp.down_proj",
}
_FREQUENCY_FACTORS = "rope_freqs.weight"


class _Reader(GGUFReader):
    """A reader that takes an array of metadata in one go; the package's own loop takes seconds for a vocabulary."""

    def _get_field_parts(self, orig_offs: int, raw_type: int) -> Any:
        if raw_type != GGUFValueType.ARRAY or self.byte_order != "I":
            return super()._get_field_parts(orig_offs, raw_type)
        element, count = struct.unpack_from("<IQ", self.data.data, orig_offs)
        values: list[Any]
        if element == GGUFValueType.STRING:
            values, end = _read_strings(self.data.data, int(orig_offs) + 12, count)
        else:
            array = self._get(orig_offs + 12, self.gguf_scalar_to_np[element], count)
            values, end = array.tolist(), orig_offs + 12 + array.nbytes
        return end - orig_offs, [values], [0], [GGUFValueType.ARRAY, GGUFValueType(element)]


def _read_strings(stored: memoryview, offset: int, count: int) -> tuple[list[str], int]:
    """Return `count` length-prefixed strings from `offset` and the offset behind them."""
    strings = []
    for _ in range(count):
        (size,) = struct.unpack_from("<Q", stored, offset)
        strings.append(bytes(stored[offset + 8 : offset + 8 + size]).decode("utf-8"))
        offset += 8 + size
    return strings, offset


class GgufFile:
    """Metadata and tensors of one GGUF file, under Hugging Face names."""

    def __init__(self, path: Path | str) -> None:
        self.path = Path(path)
        if not self.path.is_file():
            raise CheckpointError(f"{self.path} is missing")
        try:
            self._reader = _Reader(self.path)
        except (ValueError, IndexError, KeyError, OSError, OverflowError, struct.error) as error:
            raise CheckpointError(f"{self.path} is truncated or no GGUF file: {error}") from error
        self._stored = {_canonical(tensor.name): tensor for tensor in self._reader.tensors}

    def value(self, key: str, default: Any = None) -> Any:
        """Return one metadata value, or `default` when the file has no such key."""
        field = self._reader.fields.get(key)
        if field is None:
            return default
        return field.parts[-1] if isinstance(field.parts[-1], list) else field.contents()

    def require(self, key: str) -> Any:
        """Return one metadata value. Raises `CheckpointError` naming file and key when it is missing."""
        if key not in self._reader.fields:
            raise CheckpointError(f"{self.path} lacks the metadata key {key}")
        return self.value(key)

    def config(self) -> LlamaConfig:
        """Return the decoder's shape. Raises `CheckpointError` for another architecture or rotary scaling."""
        if (kind := self.require("general.architecture")) != "llama":
            raise CheckpointError(f"{self.path} holds the architecture {kind!r}; only llama is supported")
        width, num_heads = int(self.require("llama.embedding_length")), int(self.require("llama.attention.head_count"))
        head_width = int(self.value("llama.attention.key_length", width // num_heads))
        if (rotary := int(self.value("llama.rope.dimension_count", head_width))) != head_width:
            raise CheckpointError(f"{self.path} rotates {rotary} of {head_width} dimensions; all must turn")
        theta = float(self.value("llama.rope.freq_base", 10000.0))
        return LlamaConfig(
            vocab_size=int(self.shapes()["model.embed_tokens.weight"][0]),
            width=width,
            num_layers=int(self.require("llama.block_count")),
            num_heads=num_heads,
            num_kv_heads=int(self.value("llama.attention.head_count_kv", num_heads)),
            head_width=head_width,
            hidden_width=int(self.require("llama.feed_forward_length")),
            norm_eps=float(self.require("llama.attention.layer_norm_rms_epsilon")),
            rope_theta=theta,
            rope_scaling=self._rope_scaling(head_width, theta),
            max_context=int(self.value("llama.context_length", 2048)),
            tied_embeddings="lm_head.weight" not in self._stored,
            attention_bias="model.layers.0.self_attn.q_proj.bias" in self._stored,
            mlp_bias="model.layers.0.mlp.gate_proj.bias" in self._stored,
        )

    def shapes(self) -> dict[str, tuple[int, ...]]:
        """Return the shape of every decoder tensor, outermost dimension first."""
        stored = {key: tuple(int(n) for n in reversed(tensor.shape)) for key, tensor in self._stored.items()}
        stored.pop(_FREQUENCY_FACTORS, None)
        if "model.embed_tokens.weight" not in stored:
            raise CheckpointError(f"{self.path}: missing keys token_embd.weight")
        return stored

    def read(self, key: str) -> Tensor:
        """Return one dequantised float32 tensor; wq and wk rows are put back in the half-split order."""
        tensor = self._stored[key]
        array = np.require(quants.dequantize(tensor.data, tensor.tensor_type), np.float32, "W")
        weight = torch.from_numpy(array)
        num_heads = int(self.require("llama.attention.head_count"))
        heads = rotary_heads(key, num_heads, int(self.value("llama.attention.head_count_kv", num_heads)))
        return weight if heads is None else half_split_rows(weight, heads)

    def origin(self, key: str) -> str:
        """Return the file and the tensor's name in it."""
        return f"{self.path}: {self._stored[key].name}"

    def _rope_scaling(self, head_width: int, theta: float) -> RopeScaling | None:
        if _FREQUENCY_FACTORS in self._stored:
            return self._llama3_scaling(head_width, theta)
        kind = self.value("llama.rope.scaling.type", "none")
        if kind == "none":
            return None
        if kind == "linear":
            return RopeScaling(kind="linear", factor=float(self.require("llama.rope.scaling.factor")))
        raise CheckpointError(f"{self.path} asks for rope scaling {kind!r}; none, linear and llama3 are supported")

    def _llama3_scaling(self, head_width: int, theta: float) -> RopeScaling:
        """Recognise LLaMA 3's rule behind the stored divisors; its parameters are not in the metadata."""
        divisors = self.read(_FREQUENCY_FACTORS)  # (Dh/2,)
        scaling = RopeScaling(kind="llama3", factor=float(divisors.max()))
        plain = inverse_frequencies(head_width, theta, None)
        if not torch.allclose(plain / divisors, inverse_frequencies(head_width, theta, scaling), rtol=1e-3, atol=0.0):
            raise CheckpointError(f"{self.path}: {_FREQUENCY_FACTORS} does not follow LLaMA 3's scaling rule")
        return scaling


def load_gguf_llama(path: Path | str, dtype: torch.dtype) -> Llama:
    """Load the decoder of a LLaMA GGUF file, quantised or not, tensor by tensor.

    Raises `CheckpointError` naming file and key when a key is missing, unexpected or of a wrong shape.
    """
    stored = GgufFile(path)
    return load_llama(stored.config(), stored, dtype, where=str(path))


def _canonical(name: str) -> str:
    """Map `blk.3.attn_q.weight` to `model.layers.3.self_attn.q_proj.weight`; other names stay as they are."""
    stem, _, leaf = name.rpartition(".")
    if stem.startswith("blk."):
        _, layer, part = stem.split(".", 2)
        return f"model.layers.{layer}.{_LAYER_NAMES.get(part, part)}.{leaf}"
    return f"{_TOP_NAMES.get(stem, stem)}.{leaf}"
