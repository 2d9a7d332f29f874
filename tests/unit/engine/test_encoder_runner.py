from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

import numpy as np
import pytest
from anyio import fail_after
from anyio.lowlevel import checkpoint

from core.errors import EngineFault, MediaDecodeError, NotReady, Overloaded, UnsupportedMedia
from core.types import DecodedMedia, Embedding, Modality
from engine.encoding.runner import EncoderRunner, EncodingConfig

pytestmark = pytest.mark.anyio


def media(value: float) -> DecodedMedia:
    return DecodedMedia(container="array", array=np.array([value], dtype=np.float32))


class ValueEncoder:
    """Embeds a number as itself. `gate` holds the first batch back, so that others gather behind it."""

    modality = Modality.IMAGE
    encoder_id = "value"

    def __init__(self) -> None:
        self.gate = threading.Event()
        self.entered = threading.Event()
        self.batches: list[list[float]] = []

    def preprocess(self, media: DecodedMedia) -> float:
        return float(media.array[0])

    def encode(self, batch: Sequence[float]) -> list[Embedding]:
        self.entered.set()
        self.gate.wait()
        self.batches.append(list(batch))
        if -1.0 in batch:
            raise MediaDecodeError("a negative number")
        if -2.0 in batch:
            raise RuntimeError("internal")
        return [Embedding(vector=np.array([value], dtype=np.float32), encoder_id=self.encoder_id) for value in batch]


@asynccontextmanager
async def running(encoder: ValueEncoder, **config: int) -> AsyncIterator[EncoderRunner]:
    runner = EncoderRunner({Modality.IMAGE: encoder}, EncodingConfig(**config))
    await runner.start()
    try:
        yield runner
    finally:
        encoder.gate.set()
        await runner.stop()


def encode_soon(runner: EncoderRunner, value: float) -> asyncio.Task[Embedding]:
    return asyncio.create_task(runner.encode(Modality.IMAGE, media(value)))


async def held_runner(
    runner: EncoderRunner, encoder: ValueEncoder, values: Sequence[float]
) -> list[asyncio.Task[Embedding]]:
    """Let a first row enter the encoder and queue `values` behind it."""
    first = encode_soon(runner, 0.0)
    while not encoder.entered.is_set():
        await checkpoint()
    tasks = [encode_soon(runner, value) for value in values]
    await checkpoint()
    return [first, *tasks]


async def test_rows_that_wait_together_share_a_batch_up_to_its_limit() -> None:
    encoder = ValueEncoder()
    async with running(encoder, max_batch=3) as runner:
        tasks = await held_runner(runner, encoder, [1, 2, 3, 4])
        encoder.gate.set()
        embeddings = await asyncio.gather(*tasks)
    assert [float(embedding.vector[0]) for embedding in embeddings] == [0, 1, 2, 3, 4]
    assert encoder.batches == [[0], [1, 2, 3], [4]]


async def test_a_bad_row_fails_alone_with_its_own_error() -> None:
    encoder = ValueEncoder()
    async with running(encoder) as runner:
        tasks = await held_runner(runner, encoder, [1, -1, -2, 4])
        encoder.gate.set()
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(outcome) for outcome in outcomes] == [Embedding, Embedding, MediaDecodeError, EngineFault, Embedding]


async def test_an_abandoned_row_is_never_encoded() -> None:
    encoder = ValueEncoder()
    async with running(encoder) as runner:
        tasks = await held_runner(runner, encoder, [1, 2, 3])
        tasks[2].cancel()
        await asyncio.wait([tasks[2]])
        encoder.gate.set()
        await asyncio.gather(*tasks, return_exceptions=True)
    assert encoder.batches == [[0], [1, 3]]


async def test_a_full_queue_refuses() -> None:
    encoder = ValueEncoder()
    async with running(encoder, max_queue=2) as runner:
        tasks = await held_runner(runner, encoder, [1, 2])
        with pytest.raises(Overloaded):
            await runner.encode(Modality.IMAGE, media(3))
        encoder.gate.set()
        assert len(await asyncio.gather(*tasks)) == 3


async def test_a_modality_without_an_encoder_is_refused_by_name() -> None:
    async with running(ValueEncoder()) as runner:
        with pytest.raises(UnsupportedMedia, match="does not read audio; it reads: image"):
            await runner.encode(Modality.AUDIO, media(1))


async def test_stopping_ends_the_rows_that_wait() -> None:
    encoder = ValueEncoder()
    async with running(encoder) as runner:
        tasks = await held_runner(runner, encoder, [1, 2])
        stopping = asyncio.create_task(runner.stop())
        await asyncio.wait(tasks[1:])
        encoder.gate.set()
        await stopping
        outcomes = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [Embedding, NotReady, NotReady]
        with pytest.raises(NotReady):
            await runner.encode(Modality.IMAGE, media(3))


async def test_a_runner_that_waits_keeps_nothing_of_its_last_batch() -> None:
    encoder = ValueEncoder()
    encoder.gate.set()
    async with running(encoder) as runner:
        number = media(3.0)
        array = weakref.ref(number.array)
        await runner.encode(Modality.IMAGE, number)
        del number
        with fail_after(30):
            while array() is not None:  # the runner's thread is on its way back to the queue
                await checkpoint()
