from __future__ import annotations

import gzip
import math
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch

from core.errors import ConfigError, InvalidRequest
from models.imagebind.audio import LogMelSpec, audio_clips, clip_spans, log_mel, resample
from models.imagebind.text import ClipTokenizer, read_merges
from models.imagebind.vision import frame_indices, image_tensor, imu_windows, single_channel_tensor, video_clips


@pytest.fixture(scope="module")
def tokenizer() -> ClipTokenizer:
    return ClipTokenizer(read_merges())


@pytest.mark.parametrize("rate_hz", [8000, 11025, 44100, 44101, 48000])
def test_a_tone_keeps_its_pitch_and_level_at_any_input_rate(rate_hz: int) -> None:
    seconds = torch.arange(rate_hz // 2, dtype=torch.float64) / rate_hz
    tone = torch.sin(2 * math.pi * 1000 * seconds).float()[None]
    heard = resample(tone, rate_hz, 16000)
    expected = torch.sin(2 * math.pi * 1000 * torch.arange(heard.shape[1], dtype=torch.float64) / 16000).float()
    assert heard.shape[1] == math.ceil((rate_hz // 2) * 16000 / rate_hz)
    torch.testing.assert_close(heard[0, 200:-200], expected[200:-200], atol=5e-3, rtol=0)


def test_a_tone_above_half_the_target_rate_is_removed() -> None:
    tone = torch.sin(2 * math.pi * 12000 * torch.arange(24000) / 48000)[None]
    assert resample(tone, 48000, 16000)[0, 200:-200].abs().max() < 1e-2


def test_long_audio_resampled_in_blocks_equals_its_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    noise = torch.randn(2, 5000)
    whole = resample(noise, 22050, 16000)
    monkeypatch.setattr("models.imagebind.audio.OUTPUTS_PER_BLOCK", 100)
    torch.testing.assert_close(resample(noise, 22050, 16000), whole, atol=0, rtol=0)


def test_an_overlapping_clip_hears_its_own_samples_only() -> None:
    noise = torch.randn(1, 40000) * 0.1 + 0.05
    clips, spec = audio_clips(noise, 16000), LogMelSpec()
    last = noise[0, 8000:40000]
    expected = (log_mel(last - last.mean(), spec).T - spec.mean) / spec.std
    torch.testing.assert_close(clips[2, 0, :, :198], expected, atol=1e-3, rtol=1e-3)


def test_the_shared_clips_form_leaks_between_clips_but_not_into_the_callers_waveform() -> None:
    noise = torch.randn(1, 40000) * 0.1 + 0.05
    before = noise.clone()
    leaked = audio_clips(noise, 16000, LogMelSpec(shared_clips=True))
    assert torch.equal(noise, before)
    assert (leaked - audio_clips(noise, 16000)).abs().max() > 0.05


def test_audio_shorter_than_a_frame_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="send at least 400"):
        audio_clips(torch.zeros(1, 399), 16000)


def test_clip_starts_are_exact_fractions() -> None:
    assert [start for start, _ in clip_spans(Fraction(7, 3), 4, 2)] == [Fraction(i, 9) for i in range(4)]


@pytest.mark.parametrize("size", [(100, 50), (50, 100), (224, 224), (10, 300)])
def test_every_image_becomes_a_square(size: tuple[int, int]) -> None:
    assert image_tensor(np.zeros((*size, 3), np.uint8), 28).shape == (3, 28, 28)


@pytest.mark.parametrize("size", [(1, 300), (20000, 2), (0, 5)])
def test_a_thin_or_empty_picture_is_refused_before_it_grows(size: tuple[int, int]) -> None:
    with pytest.raises(InvalidRequest, match="at most 50 to 1"):
        image_tensor(np.zeros((*size, 3), np.uint8))


@pytest.mark.parametrize(("num_frames", "rate"), [(1, 30.0), (2, 1.0), (50, 29.97), (300, 30000 / 1001), (7, 0.5)])
def test_every_clip_samples_frames_of_the_video(num_frames: int, rate: float) -> None:
    indices = frame_indices(num_frames, rate)
    assert len(indices) == 5
    assert all(0 <= first <= last < num_frames for first, last in indices)


def test_a_video_becomes_fifteen_clips() -> None:
    frames = np.random.default_rng(0).integers(0, 256, (9, 40, 30, 3)).astype(np.uint8)
    assert video_clips(frames, 3.0, 28).shape == (15, 3, 2, 28, 28)


@pytest.mark.parametrize(("num_frames", "rate"), [(0, 30.0), (5, 0.0)])
def test_a_video_without_frames_or_rate_is_refused(num_frames: int, rate: float) -> None:
    with pytest.raises(InvalidRequest):
        video_clips(np.zeros((num_frames, 8, 8, 3), np.uint8), rate, 8)


def test_integer_depth_is_scaled_by_its_type_and_float_depth_is_kept() -> None:
    full = np.full((40, 60), 65535, np.uint16)
    torch.testing.assert_close(single_channel_tensor(full, 28), torch.ones(1, 28, 28))
    torch.testing.assert_close(single_channel_tensor(np.full((40, 60), 0.3), 28), torch.full((1, 28, 28), 0.3))
    torch.testing.assert_close(single_channel_tensor(np.full((40, 60, 3), 255, np.uint8), 28), torch.ones(1, 28, 28))


def test_depth_of_four_channels_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="must be"):
        single_channel_tensor(np.zeros((8, 8, 4), np.uint8))


def test_imu_windows_cover_the_whole_recording() -> None:
    samples = np.tile(np.arange(25, dtype=np.float32), (6, 1))
    starts = imu_windows(samples, window=10)[:, 0, 0].tolist()
    assert starts == [0.0, 10.0, 15.0]


def test_a_short_imu_recording_is_refused() -> None:
    with pytest.raises(InvalidRequest, match="at least 2000 samples"):
        imu_windows(np.zeros((6, 1999), np.float32))


def test_a_long_text_keeps_its_end_mark_unless_the_old_form_is_asked_for(tokenizer: ClipTokenizer) -> None:
    text = ["word " * 200]
    assert tokenizer(text)[0, -1] == 49407
    assert tokenizer(text, keep_end=False)[0, -1] != 49407


def test_known_words_have_their_ids_in_the_released_vocabulary(tokenizer: ClipTokenizer) -> None:
    assert tokenizer(["a photo of a cat"])[0, :7].tolist() == [49406, 320, 1125, 539, 320, 2368, 49407]


def test_a_merges_file_of_another_vocabulary_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "merges.txt.gz"
    path.write_bytes(gzip.compress(b"header\na b\n"))
    with pytest.raises(ConfigError, match="another vocabulary"):
        read_merges(path)
    with pytest.raises(ConfigError, match="does not exist"):
        read_merges(tmp_path / "none.txt")
