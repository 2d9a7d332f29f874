"""The text encoder of `mini` against the library its weights come from, and what it refuses."""

from __future__ import annotations

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from transformers import AutoModel, AutoTokenizer

from core.errors import AppError, CheckpointError, MediaDecodeError, PromptTooLong
from core.types import DecodedMedia
from models.mini.assets import text_network_file
from models.mini.text import MiniTextEncoder

TEXTS = ("cat", "A dog barks on the beach, at dusk.", "caffè, 猫 and 🐈", "word " * 300)


@pytest.fixture(scope="module")
def encoder() -> MiniTextEncoder:
    return MiniTextEncoder(text_network_file(), "text")


def as_media(content: bytes) -> DecodedMedia:
    return DecodedMedia(container="text", array=np.frombuffer(content, dtype=np.uint8))


def test_every_text_has_the_embedding_of_the_reference_implementation(encoder: MiniTextEncoder) -> None:
    folder = text_network_file().parent
    tokenizer, network = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    batch = tokenizer(list(TEXTS), padding=True, return_tensors="pt")
    with torch.inference_mode():
        hidden = network(**batch).last_hidden_state
    mask = batch["attention_mask"][..., None]
    expected = F.normalize((hidden * mask).sum(1) / mask.sum(1), dim=-1)
    torch.testing.assert_close(encoder.embed(TEXTS), expected, atol=2e-6, rtol=0)


def test_a_row_does_not_depend_on_its_batch(encoder: MiniTextEncoder) -> None:
    rows = [encoder.preprocess(as_media(text.encode())) for text in TEXTS]
    for together, row in zip(encoder.encode(rows), rows, strict=True):
        np.testing.assert_allclose(together.vector, encoder.encode([row])[0].vector, atol=2e-6)
        assert np.linalg.norm(together.vector) == pytest.approx(1, abs=1e-5)


def test_king_without_man_with_woman_is_closest_to_queen(encoder: MiniTextEncoder) -> None:
    king, man, woman, *others = encoder.embed(["king", "man", "woman", "queen", "prince", "horse", "guitar"])
    scores = torch.stack(others) @ F.normalize(king - man + woman, dim=0)
    assert scores.argmax() == 0


@pytest.mark.parametrize(
    ("content", "error", "sentence"),
    [
        (b"\xff\xfe", MediaDecodeError, "not UTF-8"),
        (b"  \n", MediaDecodeError, "no words"),
        (b"word " * 511, PromptTooLong, "513 tokens"),
    ],
)
def test_what_is_no_text_or_too_much_is_refused(
    encoder: MiniTextEncoder, content: bytes, error: type[AppError], sentence: str
) -> None:
    with pytest.raises(error, match=sentence):
        encoder.preprocess(as_media(content))


def test_missing_weights_are_named() -> None:
    encoder = MiniTextEncoder(text_network_file().with_name("absent.safetensors"), "text")
    with pytest.raises(CheckpointError, match="absent"):
        encoder.embed(["cat"])
