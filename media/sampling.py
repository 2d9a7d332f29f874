"""Choose frames of a film while it is decoded: memory is bounded whatever the header claims about its length."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TypeVar

import numpy as np

from core.errors import MediaDecodeError, MediaTooLarge
from core.types import AnyArray, DecodedMedia
from media.containers import DecodeJob

DEFAULT_NUM_FRAMES = 16
F = TypeVar("F")
Timed = Iterator[tuple[float, F]]
ReadPixels = Callable[[F, int], AnyArray]
"""Return the `(H, W, 3)` pixels of a frame, given how many frames may be held at once."""


def sample_frames(timed: Timed[F], job: DecodeJob, read: ReadPixels[F], *, own_rate: float) -> DecodedMedia:
    """Return `(F, H, W, 3)` uint8 with the time of each frame, taken from frames that come in order of time.

    With `frames_per_s`, one frame at each 1 / fps; otherwise up to `num_frames` (16) spread evenly, fewer when the
    film has fewer. The rate of the result is that of what is returned; `own_rate` stands in for a single frame.
    Raises `MediaTooLarge` and, when no frame lies between start and end, `MediaDecodeError`.
    """
    options, limits = job.options, job.limits
    wanted = options.num_frames or DEFAULT_NUM_FRAMES
    if wanted > limits.max_frames:
        raise MediaTooLarge(f"num_frames is {wanted}; at most {limits.max_frames} frames are taken from one video")
    cut = _between(timed, job)
    kept = _spread(cut, read, wanted) if options.frames_per_s is None else _at_rate(cut, job, read)
    if not kept:
        raise MediaDecodeError("the video holds no frame between start and end; check both and the video's length")
    times_s = tuple(time_s for time_s, _ in kept)
    length_s = times_s[-1] - times_s[0]
    rate = (len(kept) - 1) / length_s if length_s > 0 else own_rate  # one frame alone has no spacing
    frames = np.stack([pixels for _, pixels in kept])  # (F, H, W, 3)
    return DecodedMedia(container=job.container, array=frames, frames_per_s=rate, frame_times_s=times_s)


def _between(timed: Timed[F], job: DecodeJob) -> Timed[F]:
    start_s, end_s = job.options.start_s, job.options.end_s
    for time_s, frame in timed:
        if end_s is not None and time_s >= end_s:
            return
        if time_s - start_s > job.limits.max_seconds:
            raise MediaTooLarge(f"the video is over {job.limits.max_seconds} s; send a part, or set start and end")
        if time_s >= start_s:
            yield time_s, frame


def _at_rate(timed: Timed[F], job: DecodeJob, read: ReadPixels[F]) -> list[tuple[float, AnyArray]]:
    frames_per_s = job.options.frames_per_s or 1.0
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
        kept.append((time_s, read(frame, len(kept) + 1)))
        num_due = int((time_s - kept[0][0]) * frames_per_s + 1e-6) + 1
        due_s = kept[0][0] + num_due / frames_per_s - 1e-6
    return kept


def _spread(timed: Timed[F], read: ReadPixels[F], wanted: int) -> list[tuple[float, AnyArray]]:
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
            kept.append((time_s, read(frame, 2 * wanted)))
    chosen = np.linspace(0, len(kept) - 1, min(wanted, len(kept))).round().astype(int)
    return [kept[place] for place in chosen]
