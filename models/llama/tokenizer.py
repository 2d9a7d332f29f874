"""Tokenizers behind one protocol: byte-level BPE and SentencePiece, with chat templates that users cannot escape.

`encode` and the contents of messages are ordinary text: they never yield a special token.
"""

from __future__ import annotations

import copy
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any, Self, cast

import tokenizers
from sentencepiece import SentencePieceProcessor

from core.errors import InvalidRequest
from models.llama.chat_template import ChatTemplate, SpecialTextGuard


@dataclass(frozen=True, slots=True, kw_only=True)
class SpecialTokens:
    """The special tokens of one model: ids by text, those that end an answer, and the one that starts a prompt."""

    ids: Mapping[str, int]
    eos_token_ids: frozenset[int]
    bos_token_id: int | None = None
    names: Mapping[str, str] = field(default_factory=dict)


class ChatTokenizer(ABC):
    """What both kinds share: splitting a rendered prompt at the template's own special tokens."""

    def __init__(self, special: SpecialTokens, template_source: str | None) -> None:
        self.eos_token_ids = special.eos_token_ids
        self.bos_token_id = special.bos_token_id
        self.special_ids = dict(special.ids)
        self._special_names = dict(special.names)
        self._template = None if template_source is None else ChatTemplate(template_source, special.names)
        texts = sorted(self.special_ids, key=len, reverse=True)
        self.marks_first_word = False
        self._splitter = re.compile("(" + "|".join(map(re.escape, texts)) + ")") if texts else None

    def with_template(self, template_source: str) -> Self:
        """Return the same tokenizer with another chat template; the vocabulary is shared."""
        other = copy.copy(self)
        other._template = ChatTemplate(template_source, self._special_names)
        return other

    @property
    @abstractmethod
    def vocab_size(self) -> int:
        """The number of ids, special tokens included."""

    @abstractmethod
    def encode(self, text: str) -> list[int]:
        """Return the ids of ordinary text, after the beginning-of-sequence token if the model expects one."""

    @abstractmethod
    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of whole sequences; special tokens are left out."""

    @abstractmethod
    def token_bytes(self, token_id: int) -> bytes:
        """Return the raw bytes one token adds to the output; special and unknown ids add none."""

    @abstractmethod
    def _encode_ordinary(self, text: str) -> list[int]:
        """Return the ids of `text` alone, special texts spelled out."""

    @property
    def takes_tools(self) -> bool:
        """Say whether the template renders tools and their calls itself."""
        return self._template is not None and self._template.takes_tools

    def apply_chat_template(
        self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] = ()
    ) -> list[int]:
        """Return the ids of the rendered turns up to where the assistant's answer begins.

        The text of a special token inside a message is encoded as ordinary text. Raises `InvalidRequest` when the
        model has no template or its template refuses the messages.
        """
        if self._template is None:
            raise InvalidRequest("this model has no chat template; use /v1/completions", param="messages")
        guard = SpecialTextGuard(self.special_ids, messages, tools)
        return self._encode_rendered(self._template.render(guard.messages, guard.tools), guard)

    def _encode_rendered(self, rendered: str, guard: SpecialTextGuard) -> list[int]:
        pieces = [rendered] if self._splitter is None else self._splitter.split(rendered)
        token_ids: list[int] = []
        for piece in filter(None, pieces):
            special = self.special_ids.get(piece)
            token_ids += self._encode_ordinary(guard.restore(piece)) if special is None else [special]
        return token_ids


class BpeTokenizer(ChatTokenizer):
    """A tokenizer of the `tokenizers` package: byte-level (GPT-2, LLaMA 3, SmolLM) or with byte fallback."""

    def __init__(self, backend: tokenizers.Tokenizer, special: SpecialTokens, template_source: str | None) -> None:
        super().__init__(special, template_source)
        self._backend = backend
        self._ordinary = tokenizers.Tokenizer.from_str(backend.to_str())
        self._ordinary.encode_special_tokens = True
        self._byte_level = "ByteLevel" in repr(backend.decoder)
        self.marks_first_word = any(part in repr(backend.decoder) for part in ("Strip(", "Metaspace("))
        self._added = {token_id: token.content for token_id, token in backend.get_added_tokens_decoder().items()}

    @property
    def vocab_size(self) -> int:
        return int(self._backend.get_vocab_size())

    def encode(self, text: str) -> list[int]:
        return list(self._ordinary.encode(text).ids)

    def decode(self, token_ids: Sequence[int]) -> str:
        return str(self._backend.decode(list(token_ids), skip_special_tokens=True))

    def token_bytes(self, token_id: int) -> bytes:
        if (added := self._added.get(token_id)) is not None:
            return b"" if added in self.special_ids else added.encode()
        piece = self._backend.id_to_token(token_id)
        if piece is None:
            return b""
        if not self._byte_level:
            return sentencepiece_bytes(piece)
        table = byte_alphabet()
        return bytes(table[character] for character in piece)

    def save(self, folder: Path) -> None:
        """Write `tokenizer.json` and the least `tokenizer_config.json` that transformers loads it with."""
        self._backend.save(str(folder / "tokenizer.json"))
        names = {token_id: name for name, token_id in self.special_ids.items()}
        ends = [names[token_id] for token_id in sorted(self.eos_token_ids) if token_id in names]
        config = {"tokenizer_class": "PreTrainedTokenizerFast", **({"eos_token": ends[0]} if ends else {})}
        (folder / "tokenizer_config.json").write_text(json.dumps(config))

    def _encode_ordinary(self, text: str) -> list[int]:
        return list(self._ordinary.encode(text, add_special_tokens=False).ids)

    def _encode_rendered(self, rendered: str, guard: SpecialTextGuard) -> list[int]:
        if guard.needed:
            return super()._encode_rendered(rendered, guard)
        return list(self._backend.encode(rendered, add_special_tokens=False).ids)


class SentencePieceTokenizer(ChatTokenizer):
    """LLaMA 1 and 2: a SentencePiece model whose control tokens no text can spell."""

    def __init__(self, model: bytes, template_source: str | None = None, *, adds_bos: bool = True) -> None:
        self._model = cast(Any, SentencePieceProcessor)(model_proto=model)
        controls = {self._model.id_to_piece(i): i for i in range(len(self._model)) if self._model.is_control(i)}
        bos, eos = self._model.bos_id(), self._model.eos_id()
        names = {"bos_token": bos, "eos_token": eos, "unk_token": self._model.unk_id()}
        special = SpecialTokens(
            ids=controls,
            eos_token_ids=frozenset({eos} if eos >= 0 else ()),
            bos_token_id=bos if bos >= 0 else None,
            names={name: self._model.id_to_piece(i) for name, i in names.items() if i >= 0},
        )
        super().__init__(special, template_source)
        self.marks_first_word = True
        self._prefix = [bos] if adds_bos and bos >= 0 else []

    @property
    def vocab_size(self) -> int:
        return len(self._model)

    def encode(self, text: str) -> list[int]:
        return self._prefix + self._encode_ordinary(text)

    def decode(self, token_ids: Sequence[int]) -> str:
        known = [i for i in token_ids if 0 <= i < len(self._model) and not self._model.is_control(i)]
        return str(self._model.decode(known))

    def token_bytes(self, token_id: int) -> bytes:
        if not 0 <= token_id < len(self._model) or self._model.is_control(token_id):
            return b""
        if self._model.is_unknown(token_id):
            return " \u2047 ".encode()
        return sentencepiece_bytes(self._model.id_to_piece(token_id))

    def _encode_ordinary(self, text: str) -> list[int]:
        return list(self._model.encode(text))


def sentencepiece_bytes(piece: str) -> bytes:
    """Return the bytes of one piece: `<0x0A>` is that byte, the low line mark is a space."""
    if re.fullmatch(r"<0x[0-9A-F]{2}>", piece):
        return bytes([int(piece[3:5], 16)])
    return piece.replace("\u2581", " ").encode()


@cache
def byte_alphabet() -> dict[str, int]:
    """Return the byte behind each character of byte-level BPE: printable Latin-1 as itself, the rest from U+0100."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = [byte for byte in range(256) if byte not in printable]
    table = {chr(byte): byte for byte in printable}
    return table | {chr(0x100 + i): byte for i, byte in enumerate(others)}
