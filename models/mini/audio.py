"""The ears of `mini`: a small log-mel tower, pooled by loudness, and the blend of the names it hears.

B batch, W windows, N samples, M mel bins, F frames, K names, E embedding.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from core.types import DecodedMedia, Embedding, FloatArray, Modality
from models.imagebind.audio import LogMelSpec, log_mel
from models.mini.space import blend_names
from models.mini.windows import HeardWindows, WindowSpec, hear

TOWER_WINDOWS = WindowSpec(num_samples=32000, hop_samples=16000, max_windows=24)
MEL = LogMelSpec(num_mel_bins=64, num_frames=198, mean=-5.5, std=3.5)
NUM_NAMES_BLENDED = 5
WINDOWS_A_CALL = 32  # bounds the memory of one call whatever the batch
SILENCE = "silence"


def tower_input(windows: Tensor) -> Tensor:
    """Return normalised log-mels `(W, F, M)` of windows `(W, N)` at 16 kHz, in the form of ImageBind's front end."""
    return (torch.stack([log_mel(window, MEL) for window in windows]) - MEL.mean) / MEL.std


class ConvBlock(nn.Module):
    """Two 3 x 3 convolutions with batch normalisation, the first strided, around a shortcut."""

    def __init__(self, num_inputs: int, num_outputs: int, stride: int) -> None:
        super().__init__()
        self.first = nn.Conv2d(num_inputs, num_outputs, 3, stride, 1, bias=False)
        self.first_norm = nn.BatchNorm2d(num_outputs)
        self.second = nn.Conv2d(num_outputs, num_outputs, 3, 1, 1, bias=False, groups=4)
        self.second_norm = nn.BatchNorm2d(num_outputs)
        self.shortcut = nn.Conv2d(num_inputs, num_outputs, 1, stride, bias=False)

    def forward(self, maps: Tensor) -> Tensor:
        out = F.relu(self.first_norm(self.first(maps)))
        return F.relu(self.second_norm(self.second(out)) + self.shortcut(maps))


class AudioTower(nn.Module):
    """Log-mels `(B, F, M)` to logits over the names `(B, K)`."""

    def __init__(self, num_names: int, width: int = 24) -> None:
        super().__init__()
        self.stem = nn.Conv2d(1, width, (4, 4), (4, 4), bias=False)  # frames by bins: (49, 16)
        self.stem_norm = nn.BatchNorm2d(width)
        widths = (width, 2 * width, 4 * width, 6 * width)
        self.blocks = nn.ModuleList(
            ConvBlock(a, b, stride) for a, b, stride in zip(widths, (*widths[1:], 6 * width), (2, 2, 1, 1), strict=True)
        )
        self.names = nn.Linear(12 * width, num_names)

    def pooled(self, mels: Tensor) -> Tensor:
        """Return `(B, 2 * C)`: the mean over time and bins, and the peak over time of the mean over bins."""
        maps = F.relu(self.stem_norm(self.stem(mels[:, None])))  # (B, C, F/4, M/4)
        for block in self.blocks:
            maps = block(maps)
        frames = maps.mean(dim=3)  # (B, C, F/16)
        return torch.cat((frames.mean(dim=2), frames.amax(dim=2)), dim=1)

    def forward(self, mels: Tensor) -> Tensor:
        return self.names(self.pooled(mels))  # type: ignore[no-any-return]


class Listener(Protocol):
    """Turn windows of sound into probabilities of names."""

    spec: WindowSpec

    def __call__(self, windows: Tensor) -> Tensor:
        """Return `(W, K)` probabilities, each row summing to at most 1, of windows `(W, N)` at 16 kHz."""
        ...


class TowerListener:
    """The trained tower as a `Listener`."""

    spec = TOWER_WINDOWS

    def __init__(self, tower: AudioTower) -> None:
        self._tower = tower.eval().requires_grad_(False)

    def __call__(self, windows: Tensor) -> Tensor:
        return self._tower(tower_input(windows)).softmax(dim=-1)  # type: ignore[no-any-return]


@dataclass(frozen=True, slots=True, kw_only=True)
class Hearing:
    """How windows become one answer, fitted on validation sounds.

    A window's weight is its loudness to the `loudness_power`. The confidence is the logistic function of `bias` plus
    `top_slope` times the logit of the best name's probability plus `blend_slope` times the logit of how much of the
    unnormalised blend points along its nearest name.
    """

    loudness_power: float
    top_slope: float
    blend_slope: float
    bias: float

    def confidence(self, top: Tensor, blended: Tensor) -> Tensor:
        """Return calibrated confidences of the two raw ones, each `(B,)` in [0, 1]."""
        raw = self.top_slope * top.logit(eps=1e-4) + self.blend_slope * blended.logit(eps=1e-4) + self.bias
        return raw.sigmoid()


class MiniAudioEncoder:
    """`core.types.ModalityEncoder` for sound; rows of unit norm in the 384-d MiniLM space."""

    modality = Modality.AUDIO

    def __init__(
        self, listener: Listener, names: Sequence[str], name_vectors: Tensor, hearing: Hearing, encoder_id: str
    ) -> None:
        self.encoder_id = encoder_id
        self.names = tuple(names)
        self._listener = listener
        self._name_vectors = name_vectors  # (K, E)
        self._hearing = hearing
        self._silence = self.names.index(SILENCE)

    @property
    def name_vectors(self) -> FloatArray:
        """The unit embeddings `(K, 384)` of `names`."""
        return self._name_vectors.numpy()

    def preprocess(self, media: DecodedMedia) -> HeardWindows:
        """Return the clip's loudest windows. Raises `InvalidRequest` for less than 25 ms of sound."""
        return hear(media, self._listener.spec)

    def encode(self, batch: Sequence[HeardWindows]) -> list[Embedding]:
        """Return one embedding with its confidence per clip; rows do not depend on their batch."""
        probabilities = self.probabilities(batch)
        blended = blend_names(probabilities, self._name_vectors, num_blended=NUM_NAMES_BLENDED)
        confidence = self._hearing.confidence(probabilities.amax(dim=-1), blended.confidence)
        return [
            Embedding(
                vector=vector.numpy(), encoder_id=self.encoder_id, confidence=1.0 if heard.is_silent else float(trust)
            )
            for heard, vector, trust in zip(batch, blended.vectors, confidence, strict=True)
        ]

    def probabilities(self, batch: Sequence[HeardWindows]) -> Tensor:
        """Return the names' probabilities `(B, K)`: the mean over windows weighted by loudness; silence is certain."""
        counts = [len(heard.windows) for heard in batch]
        with torch.inference_mode():
            windows = torch.cat([heard.windows for heard in batch])
            heard_rows = torch.cat([self._listener(part) for part in torch.split(windows, WINDOWS_A_CALL)])
            pieces = torch.split(heard_rows, counts)
        rows = []
        for heard, piece in zip(batch, pieces, strict=True):
            if heard.is_silent:
                rows.append(F.one_hot(torch.tensor(self._silence), len(self.names)).float())
                continue
            weights = heard.rms**self._hearing.loudness_power  # (W,)
            rows.append((weights / weights.sum()) @ piece)
        return torch.stack(rows)
