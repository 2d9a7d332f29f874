"""Films to `(F, H, W, 3)` uint8: FFmpeg decodes, `media/sampling.py` chooses the frames."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import MediaDecodeError
from core.types import AnyArray, DecodedMedia
from media.audio import open_streams
from media.containers import DecodeJob
from media.sampling import sample_frames

if TYPE_CHECKING:
    from av.container import InputContainer

_KEYFRAMES_ONLY_FROM = 3_000  # frames; a longer film is sampled at its keyframes, which decode alone
_FALLBACK_RATE = 25.0


def decode_video(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Decode frames of the first video track between `start_s` and `end_s` to `(F, H, W, 3)` uint8 RGB.

    Frames are chosen as `sample_frames` says, shrunk until their short side is `min_side_px` (512), and turned as the
    options say. Raises `MediaTooLarge` and `MediaDecodeError`.
    """
    with open_streams(data, job) as source:
        if not source.streams.video:
            raise MediaDecodeError(f"the {job.container} file has no video track")
        own_rate = float(source.streams.video[0].average_rate or _FALLBACK_RATE)
        return sample_frames(_timed_frames(source, job, own_rate), job, partial(_pixels, job), own_rate=own_rate)


def _timed_frames(source: InputContainer, job: DecodeJob, rate: float) -> Iterator[tuple[float, Any]]:
    stream = source.streams.video[0]
    job.limits.check_pixels(stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.thread_count = 2  # one per core would multiply the memory of a worker on a large machine
    start_s, end_s = job.options.start_s, job.options.end_s
    length_s = min(end_s or float("inf"), (source.duration or 0) / 1e6) - start_s
    if job.options.frames_per_s is None and length_s * rate > _KEYFRAMES_ONLY_FROM:
        stream.codec_context.skip_frame = "NONKEY"
    if start_s:
        source.seek(int(start_s * 1_000_000))
    for position, frame in enumerate(source.decode(stream)):
        yield (frame.time if frame.time is not None else position / rate), frame


def _pixels(job: DecodeJob, frame: Any, num_frames: int) -> AnyArray:
    job.limits.check_pixels(frame.width, frame.height)
    short_side = min(frame.width, frame.height)
    scale = min(1.0, job.options.min_side_px / short_side) if job.options.min_side_px else 1.0
    width, height = max(1, round(frame.width * scale)), max(1, round(frame.height * scale))
    job.limits.check_decoded_bytes(width * height * 3 * num_frames)
    pixels: AnyArray = frame.to_ndarray(format="rgb24", width=width, height=height)  # (H, W, 3)
    quarter_turns = round(frame.rotation / 90) if job.options.apply_orientation else 0
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))
