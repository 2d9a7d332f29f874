from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import InvalidRequest
from core.types import DecodedMedia, Modality
from models.imagebind.checkpoint import weights_digest
from models.imagebind.encoders import ImageBindEncoder, imagebind_encoders, without_repeats
from models.imagebind.model import ImageBind
from models.imagebind.text import ClipTokenizer, read_merges

MODALITIES = [modality for modality in Modality if modality is not Modality.POINT_CLOUD]


def media(modality: Modality, seed: int) -> DecodedMedia:
    rng = np.random.default_rng(seed)
    arrays = {
        Modality.IMAGE: rng.integers(0, 256, (40, 50, 3)).astype(np.uint8),
        Modality.VIDEO: rng.integers(0, 256, (8 + 9 * seed, 40, 50, 3)).astype(np.uint8),
        Modality.AUDIO: rng.normal(size=(2, 30000 + 12000 * seed)).astype(np.float32) * 0.1,
        Modality.DEPTH: rng.integers(0, 65536, (40, 50)).astype(np.uint16),
        Modality.THERMAL: rng.integers(0, 256, (40, 50, 3)).astype(np.uint8),
        Modality.IMU: rng.normal(size=(6, 2000 + 500 * seed)).astype(np.float32),
        Modality.TEXT: np.frombuffer(f"a photo number {seed}".encode(), np.uint8),
    }
    array = arrays[modality]
    array.flags.writeable = False
    return DecodedMedia(container="test", array=array, sample_rate_hz=16000.0, frames_per_s=5.0)


@pytest.fixture
def encoders(tiny_imagebind: ImageBind) -> dict[Modality, ImageBindEncoder]:
    return imagebind_encoders(tiny_imagebind, "tiny", ClipTokenizer(read_merges()))


@pytest.mark.parametrize("modality", MODALITIES)
def test_each_medium_has_a_unit_embedding_that_does_not_depend_on_its_batch(
    modality: Modality, encoders: dict[Modality, ImageBindEncoder]
) -> None:
    encoder = encoders[modality]
    rows = [encoder.preprocess(media(modality, seed)) for seed in range(3)]
    together = encoder.encode(rows)
    assert encoder.modality == modality
    for row, embedding in zip(rows, together, strict=True):
        alone = encoder.encode([row])[0].vector
        np.testing.assert_allclose(embedding.vector, alone, atol=1e-5)
        assert np.linalg.norm(alone) == pytest.approx(1, abs=1e-5)
        assert alone.dtype == np.float32
    assert np.abs(together[0].vector - together[1].vector).max() > 1e-4


def test_encoders_carry_the_name_and_the_digest_of_their_weights(
    encoders: dict[Modality, ImageBindEncoder], tiny_imagebind: ImageBind
) -> None:
    assert encoders[Modality.IMAGE].encoder_id == f"tiny-{weights_digest(tiny_imagebind)}"


def test_text_needs_a_tokenizer(tiny_imagebind: ImageBind) -> None:
    assert Modality.TEXT not in imagebind_encoders(tiny_imagebind, "tiny")


def test_repeated_clips_of_a_short_medium_are_encoded_once(encoders: dict[Modality, ImageBindEncoder]) -> None:
    short, long = (encoders[Modality.AUDIO].preprocess(media(Modality.AUDIO, seed)) for seed in (0, 2))
    assert (len(short), len(long)) == (1, 3)
    assert len(encoders[Modality.VIDEO].preprocess(media(Modality.VIDEO, 0))) == 3
    assert torch.equal(without_repeats(torch.tensor([1, 2, 1])), torch.tensor([1, 2, 1]))


def test_a_sound_without_a_rate_is_refused(encoders: dict[Modality, ImageBindEncoder]) -> None:
    with pytest.raises(InvalidRequest, match="no sample or frame rate"):
        encoders[Modality.AUDIO].preprocess(DecodedMedia(container="wav", array=np.zeros((1, 16000), np.float32)))
