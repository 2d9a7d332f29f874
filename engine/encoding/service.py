"""Media of one request to its joint embedding: decode, encode, blend by weights, refine.

A medium seen before is remembered, and twins that come at the same time share one decoding and encoding.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any, Literal, TypeVar

from cache_index.embedding_memo import EmbeddingMemo, MemoKey, MemoStats
from core.errors import InvalidRequest
from core.telemetry import Measurements, StageTimer
from core.types import CacheChoice, Embedding, FloatArray, MediaBlob, Modality, Scene
from engine.encoding.caches import CacheReport, VisualCaches
from engine.encoding.fusion import fuse
from engine.encoding.medium import Decode, Encode, MediumEncoder, MediumEncoding
from engine.encoding.parts import parts_of
from engine.encoding.sharing import SharedWork
from models.mini.part_names import Part

T = TypeVar("T")
MemoUse = Literal["hit", "miss", "partial"]
Blend = Callable[[Sequence[FloatArray], Sequence[float]], FloatArray]


@dataclass(frozen=True, slots=True, kw_only=True)
class MediumReport:
    """What became of one medium: the decoded array's shape and times, what its encoder told, milliseconds.

    `from_memo` says that nothing was decoded or encoded for it; None when nothing is remembered.
    """

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
    from_memo: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class JointEmbedding:
    """The blend `(E,)` of some media, what became of each, and what the visual cache did, None when it did nothing.

    `parts` are the unlike things that it is the sum of, none when the media show one thing.
    """

    vector: FloatArray
    media: tuple[MediumReport, ...]
    cache: CacheReport | None = None
    parts: tuple[Part, ...] = ()

    @property
    def memo(self) -> MemoUse | None:
        """Whether all, none or some of the media were remembered; None when nothing is."""
        known = {medium.from_memo for medium in self.media} - {None}
        if not known:
            return None
        return "partial" if len(known) > 1 else "hit" if known == {True} else "miss"


class EncodingService:
    """Own the way from `MediaBlob`s to one `(E,)` vector.

    `caches` refine a fused vector; `blend` is `only_medium` for adapters that take the tokens of one image instead of a
    joint embedding.
    """

    def __init__(
        self,
        encoder: MediumEncoder,
        *,
        caches: VisualCaches | None = None,
        measurements: Measurements | None = None,
        memo: EmbeddingMemo | None = None,
        blend: Blend = fuse,
    ) -> None:
        self._encoder = encoder
        self._caches = caches
        self._measurements = measurements or Measurements()
        self._memo = memo
        self._shared: SharedWork[MediumEncoding] = SharedWork()
        self._blend = blend

    async def start(self) -> None:
        await self._encoder.start()

    async def stop(self) -> None:
        await self._encoder.stop()

    def check(self, media: Sequence[MediaBlob]) -> None:
        """Raise `UnsupportedMedia` for a modality without an encoder, before anything is decoded."""
        for blob in media:
            self._encoder.encoder_id(blob.modality)

    def memo_stats(self) -> MemoStats | None:
        """Return the counters of the memo, None without one."""
        return None if self._memo is None else self._memo.stats()

    async def embed(
        self, media: Sequence[MediaBlob], *, tenant: str = "", encode: Encode | None = None
    ) -> JointEmbedding:
        """Return the blend of at least one medium, before any cache. Cancelling the call abandons every row of it.

        `encode` calls `self.encode` for a request that shares what it encodes.
        """
        encode = encode or partial(self.encode, tenant=tenant)
        rows = await gather_or_cancel([self._embed_one(blob, encode) for blob in media])
        embeddings, reports = [row for row, _ in rows], tuple(report for _, report in rows)
        vector = self._blend([row.vector for row in embeddings], [blob.weight for blob in media])
        return JointEmbedding(vector=vector, media=reports, parts=parts_of(media, embeddings))

    async def refine(self, joint: JointEmbedding, choice: CacheChoice | None) -> JointEmbedding:
        """Return the embedding as the visual cache leaves it; without a choice, as the model's own defaults say.

        Raises `InvalidRequest` for a choice that cannot be, and `UnknownName` for an index that is not there.
        """
        if self._caches is None or not self._caches.names:
            if choice is not None and choice.enabled:
                raise InvalidRequest("this model has no visual cache; leave bind.cache out", param="bind.cache")
            return joint
        chosen = self._caches.choose(choice, {medium.modality for medium in joint.media})
        if chosen is None:
            return joint
        with self._measurements.timed("cache_search"):
            vector, report = await asyncio.to_thread(self._caches.refine, joint.vector, *chosen)
        return replace(joint, vector=vector, cache=report, parts=())  # what was found stands for the whole

    async def encode(self, blob: MediaBlob, tenant: str, decode: Decode | None = None) -> MediumEncoding:
        """Return one encoded medium, from the memo if it is known there."""
        if self._memo is None:
            return await self._encoder.encode(blob, tenant, decode)
        key = MemoKey(
            encoder_id=self._encoder.encoder_id(blob.modality),
            content_sha256=blob.sha256,
            decode_options=f"{blob.modality} {blob.container} {blob.sampling}",
            tenant=tenant,
        )
        if (known := self._memo.get(key)) is not None:
            return MediumEncoding(medium=known, stages_ms={}, from_memo=True)
        is_twin = self._shared.is_running(key)
        timer = StageTimer()
        with timer.stage("wait_for_twin") if is_twin else nullcontext():
            encoded = await self._shared.run(key, lambda: self._encoder.encode(blob, tenant, decode))
        self._memo.put(key, encoded.medium)
        return replace(encoded, stages_ms=timer.milliseconds, from_memo=True) if is_twin else encoded

    async def _embed_one(self, blob: MediaBlob, encode: Encode) -> tuple[Embedding, MediumReport]:
        encoded = await encode(blob)
        medium = encoded.medium
        report = MediumReport(
            modality=blob.modality,
            container=blob.container,
            weight=blob.weight,
            shape=medium.shape,
            sample_rate_hz=medium.sample_rate_hz,
            frames_per_s=medium.frames_per_s,
            frame_times_s=medium.frame_times_s,
            confidence=medium.embedding.confidence,
            scenes=medium.embedding.scenes,
            stages_ms=encoded.stages_ms,
            from_memo=None if self._memo is None else encoded.from_memo,
        )
        return medium.embedding, report


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
