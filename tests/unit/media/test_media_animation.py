"""Moving pictures without FFmpeg: GIF, WebP and PNG animations that the tests make, and lists of pictures."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.errors import MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.types import DecodedMedia, Modality
from media.animation import decode_animation, decode_frame_list, pack_frames
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits
from media.sniff import resolve

CONTAINERS = ["gif", "webp", "png"]


def job(container: str, limits: MediaLimits | None = None, **options: Any) -> DecodeJob:
    return DecodeJob(
        container=container,
        modality=Modality.VIDEO,
        limits=limits or MediaLimits(),
        options=DecodeOptions(**options),
    )


def animation(levels: list[int], container: str, *, duration_ms: int = 200, mode: str = "RGB") -> bytes:
    colours = [(level, level, level) if mode == "RGB" else (level, level, level, 255) for level in levels]
    frames = [Image.new(mode, (20, 10), colour) for colour in colours]
    if mode == "RGBA":
        for frame in frames:
            frame.paste((0, 0, 0, 0), (4, 2, 12, 8))
    buffer = io.BytesIO()
    lossless = {"lossless": True} if container == "webp" else {}
    frames[0].save(buffer, container, save_all=True, append_images=frames[1:], duration=duration_ms, **lossless)
    return buffer.getvalue()


def watch(content: bytes, container: str, limits: MediaLimits | None = None, **options: Any) -> DecodedMedia:
    return decode_animation(content, job(container, limits, **options))


def gray(media: DecodedMedia) -> list[int]:
    return [round(float(level)) for level in media.array.mean(axis=(1, 2, 3))]


def encoded(pixels: Any, container: str = "png") -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, container)
    return buffer.getvalue()


@pytest.mark.parametrize("container", CONTAINERS)
def test_an_animation_gives_its_frames_with_their_times(container: str) -> None:
    content = animation([10, 120, 230], container)
    assert resolve(content, declared_type=None, expected=Modality.VIDEO) == (Modality.VIDEO, container)
    media = watch(content, container)
    assert media.array.shape == (3, 10, 20, 3)
    assert gray(media) == pytest.approx([10, 120, 230], abs=3)
    assert media.frame_times_s == pytest.approx((0, 0.2, 0.4))
    assert media.frames_per_s == pytest.approx(5)


@pytest.mark.parametrize("container", CONTAINERS)
def test_transparent_parts_of_every_frame_lie_over_white(container: str) -> None:
    media = watch(animation([10, 120], container, mode="RGBA"), container)
    assert (media.array[:, 2:8, 4:12] == 255).all()
    assert gray(DecodedMedia(container=container, array=media.array[:, :, 13:])) == pytest.approx([10, 120], abs=3)


@pytest.mark.parametrize("container", CONTAINERS)
def test_cuts_and_counts_are_honoured(container: str) -> None:
    content = animation(list(range(0, 200, 10)), container)
    assert gray(watch(content, container, start_s=0.4, end_s=1.0)) == pytest.approx([20, 30, 40], abs=3)
    assert len(watch(content, container, num_frames=4).array) == 4
    assert watch(content, container, frames_per_s=1.0).frame_times_s == pytest.approx((0, 1, 2, 3))


def test_frames_without_a_duration_last_a_tenth_of_a_second() -> None:
    assert watch(animation([0, 99, 200], "gif", duration_ms=0), "gif").frame_times_s == pytest.approx((0, 0.1, 0.2))


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_still_picture_is_no_film(container: str) -> None:
    still = encoded(np.zeros((8, 8, 3), np.uint8), container)
    with pytest.raises(UnsupportedMedia, match="still picture"):
        watch(still, container)


@pytest.mark.parametrize("container", CONTAINERS)
def test_a_truncated_animation_is_refused(container: str) -> None:
    content = animation(list(range(0, 250, 10)), container)
    with pytest.raises((MediaDecodeError, UnsupportedMedia)):
        watch(content[: len(content) // 2], container)


def test_an_animation_of_too_many_pixels_in_all_is_refused() -> None:
    limits = MediaLimits(max_pixels=200, max_frames=4)
    with pytest.raises(MediaTooLarge, match="over 16 frames"):
        watch(animation([n * 12 for n in range(20)], "gif"), "gif", limits, num_frames=4)


def test_an_animation_over_the_time_budget_is_refused() -> None:
    with pytest.raises(MediaTooLarge, match="over 1 s"):
        watch(animation([0, 99, 200], "gif", duration_ms=900), "gif", MediaLimits(max_seconds=1))


def test_an_animation_with_a_huge_canvas_is_refused_before_a_pixel_is_decoded() -> None:
    gif = bytearray(animation([0, 99], "gif"))
    gif[6:10] = struct.pack("<HH", 65535, 65535)
    with pytest.raises(MediaTooLarge):
        watch(bytes(gif), "gif")
    png = bytearray(animation([0, 99], "png"))
    png[16:24] = struct.pack(">II", 60_000, 60_000)
    png[29:33] = struct.pack(">I", zlib.crc32(png[12:29]))
    with pytest.raises(MediaTooLarge):
        watch(bytes(png), "png")


def test_a_frame_count_that_lies_is_a_damaged_file_or_changes_nothing() -> None:
    png = bytearray(animation([10, 120, 230], "png"))
    at = png.index(b"acTL")
    png[at + 4 : at + 8] = struct.pack(">I", 0x7FFFFFFF)
    png[at + 12 : at + 16] = struct.pack(">I", zlib.crc32(png[at : at + 12]))
    with pytest.raises((MediaDecodeError, UnsupportedMedia)):
        watch(bytes(png), "png")


def test_a_list_of_pictures_is_a_film_of_the_first_ones_shape() -> None:
    pictures = [encoded(np.full((10, 20, 3), 40, np.uint8)), encoded(np.full((40, 40, 3), 200, np.uint8), "jpeg")]
    media = decode_frame_list(pack_frames(pictures, 2.0), job("frames"))
    assert media.array.shape == (2, 10, 20, 3)
    assert gray(media) == pytest.approx([40, 200], abs=2)
    assert media.frame_times_s == (0.0, 0.5)
    assert media.frames_per_s == 2.0


def test_a_bad_frame_of_a_list_is_named() -> None:
    good = encoded(np.zeros((8, 8, 3), np.uint8))
    with pytest.raises(UnsupportedMedia, match="frame 1 of the film is no picture"):
        decode_frame_list(pack_frames([good, b"words"], 1.0), job("frames"))
    with pytest.raises(MediaDecodeError, match="frame 2 of the film"):
        decode_frame_list(pack_frames([good, good, good[:40]], 1.0), job("frames"))


@pytest.mark.parametrize("cut", [4, 15, 18, 40])
def test_a_truncated_list_is_refused(cut: int) -> None:
    packed = pack_frames([encoded(np.zeros((8, 8, 3), np.uint8))], 1.0)
    with pytest.raises(MediaDecodeError):
        decode_frame_list(packed[:cut], job("frames"))
