"""Sound to `(C, S)` float32, from audio files and from the soundtrack of films. PyAV (FFmpeg) reads both."""

from __future__ import annotations

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np

from core.errors import AppError, MediaDecodeError, MediaTooLarge, UnsupportedMedia
from core.types import DecodedMedia, FloatArray
from media.containers import DecodeJob

if TYPE_CHECKING:
    from av.container import InputContainer

# The demuxer is forced to what the bytes are: FFmpeg's own probing also knows playlists that name other files.
_DEMUXERS = {"m4a": "mov", "mp4": "mov", "webm": "matroska", "mkv": "matroska"}
_RATES_HZ = (1_000, 768_000)
_MAX_CHANNELS = 16


@contextmanager
def open_streams(data: bytes, job: DecodeJob) -> Iterator[InputContainer]:
    """Open a film or a sound for reading; whatever FFmpeg raises inside the block becomes `MediaDecodeError`."""
    try:
        import av  # deferred: a server that sees pictures only need not load FFmpeg, nor install it
    except ImportError as error:
        raise UnsupportedMedia(
            f"this server was installed without PyAV, which reads {job.container}; the operator can add it with "
            "`make setup MEDIA=full`"
        ) from error
    demuxer = _DEMUXERS.get(job.container, job.container)
    try:
        with av.open(io.BytesIO(data), mode="r", format=demuxer, metadata_errors="ignore") as source:
            yield source
    except (AppError, MemoryError):
        raise
    except Exception as error:  # FFmpegError is a family of OSError, ValueError and others
        raise MediaDecodeError(
            f"the {job.container} file is damaged or truncated ({error}); send the whole file"
        ) from error


def decode_audio(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Decode the first audio track between `start_s` and `end_s` to `(C, S)` float32 in [-1, 1] at the file's own rate.

    Budgets hold while decoding; lengths in headers are not believed. Raises `MediaTooLarge` and `MediaDecodeError`.
    """
    with open_streams(data, job) as source:
        if not source.streams.audio:
            raise MediaDecodeError(f"the {job.container} file has no audio track")
        context = source.streams.audio[0].codec_context
        rate_hz, num_channels = context.sample_rate, context.channels
        if not _RATES_HZ[0] <= rate_hz <= _RATES_HZ[1] or not 1 <= num_channels <= _MAX_CHANNELS:
            raise MediaDecodeError(
                f"the header claims {rate_hz} Hz and {num_channels} channels; {_RATES_HZ[0]} to {_RATES_HZ[1]} Hz and "
                f"1 to {_MAX_CHANNELS} channels are read"
            )
        samples = _read_samples(source, job, rate_hz)  # (C, S)
    if not samples.shape[1]:
        raise MediaDecodeError("the audio holds no sound between start and end; check both and the file's length")
    if not np.isfinite(samples).all():
        raise MediaDecodeError("the audio holds values that are not numbers; export it again")
    return DecodedMedia(container=job.container, array=samples.clip(-1, 1), sample_rate_hz=float(rate_hz))


def _read_samples(source: InputContainer, job: DecodeJob, rate_hz: int) -> FloatArray:
    from av import AudioResampler

    start_s, end_s = job.options.start_s, job.options.end_s
    if start_s:
        source.seek(int(start_s * 1_000_000))
    planar = AudioResampler(format="fltp")  # the format alone changes, not the rate
    chunks: list[FloatArray] = []
    first_s: float | None = None
    num_samples = num_bytes = 0
    for frame in source.decode(audio=0):
        time_s = frame.time if frame.time is not None else num_samples / rate_hz
        first_s = time_s if first_s is None else first_s
        if end_s is not None and time_s >= end_s:
            break
        for converted in planar.resample(frame):
            chunks.append(converted.to_ndarray().astype(np.float32, copy=False))  # (C, n)
            num_samples += chunks[-1].shape[1]
            num_bytes += chunks[-1].nbytes
        if num_samples / rate_hz - max(0.0, start_s - first_s) > job.limits.max_seconds:
            raise MediaTooLarge(
                f"the audio is over {job.limits.max_seconds} s; send a part of it, or set start and end"
            )
        job.limits.check_decoded_bytes(sum(chunk.shape[0] for chunk in chunks[:1]) * num_samples * 4)
    if not chunks or first_s is None:
        return np.zeros((1, 0), dtype=np.float32)
    samples = np.concatenate(chunks, axis=1)
    stop = None if end_s is None else max(0, round((end_s - first_s) * rate_hz))
    return np.ascontiguousarray(samples[:, max(0, round((start_s - first_s) * rate_hz)) : stop])
