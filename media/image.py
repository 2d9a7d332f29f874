"""Pictures to `(H, W, 3)` uint8, and depth or thermal maps to `(H, W)` in the file's own units."""

from __future__ import annotations

import io
import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from core.errors import AppError, MediaDecodeError, MediaTooLarge
from core.types import DecodedMedia, Modality
from media.containers import DecodeJob
from media.png import check_png

_EXIF_ORIENTATION = 0x0112
_TRANSPOSITIONS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_BYTES_PER_PIXEL = 4  # the widest intermediate: RGBA, or 32-bit gray


def decode_image(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Decode the first frame of a PNG, JPEG, WebP, GIF or BMP file.

    An image or a video frame becomes `(H, W, 3)` uint8 RGB; a depth or thermal map `(H, W)` uint8, uint16, int32 or
    float32 as stored. Embedded colour profiles are ignored, as the encoders were trained. The size comes from the
    header and is checked before any pixel is decoded. Raises `MediaTooLarge` and `MediaDecodeError`.
    """
    with open_picture(data, job) as picture:
        if job.modality in (Modality.DEPTH, Modality.THERMAL):
            return DecodedMedia(container=job.container, array=_measurements(picture))
        return DecodedMedia(container=job.container, array=display_pixels(picture, job))


@contextmanager
def open_picture(data: bytes, job: DecodeJob) -> Iterator[Image.Image]:
    """Open a picture within budgets; whatever Pillow raises inside the block becomes an error of ours."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # Pillow warns of what the budgets below decide
            with _checked(data, job) as picture:
                yield picture
    except (AppError, MemoryError):
        raise
    except Image.DecompressionBombError as error:
        raise MediaTooLarge(
            f"the picture's header claims more than the {job.limits.max_pixels} pixels that are allowed; scale it down"
        ) from error
    except Exception as error:  # Pillow's parsers raise a dozen types on damaged bytes, SyntaxError among them
        reason = "its header cannot be read" if isinstance(error, UnidentifiedImageError) else error
        raise MediaDecodeError(
            f"the {job.container} picture is damaged or truncated ({reason}); send the whole file"
        ) from error


def _checked(data: bytes, job: DecodeJob) -> Image.Image:
    if job.container == "webp":
        job.limits.check_pixels(*_webp_canvas(data))
    if ImageFile.LOAD_TRUNCATED_IMAGES:
        raise AssertionError("something in this process turned truncated pictures on")
    picture = Image.open(io.BytesIO(data), formats=[job.container.upper()])
    job.limits.check_pixels(*picture.size)
    job.limits.check_decoded_bytes(picture.width * picture.height * _BYTES_PER_PIXEL)
    if job.container == "png":
        check_png(data)
    return picture


def display_pixels(picture: Image.Image, job: DecodeJob) -> np.ndarray[Any, np.dtype[np.uint8]]:
    """Return the current frame as `(H, W, 3)` uint8 RGB, shrunk, turned and laid over white as the options say."""
    options = job.options
    factor = min(picture.size) // options.min_side_px if options.min_side_px else 1
    if factor >= 2 and job.container == "jpeg":
        # The DCT at 1/2, 1/4 or 1/8 scale: a 24-megapixel photo costs a sixth of a full decode.
        picture.draft(None, (picture.width // factor, picture.height // factor))
        picture.load()
        factor = min(picture.size) // options.min_side_px
    rotation = _orientation(picture) if options.apply_orientation else None
    rgb = _to_rgb(picture, over_white=options.alpha == "white")
    if factor >= 2:
        rgb = rgb.reduce(factor)
    if rotation is not None:
        rgb = rgb.transpose(rotation)
    return np.ascontiguousarray(np.asarray(rgb, dtype=np.uint8))  # (H, W, 3)


def _to_rgb(picture: Image.Image, *, over_white: bool) -> Image.Image:
    if picture.mode.startswith("I"):  # 16 bits of gray: convert() would clip instead of scale
        levels = np.asarray(picture).astype(np.int32)
        picture = Image.fromarray((levels >> 8).clip(0, 255).astype(np.uint8))
    if over_white and picture.has_transparency_data:
        rgba = picture.convert("RGBA")
        white = Image.new("RGBA", rgba.size, (255, 255, 255, 255))
        return Image.alpha_composite(white, rgba).convert("RGB")
    return picture.convert("RGB")


def _measurements(picture: Image.Image) -> np.ndarray[Any, Any]:
    if picture.mode not in ("L", "I", "F") and not picture.mode.startswith("I;16"):
        picture = picture.convert("L")
    values = np.ascontiguousarray(np.asarray(picture))  # (H, W)
    return values.astype(values.dtype.newbyteorder("="))


def _orientation(picture: Image.Image) -> Image.Transpose | None:
    try:
        return _TRANSPOSITIONS.get(picture.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # a damaged EXIF block says nothing about the pixels: show them as stored
        return None


def _webp_canvas(data: bytes) -> tuple[int, int]:
    """Read width and height before Pillow sees the file: libwebp allocates the canvas when it opens one."""
    chunk, body = data[12:16], data[20:30]
    if len(body) < 10:
        raise MediaDecodeError("the webp picture is truncated inside its header; send the whole file")
    if chunk == b"VP8X":
        return 1 + int.from_bytes(body[4:7], "little"), 1 + int.from_bytes(body[7:10], "little")
    if chunk == b"VP8L":
        bits = struct.unpack("<I", body[1:5])[0]
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    width, height = struct.unpack("<HH", body[6:10])
    return width & 0x3FFF, height & 0x3FFF
