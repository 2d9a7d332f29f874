from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field, replace
from typing import Any, cast

import numpy as np
import pytest
import torch

from core.errors import (
    AppError,
    EngineFault,
    InvalidRequest,
    MediaDecodeError,
    NotReady,
    Overloaded,
    PromptTooLong,
    UnknownName,
    UnsupportedMedia,
)
from core.types import (
    BackendStats,
    ChatMessage,
    ChatRequest,
    Condition,
    DecodedMedia,
    Embedding,
    FloatArray,
    MediaBlob,
    Modality,
    SamplingParams,
)
from engine.backends import BACKENDS, DecodingConfig
from engine.encoding.medium import LocalEncoder
from engine.encoding.runner import EncoderRunner, EncodingConfig
from engine.encoding.service import EncodingService
from engine.pipeline import ChoiceEvent, Pipeline, PipelineConfig
from engine.watchdog import Watchdog
from models.bundle import ModelBundle
from models.mini.relevance import NUM_BUCKETS, MediaQuestions, bucket_of
from models.tiny import TINY_CONFIG, load_tiny
from tests.support.tiny_engine import until

pytestmark = pytest.mark.anyio
MAX_CONTEXT = 500_000


class Gate:
    """Hold whoever passes until opened, in any thread; `reached` tells that someone is there."""

    def __init__(self, *, is_open: bool = True) -> None:
        self._open = threading.Event()
        self.reached = threading.Event()
        if is_open:
            self._open.set()

    def open(self) -> None:
        self._open.set()

    def pass_through(self) -> None:
        self.reached.set()
        self._open.wait()


@dataclass
class Gates:
    """One gate per stage, and every vector that came to be conditioned on."""

    decode: Gate = field(default_factory=Gate)
    encode: Gate = field(default_factory=Gate)
    condition: Gate = field(default_factory=Gate)
    vectors: list[FloatArray | None] = field(default_factory=list)
    confidences: list[float | None] = field(default_factory=list)


class ArrayDecoder:
    """Reads one byte as a grey picture of 2 by 2 pixels."""

    def __init__(self, gate: Gate) -> None:
        self._gate = gate

    async def start(self) -> None:
        return None

    async def stop(self) -> None:
        return None

    async def decode(self, blob: MediaBlob) -> DecodedMedia:
        await asyncio.to_thread(self._gate.pass_through)
        if not blob.data:
            raise MediaDecodeError("the picture is empty")
        return DecodedMedia(container=blob.container, array=np.full((4, 4, 3), blob.data[0], dtype=np.uint8))


class GatedEncoder:
    """The tiny image encoder behind a gate; the brighter the picture, the more confident it is."""

    modality = Modality.IMAGE

    def __init__(self, inner: Any, gate: Gate) -> None:
        self._inner, self._gate, self.encoder_id = inner, gate, inner.encoder_id

    def preprocess(self, media: DecodedMedia) -> Any:
        return self._inner.preprocess(media)

    def encode(self, batch: Sequence[Any]) -> list[Embedding]:
        self._gate.pass_through()
        rows = cast("list[Embedding]", self._inner.encode(batch))
        return [replace(row, confidence=float(np.max(media))) for row, media in zip(rows, batch, strict=True)]


class GatedAdapter:
    """An adapter behind a gate; it notes what it was asked to condition on."""

    def __init__(self, inner: Any, gates: Gates) -> None:
        self._inner, self._gates = inner, gates

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        self._gates.condition.pass_through()
        self._gates.vectors.append(vector)
        self._gates.confidences.append(confidence)
        return cast(Condition, self._inner.condition(vector, confidence=confidence))


class WrongAdapter:
    """Cuts a column off the tiny adapter's tokens when there is a picture."""

    def condition(
        self, vector: FloatArray | None, *, confidence: float | None = None, agrees: bool | None = None
    ) -> Condition:
        prompt = load_tiny(torch.float32).adapter.condition(vector, confidence=confidence)
        return prompt and replace(prompt, prompts=prompt.prompts[:, :, 1:])


def build_bundle(gates: Gates, adapter: WrongAdapter | None) -> ModelBundle:
    tiny = load_tiny(torch.float32)
    object.__setattr__(tiny.decoder, "config", replace(TINY_CONFIG, max_context=MAX_CONTEXT))
    encoders = {Modality.IMAGE: GatedEncoder(tiny.encoders[Modality.IMAGE], gates.encode)}
    gated = GatedAdapter(adapter or tiny.adapter, gates)
    return replace(tiny, encoders=encoders, adapter=gated, media_questions=all_but("chemistry"))


def all_but(word: str) -> MediaQuestions:
    """Takes a question for one about the media unless it holds the word."""
    weights = np.zeros(NUM_BUCKETS, dtype=np.float32)
    weights[bucket_of(word)] = 20.0
    return MediaQuestions(weights, bias=-10.0)


@asynccontextmanager
async def running_pipeline(
    gates: Gates | None = None,
    *,
    adapter: WrongAdapter | None = None,
    backend: str = "native",
    max_slots: int = 4,
    max_in_flight: int = 8,
) -> AsyncIterator[Pipeline]:
    gates = gates or Gates()
    bundle = build_bundle(gates, adapter)
    decoding = DecodingConfig(max_slots=max_slots, max_queue=16, max_context=MAX_CONTEXT, num_threads=1)
    encoders = EncoderRunner(bundle.encoders, EncodingConfig(num_threads=1))
    encoding = EncodingService(LocalEncoder(ArrayDecoder(gates.decode), encoders))
    config = PipelineConfig(max_context=MAX_CONTEXT, max_in_flight=max_in_flight, created_s=7)
    pipeline = Pipeline(bundle, BACKENDS.load(backend)(bundle, decoding), encoding, config)
    await pipeline.start()
    try:
        yield pipeline
    finally:
        for gate in (gates.decode, gates.encode, gates.condition):
            gate.open()
        await pipeline.stop()


def picture(grey: int = 9, weight: float = 1.0) -> MediaBlob:
    data = bytes([grey]) if grey >= 0 else b""
    return MediaBlob(modality=Modality.IMAGE, container="png", data=data, sha256=str(grey), weight=weight)


def chat(*media: MediaBlob, num_choices: int = 1, text: str = "what is this?", **sampling: Any) -> ChatRequest:
    options = {"max_tokens": 6, "temperature": 0.0, "ignore_eos": True, **sampling}
    return ChatRequest(
        request_id="r",
        model="tiny",
        messages=(ChatMessage(role="user", text=text, media=media),),
        sampling=SamplingParams(**options),
        num_choices=num_choices,
    )


def opened(pipeline: Pipeline, request: ChatRequest) -> AsyncGenerator[ChoiceEvent, None]:
    return cast("AsyncGenerator[ChoiceEvent, None]", pipeline.stream(request))


async def collect(pipeline: Pipeline, request: ChatRequest) -> list[ChoiceEvent]:
    return [event async for event in pipeline.stream(request)]


async def ids_of(pipeline: Pipeline, request: ChatRequest) -> list[int]:
    return [event.event.token_id for event in await collect(pipeline, request)]


async def test_a_picture_changes_the_reply_and_text_alone_does_not_see_it() -> None:
    async with running_pipeline() as pipeline:
        plain = await ids_of(pipeline, chat())
        black, white = await ids_of(pipeline, chat(picture(0))), await ids_of(pipeline, chat(picture(255)))
        assert await ids_of(pipeline, chat()) == plain
    assert plain != black != white


async def test_weights_blend_the_pictures() -> None:
    gates = Gates()
    async with running_pipeline(gates) as pipeline:
        await ids_of(pipeline, chat(picture(0)))
        await ids_of(pipeline, chat(picture(255)))
        await ids_of(pipeline, chat(picture(0, 2.0), picture(255, -1.0)))
    black, white, blend = gates.vectors
    np.testing.assert_allclose(blend, 2 * black - white, atol=1e-4)


async def test_a_question_that_does_not_concern_the_picture_is_answered_as_without_it() -> None:
    gates = Gates()
    async with running_pipeline(gates) as pipeline:
        plain, asked = chat(text="chemistry"), chat(picture(200), text="chemistry")
        assert pipeline.tokenize_chat(asked) == pipeline.tokenize_chat(plain)
        assert await ids_of(pipeline, asked) == await ids_of(pipeline, plain)
        assert await ids_of(pipeline, chat(picture(200))) != await ids_of(pipeline, chat())
    assert [vector is None for vector in gates.vectors] == [True, True, False, True]


async def test_the_adapter_hears_the_mean_confidence_of_what_is_added() -> None:
    gates = Gates()
    async with running_pipeline(gates) as pipeline:
        await ids_of(pipeline, chat())
        await ids_of(pipeline, chat(picture(51)))
        await ids_of(pipeline, chat(picture(0, 1.0), picture(255, 3.0)))
        await ids_of(pipeline, chat(picture(0, -1.0), picture(255, 2.0)))
    assert gates.confidences == [None, pytest.approx(0.2), pytest.approx(0.75), pytest.approx(1.0)]


async def test_every_choice_ends_once_and_draws_with_its_own_seed() -> None:
    async with running_pipeline() as pipeline:
        events = await collect(pipeline, chat(picture(), num_choices=3, temperature=1.0, seed=5))
        alone = await ids_of(pipeline, chat(picture(), temperature=1.0, seed=7))
    by_choice = {i: [e.event for e in events if e.choice == i] for i in range(3)}
    assert [[event.finish for event in reply].count("length") for reply in by_choice.values()] == [1, 1, 1]
    assert [event.token_id for event in by_choice[2]] == alone
    assert len({tuple(event.token_id for event in reply) for reply in by_choice.values()}) == 3


@pytest.mark.parametrize("stage", ["decode", "encode", "condition"])
async def test_closing_before_the_first_token_leaves_nothing_behind(stage: str) -> None:
    gates = Gates(**{stage: Gate(is_open=False)})
    gate = getattr(gates, stage)
    async with running_pipeline(gates) as pipeline:
        task = asyncio.create_task(collect(pipeline, chat(picture(), picture(3))))
        await until(gate.reached.is_set)
        task.cancel()
        gate.open()
        await asyncio.wait([task])
        assert task.cancelled()
        health = pipeline.health()
        assert (health.requests_in_flight, health.slots_in_use, health.queue_length) == (0, 0, 0)
        assert len(await ids_of(pipeline, chat(picture()))) == 6


async def test_closing_while_waiting_for_a_slot_leaves_the_queue() -> None:
    endless = chat(max_tokens=400_000)
    async with running_pipeline(max_slots=1) as pipeline, aclosing(opened(pipeline, endless)) as running:
        await anext(running)
        waiting = asyncio.create_task(collect(pipeline, replace(chat(picture()), request_id="second")))
        await until(lambda: pipeline.health().queue_length == 1)
        waiting.cancel()
        await asyncio.wait([waiting])
        health = pipeline.health()
        assert (health.requests_in_flight, health.slots_in_use, health.queue_length) == (1, 1, 0)


@pytest.mark.parametrize("num_choices", [1, 3])
async def test_closing_a_running_stream_frees_its_slots(num_choices: int) -> None:
    async with running_pipeline() as pipeline:
        stream = opened(pipeline, chat(picture(), num_choices=num_choices, max_tokens=400_000))
        await anext(stream)
        await until(lambda: pipeline.health().slots_in_use == num_choices)
        await stream.aclose()
        health = pipeline.health()
        assert (health.requests_in_flight, health.slots_in_use) == (0, 0)


REFUSALS: list[tuple[ChatRequest, type[AppError]]] = [
    (replace(chat(), model="other"), UnknownName),
    (chat(max_tokens=MAX_CONTEXT), PromptTooLong),
    (chat(num_choices=9), InvalidRequest),
    (chat(picture(-1), picture(4)), MediaDecodeError),
    (chat(picture(1, 1.0), picture(4, -1.0)), InvalidRequest),
    (chat(replace(picture(), modality=Modality.AUDIO)), UnsupportedMedia),
]


@pytest.mark.parametrize(("request_", "error"), REFUSALS, ids=[error.__name__ for _, error in REFUSALS])
async def test_a_refusal_comes_before_any_event_and_frees_its_place(
    request_: ChatRequest, error: type[AppError]
) -> None:
    async with running_pipeline() as pipeline:
        with pytest.raises(error):
            await anext(opened(pipeline, request_))
        assert pipeline.health().requests_in_flight == 0


async def test_replies_beyond_the_bound_are_refused_until_one_ends() -> None:
    async with running_pipeline(max_in_flight=3) as pipeline:
        stream = opened(pipeline, chat(num_choices=2, max_tokens=400_000))
        await anext(stream)
        with pytest.raises(Overloaded):
            await collect(pipeline, replace(chat(num_choices=2), request_id="second"))
        await stream.aclose()
        assert len(await collect(pipeline, chat(num_choices=2))) == 12


async def test_a_pipeline_that_is_not_started_is_not_ready() -> None:
    async with running_pipeline() as pipeline:
        assert pipeline.health().ready
        await pipeline.stop()
        assert not pipeline.health().ready
        with pytest.raises(NotReady):
            await collect(pipeline, chat())


async def test_an_adapter_of_the_wrong_shape_is_an_engine_fault_and_text_still_works() -> None:
    async with running_pipeline(adapter=WrongAdapter()) as pipeline:
        with pytest.raises(EngineFault):
            await collect(pipeline, chat(picture()))
        assert len(await collect(pipeline, chat())) == 6


async def test_the_description_names_what_the_model_reads() -> None:
    async with running_pipeline(backend="echo") as pipeline:
        (model,) = pipeline.describe()
    assert (model.name, model.max_context, model.created_s) == ("tiny", MAX_CONTEXT, 7)
    assert model.input_modalities == (Modality.TEXT, Modality.IMAGE)


async def test_the_prompt_count_is_the_usage_that_is_billed() -> None:
    async with running_pipeline() as pipeline:
        events = await collect(pipeline, chat(picture()))
        usage = events[-1].event.usage
        assert usage is not None
        assert usage.prompt_tokens == pipeline.count_prompt_tokens(chat(picture()))


async def test_echo_answers_with_the_prompt() -> None:
    async with running_pipeline(backend="echo") as pipeline:
        events = await collect(pipeline, chat(max_tokens=1000, ignore_eos=False))
    text = "".join(event.event.text for event in events)
    assert "what is this?" in text
    assert events[-1].event.finish == "stop"


def stats(num_steps: int, slots_in_use: int) -> BackendStats:
    return BackendStats(slots_total=4, slots_in_use=slots_in_use, queue_length=0, num_steps=num_steps, num_tokens=0)


@pytest.mark.parametrize(
    ("snapshots", "live"),
    [
        ([(0, stats(5, 1)), (200, stats(6, 1))], True),
        ([(0, stats(5, 1)), (200, stats(5, 1))], False),
        ([(0, stats(5, 1)), (90, stats(5, 1))], True),
        ([(0, stats(5, 0)), (200, stats(5, 0)), (250, stats(5, 1))], True),
        ([(0, stats(5, 1)), (200, stats(5, 1)), (201, stats(6, 1))], True),
    ],
)
def test_the_watchdog_bites_only_when_work_stands_still(
    snapshots: list[tuple[float, BackendStats]], live: bool
) -> None:
    now = [0.0]
    clock: Callable[[], float] = lambda: now[0]  # noqa: E731
    watchdog = Watchdog(100.0, clock)
    for now[0], snapshot in snapshots:
        verdict = watchdog.observe(snapshot)
    assert verdict is live
