"""Media of one request to its joint embedding: decode, encode, blend by weights, refine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

import numpy as np

from core.telemetry import StageTimer
from core.types import DecodedMedia, Embedding, FloatArray, MediaBlob, Modality, Scene
from engine.encoding.fusion import fuse
from engine.encoding.runner import EncoderRunner

T = TypeVar("T")
Refine = Callable[[FloatArray], FloatArray]
Blend = Callable[[Sequence[FloatArray], Sequence[float]], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumReport:
    """What became of one medium: the decoded array's shape and times, what its encoder told, milliseconds."""

    modality: Modality
    container: str
    weight: float
    shape: tuple[int, ...]
    sample_rate_hz: float | None
    frames_per_s: float | None
    frame_times_s: tuple[float, ...]
    confidence: float | None
    scenes: tuple[Scene, ...]
    stages_ms: Mapping[str, float]


class MediaDecoder(Protocol):
    """Turn bytes into arrays, within budgets, somewhere that a bad file cannot harm."""

    async def start(self) -> None: ...

    async def stop(self) -> None: ...

    async def decode(self, blob: MediaBlob) -> DecodedMedia: ...


class EncodingService:
    """Own the way from `MediaBlob`s to one `(E,)` vector.

    `refine` is the visual cache's hook, on a fused vector; `blend` is `only_medium` for adapters that take the tokens
    of one image instead of a joint embedding.
    """

    def __init__(
        self, decoder: MediaDecoder, runner: EncoderRunner, refine: Refine | None = None, *, blend: Blend = fuse
    ) -> None:
        self._decoder = decoder
        self._runner = runner
        self._refine = refine
        self._blend = blend

    async def start(self) -> None:
        await self._decoder.start()
        await self._runner.start()

    async def stop(self) -> None:
        await self._runner.stop()
        await self._decoder.stop()

    def check(self, media: Sequence[MediaBlob]) -> None:
        """Raise `UnsupportedMedia` for a modality without an encoder, before anything is decoded."""
        for blob in media:
            self._runner.check(blob.modality)

    async def embed(self, media: Sequence[MediaBlob]) -> FloatArray:
        """Return the blend `(E,)` of at least one medium. Cancelling the call abandons every row of it."""
        return (await self.embed_with_report(media))[0]

    async def embed_with_report(self, media: Sequence[MediaBlob]) -> tuple[FloatArray, tuple[MediumReport, ...]]:
        """Return what `embed` returns, and what became of each medium."""
        rows = await gather_or_cancel([self._embed_one(blob) for blob in media])
        reports = tuple(report for _, report in rows)
        vector = self._blend([embedding.vector for embedding, _ in rows], [blob.weight for blob in media])
        if self._refine is None:
            return vector, reports
        return await asyncio.to_thread(self._refine, vector), reports

    async def _embed_one(self, blob: MediaBlob) -> tuple[Embedding, MediumReport]:
        timer = StageTimer()
        with timer.stage("decode"):
            media = await self._decoded(blob)
        with timer.stage("encode"):
            embedding = await self._runner.encode(blob.modality, media)
        report = MediumReport(
            modality=blob.modality,
            container=blob.container,
            weight=blob.weight,
            shape=media.array.shape,
            sample_rate_hz=media.sample_rate_hz,
            frames_per_s=media.frames_per_s,
            frame_times_s=media.frame_times_s,
            confidence=embedding.confidence,
            scenes=embedding.scenes,
            stages_ms=timer.milliseconds,
        )
        return embedding, report

    async def _decoded(self, blob: MediaBlob) -> DecodedMedia:
        if blob.modality is Modality.TEXT:  # its encoder takes UTF-8
            return DecodedMedia(container=blob.container, array=np.frombuffer(blob.data, dtype=np.uint8))
        return await self._decoder.decode(blob)


def joint_confidence(media: Sequence[MediumReport]) -> float | None:
    """Return the mean confidence of the media that add to a blend, by weight; None when no encoder tells any.

    Media that are subtracted do not count: how sure their name is says nothing about what remains.
    """
    known = [
        (medium.weight, medium.confidence) for medium in media if medium.weight > 0 and medium.confidence is not None
    ]
    total = sum(weight for weight, _ in known)
    return sum(weight * confidence for weight, confidence in known) / total if known else None


async def gather_or_cancel(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return every result in order; at the first error, or when cancelled, cancel the rest and wait for them."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
