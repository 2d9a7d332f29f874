"""Log-mel clips of a waveform at any rate: windowed-sinc resampling and a Kaldi-style filter bank.

C channels, S samples, F frames, M mel bins.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fractions import Fraction

import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import InvalidRequest

LOWPASS_WIDTH = 6  # zero crossings of the sinc on each side
ROLLOFF = 0.99
FRAME_SAMPLES, FRAME_STEP, FFT_SAMPLES = 400, 160, 512
PREEMPHASIS = 0.97
LOWEST_HZ = 20.0
ENERGY_FLOOR = 1.1920929e-07  # float32 machine epsilon
OUTPUTS_PER_BLOCK = 1 << 17  # bounds the gathered windows to tens of MB


@dataclass(frozen=True, slots=True, kw_only=True)
class LogMelSpec:
    """What the audio tower was trained on. `shared_clips` True repeats the reference's in-place mean subtraction,
    which leaks between overlapping clips."""

    sample_rate_hz: int = 16000
    num_mel_bins: int = 128
    num_frames: int = 204
    mean: float = -4.268
    std: float = 9.138
    num_clips: int = 3
    clip_s: int = 2
    shared_clips: bool = False


def clip_spans(duration_s: Fraction, num_clips: int, clip_s: Fraction | int) -> list[tuple[Fraction, Fraction]]:
    """Return evenly spaced `(start, end)` seconds, exact; a medium shorter than a clip repeats its one span."""
    slack = max(duration_s - clip_s, Fraction(0))
    starts = [i * slack / max(num_clips - 1, 1) for i in range(num_clips)]
    return [(start, start + clip_s) for start in starts]


def resample(waveform: Tensor, from_hz: int, to_hz: int) -> Tensor:
    """Return `(C, ceil(S * to_hz / from_hz))` float32 of `(C, S)`: Hann-windowed sinc, cut off below both Nyquists.

    Each output gathers only the inputs under its kernel, so rates without a common divisor cost no more.
    """
    if from_hz == to_hz:
        return waveform
    divisor = math.gcd(from_hz, to_hz)
    step, num_phases = from_hz // divisor, to_hz // divisor
    cutoff = min(step, num_phases) * ROLLOFF
    half = math.ceil(LOWPASS_WIDTH * step / cutoff)
    phases = torch.arange(num_phases, dtype=torch.int64) * step % num_phases  # numerators of the fractional positions
    taps = torch.arange(-half, half + 2, dtype=torch.float64)
    distance = (taps - phases[:, None] / num_phases) * (cutoff / step)  # (phases, taps), in zero crossings
    distance = distance.clamp(-LOWPASS_WIDTH, LOWPASS_WIDTH)
    hann = torch.cos(distance * (math.pi / LOWPASS_WIDTH / 2)) ** 2
    kernels = (torch.sinc(distance) * hann * (cutoff / step)).float()
    padded = F.pad(waveform, (half, half + 2))
    num_outputs = -(-waveform.shape[-1] * num_phases // step)
    blocks = []
    for outputs in torch.split(torch.arange(num_outputs), OUTPUTS_PER_BLOCK):
        positions = (outputs * step // num_phases)[:, None] + torch.arange(2 * half + 2)
        blocks.append((padded[:, positions] * kernels[outputs % num_phases]).sum(dim=-1))
    return torch.cat(blocks, dim=-1)


def mel_filters(num_mel_bins: int, sample_rate_hz: int) -> Tensor:
    """Return triangles `(M, FFT/2 + 1)` equally spaced on mel(f) = 1127 ln(1 + f / 700); the Nyquist column is zero."""
    num_bins = FFT_SAMPLES // 2
    bounds_hz = torch.tensor([LOWEST_HZ, sample_rate_hz / 2], dtype=torch.float64)
    low, high = (1127 * torch.log1p(bounds_hz / 700)).tolist()
    edges = torch.linspace(low, high, num_mel_bins + 2, dtype=torch.float64)
    bins = 1127 * torch.log1p(torch.arange(num_bins, dtype=torch.float64) * sample_rate_hz / FFT_SAMPLES / 700)
    left, centre, right = edges[:-2, None], edges[1:-1, None], edges[2:, None]
    rising, falling = (bins - left) / (centre - left), (right - bins) / (right - centre)
    return F.pad(torch.minimum(rising, falling).clamp(min=0), (0, 1)).float()


def log_mel(samples: Tensor, spec: LogMelSpec) -> Tensor:
    """Return log filter-bank energies `(F, M)` of mono `(S,)`, F = 1 + (S - 400) // 160 without edge padding.

    Raises `InvalidRequest` under one frame of samples.
    """
    if samples.shape[0] < FRAME_SAMPLES:
        raise InvalidRequest(
            f"audio has {samples.shape[0]} samples at {spec.sample_rate_hz} Hz; send at least {FRAME_SAMPLES}"
        )
    frames = samples.unfold(0, FRAME_SAMPLES, FRAME_STEP)  # (F, 400)
    frames = frames - frames.mean(dim=1, keepdim=True)
    frames = frames - PREEMPHASIS * torch.cat((frames[:, :1], frames[:, :-1]), dim=1)
    frames = frames * torch.hann_window(FRAME_SAMPLES, periodic=False)
    power = torch.fft.rfft(frames, n=FFT_SAMPLES).abs().square()  # (F, 257)
    return torch.clamp(power @ mel_filters(spec.num_mel_bins, spec.sample_rate_hz).T, min=ENERGY_FLOOR).log()


def audio_clips(waveform: Tensor, sample_rate_hz: int, spec: LogMelSpec | None = None) -> Tensor:
    """Return normalised log-mel clips `(num_clips, 1, M, F)` of a waveform `(C, S)` in [-1, 1].

    The mean is taken over all channels and the first channel is transformed; short clips are padded with 0 in the
    log domain before normalisation, as the tower was trained.
    """
    spec = spec or LogMelSpec()
    waveform = resample(waveform.float(), sample_rate_hz, spec.sample_rate_hz).clone()  # (C, S)
    clips = []
    for start, end in clip_spans(Fraction(waveform.shape[1], spec.sample_rate_hz), spec.num_clips, spec.clip_s):
        clip = waveform[:, int(start * spec.sample_rate_hz) : int(end * spec.sample_rate_hz)]
        centred = clip.sub_(clip.mean()) if spec.shared_clips else clip - clip.mean()
        mel = log_mel(centred[0], spec).T[:, : spec.num_frames]  # (M, F)
        clips.append(F.pad(mel, (0, spec.num_frames - mel.shape[1]))[None])
    return (torch.stack(clips) - spec.mean) / spec.std
