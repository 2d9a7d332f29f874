"""Sound and film, from real files that the tests encode themselves."""

from __future__ import annotations

import io
import struct
import sys
from fractions import Fraction
from typing import Any

import av
import numpy as np
import pytest

from core.errors import InvalidRequest, MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.types import DecodedMedia, Modality
from media.audio import decode_audio
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits
from media.sniff import sniff
from media.video import decode_video
from tests.support.sounds import CODECS, encoded_sound, tone

_VIDEO_CODECS = {
    "mp4": ("mp4", "mpeg4"),
    "mov": ("mov", "mpeg4"),
    "webm": ("webm", "libvpx"),
    "mkv": ("matroska", "mpeg4"),
}


def encoded_video(levels: list[int], container: str, *, rate: int = 10, size: tuple[int, int] = (64, 48)) -> bytes:
    """Encode one flat gray frame per level."""
    file_format, codec = _VIDEO_CODECS[container]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=file_format) as target:
        stream: Any = target.add_stream(codec, rate=rate)
        stream.width, stream.height = size
        stream.pix_fmt = "yuv420p"
        stream.time_base = Fraction(1, rate)
        for position, level in enumerate(levels):
            pixels = np.full((size[1], size[0], 3), level, dtype=np.uint8)
            frame = av.VideoFrame.from_ndarray(pixels, format="rgb24")
            frame.pts = position
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return buffer.getvalue()


def job(container: str, modality: Modality, limits: MediaLimits | None = None, **options: Any) -> DecodeJob:
    return DecodeJob(
        container=container, modality=modality, limits=limits or MediaLimits(), options=DecodeOptions(**options)
    )


def hear(content: bytes, container: str, limits: MediaLimits | None = None, **options: Any) -> DecodedMedia:
    return decode_audio(content, job(container, Modality.AUDIO, limits, **options))


def watch(content: bytes, container: str, limits: MediaLimits | None = None, **options: Any) -> DecodedMedia:
    return decode_video(content, job(container, Modality.VIDEO, limits, **options))


def gray(media: DecodedMedia) -> list[int]:
    return [round(float(level)) for level in media.array.mean(axis=(1, 2, 3))]


@pytest.mark.parametrize("container", CODECS)
@pytest.mark.parametrize("channels", [1, 2])
def test_every_audio_container_gives_its_samples_back(container: str, channels: int) -> None:
    samples = tone(0.5, 48_000, channels)
    content = encoded_sound(samples, 48_000, container)
    assert sniff(content) == container
    media = hear(content, container)
    assert media.sample_rate_hz == 48_000
    assert media.array.dtype == np.float32
    assert media.array.shape[0] == channels
    assert abs(media.array.shape[1] - 24_000) < 2_500  # lossy codecs pad
    loudness = np.sqrt((media.array**2).mean(axis=1))
    assert loudness == pytest.approx(np.sqrt((samples**2).mean(axis=1)), rel=0.15)


@pytest.mark.parametrize("container", ["wav", "flac"])
def test_start_and_end_cut_to_the_sample(container: str) -> None:
    samples = np.linspace(-0.9, 0.9, 16_000, dtype=np.float32)[None]
    content = encoded_sound(samples, 16_000, container)
    media = hear(content, container, start_s=0.25, end_s=0.75)
    assert media.array.shape == (1, 8_000)
    assert np.abs(media.array - samples[:, 4_000:12_000]).max() < 1e-3


def test_audio_over_the_time_budget_is_refused_unless_it_is_cut() -> None:
    content = encoded_sound(tone(3, 8_000), 8_000, "flac")
    limits = MediaLimits(max_seconds=2)
    with pytest.raises(MediaTooLarge, match="over 2 s"):
        hear(content, "flac", limits)
    assert hear(content, "flac", limits, start_s=1.5).array.shape[1] == 12_000


def test_audio_over_the_byte_budget_is_refused() -> None:
    with pytest.raises(MediaTooLarge, match="at most 1000"):
        hear(encoded_sound(tone(1, 8_000), 8_000, "wav"), "wav", MediaLimits(max_decoded_bytes=1000))


def test_audio_without_samples_is_refused() -> None:
    with pytest.raises(MediaDecodeError):
        hear(encoded_sound(tone(0, 8_000), 8_000, "wav"), "wav")


def test_a_cut_past_the_end_is_refused() -> None:
    with pytest.raises(MediaDecodeError, match="no sound between start and end"):
        hear(encoded_sound(tone(1, 8_000), 8_000, "wav"), "wav", start_s=5)


@pytest.mark.parametrize("rate_hz", [1, 4_000_000_000])
def test_a_forged_sample_rate_is_refused(rate_hz: int) -> None:
    content = bytearray(encoded_sound(tone(0.1, 8_000), 8_000, "wav"))
    content[24:28] = struct.pack("<I", rate_hz)
    with pytest.raises(MediaDecodeError):
        hear(bytes(content), "wav")


@pytest.mark.parametrize("container", _VIDEO_CODECS)
def test_every_video_container_gives_its_frames_in_order(container: str) -> None:
    levels = [20, 80, 140, 200]
    content = encoded_video(levels, container)
    assert sniff(content) == container
    media = watch(content, container)
    assert media.array.shape == (4, 48, 64, 3)
    assert gray(media) == pytest.approx(levels, abs=6)
    assert media.frames_per_s == pytest.approx(10, rel=0.02)


@pytest.mark.parametrize("wanted", [1, 5, 16])
def test_num_frames_spreads_frames_evenly_over_the_film(wanted: int) -> None:
    levels = list(range(10, 230, 2))
    media = watch(encoded_video(levels, "mp4"), "mp4", num_frames=wanted)
    assert len(media.array) == wanted
    found = gray(media)
    assert found == sorted(found)
    if wanted > 1:
        assert found[0] < 25
        assert found[-1] > 190
        assert max(np.diff(found)) < 2.2 * (220 / (wanted - 1))


def test_fps_takes_frames_at_that_rate() -> None:
    media = watch(encoded_video(list(range(0, 200, 5)), "mp4"), "mp4", frames_per_s=2.5)
    assert len(media.array) == 10
    assert media.frames_per_s == pytest.approx(2.5)
    assert gray(media) == pytest.approx(list(range(0, 200, 20)), abs=8)


def test_start_and_end_cut_a_film() -> None:
    levels = [10 * n for n in range(20)]
    media = watch(encoded_video(levels, "mp4"), "mp4", start_s=0.5, end_s=1.0)
    assert gray(media) == pytest.approx([50, 60, 70, 80, 90], abs=6)


def test_frames_are_shrunk_to_the_shortest_side_that_is_asked_for() -> None:
    content = encoded_video([100], "mp4", size=(640, 320))
    assert watch(content, "mp4", min_side_px=100).array.shape == (1, 100, 200, 3)
    assert watch(content, "mp4", min_side_px=0).array.shape == (1, 320, 640, 3)


def test_a_film_over_a_budget_is_refused() -> None:
    content = encoded_video(list(range(100)), "mp4")
    with pytest.raises(MediaTooLarge, match="over 5 s"):
        watch(content, "mp4", MediaLimits(max_seconds=5))
    with pytest.raises(MediaTooLarge, match="more than 8 frames"):
        watch(content, "mp4", MediaLimits(max_frames=8), frames_per_s=5.0, num_frames=4)
    with pytest.raises(MediaTooLarge, match="64 x 48 pixels"):
        watch(content, "mp4", MediaLimits(max_pixels=1000))
    with pytest.raises(MediaTooLarge, match="decodes to"):
        watch(content, "mp4", MediaLimits(max_decoded_bytes=100_000))
    with pytest.raises(MediaTooLarge, match="num_frames is 65"):
        watch(content, "mp4", num_frames=65)


def test_a_film_without_sound_has_no_audio_and_a_song_no_video() -> None:
    with pytest.raises(MediaDecodeError, match="no audio track"):
        hear(encoded_video([1, 2], "mp4"), "mp4")
    with pytest.raises(MediaDecodeError, match="no video track"):
        watch(encoded_sound(tone(0.2, 48_000), 48_000, "webm"), "webm")


def test_a_film_of_which_nothing_lies_in_the_cut_is_refused() -> None:
    with pytest.raises(MediaDecodeError, match="no frame between"):
        watch(encoded_video([1, 2], "mp4"), "mp4", start_s=50)


def test_a_lying_frame_count_changes_nothing() -> None:
    content = encoded_video([20, 80, 140, 200], "mp4")
    at = content.index(b"mdhd") + 4 + 16
    forged = content[:at] + struct.pack(">I", 0x7FFFFFFF) + content[at + 4 :]
    assert gray(watch(forged, "mp4")) == pytest.approx([20, 80, 140, 200], abs=6)


@pytest.mark.parametrize("container", ["wav", "flac", "ogg", "mp3", "m4a", "webm", "mp4"])
def test_damaged_films_and_sounds_are_media_or_a_refusal(container: str) -> None:
    film = container == "mp4"
    content = encoded_video([9, 90], "mp4") if film else encoded_sound(tone(0.2, 48_000), 48_000, container)
    random = np.random.default_rng(3)
    for _ in range(40):
        damaged = bytearray(content[: random.integers(1, len(content) + 1)])
        for place in random.integers(0, len(damaged), 4):
            damaged[place] ^= int(random.integers(1, 256))
        try:
            media = (watch if film else hear)(bytes(damaged), container)
        except (InvalidRequest, MemoryError):
            continue
        assert media.array.size > 0


@pytest.mark.parametrize(("read", "container"), [(hear, "wav"), (watch, "mp4")])
def test_without_pyav_sound_and_film_are_refused_by_a_sentence(
    read: Any, container: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "av", None)  # what `import av` meets when the package is left out
    with pytest.raises(UnsupportedMedia, match=r"without PyAV.*MEDIA=full"):
        read(b"anything", container)
