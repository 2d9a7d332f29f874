"""The seam of encoding: one medium's bytes to its embedding, in this process or elsewhere."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from cache_index.embedding_memo import EncodedMedium
from core.telemetry import StageTimer
from core.types import DecodedMedia, MediaBlob, Modality
from engine.encoding.runner import EncoderRunner
from engine.media_first import MediaFirst
from media.limits import DecodeOptions

Decode = Callable[[MediaBlob], Awaitable[DecodedMedia]]


class MediaDecoder(Protocol):
    """Turn bytes into arrays, within budgets, somewhere that a bad file cannot harm."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def decode(self, blob: MediaBlob, options: DecodeOptions | None = None) -> DecodedMedia: ...


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumEncoding:
    """An encoded medium, the milliseconds of each stage, and whether a memo behind the encoder knew it."""

    medium: EncodedMedium
    stages_ms: Mapping[str, float]
    from_memo: bool = False


Encode = Callable[[MediaBlob], Awaitable[MediumEncoding]]


class MediumEncoder(Protocol):
    """Turn the bytes of one medium into its embedding, here or on another machine."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    def encoder_id(self, modality: Modality) -> str:
        """Return whose embeddings a modality gets. Raises `UnsupportedMedia` without an encoder for it."""
        ...

    async def encode(self, blob: MediaBlob, tenant: str, decode: Decode | None = None) -> MediumEncoding:
        """Return the embedding; cancelling the call abandons the row.

        `decode` shares what the request decodes anyway; an encoder elsewhere decodes for itself.
        """
        ...


class LocalEncoder:
    """Decode in killable worker processes and encode in this process."""

    def __init__(self, decoder: MediaDecoder, runner: EncoderRunner, media_first: MediaFirst | None = None) -> None:
        self._decoder = decoder
        self._runner = runner
        self._media_first = media_first

    async def start(self) -> None:
        await self._decoder.start()
        await self._runner.start()

    async def stop(self) -> None:
        await self._runner.stop()
        await self._decoder.stop()

    def encoder_id(self, modality: Modality) -> str:
        self._runner.check(modality)
        return self._runner.encoder_id(modality)

    async def encode(self, blob: MediaBlob, tenant: str, decode: Decode | None = None) -> MediumEncoding:
        is_quick = blob.modality is Modality.IMAGE  # running replies go on beside a film or a song
        with self._media_first.medium() if self._media_first and is_quick else nullcontext():
            return await self._encode(blob, decode)

    async def _encode(self, blob: MediaBlob, decode: Decode | None) -> MediumEncoding:
        timer = StageTimer()
        with timer.stage("decode"):
            media = await self._decoded(blob, decode or self._decoder.decode)
        with timer.stage("encode"):
            embedding = await self._runner.encode(blob.modality, media)
        medium = EncodedMedium(
            embedding=embedding,
            shape=media.array.shape,
            sample_rate_hz=media.sample_rate_hz,
            frames_per_s=media.frames_per_s,
            frame_times_s=media.frame_times_s,
        )
        return MediumEncoding(medium=medium, stages_ms=timer.milliseconds)

    async def _decoded(self, blob: MediaBlob, decode: Decode) -> DecodedMedia:
        if blob.modality is Modality.TEXT:  # its encoder takes UTF-8
            return DecodedMedia(container=blob.container, array=np.frombuffer(blob.data, dtype=np.uint8))
        return await decode(blob)
