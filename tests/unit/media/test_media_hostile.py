"""Files made to lie or to swell: each is refused, or read within its budget; the files are real, then bent."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.errors import MediaDecodeError, MediaTooLarge
from core.types import DecodedMedia, Modality
from media.audio import decode_audio
from media.containers import DecodeJob
from media.image import decode_image
from media.limits import DecodeOptions, MediaLimits
from media.video import decode_video
from tests.support.sample_films import film
from tests.support.sounds import encoded_sound, tone

HOUR_S = 3600


def job(container: str, modality: Modality, **options: Any) -> DecodeJob:
    return DecodeJob(
        container=container, modality=modality, limits=MediaLimits(), options=DecodeOptions(**options)
    )  # fmt: skip


def hear(content: bytes, container: str, **options: Any) -> DecodedMedia:
    return decode_audio(content, job(container, Modality.AUDIO, **options))


def watch(content: bytes, container: str, **options: Any) -> DecodedMedia:
    return decode_video(content, job(container, Modality.VIDEO, **options))


def gray_film(container: str = "mp4", num_frames: int = 4, **options: str) -> bytes:
    frames = [np.full((48, 64, 3), 20 + 5 * place, np.uint8) for place in range(num_frames)]
    return film(frames, container, **options)


def png_chunk(kind: bytes, content: bytes) -> bytes:
    return struct.pack(">I", len(content)) + kind + content + struct.pack(">I", zlib.crc32(kind + content))


def test_ten_hours_of_sound_are_refused_and_ten_seconds_of_them_are_heard() -> None:
    content = encoded_sound(np.zeros((1, 10 * HOUR_S * 1000), np.float32), 1000, "flac", chunk=1_000_000)
    assert len(content) < 4 << 20  # gigabytes of samples, once they are decoded
    with pytest.raises(MediaTooLarge, match="over 600 s"):
        hear(content, "flac")
    heard = hear(content, "flac", start_s=100.0, end_s=110.0)
    assert heard.array.shape == (1, 10 * (heard.sample_rate_hz or 0))


@pytest.mark.parametrize("num_bytes", [0, 0x7FFFFFFF, 0xFFFFFFFF])
def test_a_length_that_lies_in_a_wav_header_changes_nothing_or_is_refused(num_bytes: int) -> None:
    content = bytearray(encoded_sound(tone(0.5, 8_000), 8_000, "wav"))
    at = content.index(b"data") + 4
    content[at : at + 4] = struct.pack("<I", num_bytes)
    try:
        heard = hear(bytes(content), "wav")
    except MediaDecodeError:
        assert num_bytes == 0
    else:
        assert heard.array.shape == (1, 4_000)


def test_a_forged_channel_count_is_refused() -> None:
    content = bytearray(encoded_sound(tone(0.1, 8_000), 8_000, "wav"))
    content[22:24] = struct.pack("<H", 60_000)
    with pytest.raises(MediaDecodeError):
        hear(bytes(content), "wav")


def test_a_film_without_frames_is_refused() -> None:
    content = gray_film(num_frames=1)
    at = content.index(b"stsz") + 12  # the number of samples of the only track
    emptied = content[:at] + struct.pack(">I", 0) + content[at + 4 :]
    with pytest.raises(MediaDecodeError):
        watch(emptied, "mp4")


def test_the_index_of_a_film_may_stand_at_either_end() -> None:
    plain, moved = gray_film(), gray_film(movflags="frag_keyframe+empty_moov")
    assert plain.index(b"mdat") < plain.index(b"moov")
    assert moved.index(b"moov") < moved.index(b"mdat")
    np.testing.assert_array_equal(watch(plain, "mp4").array, watch(moved, "mp4").array)


def test_a_film_cut_before_its_index_is_refused() -> None:
    content = gray_film()
    with pytest.raises(MediaDecodeError, match="damaged or truncated"):
        watch(content[: content.index(b"moov") - 4], "mp4")


def test_a_recording_that_broke_off_is_read_as_far_as_it_goes() -> None:
    content = gray_film("webm", num_frames=40)
    whole, broken = (
        watch(content, "webm", num_frames=40),
        watch(content[: len(content) * 2 // 3], "webm", num_frames=40),
    )
    assert 0 < len(broken.array) < len(whole.array)
    np.testing.assert_array_equal(broken.array[0], whole.array[0])


@pytest.mark.parametrize("kind", [b"zTXt", b"iCCP"])
def test_a_deflate_bomb_beside_the_pixels_costs_nothing(kind: bytes) -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (10, 20, 30)).save(buffer, "PNG")
    bomb = png_chunk(kind, b"name\0\0" + zlib.compress(bytes(200 << 20), 9))
    content = buffer.getvalue()
    armed = content[:33] + bomb + content[33:]
    try:
        pixels = decode_image(armed, job("png", Modality.IMAGE)).array
    except (MediaDecodeError, MediaTooLarge):
        return
    assert (pixels == (10, 20, 30)).all()


@pytest.mark.parametrize("mode", ["CMYK", "L", "LA", "I;16", "1", "P"])
def test_every_kind_of_picture_keeps_its_brightness(mode: str) -> None:
    buffer = io.BytesIO()
    gray = Image.new("L", (8, 8), 200)
    levels = Image.fromarray(np.full((8, 8), 200 << 8, np.uint16)) if mode == "I;16" else gray.convert(mode)
    container = "jpeg" if mode == "CMYK" else "png"
    levels.save(buffer, container)
    pixels = decode_image(buffer.getvalue(), job(container, Modality.IMAGE)).array
    expected = 255 if mode == "1" else 200
    assert abs(float(pixels.mean()) - expected) <= (60 if mode == "1" else 2)
