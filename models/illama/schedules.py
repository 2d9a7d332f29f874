"""Per-step schedules of iLLaMA's training: soft mask, drop path, learning rate and weight decay."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

from core.types import FloatArray


@dataclass(frozen=True, slots=True, kw_only=True)
class PhaseSchedule:
    """A rate for the whole run (`standard`), before the cut-off epoch (`early`, the soft mask) or after it (`late`).

    A `linear` early phase falls evenly from the rate to 0, both included; every other phase is constant (section 3.5).
    """

    rate: float
    num_epochs: int
    steps_per_epoch: int
    cutoff_epoch: int = 0
    phase: Literal["standard", "early", "late"] = "early"
    shape: Literal["linear", "constant"] = "linear"

    def values(self) -> FloatArray:
        """Return one value per optimiser step."""
        num_steps = self.num_epochs * self.steps_per_epoch
        num_early = min(self.cutoff_epoch * self.steps_per_epoch, num_steps)
        values = np.full(num_steps, self.rate, dtype=np.float32)
        if self.phase == "early":
            values[num_early:] = 0
            if self.shape == "linear":
                values[:num_early] = np.linspace(self.rate, 0, num_early)
        elif self.phase == "late":
            values[:num_early] = 0
        return values


def cosine_schedule(base: float, final: float, num_steps: int, num_warmup_steps: int = 0) -> FloatArray:
    """Return a linear rise from 0 to `base`, both included, then half a cosine towards `final`, one value per step."""
    progress = np.linspace(0, 1, num_steps - num_warmup_steps, endpoint=False)
    decay = final + 0.5 * (base - final) * (1 + np.cos(np.pi * progress))
    return np.concatenate((np.linspace(0, base, num_warmup_steps), decay)).astype(np.float32)
