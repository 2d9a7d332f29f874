"""The encoders of one ImageBind behind `core.types.ModalityEncoder`: a table of front ends over one class."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from core.errors import InvalidRequest
from core.types import DecodedMedia, Embedding, Modality
from models.imagebind.audio import LogMelSpec, audio_clips
from models.imagebind.checkpoint import weights_digest
from models.imagebind.config import ImageBindConfig
from models.imagebind.model import ImageBind
from models.imagebind.text import ClipTokenizer
from models.imagebind.vision import image_tensor, imu_windows, single_channel_tensor, video_clips

MAX_CLIPS_PER_PASS = 32  # bounds activations: one video is 15 clips
FrontEnd = Callable[[DecodedMedia], Tensor]


@dataclass(slots=True)
class ImageBindEncoder:
    """One modality of a loaded model.

    Media are as `DecodedMedia` says; depth and thermal are `(H, W)` or `(H, W, 3)`, imu is `(6, N)`, text is its
    UTF-8 bytes `(N,)` uint8. Embeddings have unit norm: the logit scale cancels where they are blended.
    """

    model: ImageBind
    tower: str
    modality: Modality
    encoder_id: str
    front_end: FrontEnd

    def preprocess(self, media: DecodedMedia) -> Tensor:
        """Return the distinct clips `(S, ...)` of one medium."""
        return without_repeats(self.front_end(media))

    @torch.inference_mode()
    def encode(self, batch: Sequence[Tensor]) -> list[Embedding]:
        """Return one embedding per medium: the mean over its clips, then unit norm."""
        device = next(self.model.parameters()).device
        passes = torch.split(torch.cat(tuple(batch)), MAX_CLIPS_PER_PASS)
        rows = torch.cat([self.model.embed_rows(self.tower, clips.to(device)) for clips in passes])
        means = torch.stack([clips.mean(dim=0) for clips in torch.split(rows, [len(clips) for clips in batch])])
        vectors = F.normalize(means, dim=-1).cpu().numpy()  # (B, E)
        return [Embedding(vector=vector, encoder_id=self.encoder_id) for vector in vectors]


def without_repeats(clips: Tensor) -> Tensor:
    """Return the shortest prefix of `(S, ...)` whose repetition is the whole; both have the same mean."""
    num_clips = len(clips)
    periods = (n for n in range(1, num_clips + 1) if num_clips % n == 0)
    return next(clips[:n] for n in periods if torch.equal(clips[n:], clips[: num_clips - n]))


def imagebind_encoders(
    model: ImageBind, name: str, tokenizer: ClipTokenizer | None = None
) -> dict[Modality, ImageBindEncoder]:
    """Return an encoder per modality, text included when there is a tokenizer; `encoder_id` is `name-digest`."""
    encoder_id = f"{name}-{weights_digest(model)}"
    return {
        modality: ImageBindEncoder(model, tower, modality, encoder_id, front_end)
        for modality, (tower, front_end) in _front_ends(model.config, tokenizer).items()
    }


def _front_ends(config: ImageBindConfig, tokenizer: ClipTokenizer | None) -> dict[Modality, tuple[str, FrontEnd]]:
    size = config.image_size
    mel = LogMelSpec(num_mel_bins=config.num_mel_bins, num_frames=config.num_mel_frames)

    def video(media: DecodedMedia) -> Tensor:
        return video_clips(media.array, _rate(media.frames_per_s, media), size, config.video_frames)

    def audio(media: DecodedMedia) -> Tensor:
        return audio_clips(torch.tensor(media.array), round(_rate(media.sample_rate_hz, media)), mel)

    def single_channel(media: DecodedMedia) -> Tensor:
        return single_channel_tensor(media.array, size)[None]

    front_ends: dict[Modality, tuple[str, FrontEnd]] = {
        Modality.IMAGE: ("vision", lambda media: image_tensor(media.array, size)[None]),
        Modality.VIDEO: ("vision", video),
        Modality.AUDIO: ("audio", audio),
        Modality.DEPTH: ("depth", single_channel),
        Modality.THERMAL: ("thermal", single_channel),
        Modality.IMU: ("imu", lambda media: imu_windows(media.array, config.imu_samples)),
    }
    if tokenizer is not None:
        front_ends[Modality.TEXT] = ("text", lambda media: tokenizer([media.array.tobytes().decode("utf-8")]))
    return front_ends


def _rate(rate: float | None, media: DecodedMedia) -> float:
    if rate is None or rate <= 0:
        raise InvalidRequest(f"{media.container} has no sample or frame rate; send a container that states one")
    return rate
