"""Films to `(F, H, W, 3)` uint8: frames sampled over time, memory bounded whatever the header claims."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from core.errors import MediaDecodeError, MediaTooLarge
from core.types import AnyArray, DecodedMedia
from media.audio import open_streams
from media.containers import DecodeJob

if TYPE_CHECKING:
    from av.container import InputContainer

_DEFAULT_NUM_FRAMES = 16
_KEYFRAMES_ONLY_FROM = 3_000  # frames; a longer film is sampled at its keyframes, which decode alone
_FALLBACK_RATE = 25.0


def decode_video(data: bytes, job: DecodeJob) -> DecodedMedia:
    """Decode frames of the first video track between `start_s` and `end_s` to `(F, H, W, 3)` uint8 RGB.

    With `frames_per_s`, one frame at each 1 / fps; otherwise up to `num_frames` (16) spread evenly, fewer when the
    film has fewer. Frames are shrunk by a whole factor and turned as the options say. `frames_per_s` of the result is
    the rate of what is returned. Raises `MediaTooLarge` and `MediaDecodeError`.
    """
    options, limits = job.options, job.limits
    wanted = options.num_frames or _DEFAULT_NUM_FRAMES
    if wanted > limits.max_frames:
        raise MediaTooLarge(f"num_frames is {wanted}; at most {limits.max_frames} frames are taken from one video")
    with open_streams(data, job) as source:
        if not source.streams.video:
            raise MediaDecodeError(f"the {job.container} file has no video track")
        own_rate = float(source.streams.video[0].average_rate or _FALLBACK_RATE)
        timed = _frames_in_time(source, job)
        if options.frames_per_s is not None:
            kept = _at_rate(timed, job, options.frames_per_s)
        else:
            kept = _spread(timed, job, wanted)
    if not kept:
        raise MediaDecodeError("the video holds no frame between start and end; check both and the video's length")
    length_s = kept[-1][0] - kept[0][0]
    rate = (len(kept) - 1) / length_s if length_s > 0 else own_rate  # one frame alone has no spacing
    frames = np.stack([pixels for _, pixels in kept])  # (F, H, W, 3)
    return DecodedMedia(container=job.container, array=frames, frames_per_s=rate)


def _frames_in_time(source: InputContainer, job: DecodeJob) -> Iterator[tuple[float, Any]]:
    stream = source.streams.video[0]
    job.limits.check_pixels(stream.codec_context.width, stream.codec_context.height)
    stream.codec_context.thread_count = 2  # one per core would multiply the memory of a worker on a large machine
    rate = float(stream.average_rate or _FALLBACK_RATE)
    start_s, end_s = job.options.start_s, job.options.end_s
    length_s = min(end_s or float("inf"), (source.duration or 0) / 1e6) - start_s
    if job.options.frames_per_s is None and length_s * rate > _KEYFRAMES_ONLY_FROM:
        stream.codec_context.skip_frame = "NONKEY"
    if start_s:
        source.seek(int(start_s * 1_000_000))
    for position, frame in enumerate(source.decode(stream)):
        time_s = frame.time if frame.time is not None else position / rate
        if end_s is not None and time_s >= end_s:
            return
        if time_s - start_s > job.limits.max_seconds:
            raise MediaTooLarge(f"the video is over {job.limits.max_seconds} s; send a part, or set start and end")
        if time_s >= start_s:
            yield time_s, frame


def _at_rate(timed: Iterator[tuple[float, Any]], job: DecodeJob, frames_per_s: float) -> list[tuple[float, AnyArray]]:
    kept: list[tuple[float, AnyArray]] = []
    due_s = float("-inf")
    for time_s, frame in timed:
        if time_s < due_s:
            continue
        if len(kept) == job.limits.max_frames:
            raise MediaTooLarge(
                f"{frames_per_s:g} frames per second make more than {job.limits.max_frames} frames; "
                "lower fps, or set start and end"
            )
        kept.append((time_s, _pixels(frame, job, len(kept) + 1)))
        num_due = int((time_s - kept[0][0]) * frames_per_s + 1e-6) + 1
        due_s = kept[0][0] + num_due / frames_per_s - 1e-6
    return kept


def _spread(timed: Iterator[tuple[float, Any]], job: DecodeJob, wanted: int) -> list[tuple[float, AnyArray]]:
    """Keep every stride-th frame; when twice too many are held, drop every other and double the stride.

    No frame count is needed beforehand, so a header that lies about it changes nothing.
    """
    kept: list[tuple[float, AnyArray]] = []
    stride = 1
    for position, (time_s, frame) in enumerate(timed):
        if position % stride:
            continue
        if len(kept) == 2 * wanted:
            kept = kept[::2]
            stride *= 2
        if position % stride == 0:
            kept.append((time_s, _pixels(frame, job, 2 * wanted)))
    chosen = np.linspace(0, len(kept) - 1, min(wanted, len(kept))).round().astype(int)
    return [kept[place] for place in chosen]


def _pixels(frame: Any, job: DecodeJob, num_frames: int) -> AnyArray:
    job.limits.check_pixels(frame.width, frame.height)
    min_side_px = job.options.min_side_px
    factor = max(1, min(frame.width, frame.height) // min_side_px) if min_side_px else 1
    width, height = frame.width // factor, frame.height // factor
    job.limits.check_decoded_bytes(width * height * 3 * num_frames)
    pixels: AnyArray = frame.to_ndarray(format="rgb24", width=width, height=height)  # (H, W, 3)
    quarter_turns = round(frame.rotation / 90) if job.options.apply_orientation else 0
    return np.ascontiguousarray(np.rot90(pixels, quarter_turns))
