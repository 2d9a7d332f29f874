"""Pixels to tensors: images, video clips, depth, thermal, and windows of inertial samples.

H height, W width, F frames.
"""

from __future__ import annotations

import math
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor

from core.errors import InvalidRequest
from core.types import AnyArray
from models.imagebind.audio import clip_spans

PIXEL_MEAN = (0.48145466, 0.4578275, 0.40821073)
PIXEL_STD = (0.26862954, 0.26130258, 0.27577711)
LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601
VIDEO_CLIPS, VIDEO_CLIP_S = 5, 2
MAX_ASPECT_RATIO = 50


def scaled_size(shape: tuple[int, ...], size: int) -> tuple[int, int]:
    """Return height and width with the shorter one made `size` and the other rounded down.

    Raises `InvalidRequest` on an empty or very long picture: a thin line would grow to gigabytes.
    """
    height, width = shape
    if not 0 < max(height, width) <= MAX_ASPECT_RATIO * min(height, width):
        limit = f"sides must be above 0 and at most {MAX_ASPECT_RATIO} to 1"
        raise InvalidRequest(f"picture is {height} x {width} pixels; {limit}, so crop it")
    short = min(height, width)
    return size * height // short, size * width // short


def normalize_pixels(pixels: Tensor) -> Tensor:
    """Return `(3, *axes)` pixels in [0, 1] with the mean and deviation of the towers' training set."""
    shape = (3, *[1] * (pixels.ndim - 1))
    return (pixels - torch.tensor(PIXEL_MEAN).view(shape)) / torch.tensor(PIXEL_STD).view(shape)


def resized_and_cropped(pixels: AnyArray, size: int, short_side: int | None = None) -> AnyArray:
    """Return the centre `(size, size, 3)` of uint8 `(H, W, 3)`, antialiased bicubic.

    The shorter side is made `short_side`, by default `size`. Raises `InvalidRequest`, see `scaled_size`.
    """
    height, width = scaled_size(pixels.shape[:2], short_side or size)
    resized = Image.fromarray(pixels).resize((width, height), Image.Resampling.BICUBIC)
    left, top = round((width - size) / 2), round((height - size) / 2)
    return np.asarray(resized.crop((left, top, left + size, top + size)))


def image_tensor(pixels: AnyArray, size: int = 224) -> Tensor:
    """Return the vision tower's `(3, size, size)` of an RGB image `(H, W, 3)` uint8."""
    cropped = torch.from_numpy(resized_and_cropped(pixels, size).copy())
    return normalize_pixels(cropped.movedim(-1, 0) / 255)


def spatial_crops(height: int, width: int, size: int) -> list[tuple[int, int]]:
    """Return `(top, left)` of three crops along the longer side; a square counts as landscape."""
    top, left = math.ceil((height - size) / 2), math.ceil((width - size) / 2)
    if height > width:
        return [(y, left) for y in (0, top, height - size)]
    return [(top, x) for x in (0, left, width - size)]


def frame_indices(num_frames: int, frames_per_s: float, num_sampled: int = 2) -> list[list[int]]:
    """Return, per clip, `num_sampled` evenly spaced frame numbers of a video.

    Exact from the duration on, which is rounded to a double first, as the reference's decoders report it.
    """
    rate = Fraction(frames_per_s)
    indices = []
    for start, end in clip_spans(Fraction(num_frames / frames_per_s), VIDEO_CLIPS, VIDEO_CLIP_S):
        first, stop = math.ceil(rate * start), min(math.ceil(rate * end), num_frames)
        last = stop - first - 1
        indices.append([first + i * last // max(num_sampled - 1, 1) for i in range(num_sampled)])
    return indices


def video_clips(frames: AnyArray, frames_per_s: float, size: int = 224, num_sampled: int = 2) -> Tensor:
    """Return `(15, 3, num_sampled, size, size)` of RGB frames `(F, H, W, 3)` uint8: five clips, three crops of each.

    Frames are scaled bilinearly without antialiasing, as the reference does. Raises `InvalidRequest` when there is
    no frame or no frame rate.
    """
    if not len(frames) or not frames_per_s > 0:
        raise InvalidRequest(f"video has {len(frames)} frames at {frames_per_s} frames/s; both must be above 0")
    height, width = scaled_size(frames.shape[1:3], size)
    rows = []
    for indices in frame_indices(len(frames), frames_per_s, num_sampled):
        clip = torch.from_numpy(frames[indices]).permute(0, 3, 1, 2) / 255  # (T, 3, H, W)
        clip = F.interpolate(clip, size=(height, width), mode="bilinear", align_corners=False)
        clip = normalize_pixels(clip.movedim(1, 0))  # (3, T, h, w)
        rows += [clip[:, :, y : y + size, x : x + size] for y, x in spatial_crops(height, width, size)]
    return torch.stack(rows)


def single_channel_tensor(pixels: AnyArray, size: int = 224) -> Tensor:
    """Return the depth or thermal tower's `(1, size, size)` of `(H, W)` or `(H, W, 3)`.

    Integers are divided by their type's largest value; floats are taken as they are (depth: disparity in [0, 1]).
    Colours become luma. The shorter side is scaled to `size` (antialiased bicubic) and the centre is kept.
    """
    if pixels.ndim not in (2, 3) or (pixels.ndim == 3 and pixels.shape[2] != 3) or not pixels.size:
        raise InvalidRequest(f"depth and thermal arrays must be (H, W) or (H, W, 3), got {pixels.shape}")
    top = np.iinfo(pixels.dtype).max if np.issubdtype(pixels.dtype, np.integer) else 1.0
    values = torch.from_numpy(pixels.astype(np.float32) / np.float32(top))
    values = values if values.ndim == 2 else values @ torch.tensor(LUMA)
    height, width = scaled_size(tuple(values.shape), size)
    scaled = F.interpolate(values[None, None], (height, width), mode="bicubic", align_corners=False, antialias=True)
    y, x = round((height - size) / 2), round((width - size) / 2)
    return scaled[0, :, y : y + size, x : x + size]


def imu_windows(samples: AnyArray, window: int = 2000) -> Tensor:
    """Return windows `(S, 6, window)` that cover accelerometer and gyroscope samples `(6, N)`; the last ends at N.

    Raises `InvalidRequest` on another number of channels or under one window.
    """
    if samples.ndim != 2 or samples.shape[0] != 6 or samples.shape[1] < window:
        raise InvalidRequest(f"imu arrays must be (6, N) with at least {window} samples, got {samples.shape}")
    num_samples = samples.shape[1]
    starts = [min(start, num_samples - window) for start in range(0, num_samples, window)]
    signal = torch.from_numpy(samples.astype(np.float32))
    return torch.stack([signal[:, start : start + window] for start in starts])
