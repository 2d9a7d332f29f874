"""Build tokenizers from what checkpoints ship: GGUF metadata, Hugging Face files, `tokenizer.model` of two kinds."""

from __future__ import annotations

import base64
import binascii
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import tokenizers
from tokenizers import AddedToken, Regex, decoders, models, pre_tokenizers, processors

from core.errors import CheckpointError
from models.checkpoints import read_json
from models.llama.gguf import GgufFile
from models.llama.tokenizer import BpeTokenizer, ChatTokenizer, SentencePieceTokenizer, SpecialTokens, byte_alphabet

_LLAMA3_SPLIT = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_LLAMA3_SPECIALS = {
    0: "<|begin_of_text|>",
    1: "<|end_of_text|>",
    4: "<|finetune_right_pad_id|>",
    6: "<|start_header_id|>",
    7: "<|end_header_id|>",
    8: "<|eom_id|>",
    9: "<|eot_id|>",
    10: "<|python_tag|>",
}
_LLAMA3_TEMPLATE = (
    "{{ bos_token }}{% for message in messages %}"
    "{{ '<|start_header_id|>' + message['role'] + '<|end_header_id|>\n\n' + message['content'] | trim + '<|eot_id|>' }}"
    "{% endfor %}{{ '<|start_header_id|>assistant<|end_header_id|>\n\n' }}"
)
_CONTROL, _USER_DEFINED = 3, 4
_BYTE_LEVEL = {"add_prefix_space": False}


def load_tokenizer(folder: Path | str, template_source: str | None = None) -> ChatTokenizer:
    """Load the tokenizer of a folder: `tokenizer.json`, else `tokenizer.model` of SentencePiece or LLaMA 3 kind.

    `template_source` is used when the files bring no chat template. Raises `CheckpointError` when neither is there.
    """
    folder = Path(folder)
    if (folder / "tokenizer.json").is_file():
        return load_hf_tokenizer(folder, template_source)
    if (folder / "tokenizer.model").is_file():
        return load_tokenizer_model(folder / "tokenizer.model", template_source)
    raise CheckpointError(f"{folder} holds neither tokenizer.json nor tokenizer.model")


def load_hf_tokenizer(folder: Path | str, template_source: str | None = None) -> BpeTokenizer:
    """Load `tokenizer.json`, the special names of `tokenizer_config.json` and the folder's chat template."""
    folder = Path(folder)
    try:
        backend = tokenizers.Tokenizer.from_file(str(folder / "tokenizer.json"))
    except Exception as error:  # the package raises plain Exception
        raise CheckpointError(f"{folder / 'tokenizer.json'} is missing or damaged: {error}") from error
    settings = _optional_json(folder / "tokenizer_config.json")
    names = {key: _content(value) for key, value in settings.items() if key.endswith("_token") and _content(value)}
    special = {token.content: i for i, token in backend.get_added_tokens_decoder().items() if token.special}
    stops = [settings_file.get("eos_token_id") for settings_file in map(_optional_json, _stop_files(folder))]
    listed = next((stop for stop in stops if stop is not None), backend.token_to_id(names.get("eos_token", "")))
    eos = listed if isinstance(listed, list) else [listed]
    found = SpecialTokens(
        ids=special,
        eos_token_ids=frozenset(int(token_id) for token_id in eos if token_id is not None),
        bos_token_id=backend.token_to_id(names["bos_token"]) if "bos_token" in names else None,
        names=names,
    )
    return BpeTokenizer(backend, found, _stored_template(folder, settings) or template_source)


def load_gguf_tokenizer(path: Path | str, template_source: str | None = None) -> ChatTokenizer:
    """Build the tokenizer a GGUF file describes, byte-level BPE or SentencePiece, with its chat template."""
    stored = GgufFile(path)
    template = stored.value("tokenizer.chat_template", template_source)
    kind = stored.require("tokenizer.ggml.model")
    tokens, types = stored.require("tokenizer.ggml.tokens"), stored.require("tokenizer.ggml.token_type")
    if kind == "llama":
        proto = sentencepiece_proto(tokens, stored.require("tokenizer.ggml.scores"), types)
        adds_bos = bool(stored.value("tokenizer.ggml.add_bos_token", True))
        return SentencePieceTokenizer(proto, template, adds_bos=adds_bos)
    if kind != "gpt2":
        raise CheckpointError(f"{path} holds a {kind!r} tokenizer; gpt2 and llama are supported")
    split = str(stored.value("tokenizer.ggml.pre", "default"))
    vocabulary = {token: i for i, token in enumerate(tokens)}
    lines = (line.partition(" ") for line in stored.require("tokenizer.ggml.merges"))
    merges = [(left, right) for left, _, right in lines]
    backend = _byte_level_bpe(vocabulary, merges, split)
    backend.add_special_tokens(_added(tokens, types, _CONTROL, special=True))
    backend.add_tokens(_added(tokens, types, _USER_DEFINED, special=False))
    bos = stored.value("tokenizer.ggml.bos_token_id")
    if stored.value("tokenizer.ggml.add_bos_token", split == "llama-bpe") and bos is not None:
        _prepend_bos(backend, tokens[bos], int(bos))
    return BpeTokenizer(backend, _gguf_special(stored, tokens, types), template)


def load_tokenizer_model(path: Path | str, template_source: str | None = None) -> ChatTokenizer:
    """Load `tokenizer.model`: a SentencePiece model (LLaMA 1, 2) or lines of base64 and rank (LLaMA 3)."""
    path = Path(path)
    content = path.read_bytes()
    if content.startswith(b"\n"):  # field 1 of a SentencePiece model, length-delimited
        try:
            return SentencePieceTokenizer(content, template_source)
        except (RuntimeError, OSError) as error:
            raise CheckpointError(f"{path} is no SentencePiece model: {error}") from error
    return _llama3_tokenizer(path, content, template_source or _LLAMA3_TEMPLATE)


def sentencepiece_proto(pieces: Sequence[str], scores: Sequence[float], types: Sequence[int]) -> bytes:
    """Return a SentencePiece BPE model, LLaMA's normaliser settings, in the protocol-buffer wire format."""
    message = b"".join(
        _field(1, _field(1, piece.encode()) + b"\x15" + struct.pack("<f", score) + b"\x18" + bytes([kind]))
        for piece, score, kind in zip(pieces, scores, types, strict=True)
    )
    trainer = b"\x18\x02" + b"\x98\x02\x01"  # model_type (3) BPE, byte_fallback (35) on
    normalizer = _field(1, b"identity") + b"\x18\x01" + b"\x20\x00" + b"\x28\x01"  # prefix on, keep spaces, escape
    return message + _field(2, trainer) + _field(3, normalizer)


def _field(number: int, content: bytes) -> bytes:
    length, size = b"", len(content)
    while size >= 0x80:
        length, size = length + bytes([size & 0x7F | 0x80]), size >> 7
    return bytes([number << 3 | 2]) + length + bytes([size]) + content


def _llama3_tokenizer(path: Path, content: bytes, template_source: str) -> BpeTokenizer:
    to_character = {byte: character for character, byte in byte_alphabet().items()}
    ranks: dict[str, int] = {}
    try:
        for line in content.splitlines():
            encoded, rank = line.split()
            ranks["".join(to_character[byte] for byte in base64.b64decode(encoded, validate=True))] = int(rank)
    except (ValueError, binascii.Error) as error:
        raise CheckpointError(f"{path} is neither a SentencePiece model nor base64 tokens with ranks") from error
    backend = _byte_level_bpe(ranks, _merges_of(ranks), "llama-bpe")
    specials = [_LLAMA3_SPECIALS.get(i, f"<|reserved_special_token_{i}|>") for i in range(256)]
    backend.add_special_tokens([AddedToken(text, normalized=False, special=True) for text in specials])
    first = len(ranks)
    _prepend_bos(backend, specials[0], first)
    found = SpecialTokens(
        ids={text: first + i for i, text in enumerate(specials)},
        eos_token_ids=frozenset(first + i for i in (1, 8, 9)),
        bos_token_id=first,
        names={"bos_token": specials[0], "eos_token": specials[9]},
    )
    return BpeTokenizer(backend, found, template_source)


def _merges_of(ranks: Mapping[str, int]) -> list[tuple[str, str]]:
    """Recover merges from ranks: every split into two known tokens, in the order of the whole's rank."""
    merges: list[tuple[str, str]] = []
    for token in sorted(ranks, key=ranks.__getitem__):
        halves = [(token[:i], token[i:]) for i in range(1, len(token))]
        known = [pair for pair in halves if pair[0] in ranks and pair[1] in ranks]
        merges += sorted(known, key=lambda pair: (ranks[pair[0]], ranks[pair[1]]))
    return merges


def _byte_level_bpe(vocabulary: dict[str, int], merges: list[tuple[str, str]], split: str) -> tokenizers.Tokenizer:
    splitters = {
        "smollm": [pre_tokenizers.Digits(individual_digits=True), pre_tokenizers.ByteLevel(**_BYTE_LEVEL)],
        "llama-bpe": [
            pre_tokenizers.Split(Regex(_LLAMA3_SPLIT), behavior="isolated"),
            pre_tokenizers.ByteLevel(**_BYTE_LEVEL, use_regex=False),
        ],
    }
    plain = [pre_tokenizers.ByteLevel(**_BYTE_LEVEL)]
    if split not in {*splitters, "default", "gpt-2"}:
        raise CheckpointError(f"unknown pre-tokenizer {split!r}; known: default, gpt-2, {', '.join(splitters)}")
    backend = tokenizers.Tokenizer(models.BPE(vocabulary, merges, ignore_merges=split == "llama-bpe"))
    backend.pre_tokenizer = pre_tokenizers.Sequence(splitters.get(split, plain))
    backend.decoder = decoders.ByteLevel()
    return backend


def _prepend_bos(backend: tokenizers.Tokenizer, text: str, token_id: int) -> None:
    backend.post_processor = processors.TemplateProcessing(
        single=f"{text} $A", pair=f"{text} $A $B", special_tokens=[(text, token_id)]
    )


def _added(tokens: Sequence[str], types: Sequence[int], wanted: int, *, special: bool) -> list[AddedToken]:
    marked = (token for token, kind in zip(tokens, types, strict=True) if kind == wanted)
    return [AddedToken(token, normalized=False, special=special) for token in marked]


def _gguf_special(stored: GgufFile, tokens: Sequence[str], types: Sequence[int]) -> SpecialTokens:
    prefix = "tokenizer.ggml."
    stops = {stored.value(f"{prefix}{name}_token_id") for name in ("eos", "eot", "eom")} - {None}
    bos, eos = stored.value(f"{prefix}bos_token_id"), stored.value(f"{prefix}eos_token_id")
    named = {"bos_token": bos, "eos_token": eos}
    return SpecialTokens(
        ids={token: i for i, (token, kind) in enumerate(zip(tokens, types, strict=True)) if kind == _CONTROL},
        eos_token_ids=frozenset(int(token_id) for token_id in stops),
        bos_token_id=bos,
        names={name: tokens[token_id] for name, token_id in named.items() if token_id is not None},
    )


def _stored_template(folder: Path, settings: Mapping[str, Any]) -> str | None:
    """Return `chat_template.jinja`, else the template of the settings, which may be a list of named ones."""
    if (folder / "chat_template.jinja").is_file():
        return (folder / "chat_template.jinja").read_text(encoding="utf-8")
    template = settings.get("chat_template")
    if isinstance(template, list):
        by_name = {entry["name"]: str(entry["template"]) for entry in template}
        return by_name.get("default") or next(iter(by_name.values()), None)
    return None if template is None else str(template)


def _stop_files(folder: Path) -> Iterable[Path]:
    return (folder / "generation_config.json", folder / "config.json")


def _optional_json(path: Path) -> dict[str, Any]:
    return read_json(path) if path.is_file() else {}


def _content(value: Any) -> str:
    """Return the text of a special token, stored plain or as an object."""
    text = value.get("content", "") if isinstance(value, dict) else value
    return text if isinstance(text, str) else ""
