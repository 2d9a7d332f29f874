"""Sounds that tests make themselves, as arrays and as files of every container."""

from __future__ import annotations

import io
import struct
from pathlib import Path
from typing import Any

import av
import numpy as np

from core.types import DecodedMedia, FloatArray, Modality
from media.audio import decode_audio
from media.containers import DecodeJob
from media.limits import DecodeOptions, MediaLimits

CODECS = {
    "wav": ("wav", "pcm_s16le"),
    "flac": ("flac", "flac"),
    "ogg": ("ogg", "libopus"),
    "mp3": ("mp3", "libmp3lame"),
}
SAMPLES = Path(__file__).parents[2] / "docs" / "samples"
LAYOUTS = {1: "mono", 2: "stereo", 6: "5.1"}


def siren(seconds: float, rate_hz: int, channels: int = 1) -> FloatArray:
    """Return `(C, S)`: a tone with harmonics that climbs and falls between 600 and 1400 Hz twice a second."""
    time_s = np.arange(round(seconds * rate_hz)) / rate_hz
    phase = 2 * np.pi * 1000 * time_s - 200 * np.sin(2 * np.pi * 2 * time_s)
    wave = sum(np.sin(n * phase) / n for n in (1, 2, 3) if n == 1 or 1400 * n < 0.45 * rate_hz)
    return np.tile(0.3 * np.asarray(wave, dtype=np.float32), (channels, 1))


def noise(seconds: float, rate_hz: int, level: float = 0.1) -> FloatArray:
    """Return `(1, S)` of white noise."""
    drawn = np.random.default_rng(0).standard_normal(round(seconds * rate_hz))
    return (level * drawn).astype(np.float32)[None]


def sample_sound(name: str) -> DecodedMedia:
    """Return a sound of docs/samples: `(1, S)` at 48 kHz."""
    job = DecodeJob(container="ogg", modality=Modality.AUDIO, limits=MediaLimits(), options=DecodeOptions())
    return decode_audio((SAMPLES / name).read_bytes(), job)


def media(samples: FloatArray, rate_hz: int) -> DecodedMedia:
    return DecodedMedia(container="wav", array=samples, sample_rate_hz=float(rate_hz))


def sound_file(samples: FloatArray, rate_hz: int, container: str = "wav") -> bytes:
    """Encode `(C, S)`."""
    file_format, codec = CODECS[container]
    buffer, layout = io.BytesIO(), LAYOUTS[samples.shape[0]]
    with av.open(buffer, "w", format=file_format) as target:
        stream: Any = target.add_stream(codec, rate=rate_hz)
        stream.layout = layout
        resampler = av.AudioResampler(format=stream.format, layout=layout, rate=rate_hz)
        for start in range(0, samples.shape[1], 960):
            chunk = np.ascontiguousarray(samples[:, start : start + 960])
            frame = av.AudioFrame.from_ndarray(chunk, format="fltp", layout=layout)
            frame.rate, frame.pts = rate_hz, start
            for piece in resampler.resample(frame):
                target.mux(stream.encode(piece))
        target.mux(stream.encode(None))
    return buffer.getvalue()


def wav_header(rate_hz: int, claimed_bytes: int, channels: int = 1) -> bytes:
    """Return the header of a 16-bit WAV file that claims any rate and length."""
    claimed = min(claimed_bytes, 0xFFFFFFFF)
    form = struct.pack("<HHIIHH", 1, channels, rate_hz, rate_hz * 2 * channels & 0xFFFFFFFF, 2 * channels, 16)
    riff = b"RIFF" + struct.pack("<I", min(claimed + 36, 0xFFFFFFFF)) + b"WAVE"
    return riff + b"fmt " + struct.pack("<I", 16) + form + b"data" + struct.pack("<I", claimed)
