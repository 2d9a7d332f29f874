"""Moving pictures without FFmpeg: animated GIF, WebP and PNG, and lists of pictures sent as one film."""

from __future__ import annotations

import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import partial

import numpy as np
from PIL import Image, ImageOps

from core.errors import InvalidRequest, MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.types import AnyArray, DecodedMedia, Modality
from media.containers import DecodeJob
from media.image import decode_image, display_pixels, open_picture
from media.sampling import sample_frames
from media.sniff import sniff

FRAME_LIST_MAGIC = b"\0frames\0"  # of the container "frames", which `pack_frames` makes
_HEADER = struct.Struct("<8sd")  # the magic, frames per second
_LENGTH = struct.Struct("<I")
MAX_FRAMES_PER_S = 1000.0
PICTURES = ("png", "jpeg", "webp", "gif", "bmp")
_SHORTEST_MS, _USUAL_MS = 11, 100  # what browsers do with a frame that claims to last 10 ms or less
_MAX_CANVASES = 16  # pixels of all frames together, in units of the largest picture allowed
_FALLBACK_RATE = 10.0


def decode_animation(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Decode frames of an animated GIF, WebP or PNG to `(F, H, W, 3)` uint8 RGB, transparent parts over white.

    Frames are chosen as `sample_frames` says. Raises `UnsupportedMedia` for a still picture, `MediaTooLarge` and
    `MediaDecodeError`.
    """
    with open_picture(data, job) as picture:
        if not getattr(picture, "is_animated", False):
            raise UnsupportedMedia(f"this {job.container} is a still picture, not a film; send it as an image")
        return sample_frames(_timed_frames(picture, job), job, partial(_pixels, job), own_rate=_FALLBACK_RATE)


def _timed_frames(picture: Image.Image, job: DecodeJob) -> Iterator[tuple[float, Image.Image]]:
    time_ms, num_frames = 0.0, 0
    most = max(job.limits.max_frames, _MAX_CANVASES * job.limits.max_pixels // (picture.width * picture.height))
    while True:
        try:
            picture.seek(num_frames)
        except EOFError:
            return
        num_frames += 1
        if num_frames > most:
            raise MediaTooLarge(f"the animation has over {most} frames of its size; send a shorter or smaller one")
        picture.load()  # WebP tells the frame's duration only then
        yield time_ms / 1000, picture
        duration_ms = float(picture.info.get("duration") or 0)
        time_ms += duration_ms if duration_ms >= _SHORTEST_MS else _USUAL_MS


def _pixels(job: DecodeJob, picture: Image.Image, num_frames: int) -> AnyArray:
    pixels = display_pixels(picture, replace(job, options=replace(job.options, apply_orientation=False)))
    job.limits.check_decoded_bytes(pixels.nbytes * num_frames)
    return pixels


def pack_frames(pictures: Sequence[bytes], frames_per_s: float) -> bytes:
    """Return encoded pictures as the bytes of one film of the container "frames"."""
    parts = [_HEADER.pack(FRAME_LIST_MAGIC, frames_per_s)]
    for picture in pictures:
        parts += [_LENGTH.pack(len(picture)), picture]
    return b"".join(parts)


def decode_frame_list(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Decode what `pack_frames` made to `(F, H, W, 3)` uint8; all frames are cut to the shape of the first.

    Raises what `decode_image` raises, naming the frame, and `UnsupportedMedia` for a frame that is no picture.
    """
    rate = _rate(data)
    timed = ((place / rate, (place, content)) for place, content in enumerate(_unpacked(data)))
    shape: list[tuple[int, int]] = []

    def read(frame: tuple[int, bytes], num_frames: int) -> AnyArray:
        pixels = _picture_pixels(*frame, job)
        shape[:] = shape or [(pixels.shape[1], pixels.shape[0])]
        job.limits.check_decoded_bytes(shape[0][0] * shape[0][1] * 3 * num_frames)
        return np.asarray(ImageOps.fit(Image.fromarray(pixels), shape[0]))

    return sample_frames(timed, job, read, own_rate=rate)


def _picture_pixels(place: int, content: bytes, job: DecodeJob) -> AnyArray:
    container = sniff(content)
    if container not in PICTURES:
        raise UnsupportedMedia(f"frame {place} of the film is no picture; allowed formats: {', '.join(PICTURES)}")
    try:
        return decode_image(content, replace(job, container=container, modality=Modality.IMAGE)).array
    except InvalidRequest as error:
        raise type(error)(f"frame {place} of the film: {error.message}") from error


def _rate(data: bytes) -> float:
    magic, rate = _HEADER.unpack_from(data) if len(data) >= _HEADER.size else (b"", 0.0)
    if magic != FRAME_LIST_MAGIC or not 0 < rate <= MAX_FRAMES_PER_S:
        raise MediaDecodeError("the list of frames is damaged; send the pictures again")
    return float(rate)


def _unpacked(data: bytes) -> Iterator[bytes]:
    stream = io.BytesIO(data)
    stream.seek(_HEADER.size)
    while header := stream.read(_LENGTH.size):
        (num_bytes,) = _LENGTH.unpack(header) if len(header) == _LENGTH.size else (-1,)
        content = stream.read(max(num_bytes, 0))
        if len(content) != num_bytes:
            raise MediaDecodeError("the list of frames is truncated; send the pictures again")
        yield content
