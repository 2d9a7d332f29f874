"""The byte-pair tokenizer of the text tower (CLIP's vocabulary)."""

from __future__ import annotations

import gzip
import html
from collections.abc import Sequence
from functools import lru_cache
from itertools import pairwise
from pathlib import Path

import ftfy
import regex
import torch
from torch import Tensor

from core.errors import ConfigError

NUM_MERGES = 48_894
START, END = "<|startoftext|>", "<|endoftext|>"
WORD_END = "</w>"
SHIPPED_MERGES = Path(__file__).with_name("clip_merges.txt.gz")
WORDS = regex.compile(
    r"<\|(?:start|end)oftext\|>|'(?:s|t|re|ve|m|ll|d)|\p{L}+|\p{N}|[^\s\p{L}\p{N}]+", regex.IGNORECASE
)


def _byte_symbols() -> dict[int, str]:
    """Return a printable symbol for each byte, in vocabulary order; unprintable bytes follow, from code point 256."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + i) for i, byte in enumerate(rest)}


def read_merges(path: Path = SHIPPED_MERGES) -> list[tuple[str, str]]:
    """Return the merges of a `bpe_simple_vocab_16e6` file, plain or gzipped, its header line skipped."""
    if not path.is_file():
        raise ConfigError(f"merges file {path} does not exist; give the path of bpe_simple_vocab_16e6.txt.gz")
    text = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
    merges = [tuple(line.split()) for line in text.decode("utf-8").split("\n")[1 : NUM_MERGES + 1]]
    if len(merges) != NUM_MERGES or any(len(pair) != 2 for pair in merges):
        raise ConfigError(f"merges file {path} must hold {NUM_MERGES} pairs after its header; it is another vocabulary")
    return [(first, second) for first, second in merges]


class ClipTokenizer:
    """Text to fixed-length ids."""

    def __init__(self, merges: Sequence[tuple[str, str]], context: int = 77) -> None:
        self.context = context
        self._bytes = _byte_symbols()
        symbols = list(self._bytes.values())
        names = [*symbols, *(s + WORD_END for s in symbols), *(a + b for a, b in merges), START, END]
        self._ids = {name: i for i, name in enumerate(names)}
        self._ranks = {pair: rank for rank, pair in enumerate(merges)}
        self._pieces = lru_cache(maxsize=10_000)(self._merge)

    def encode(self, text: str) -> list[int]:
        """Return the ids of one text without start and end, as long as it is."""
        text = html.unescape(html.unescape(ftfy.fix_text(text))).strip()
        text = regex.sub(r"\s+", " ", text).strip().lower()
        return [self._ids[piece] for word in WORDS.findall(text) for piece in self._pieces(word)]

    def __call__(self, texts: Sequence[str], *, keep_end: bool = True) -> Tensor:
        """Return int64 ids `(B, context)`: start, text, end, zeros; a longer text is cut.

        `keep_end` False lets the cut take the end mark too, as ImageBind-LLM's copy does.
        """
        rows = torch.zeros(len(texts), self.context, dtype=torch.int64)
        start, end = self._ids[START], self._ids[END]
        for row, text in zip(rows, texts, strict=True):
            ids = [start, *self.encode(text), end][: self.context]
            if keep_end:
                ids[-1] = end
            row[: len(ids)] = torch.tensor(ids)
        return rows

    def _merge(self, word: str) -> tuple[str, ...]:
        """Join the adjacent pair of lowest rank until no known pair is left."""
        if word in (START, END):
            return (word,)
        pieces = [self._bytes[byte] for byte in word.encode("utf-8")]
        pieces[-1] += WORD_END
        while len(pieces) > 1:
            best = min(pairwise(pieces), key=lambda pair: self._ranks.get(pair, NUM_MERGES))
            if best not in self._ranks:
                break
            pieces = _join(pieces, best)
        return tuple(pieces)


def _join(pieces: list[str], pair: tuple[str, str]) -> list[str]:
    joined: list[str] = []
    for piece in pieces:
        if joined and (joined[-1], piece) == pair:
            joined[-1] += piece
        else:
            joined.append(piece)
    return joined
