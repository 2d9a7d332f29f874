"""The video encoder of `mini`: the picture encoder on sampled frames, the film described by its scenes.

Letters: F frames, E embedding, S scenes. ImageBind (Girdhar et al. 2023) averages the embeddings of a film's clips; so
do we, but within a scene only, since the mean of a dog and a car is neither: a film means what it shows longest.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from torch import Tensor

from core.types import AnyArray, DecodedMedia, Embedding, FloatArray, Modality, Scene
from models.mini.encoder import MiniImageEncoder, preprocess_image

MAX_BATCH = 8  # frames in one call of the picture network
MIN_MEANING_KEPT = 0.5  # cosine of a frame with the scene so far; below it the frame shows something else
MIN_COLOUR_MOVED = 0.2  # part of the pixels whose colour changed; below it a new meaning is the network's doubt
RULE = "scenes2"  # part of the encoder's id; change it with the rule


@dataclass(frozen=True, slots=True)
class Clip:
    """F frames `(3, 260, 260)`, their colours `(F, 64)` and times in seconds."""

    frames: list[Tensor]
    colours: FloatArray
    times_s: tuple[float, ...]


class MiniVideoEncoder:
    """`core.types.ModalityEncoder` for films, from the picture encoder alone; the soundtrack is not heard."""

    modality = Modality.VIDEO

    def __init__(self, pictures: MiniImageEncoder) -> None:
        self.encoder_id = f"{pictures.encoder_id}-{RULE}"
        self._pictures = pictures

    def preprocess(self, media: DecodedMedia) -> Clip:
        """Return the frames `(F, H, W, 3)` uint8 as the picture network takes them, with colours and times."""
        rate = media.frames_per_s or 1.0
        return Clip(
            frames=[preprocess_image(frame) for frame in media.array],
            colours=np.stack([colour_histogram(frame) for frame in media.array]),  # (F, 64)
            times_s=media.frame_times_s or tuple(place / rate for place in range(len(media.array))),
        )

    def encode(self, batch: Sequence[Clip]) -> list[Embedding]:
        """Return one embedding with its scenes per film; a row never depends on its batch."""
        return [self._encode_clip(clip) for clip in batch]

    def _encode_clip(self, clip: Clip) -> Embedding:
        starts = range(0, len(clip.frames), MAX_BATCH)
        frames = [e for start in starts for e in self._pictures.encode(clip.frames[start : start + MAX_BATCH])]
        vectors = np.stack([frame.vector for frame in frames])  # (F, E)
        stretches = split_scenes(vectors, clip.colours)
        means = np.stack([_unit(vectors[stretch].mean(axis=0)) for stretch in stretches])  # (S, E)
        scenes = [
            self._scene(mean, frames[stretch], _span(clip.times_s, stretch))
            for mean, stretch in zip(means, stretches, strict=True)
        ]
        shares = scene_shares([scene.end_s - scene.start_s for scene in scenes], means)  # (S,)
        sureness = [scene.confidence for scene in scenes]
        return Embedding(
            vector=_unit(shares @ means),
            encoder_id=self.encoder_id,
            confidence=None if None in sureness else float(shares @ np.array(sureness)),
            scenes=tuple(replace(scene, share=float(share)) for scene, share in zip(scenes, shares, strict=True)),
        )

    def _scene(self, mean: FloatArray, frames: Sequence[Embedding], span_s: tuple[float, float]) -> Scene:
        sureness = [frame.confidence for frame in frames if frame.confidence is not None]
        return Scene(
            start_s=span_s[0],
            end_s=span_s[1],
            share=0.0,
            name=self._pictures.names[int((self._pictures.name_vectors @ mean).argmax())],
            confidence=float(np.mean(sureness)) if sureness else None,
            vector=mean,
        )


def colour_histogram(pixels: AnyArray) -> FloatArray:
    """Return the share of the pixels of `(H, W, 3)` uint8 in each of 4 x 4 x 4 colours: `(64,)`."""
    levels = (pixels[::4, ::4] >> 6).astype(np.int64).reshape(-1, 3)  # (n, 3)
    counts = np.bincount(levels @ np.array([16, 4, 1]), minlength=64)
    return np.asarray(counts / counts.sum(), dtype=np.float32)


def split_scenes(vectors: FloatArray, colours: FloatArray) -> list[slice]:
    """Return stretches of consecutive frames that show the same, from unit rows `(F, E)` and histograms `(F, 64)`.

    A frame begins a scene when its meaning left that of the scene so far and its colours those of the frame before.
    """
    starts = [0]
    for frame in range(1, len(vectors)):
        meaning = float(_unit(vectors[starts[-1] : frame].mean(axis=0)) @ vectors[frame])
        moved = float(np.abs(colours[frame] - colours[frame - 1]).sum()) / 2
        if meaning < MIN_MEANING_KEPT and moved > MIN_COLOUR_MOVED:
            starts.append(frame)
    return [slice(start, end) for start, end in zip(starts, [*starts[1:], len(vectors)], strict=True)]


def scene_shares(lengths_s: Sequence[float], means: FloatArray) -> FloatArray:
    """Return the scenes' parts of the film's vector `(S,)`, summing to 1, from their lengths and unit means `(S, E)`.

    Scenes that mean about the same are one subject; the subject shown longest is the film's, the first of equals.
    """
    parts = np.array(lengths_s, dtype=np.float32)
    alike = means @ means.T >= MIN_MEANING_KEPT  # (S, S)
    chosen = alike[int((alike @ parts).argmax())]  # (S,)
    counted = np.where(chosen, parts, 0)
    return np.asarray(counted / counted.sum(), dtype=np.float32)


def _span(times_s: Sequence[float], stretch: slice) -> tuple[float, float]:
    """Return when a scene begins and ends; its last frame lasts until the next one, or as long as frames usually do."""
    usual_s = (times_s[-1] - times_s[0]) / (len(times_s) - 1) if len(times_s) > 1 else 1.0
    end_s = times_s[stretch.stop] if stretch.stop < len(times_s) else times_s[-1] + (usual_s or 1.0)
    return times_s[stretch.start], end_s


def _unit(vector: FloatArray) -> FloatArray:
    return np.asarray(vector / max(float(np.linalg.norm(vector)), 1e-12), dtype=np.float32)
