"""Windows of a sound at 16 kHz: the loudest stretches of a clip of any rate, length and channel count.

C channels, S samples, W windows, N samples of one window.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import InvalidRequest
from core.types import DecodedMedia, FloatArray
from models.imagebind.audio import resample

SAMPLE_RATE_HZ = 16000
MIN_CLIP_S = 0.025  # one frame of the filter bank
SILENT_RMS = 1.5e-4  # -76 dB of full scale: below the noise of a 16-bit recording in a quiet room
TARGET_RMS = 0.1
MAX_GAIN = 100.0
CANCELLED = 0.05  # channels whose sum keeps less of the power than this are out of phase


@dataclass(frozen=True, slots=True, kw_only=True)
class WindowSpec:
    """Windows of `num_samples` at 16 kHz, `hop_samples` apart, at most `max_windows` of one clip."""

    num_samples: int
    hop_samples: int
    max_windows: int


@dataclass(frozen=True, slots=True, kw_only=True)
class HeardWindows:
    """The chosen windows `(W, N)` of one clip and how loud each is `(W,)`, root mean square after the common gain.

    `is_silent` clips hold nothing to hear; their one window is as recorded.
    """

    windows: Tensor
    rms: Tensor
    is_silent: bool


def one_channel(samples: FloatArray) -> FloatArray:
    """Return `(S,)` without offset: the mean of `(C, S)`, or its loudest channel where channels cancel each other."""
    mixed: FloatArray = samples.mean(axis=0, dtype=np.float32)
    powers = np.einsum("cs,cs->c", samples, samples)
    if float(mixed @ mixed) < CANCELLED * float(powers.max()):
        mixed = samples[int(powers.argmax())].astype(np.float32)
    mixed -= mixed.mean()
    return mixed


def loudest_starts(samples: FloatArray, length: int, hop: int, max_windows: int) -> list[int]:
    """Return rising starts of windows of `length` samples: all of them, or the loudest of each of `max_windows` parts.

    Parts of equal length spread the choice over the clip, so that a loud minute does not hide the rest.
    """
    last = max(samples.size - length, 0)
    starts = [*range(0, last, hop), last]
    if len(starts) <= max_windows:
        return starts
    blocks = samples[: samples.size // hop * hop].reshape(-1, hop)
    block_energies = np.einsum("bh,bh->b", blocks, blocks)
    spanned = np.ones(math.ceil(length / hop), dtype=np.float32)
    energies = np.convolve(block_energies, spanned)[spanned.size - 1 :]  # of the window that starts at each block
    parts = np.array_split(np.arange(len(starts) - 1), max_windows)
    return [starts[part[int(energies[part].argmax())]] for part in parts]


def hear(media: DecodedMedia, spec: WindowSpec) -> HeardWindows:
    """Cut a decoded sound into windows at 16 kHz, one gain over all of them; only what is chosen is resampled.

    A clip shorter than a window is followed by silence. Raises `InvalidRequest` for less than 25 ms of sound.
    """
    rate_hz = round(media.sample_rate_hz or SAMPLE_RATE_HZ)
    samples = one_channel(media.array)
    if samples.size < MIN_CLIP_S * rate_hz:
        raise InvalidRequest(
            f"the audio holds {samples.size} samples at {rate_hz} Hz; send at least {1000 * MIN_CLIP_S:g} ms",
            param="messages",
        )
    scale = Fraction(rate_hz, SAMPLE_RATE_HZ)
    length, hop = math.ceil(spec.num_samples * scale), max(1, round(spec.hop_samples * scale))
    starts = loudest_starts(samples, length, hop, spec.max_windows)
    cut = [torch.from_numpy(samples[start : start + length].copy()) for start in starts]
    stacked = torch.stack([F.pad(piece, (0, length - piece.numel())) for piece in cut])  # (W, length)
    windows = resample(stacked, rate_hz, SAMPLE_RATE_HZ)[:, : spec.num_samples]
    windows = F.pad(windows, (0, spec.num_samples - windows.shape[1]))  # (W, N)
    rms = windows.square().mean(dim=1).sqrt()
    loudest = float(rms.max())
    if loudest < SILENT_RMS:
        return HeardWindows(windows=windows[:1], rms=rms[:1], is_silent=True)
    gain = min(TARGET_RMS / loudest, MAX_GAIN)
    return HeardWindows(windows=windows * gain, rms=rms * gain, is_silent=False)
