"""Real films that the tests encode themselves."""

from __future__ import annotations

import io
from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import av
import numpy as np
from PIL import Image, ImageOps

from core.types import AnyArray

SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
CODECS = {
    "mp4": ("mp4", "mpeg4"),
    "mov": ("mov", "mpeg4"),
    "webm": ("webm", "libvpx"),
    "mkv": ("matroska", "mpeg4"),
}


def film(frames: Sequence[AnyArray], container: str = "mp4", *, rate: int = 10, **options: str) -> bytes:
    """Encode frames `(H, W, 3)` uint8 of one size; `options` go to the muxer."""
    file_format, codec = CODECS[container]
    height, width = frames[0].shape[:2]
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=file_format, options=options) as target:
        stream: Any = target.add_stream(codec, rate=rate)
        stream.width, stream.height = width, height
        stream.pix_fmt = "yuv420p"
        stream.bit_rate = 2_000_000
        stream.time_base = Fraction(1, rate)
        for position, pixels in enumerate(frames):
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(pixels), format="rgb24")
            frame.pts = position
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return buffer.getvalue()


def shot(sample: str, num_frames: int, *, size: tuple[int, int] = (320, 240)) -> list[AnyArray]:
    """Return frames of a slow zoom into one of the sample pictures."""
    picture = ImageOps.fit(Image.open(SAMPLES / sample).convert("RGB"), size)
    width, height = size
    frames = []
    for step in range(num_frames):
        inset = 0.12 * step / max(num_frames - 1, 1)
        box = (width * inset, height * inset, width * (1 - inset), height * (1 - inset))
        frames.append(np.asarray(picture.resize(size, Image.Resampling.BILINEAR, box=box)))
    return frames
