"""A whole model in memory, seeded and random: width 32, two layers, every part real. Tests and demos run on it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from core.errors import UnsupportedMedia
from core.types import DecodedMedia, Embedding, FloatArray, Modality
from models.adapters.imagebind_llm import BindNetworkConfig, ImageBindLLMAdapter
from models.bundle import ModelBundle
from models.llama.config import LlamaConfig
from models.llama.model import Llama
from models.llama.tokenizer import ChatTokenizer, SpecialTokens
from models.llama.weights import empty_llama

EMBEDDING_WIDTH = 16
_SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
_TEMPLATE = (
    "{% for message in messages %}"
    "{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>' + '\n' }}"
    "{% endfor %}{{ '<|im_start|>assistant\n' }}"
)
_NUM_PIECES = 16
_MODALITIES = (Modality.IMAGE, Modality.AUDIO, Modality.VIDEO, Modality.POINT_CLOUD)
TINY_CONFIG = LlamaConfig(
    vocab_size=256 + len(_SPECIALS),
    width=32,
    num_layers=2,
    num_heads=4,
    num_kv_heads=2,
    head_width=8,
    hidden_width=64,
    norm_eps=1e-5,
    max_context=1024,
    tied_embeddings=True,
    adapted_layers=(0, 1),
    num_adapter_tokens=1,
)


class ByteTokenizer(ChatTokenizer):
    """One id per byte after three ChatML special tokens; needs no file."""

    def __init__(self) -> None:
        ids = {text: i for i, text in enumerate(_SPECIALS)}
        super().__init__(SpecialTokens(ids=ids, eos_token_ids=frozenset({0, 2})), _TEMPLATE)

    @property
    def vocab_size(self) -> int:
        return 256 + len(_SPECIALS)

    def encode(self, text: str) -> list[int]:
        return [byte + len(_SPECIALS) for byte in text.encode()]

    def decode(self, token_ids: Sequence[int]) -> str:
        return b"".join(map(self.token_bytes, token_ids)).decode(errors="replace")

    def token_bytes(self, token_id: int) -> bytes:
        byte = token_id - len(_SPECIALS)
        return bytes([byte]) if 0 <= byte < 256 else b""

    def _encode_ordinary(self, text: str) -> list[int]:
        return self.encode(text)


class TinyEncoder:
    """A fixed random projection of means and deviations over stretches of the medium; rows of unit norm."""

    def __init__(self, modality: Modality) -> None:
        self.modality = modality
        self.encoder_id = f"tiny/{modality}"

    def preprocess(self, media: DecodedMedia) -> FloatArray:
        """Return `(32 C,)` float32: mean and deviation per channel of 16 stretches of the medium."""
        array = media.array.T if self.modality is Modality.AUDIO else media.array
        if array.ndim < 2 or not array.size:
            raise UnsupportedMedia(f"{self.modality} needs an array with channels, got shape {media.array.shape}")
        scale = 255.0 if array.dtype == np.uint8 else 1.0
        samples = array.reshape(-1, array.shape[-1]).astype(np.float32) / scale  # (S, C)
        edges = np.linspace(0, len(samples), _NUM_PIECES + 1).astype(int)
        starts = np.minimum(edges[:-1], len(samples) - 1)
        pieces = [samples[a : max(b, a + 1)] for a, b in zip(starts, edges[1:], strict=True)]
        return np.concatenate([np.concatenate((piece.mean(axis=0), piece.std(axis=0))) for piece in pieces])

    def encode(self, batch: Sequence[FloatArray]) -> list[Embedding]:
        """Return one unit embedding `(16,)` per row; a row never depends on its batch."""
        return [Embedding(vector=self._project(row), encoder_id=self.encoder_id) for row in batch]

    def _project(self, row: FloatArray) -> FloatArray:
        matrix = np.random.default_rng(7).standard_normal((len(row), EMBEDDING_WIDTH))
        vector = (row - 0.25) @ matrix
        return np.asarray(vector / np.linalg.norm(vector), dtype=np.float32)


def load_tiny(dtype: torch.dtype) -> ModelBundle:
    """Build the model; equal seeds give equal weights on every machine, and its gates are open."""
    adapter = _random_adapter(TINY_CONFIG)
    decoder = _random_decoder(TINY_CONFIG, dtype)
    decoder.adapter_gates = adapter.effective_gates().detach()
    encoders = {modality: TinyEncoder(modality) for modality in _MODALITIES}
    return ModelBundle(
        name="tiny",
        decoder=decoder,
        tokenizer=ByteTokenizer(),
        adapter=adapter,
        encoders=encoders,
        embedding_width=EMBEDDING_WIDTH,
        space_id="tiny",
    )


def _random_decoder(config: LlamaConfig, dtype: torch.dtype) -> Llama:
    decoder = empty_llama(config, dtype)
    _fill(decoder, torch.Generator().manual_seed(1))
    return decoder


def _random_adapter(config: LlamaConfig) -> ImageBindLLMAdapter:
    bind = BindNetworkConfig(embedding_width=EMBEDDING_WIDTH, width=config.width, hidden_width=48)
    adapter = ImageBindLLMAdapter(bind, num_layers=len(config.adapted_layers), num_heads=config.num_heads)
    _fill(adapter, torch.Generator().manual_seed(2))
    with torch.no_grad():
        adapter.gates.copy_(torch.linspace(0.05, 0.25, adapter.gates.numel()).view_as(adapter.gates))
    return adapter.eval().requires_grad_(False)


def _fill(module: nn.Module, generator: torch.Generator) -> None:
    """Draw every matrix at random; norms start at one and biases at zero."""
    with torch.no_grad():
        for name, parameter in module.named_parameters():
            parameter.copy_(_start(name, parameter.shape, generator))


def _start(name: str, shape: torch.Size, generator: torch.Generator) -> Tensor:
    if len(shape) > 1:
        return torch.randn(shape, generator=generator) * 0.25
    return torch.ones(shape) if "norm" in name else torch.zeros(shape)
