"""Instruction data as the references read it, prompt templates, and batches whose loss counts answers only.

Caption files are tab-separated with the columns `url` and `caption`; instruction files are JSON lists of
`{"instruction", "input", "output"}` or, with a picture, `{"image", "conversations": [{"value"}, {"value"}]}`.
B rows, T tokens.
"""

from __future__ import annotations

import csv
import json
import random
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from core.errors import ConfigError
from core.types import DecodedMedia, ModalityEncoder, Tokenizer
from models.checkpoints import file_sha256

CAPTION_INSTRUCTION = "Generate caption of this image"
PREAMBLE = "Below is an instruction that describes a task"
REQUEST = "Write a response that appropriately completes the request."
IGNORED = -100


@dataclass(frozen=True, slots=True)
class Example:
    """One question and its answer, with the picture it is about or None."""

    prompt: str
    answer: str
    image: Path | None = None


@dataclass(frozen=True, slots=True)
class Batch:
    """Right-padded `token_ids` and `targets` `(B, T)`, IGNORED everywhere but at answers; the rows' pictures or None.

    `images` are indices into the cached embeddings; either every row of a batch has one or none has.
    """

    token_ids: Tensor
    targets: Tensor
    images: Tensor | None


def alpaca_prompt(instruction: str, given: str | None = None) -> str:
    """Return the text before the answer, as ImageBind-LLM and LLaMA-Adapter put it; an empty input is none."""
    if not given:
        return f"{PREAMBLE}. {REQUEST}\n\n### Instruction:\n{instruction}\n\n### Response:"
    with_input = f"{PREAMBLE}, paired with an input that provides further context. {REQUEST}"
    return f"{with_input}\n\n### Instruction:\n{instruction}\n\n### Input:\n{given}\n\n### Response:"


def read_captions(path: Path) -> list[Example]:
    """Read a tab-separated file; pictures are paths beside it. Raises `ConfigError` naming the line at fault."""
    with path.open(newline="", encoding="utf-8") as stream:
        rows = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
        missing = {"url", "caption"} - set(rows.fieldnames or ())
        if missing:
            raise ConfigError(f"{path}: the first line must name the columns url and caption; {missing} are missing")
        return [
            Example(alpaca_prompt(CAPTION_INSTRUCTION), _text(row["caption"], path, line), path.parent / row["url"])
            for line, row in enumerate(rows, start=2)
        ]


def read_instructions(path: Path) -> list[Example]:
    """Read a JSON list of instructions, with and without pictures. Raises `ConfigError` naming the entry at fault."""
    entries = json.loads(path.read_text(encoding="utf-8"))
    if not isinstance(entries, list):
        raise ConfigError(f"{path} must hold a JSON list of instructions, got {type(entries).__name__}")
    return [_example(entry, path, place) for place, entry in enumerate(entries)]


def _example(entry: Mapping[str, Any], path: Path, place: int) -> Example:
    try:
        if "image" in entry:
            question, answer = (turn["value"] for turn in entry["conversations"][:2])
            return Example(alpaca_prompt(question), _text(answer, path, place), path.parent / entry["image"])
        return Example(alpaca_prompt(entry["instruction"], entry.get("input")), _text(entry["output"], path, place))
    except (KeyError, TypeError, ValueError) as error:
        raise ConfigError(
            f"{path}: entry {place} lacks an instruction and output, or conversations: {error}"
        ) from error


def _text(value: str | None, path: Path, place: int) -> str:
    if not value:
        raise ConfigError(f"{path}: entry {place} has no answer to learn from")
    return value


class InstructionSet:
    """Tokenised examples in batches, the same whenever asked: they depend on seed and number alone.

    Examples longer than `max_tokens` are left out and counted in `num_too_long`. `image_paths` are the pictures that
    `Batch.images` indexes.
    """

    def __init__(
        self, examples: Iterable[Example], tokenizer: Tokenizer, *, max_tokens: int, batch_size: int, seed: int
    ) -> None:
        kept: list[tuple[list[int], int, Path | None]] = []
        total = 0
        for example in examples:
            total += 1
            token_ids, num_prompt = tokenised(example, tokenizer)
            if len(token_ids) <= max_tokens:
                kept.append((token_ids, num_prompt, example.image))
        if not kept:
            raise ConfigError(f"none of {total} examples has at most {max_tokens} tokens; give data or raise the limit")
        self.num_too_long = total - len(kept)
        self.image_paths = tuple(sorted({image for _, _, image in kept if image is not None}))
        self._place_of = {path: i for i, path in enumerate(self.image_paths)}
        self._kept, self._batch_size, self._seed = kept, batch_size, seed
        self.batches_per_epoch = len(self._order(0))
        self._cached: tuple[int, list[list[int]]] = (-1, [])

    def batch(self, number: int) -> Batch:
        """Return batch `number`, counted on over the epochs."""
        epoch, place = divmod(number, self.batches_per_epoch)
        if self._cached[0] != epoch:
            self._cached = epoch, self._order(epoch)
        return self.batch_of(self._cached[1][place])

    def batch_of(self, rows: Sequence[int]) -> Batch:
        """Return the batch of these examples, all with a picture or all without."""
        chosen = [self._kept[row] for row in rows]
        longest = max(len(token_ids) for token_ids, _, _ in chosen)
        tokens = torch.zeros(len(chosen), longest, dtype=torch.long)
        targets = torch.full_like(tokens, IGNORED)
        for row, (token_ids, num_prompt, _) in enumerate(chosen):
            tokens[row, : len(token_ids)] = torch.tensor(token_ids)
            targets[row, num_prompt : len(token_ids)] = torch.tensor(token_ids[num_prompt:])
        images = [self._place_of[image] for _, _, image in chosen if image is not None]
        return Batch(tokens, targets, torch.tensor(images) if images else None)

    def _order(self, epoch: int) -> list[list[int]]:
        """Return the rows of each batch of one epoch: shuffled, pictures apart from plain text, a last part kept."""
        shuffle = random.Random(f"{self._seed}-{epoch}").shuffle
        batches = []
        for has_image in (True, False):
            rows = [row for row, (_, _, image) in enumerate(self._kept) if (image is not None) == has_image]
            shuffle(rows)
            batches += [rows[i : i + self._batch_size] for i in range(0, len(rows), self._batch_size)]
        shuffle(batches)
        return batches


def tokenised(example: Example, tokenizer: Tokenizer) -> tuple[list[int], int]:
    """Return the ids of prompt, answer and end, and how many of them are the prompt's, as the reference splits them."""
    end = min(tokenizer.eos_token_ids)
    return [*tokenizer.encode(example.prompt + example.answer), end], len(tokenizer.encode(example.prompt))


def embed_images(paths: Sequence[Path], encoder: ModalityEncoder, cache: Path, *, rows_at_once: int = 16) -> Tensor:
    """Return the frozen embeddings `(N, ...)` of pictures in order, encoded once and kept in `cache` by content."""
    known: dict[str, Tensor] = load_file(cache) if cache.exists() else {}
    keys = [f"{encoder.encoder_id}/{file_sha256(path)}" for path in paths]
    missing = {key: path for key, path in zip(keys, paths, strict=True) if key not in known}
    wanted = list(missing.items())
    for start in range(0, len(wanted), rows_at_once):
        part = wanted[start : start + rows_at_once]
        embeddings = encoder.encode([encoder.preprocess(_picture(path)) for _, path in part])
        known |= {key: torch.tensor(e.vector) for (key, _), e in zip(part, embeddings, strict=True)}
    if wanted:
        temporary = cache.with_suffix(".tmp")
        save_file(known, temporary)
        temporary.replace(cache)
    return torch.stack([known[key].float() for key in keys])


def _picture(path: Path) -> DecodedMedia:
    with Image.open(path) as image:
        return DecodedMedia(container=(image.format or "image").lower(), array=np.asarray(image.convert("RGB")))
