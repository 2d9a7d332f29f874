"""Real sound files that the tests encode themselves."""

from __future__ import annotations

import io
from typing import Any

import av
import numpy as np

from core.types import FloatArray

CODECS = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
    "aac": ("adts", "aac"),
    "m4a": ("ipod", "aac"),
    "webm": ("webm", "libopus"),
    "mkv": ("matroska", "flac"),
}


def tone(seconds: float, rate_hz: int, channels: int = 1) -> FloatArray:
    """Return `(C, S)` float32 of a sine at 440 Hz, each channel softer than the one before."""
    time_s = np.arange(int(seconds * rate_hz)) / rate_hz
    wave = 0.5 * np.sin(2 * np.pi * 440 * time_s)
    return np.stack([wave * (1 - 0.5 * channel) for channel in range(channels)]).astype(np.float32)


def encoded_sound(samples: FloatArray, rate_hz: int, container: str, *, chunk: int = 960) -> bytes:
    """Encode `(C, S)` float32 in [-1, 1]."""
    file_format, codec = CODECS[container]
    buffer = io.BytesIO()
    layout = "mono" if samples.shape[0] == 1 else "stereo"
    with av.open(buffer, "w", format=file_format) as target:
        stream: Any = target.add_stream(codec, rate=rate_hz)
        stream.layout = layout
        for start in range(0, samples.shape[1], chunk):
            frame = av.AudioFrame.from_ndarray(
                np.ascontiguousarray(samples[:, start : start + chunk]), format="fltp", layout=layout
            )
            frame.rate = rate_hz
            frame.pts = start
            target.mux(stream.encode(frame))
        target.mux(stream.encode(None))
    return buffer.getvalue()
