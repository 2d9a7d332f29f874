"""Media of one request to its joint embedding: decode, encode, blend by weights, refine."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Sequence
from typing import Any, Protocol, TypeVar

import numpy as np

from core.types import DecodedMedia, Embedding, FloatArray, MediaBlob, Modality
from engine.encoding.fusion import fuse
from engine.encoding.runner import EncoderRunner

T = TypeVar("T")
Refine = Callable[[FloatArray], FloatArray]
Blend = Callable[[Sequence[FloatArray], Sequence[float]], FloatArray]


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
        embeddings = await gather_or_cancel([self._embed_one(blob) for blob in media])
        vector = self._blend([embedding.vector for embedding in embeddings], [blob.weight for blob in media])
        if self._refine is None:
            return vector
        return await asyncio.to_thread(self._refine, vector)

    async def _embed_one(self, blob: MediaBlob) -> Embedding:
        if blob.modality is Modality.TEXT:  # its encoder takes UTF-8
            media = DecodedMedia(container=blob.container, array=np.frombuffer(blob.data, dtype=np.uint8))
        else:
            media = await self._decoder.decode(blob)
        return await self._runner.encode(blob.modality, media)


async def gather_or_cancel(work: Sequence[Coroutine[Any, Any, T]]) -> list[T]:
    """Return every result in order; at the first error, or when cancelled, cancel the rest and wait for them."""
    tasks = [asyncio.ensure_future(coroutine) for coroutine in work]
    try:
        return list(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
