"""Windows of sounds of any rate, length and channel count."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from core.errors import InvalidRequest
from models.mini.windows import SAMPLE_RATE_HZ, WindowSpec, hear, one_channel
from tests.support.heard_sounds import media, noise, siren

SPEC = WindowSpec(num_samples=32000, hop_samples=16000, max_windows=8)


@pytest.mark.parametrize("rate_hz", [1000, 8000, 11025, 22050, 44100, 48000, 96000, 192000])
def test_windows_have_one_length_whatever_the_rate(rate_hz: int) -> None:
    heard = hear(media(siren(5, rate_hz), rate_hz), SPEC)
    assert heard.windows.shape == (4, SPEC.num_samples)
    assert float(heard.rms.max()) == pytest.approx(0.1, rel=1e-3)


@pytest.mark.parametrize("rate_hz", [44100, 96000])
def test_another_rate_gives_the_same_windows(rate_hz: int) -> None:
    low, high = (hear(media(siren(2, rate), rate), SPEC).windows[0] for rate in (SAMPLE_RATE_HZ, rate_hz))
    correlation = torch.corrcoef(torch.stack((low, high))[:, 1000:-1000])[0, 1]
    assert correlation > 0.999


def test_a_short_sound_is_followed_by_silence() -> None:
    heard = hear(media(siren(0.2, 16000), 16000), SPEC)
    assert heard.windows.shape == (1, SPEC.num_samples)
    assert heard.windows[0, :3200].abs().max() > 0.1
    assert heard.windows[0, 3300:].abs().max() < 1e-6


def test_a_long_sound_keeps_the_loudest_windows_of_all_its_parts() -> None:
    samples = noise(600, 8000, level=0.001)
    bursts_s = range(20, 600, 75)
    for second in bursts_s:
        samples[:, second * 8000 : (second + 1) * 8000] += siren(1, 8000)
    heard = hear(media(samples, 8000), SPEC)
    assert len(heard.windows) == SPEC.max_windows
    assert float(heard.rms.min()) > 0.05


def test_the_last_part_of_a_window_counts() -> None:
    samples = np.concatenate((np.zeros((1, 36000), np.float32), siren(0.5, 16000)), axis=1)
    heard = hear(media(samples, 16000), SPEC)
    assert float(heard.windows[-1, -8000:].square().mean()) > 0.01


def test_channels_that_cancel_are_still_heard() -> None:
    left = siren(2, 16000)
    heard = hear(media(np.concatenate((left, -left)), 16000), SPEC)
    assert not heard.is_silent
    np.testing.assert_allclose(one_channel(np.concatenate((left, left))), left[0] - left[0].mean(), atol=1e-6)


def test_an_offset_is_no_sound() -> None:
    assert hear(media(np.full((2, 32000), 0.5, np.float32), 16000), SPEC).is_silent


@pytest.mark.parametrize("level", [0.0, 3e-5])
def test_silence_is_known_by_its_level(level: float) -> None:
    assert hear(media(noise(30, 16000, level), 16000), SPEC).is_silent
    assert not hear(media(noise(30, 16000, 1e-3), 16000), SPEC).is_silent


def test_under_one_frame_is_refused_with_what_is_needed() -> None:
    with pytest.raises(InvalidRequest, match="at least 25 ms"):
        hear(media(siren(0.02, 44100), 44100), SPEC)
