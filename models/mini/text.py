"""The text encoder of `mini`: all-MiniLM-L6-v2, whose 384-d space is the joint space. Loaded when first asked.

Letters: B batch, T tokens, D width (384), H heads, Dh width of a head. Wang et al. 2020 (MiniLM), Reimers and
Gurevych 2019 (Sentence-BERT): a post-norm BERT whose last hidden states are averaged over the tokens and normalised.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path

import torch
import torch.nn.functional as F
from tokenizers import Tokenizer as TokenizerFile
from torch import Tensor, nn

from core.errors import CheckpointError, MediaDecodeError, PromptTooLong
from core.types import DecodedMedia, Embedding, Modality
from models.checkpoints import load_strictly, read_tensors

WIDTH, NUM_LAYERS, NUM_HEADS, HIDDEN_WIDTH = 384, 6, 12, 1536
VOCAB_SIZE, MAX_TOKENS, NORM_EPS = 30522, 512, 1e-12
MAX_BATCH = 32
MAX_CHARS = 20_000  # more than 512 tokens ever are; the tokenizer is not fed megabytes
_UNUSED = ("pooler.", "embeddings.position_ids")
_RENAMED = {
    "embeddings.word_embeddings": "words",
    "embeddings.position_embeddings": "positions",
    "embeddings.token_type_embeddings": "segments",
    "embeddings.LayerNorm": "norm",
    "encoder.layer": "layers",
    "attention.self": "attention",
    "attention.output.dense": "attention.output",
    "attention.output.LayerNorm": "attention_norm",
    "intermediate.dense": "up",
    "output.dense": "down",
    "output.LayerNorm": "output_norm",
}


class _Layer(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        names = ("query", "key", "value", "output")
        self.attention = nn.ModuleDict({name: nn.Linear(WIDTH, WIDTH) for name in names})
        self.attention_norm = nn.LayerNorm(WIDTH, NORM_EPS)
        self.up = nn.Linear(WIDTH, HIDDEN_WIDTH)
        self.down = nn.Linear(HIDDEN_WIDTH, WIDTH)
        self.output_norm = nn.LayerNorm(WIDTH, NORM_EPS)

    def forward(self, x: Tensor, is_token: Tensor) -> Tensor:
        query, key, value = (
            self.attention[name](x).unflatten(-1, (NUM_HEADS, -1)).transpose(1, 2)  # (B, H, T, Dh)
            for name in ("query", "key", "value")
        )
        mixed = F.scaled_dot_product_attention(query, key, value, attn_mask=is_token[:, None, None])
        x = self.attention_norm(x + self.attention["output"](mixed.transpose(1, 2).flatten(2)))  # (B, T, D)
        return self.output_norm(x + self.down(F.gelu(self.up(x))))  # type: ignore[no-any-return]


class TextNetwork(nn.Module):
    """MiniLM: token ids `(B, T)` and which of them are tokens, not padding, to unit sentence vectors `(B, 384)`."""

    def __init__(self) -> None:
        super().__init__()
        self.words = nn.Embedding(VOCAB_SIZE, WIDTH)
        self.positions = nn.Embedding(MAX_TOKENS, WIDTH)
        self.segments = nn.Embedding(2, WIDTH)
        self.norm = nn.LayerNorm(WIDTH, NORM_EPS)
        self.layers = nn.ModuleList(_Layer() for _ in range(NUM_LAYERS))

    def forward(self, token_ids: Tensor, is_token: Tensor) -> Tensor:
        x = self.words(token_ids) + self.positions.weight[: token_ids.shape[1]] + self.segments.weight[0]
        x = self.norm(x)  # (B, T, D)
        for layer in self.layers:
            x = layer(x, is_token)
        weights = is_token[..., None].to(x.dtype)
        return F.normalize((x * weights).sum(dim=1) / weights.sum(dim=1), dim=-1)


class MiniTextEncoder:
    """`core.types.ModalityEncoder` for text; its 90 MB of weights are mapped from the file when first used."""

    modality = Modality.TEXT

    def __init__(self, weights: Path, encoder_id: str) -> None:
        self.encoder_id = encoder_id
        self._weights = weights

    def preprocess(self, media: DecodedMedia) -> list[int]:
        """Return the token ids of UTF-8 bytes `(n,)`.

        Raises `MediaDecodeError` for other bytes or no words, and `PromptTooLong` for more than 512 tokens.
        """
        try:
            return self._token_ids(media.array.tobytes().decode())
        except UnicodeDecodeError as error:
            raise MediaDecodeError("the text is not UTF-8; send it as UTF-8") from error

    def encode(self, batch: Sequence[list[int]]) -> list[Embedding]:
        """Return one embedding per row; text means what it says, so it has no confidence of its own."""
        rows = self._vectors(batch).numpy()
        return [Embedding(vector=row, encoder_id=self.encoder_id) for row in rows]

    def embed(self, texts: Sequence[str]) -> Tensor:
        """Return the unit embeddings `(n, 384)` float32 of texts, in batches. Raises what `preprocess` raises."""
        ids = [self._token_ids(text) for text in texts]
        starts = range(0, len(ids), MAX_BATCH)
        return torch.cat([self._vectors(ids[start : start + MAX_BATCH]) for start in starts])

    def _token_ids(self, text: str) -> list[int]:
        if len(text) > MAX_CHARS:
            raise PromptTooLong(f"the text is {len(text)} characters; at most {MAX_CHARS} are embedded: shorten it")
        ids: list[int] = self._tokenizer.encode(text).ids
        if len(ids) <= 2:  # the marks of start and end alone
            raise MediaDecodeError("the text holds no words; send some, or leave it out")
        if len(ids) > MAX_TOKENS:
            raise PromptTooLong(
                f"the text is {len(ids)} tokens of the text encoder; at most {MAX_TOKENS} are embedded: shorten it or "
                "send it in pieces"
            )
        return ids

    def _vectors(self, batch: Sequence[list[int]]) -> Tensor:
        rows = [torch.tensor(ids) for ids in batch]
        token_ids = nn.utils.rnn.pad_sequence(rows, batch_first=True)  # (B, T)
        lengths = torch.tensor([len(ids) for ids in batch])
        is_token = torch.arange(token_ids.shape[1]) < lengths[:, None]  # (B, T)
        with torch.inference_mode():
            return self._network(token_ids, is_token).clone()  # type: ignore[no-any-return]

    @cached_property
    def _network(self) -> TextNetwork:
        state = {_renamed(key): value for key, value in read_tensors(self._weights).items() if _is_used(key)}
        with torch.device("meta"):
            network = TextNetwork()
        return load_strictly(network, state, str(self._weights)).eval().requires_grad_(False)

    @cached_property
    def _tokenizer(self) -> TokenizerFile:
        path = self._weights.with_name("tokenizer.json")
        try:
            tokenizer = TokenizerFile.from_file(str(path))
        except Exception as error:  # the library raises bare Exception
            raise CheckpointError(f"{path} is missing or damaged: {error}") from error
        tokenizer.no_truncation()  # too long is refused, never cut
        tokenizer.no_padding()
        return tokenizer


def _is_used(key: str) -> bool:
    return not key.startswith(_UNUSED)


def _renamed(key: str) -> str:
    for old, new in _RENAMED.items():
        key = key.replace(old, new)
    return key
