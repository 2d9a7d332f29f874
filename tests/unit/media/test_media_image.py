"""Pictures to pixels: modes, orientation, budgets before decoding, damage."""

from __future__ import annotations

import io
import struct
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from core.errors import MediaDecodeError, MediaTooLarge
from core.types import AnyArray, Modality
from media.containers import DecodeJob
from media.image import decode_image
from media.limits import REFERENCE_OPTIONS, DecodeOptions, MediaLimits


def encoded(picture: Image.Image, file_format: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, file_format, **options)
    return buffer.getvalue()


def decoded(
    content: bytes,
    container: str,
    options: DecodeOptions | None = None,
    modality: Modality = Modality.IMAGE,
    limits: MediaLimits | None = None,
) -> AnyArray:
    job = DecodeJob(
        container=container, modality=modality, limits=limits or MediaLimits(), options=options or DecodeOptions()
    )
    media = decode_image(content, job)
    assert media.array.flags["C_CONTIGUOUS"]
    return media.array


def gradient(width: int = 40, height: int = 30) -> Image.Image:
    rows, columns = np.mgrid[0:height, 0:width]
    pixels = np.stack([columns * 255 // width, rows * 255 // height, (rows + columns) % 256], axis=-1)
    return Image.fromarray(pixels.astype(np.uint8))


def png_header(width: int, height: int) -> bytes:
    body = b"IHDR" + struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunk = struct.pack(">I", 13) + body + struct.pack(">I", zlib.crc32(body))
    data = b"IDAT" + zlib.compress(bytes(100))
    return b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", len(data) - 4) + data + struct.pack(">I", zlib.crc32(data))


def jpeg_with_size(width: int, height: int) -> bytes:
    content = bytearray(encoded(gradient(), "JPEG"))
    at = content.index(b"\xff\xc0") + 5
    content[at : at + 4] = struct.pack(">HH", height, width)
    return bytes(content)


def webp_with_size(width: int, height: int) -> bytes:
    extended = b"VP8X" + struct.pack("<I", 10) + bytes(4)
    extended += (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    body = b"WEBP" + extended + encoded(gradient(), "WEBP")[12:]
    return b"RIFF" + struct.pack("<I", len(body)) + body


def gif_with_size(width: int, height: int) -> bytes:
    content = bytearray(encoded(gradient(), "GIF"))
    content[6:10] = struct.pack("<HH", width, height)
    return bytes(content)


def bmp_with_size(width: int, height: int) -> bytes:
    content = bytearray(encoded(gradient(), "BMP"))
    content[18:26] = struct.pack("<ii", width, height)
    return bytes(content)


LIARS = {
    "png": png_header,
    "jpeg": jpeg_with_size,
    "webp": webp_with_size,
    "gif": gif_with_size,
    "bmp": bmp_with_size,
}


@pytest.mark.parametrize("container", ["png", "bmp"])
def test_lossless_containers_return_every_pixel(container: str) -> None:
    picture = gradient()
    assert (decoded(encoded(picture, container), container) == np.asarray(picture)).all()


@pytest.mark.parametrize("container", ["jpeg", "webp"])
def test_lossy_containers_return_nearly_the_picture(container: str) -> None:
    picture = gradient()
    array = decoded(encoded(picture, container, quality=95), container)
    assert array.shape == (30, 40, 3)
    assert np.abs(array.astype(int) - np.asarray(picture).astype(int)).mean() < 6


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "I;16", "CMYK"])
def test_every_mode_becomes_rgb(mode: str) -> None:
    container = "jpeg" if mode == "CMYK" else "png"
    gray = Image.new("L", (6, 4), 204)
    if mode == "I;16":
        picture = Image.fromarray(np.full((4, 6), 204 << 8 | 77, dtype=np.uint16))
    else:
        picture = gray.convert("RGB").convert(mode, dither=Image.Dither.NONE)
    array = decoded(encoded(picture, container), container)
    assert array.shape == (4, 6, 3)
    assert array.dtype == np.uint8
    expected = 255 if mode == "1" else 204
    assert np.abs(array.astype(int) - expected).max() <= 3


def test_transparency_lies_over_white_and_the_reference_drops_it() -> None:
    half = Image.new("RGBA", (2, 2), (0, 0, 200, 128))
    assert np.abs(decoded(encoded(half, "PNG"), "png").astype(int) - (127, 127, 227)).max() <= 1
    assert (decoded(encoded(half, "PNG"), "png", REFERENCE_OPTIONS) == (0, 0, 200)).all()


def test_a_transparent_palette_colour_lies_over_white() -> None:
    picture = Image.new("P", (2, 1))
    picture.putpalette([10, 20, 30, 40, 50, 60])
    picture.putdata([0, 1])
    array = decoded(encoded(picture, "PNG", transparency=0), "png")
    assert array.tolist() == [[[255, 255, 255], [40, 50, 60]]]


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_photo_is_turned_as_its_exif_tag_says(orientation: int) -> None:
    upright = np.zeros((4, 6, 3), dtype=np.uint8)
    upright[0, 0] = 255  # one bright corner, top left
    stored = {
        1: upright,
        2: upright[:, ::-1],
        3: upright[::-1, ::-1],
        4: upright[::-1],
        5: upright.swapaxes(0, 1),
        6: np.rot90(upright, 1),
        7: np.rot90(upright, 2).swapaxes(0, 1),
        8: np.rot90(upright, -1),
    }[orientation]
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encoded(Image.fromarray(np.ascontiguousarray(stored)), "PNG", exif=exif)
    assert (decoded(content, "png") == upright).all()
    assert (decoded(content, "png", REFERENCE_OPTIONS) == stored).all()


def test_damaged_exif_does_not_hide_the_picture() -> None:
    content = encoded(gradient(), "JPEG", exif=b"Exif\x00\x00II*\x00\xff\xff\xff\xff")
    assert decoded(content, "jpeg").shape == (30, 40, 3)


def test_an_animated_gif_gives_its_first_frame() -> None:
    frames = [Image.new("RGB", (3, 3), color) for color in ("red", "blue")]
    content = encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert (decoded(content, "gif") == (255, 0, 0)).all()


@pytest.mark.parametrize("container", ["jpeg", "png", "webp"])
def test_a_far_larger_picture_is_shrunk_but_keeps_its_meaning_and_512_pixels(container: str) -> None:
    picture = gradient(2400, 1800)
    array = decoded(encoded(picture, container), container)
    assert 512 <= min(array.shape[:2]) < 1024
    assert array.shape[0] * 4 == array.shape[1] * 3
    small = np.asarray(picture.resize((array.shape[1], array.shape[0]), Image.Resampling.BOX)).astype(int)
    assert np.abs(array[..., :2].astype(int) - small[..., :2]).mean() < 4


def test_the_reference_options_keep_every_pixel_of_a_large_photo() -> None:
    assert decoded(encoded(gradient(2400, 1800), "JPEG"), "jpeg", REFERENCE_OPTIONS).shape == (1800, 2400, 3)


def test_a_depth_map_keeps_its_sixteen_bits() -> None:
    depth = np.array([[0, 1000], [40000, 65535]], dtype=np.uint16)
    array = decoded(encoded(Image.fromarray(depth), "PNG"), "png", modality=Modality.DEPTH)
    assert array.tolist() == depth.tolist()


@pytest.mark.parametrize("container", LIARS)
@pytest.mark.parametrize("size", [(16000, 16000), (16383, 4000)])
def test_a_pixel_bomb_is_refused_by_its_header_with_the_limit_in_the_sentence(
    container: str, size: tuple[int, int]
) -> None:
    with pytest.raises(MediaTooLarge, match="64000000"):
        decoded(LIARS[container](*size), container)


@pytest.mark.parametrize("container", ["png", "bmp"])  # a JPEG may end early by its own end marker
def test_a_header_that_lies_within_the_budget_is_a_damaged_file(container: str) -> None:
    with pytest.raises(MediaDecodeError, match=f"{container} picture is damaged"):
        decoded(LIARS[container](1000, 1001), container, REFERENCE_OPTIONS)


@pytest.mark.parametrize("container", LIARS)
def test_a_truncated_file_is_refused(container: str) -> None:
    content = encoded(gradient(200, 200), container)
    with pytest.raises(MediaDecodeError, match="damaged or truncated"):
        decoded(content[: len(content) // 2], container)


@pytest.mark.parametrize("options", [{}, {"progressive": True}], ids=["baseline", "progressive"])
def test_a_jpeg_that_lacks_even_its_last_bytes_is_refused(options: dict[str, bool]) -> None:
    content = encoded(gradient(), "JPEG", **options)
    for num_missing in (1, 2, 3, 20):
        with pytest.raises(MediaDecodeError, match="truncated"):
            decoded(content[:-num_missing], "jpeg")


def test_a_png_whose_pixels_do_not_fit_their_checksum_is_refused() -> None:
    content = bytearray(encoded(gradient(), "PNG", compress_level=0))  # stored: no code word breaks
    content[content.index(b"IDAT") + 200] ^= 1
    with pytest.raises(MediaDecodeError, match="checksum of its 'IDAT' chunk"):
        decoded(bytes(content), "png")


def test_a_png_without_its_end_is_refused_and_one_with_a_wrong_comment_is_not() -> None:
    content = encoded(gradient(), "PNG")
    with pytest.raises(MediaDecodeError, match="has no end"):
        decoded(content[:-1], "png")
    comment = struct.pack(">I4s5sI", 5, b"tEXt", b"a\0bcd", 0)  # a false checksum
    end = content.index(b"IEND") - 4
    assert decoded(content[:end] + comment + content[end:], "png").shape == decoded(content, "png").shape


def test_the_bytes_of_another_container_are_refused() -> None:
    with pytest.raises(MediaDecodeError):
        decoded(encoded(gradient(), "PNG"), "jpeg")


def test_the_decoded_size_has_its_own_budget() -> None:
    with pytest.raises(MediaTooLarge, match="at most 1000 are allowed"):
        decoded(encoded(gradient(), "PNG"), "png", limits=MediaLimits(max_decoded_bytes=1000))
