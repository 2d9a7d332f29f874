"""Rotary positions (RoFormer, section 3.4.2) in the half-split layout: dimension i turns with i + Dh/2."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from models.llama.config import RopeScaling


def inverse_frequencies(head_width: int, theta: float, scaling: RopeScaling | None) -> Tensor:
    """Return `(Dh/2,)` float32 angular steps per position, scaled as LLaMA 3 does when asked."""
    exponents = torch.arange(0, head_width, 2, dtype=torch.float32, device="cpu") / head_width
    frequencies = 1.0 / theta**exponents  # (Dh/2,)
    if scaling is None:
        return frequencies
    if scaling.kind == "linear":
        return frequencies / scaling.factor
    return _llama3_frequencies(frequencies, scaling)


def _llama3_frequencies(frequencies: Tensor, scaling: RopeScaling) -> Tensor:
    """Keep short wavelengths, divide long ones by the factor, and interpolate between."""
    wavelengths = 2 * math.pi / frequencies
    turns = scaling.original_max_context / wavelengths
    span = scaling.high_freq_factor - scaling.low_freq_factor
    keep = ((turns - scaling.low_freq_factor) / span).clamp(0.0, 1.0)
    return keep * frequencies + (1 - keep) * frequencies / scaling.factor


def rotary_tables(positions: Tensor, frequencies: Tensor, dtype: torch.dtype) -> tuple[Tensor, Tensor]:
    """Return cosines and sines of shape `(*positions.shape, 1, Dh)`, ready to broadcast over heads."""
    angles = positions[..., None].float() * frequencies  # (..., Dh/2)
    angles = torch.cat((angles, angles), dim=-1)[..., None, :]  # (..., 1, Dh)
    return angles.cos().to(dtype), angles.sin().to(dtype)


def rotate(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn `(..., H, Dh)` by the angles of its positions."""
    first, second = x.chunk(2, dim=-1)
    return x * cos + torch.cat((-second, first), dim=-1) * sin
