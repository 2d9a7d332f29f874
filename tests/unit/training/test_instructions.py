"""Instruction data: the formats and prompts of the references, targets on answers only, pictures encoded once."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from core.errors import ConfigError
from core.types import Embedding, FloatArray, Modality
from models.tiny import ByteTokenizer, TinyEncoder
from training.instructions import (
    IGNORED,
    Example,
    InstructionSet,
    alpaca_prompt,
    embed_images,
    read_captions,
    read_instructions,
)


def test_prompts_are_those_of_the_reference() -> None:
    recorded = Path(__file__).parents[2] / "golden" / "llama_tokenizer" / "config.json"
    prompts = json.loads(recorded.read_text())["prompts"]
    assert len(prompts) > 2
    for prompt in prompts:
        text = alpaca_prompt(prompt["instruction"], prompt["input"])
        assert hashlib.sha256(text.encode()).hexdigest() == prompt["imagebind_llm"]["sha256"]


def test_captions_are_tab_separated_with_paths_beside_the_file(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text('caption\turl\na "red" cat\tpics/cat.png\n')
    (example,) = read_captions(tmp_path / "c.tsv")
    assert example.image == tmp_path / "pics" / "cat.png"
    assert example.answer == 'a "red" cat'
    assert "Generate caption of this image" in example.prompt


def test_captions_without_their_columns_are_refused(tmp_path: Path) -> None:
    (tmp_path / "c.tsv").write_text("picture\tcaption\na.png\tcat\n")
    with pytest.raises(ConfigError, match="url"):
        read_captions(tmp_path / "c.tsv")


def test_instructions_come_with_and_without_pictures(tmp_path: Path) -> None:
    entries = [
        {"instruction": "Add.", "input": "1 and 2", "output": "3"},
        {"image": "a.png", "conversations": [{"value": "What is it?"}, {"value": "A cat."}]},
    ]
    (tmp_path / "i.json").write_text(json.dumps(entries))
    plain, seen = read_instructions(tmp_path / "i.json")
    assert plain == Example(alpaca_prompt("Add.", "1 and 2"), "3")
    assert seen == Example(alpaca_prompt("What is it?"), "A cat.", tmp_path / "a.png")


def test_an_entry_without_an_answer_is_named(tmp_path: Path) -> None:
    (tmp_path / "i.json").write_text(json.dumps([{"instruction": "Add.", "output": ""}]))
    with pytest.raises(ConfigError, match="entry 0"):
        read_instructions(tmp_path / "i.json")


def test_only_answers_and_their_end_are_targets() -> None:
    data = InstructionSet([Example("ab", "cd")], ByteTokenizer(), max_tokens=9, batch_size=1, seed=0)
    batch = data.batch(0)
    assert batch.targets[0].tolist() == [IGNORED, IGNORED, *ByteTokenizer().encode("cd"), 0]
    assert batch.token_ids[0, 2:].tolist() == batch.targets[0, 2:].tolist()


def test_batches_hold_pictures_or_none_and_cover_every_epoch() -> None:
    examples = [Example("q", f"{i:02}", Path(f"{i}.png") if i % 3 else None) for i in range(20)]
    data = InstructionSet(examples, ByteTokenizer(), max_tokens=9, batch_size=4, seed=1)
    again = InstructionSet(examples, ByteTokenizer(), max_tokens=9, batch_size=4, seed=1)
    epochs = []
    for epoch in range(2):
        batches = [data.batch(epoch * data.batches_per_epoch + i) for i in range(data.batches_per_epoch)]
        assert all(batch.images is None or len(batch.images) == len(batch.token_ids) for batch in batches)
        epochs.append([ByteTokenizer().decode(row[1:3].tolist()) for batch in batches for row in batch.token_ids])
    assert sorted(epochs[0]) == sorted(epochs[1]) == [f"{i:02}" for i in range(20)]
    assert epochs[0] != epochs[1]
    assert torch.equal(data.batch(7).token_ids, again.batch(7).token_ids)


def test_examples_that_are_too_long_are_counted() -> None:
    data = InstructionSet(
        [Example("q", "a"), Example("q", "a" * 50)], ByteTokenizer(), max_tokens=9, batch_size=2, seed=0
    )
    assert data.num_too_long == 1
    with pytest.raises(ConfigError, match="at most 2 tokens"):
        InstructionSet([Example("q", "ab")], ByteTokenizer(), max_tokens=2, batch_size=2, seed=0)


def test_pictures_are_encoded_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(0)
    paths = [tmp_path / f"{i}.png" for i in range(3)]
    for path in paths:
        Image.fromarray(rng.integers(0, 255, (20, 30, 3), dtype=np.uint8)).save(path)
    encoder = TinyEncoder(Modality.IMAGE)
    first = embed_images(paths[:2], encoder, tmp_path / "cache.safetensors")
    encoded: list[int] = []
    original = TinyEncoder.encode

    def counting(self: TinyEncoder, batch: Sequence[FloatArray]) -> list[Embedding]:
        encoded.append(len(batch))
        return original(self, batch)

    monkeypatch.setattr(TinyEncoder, "encode", counting)
    whole = embed_images(paths, encoder, tmp_path / "cache.safetensors")
    assert encoded == [1]
    assert torch.equal(whole[:2], first)
    assert not torch.equal(whole[0], whole[2])
