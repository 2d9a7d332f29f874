"""One chat request from admission to its last token."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Coroutine, Iterator, Mapping, Sequence
from contextlib import AsyncExitStack, aclosing, contextmanager
from dataclasses import dataclass, field
from functools import partial
from typing import Any, cast

from cache_index.embedding_memo import MemoStats as MemoStats
from core.errors import InvalidRequest, NotReady, Overloaded, UnknownName
from core.telemetry import EventLog, StageTimer
from core.types import (
    CacheChoice,
    ChatMessage,
    ChatRequest,
    Condition,
    DecoderBackend,
    DecodeRequest,
    MediaBlob,
    Modality,
    TokenEvent,
)
from engine.attributes import AttributeTeller
from engine.blends import BlendReader, NamedPart
from engine.conditioning import Conditioner
from engine.description import ModelDescription as ModelDescription
from engine.encoding.caches import CacheReport
from engine.encoding.service import (
    EncodingService,
    JointEmbedding,
    MediumReport,
    MemoUse,
    gather_or_cancel,
    joint_confidence,
)
from engine.experts.context import with_context, with_room
from engine.experts.service import ExpertReport, ExpertService
from engine.prompting import PromptBuilder, decode_requests, media_in_scope
from engine.streams import merge
from engine.watchdog import Watchdog
from models.bundle import ModelBundle
from models.devices import worker_threads

Prompts = tuple[tuple[int, ...], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ChoiceEvent:
    """One token event of one of the request's choices, counted from 0."""

    choice: int
    event: TokenEvent


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineHealth:
    """A snapshot; `live` is False when work waits and the step loop has stood still for too long."""

    ready: bool
    live: bool
    queue_length: int
    slots_in_use: int
    slots_total: int
    requests_in_flight: int
    stalled_s: float = 0.0  # since the last step, while work waits
    num_restarts: int = 0
    kv_tokens_in_use: int = 0
    kv_tokens_total: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PipelineConfig:
    """`max_in_flight` bounds the choices (`n` of every request) that are admitted at once.

    Keep it at or below slots plus queue of the backend, which then never has to refuse the second choice of a request.
    `max_tokens_in_flight` bounds the sum of prompt tokens and tokens asked for over these choices.
    """

    max_context: int
    max_in_flight: int = 64
    max_tokens_in_flight: int | None = None
    stall_after_s: float = 120.0
    created_s: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Preparation:
    """What was done for a request before its first token: each medium, and milliseconds per stage.

    `is_conditioned` is False without media, and when the question does not concern them. `cache` is what the visual
    cache did, None when the embedding stayed as it was; `memo` whether media were known; `experts` what they said.
    `started_ns` is when each stage began, since 1970; `verdict` what was judged about a yes-or-no question,
    `parts` what a blend of unlike things was taken for.
    """

    media: tuple[MediumReport, ...]
    stages_ms: Mapping[str, float]
    is_conditioned: bool
    cache: CacheReport | None = None
    memo: MemoUse | None = None
    started_ns: Mapping[str, int] = field(default_factory=dict)
    experts: tuple[ExpertReport, ...] = ()
    verdict: bool | None = None
    parts: tuple[NamedPart, ...] = ()


def _ignore(preparation: Preparation) -> None:
    """Tell nobody."""


class Pipeline:
    """Serve one model: admit, embed the media, condition, prompt, decode."""

    def __init__(
        self,
        bundle: ModelBundle,
        backend: DecoderBackend,
        encoding: EncodingService,
        config: PipelineConfig,
        *,
        experts: ExpertService | None = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._bundle = bundle
        self._backend = backend
        self._encoding = encoding
        self._config = config
        self._experts = experts
        self._log = EventLog("pipeline")
        self._prompts = PromptBuilder(bundle, max_context=min(config.max_context, bundle.decoder.config.max_context))
        self._conditioner = Conditioner(bundle, self._log)
        self._blends = BlendReader(bundle)
        self._attributes = AttributeTeller(bundle)
        self._watchdog = Watchdog(config.stall_after_s, clock)
        self._running = AsyncExitStack()
        self._is_ready = False
        self._num_requests = 0
        self._num_choices = 0
        self._reserved_tokens: dict[str, int] = {}  # by request

    async def start(self) -> None:
        """Start decoders, encoders and backend; if one fails, stop those that run.

        From now on `asyncio.to_thread` runs in threads that leave the decoder's its processors.
        """
        asyncio.get_running_loop().set_default_executor(worker_threads())
        async with AsyncExitStack() as started:
            for part in (self._encoding, self._backend):
                started.push_async_callback(part.stop)
                await part.start()
            self._running = started.pop_all()
        self._is_ready = True

    async def stop(self) -> None:
        """Refuse new requests and end the live ones with `NotReady`."""
        self._is_ready = False
        if self._experts is not None:
            await self._experts.stop()
        await self._running.aclose()

    def describe(self) -> tuple[ModelDescription, ...]:
        """Return the served models."""
        encoded = {*self._bundle.encoders} - {Modality.TEXT}  # some models embed text too; every model reads it
        modalities = (Modality.TEXT, *(modality for modality in Modality if modality in encoded))
        return (
            ModelDescription(
                name=self._bundle.name,
                input_modalities=modalities,
                embedded_modalities=() if self._bundle.takes_image_tokens else tuple(self._bundle.encoders),
                max_context=self._prompts.max_context,
                created_s=self._config.created_s,
            ),
        )

    def memo_stats(self) -> MemoStats | None:
        """Return the counters of the memo of embeddings, None when nothing is remembered."""
        return self._encoding.memo_stats()

    @property
    def expert_names(self) -> tuple[str, ...]:
        """Return the experts that a request may name."""
        return self._experts.names if self._experts else ()

    def health(self) -> PipelineHealth:
        """Return what `/health`, `/ready` and the metrics show."""
        stats = self._backend.stats()
        return PipelineHealth(
            ready=self._is_ready,
            live=self._watchdog.observe(stats),
            stalled_s=self._watchdog.stalled_s,
            num_restarts=stats.num_restarts,
            kv_tokens_in_use=stats.kv_tokens[0],
            kv_tokens_total=stats.kv_tokens[1],
            queue_length=stats.queue_length,
            slots_in_use=stats.slots_in_use,
            slots_total=stats.slots_total,
            requests_in_flight=self._num_requests,
        )

    def count_prompt_tokens(self, request: ChatRequest) -> int:
        """Return the length of the prompt that `request` would decode from."""
        return len(self._prompts.token_ids(request))

    def tokenize_chat(self, request: ChatRequest) -> tuple[int, ...]:
        """Return the ids of the prompt that `request` would decode from; it may be longer than the context."""
        return self._prompts.token_ids(request)

    def tokenize(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]:
        """Return the ids of ordinary text, by default after what the model expects before every sequence."""
        return self._prompts.encode(text, add_special_tokens=add_special_tokens)

    def detokenize(self, token_ids: Sequence[int], *, param: str = "tokens") -> str:
        """Return the text of `token_ids`, special tokens left out.

        Raises `InvalidRequest` naming `param` for an id outside the vocabulary.
        """
        self.check_token_ids(token_ids, param=param)
        return self._prompts.decode(token_ids)

    def check_token_ids(self, token_ids: Sequence[int], *, param: str) -> None:
        """Raise `InvalidRequest` naming `param` for an id outside the vocabulary."""
        vocab_size = self._bundle.decoder.config.vocab_size
        wrong = next((i for i in token_ids if not 0 <= i < vocab_size), None)
        if wrong is not None:
            raise InvalidRequest(f"{param} holds {wrong}; ids of this model are 0 to {vocab_size - 1}", param=param)

    async def embed(
        self, inputs: Sequence[Sequence[MediaBlob]], *, tenant: str = "", cache: CacheChoice | None = None
    ) -> list[JointEmbedding]:
        """Return the joint embedding `(E,)` of each input: the blend that a chat with these media begins from.

        Only an explicit choice lets the visual cache refine it.
        """
        if not self._is_ready:
            raise NotReady("the server is starting or stopping; try again soon")
        for media in inputs:
            self._encoding.check(media)
        joined = await gather_or_cancel([self._encoding.embed(media, tenant=tenant) for media in inputs])
        if cache is None:
            return joined
        return await gather_or_cancel([self._encoding.refine(joint, cache) for joint in joined])

    async def stream(
        self, request: ChatRequest, on_prepared: Callable[[Preparation], None] = _ignore
    ) -> AsyncIterator[ChoiceEvent]:
        """Yield the events of every choice as they come; each choice ends with one `finish` event.

        `on_prepared` hears once, before the first event, what the reply is conditioned on.
        Every refusal is an `AppError` before the first event. Closing the iterator at any stage aborts the rest of
        the work and returns when its slots are free.
        """
        with self._admitted(request):
            decode_requests = await self._prepare(request, on_prepared)
            async with aclosing(merge(list(map(self._generate, decode_requests)))) as events:
                async for choice, event in events:
                    yield ChoiceEvent(choice=choice, event=event)

    @contextmanager
    def _admitted(self, request: ChatRequest) -> Iterator[None]:
        """Count the request while it is in flight. Raises `Overloaded` beyond the bound."""
        limit = self._config.max_in_flight
        if not self._is_ready:
            raise NotReady("the server is starting or stopping; try again soon")
        if request.model != self._bundle.name:
            raise UnknownName(f"unknown model {request.model!r}; this server has {self._bundle.name}", param="model")
        if not 1 <= request.num_choices <= limit:
            raise InvalidRequest(f"n must be in [1, {limit}], got {request.num_choices}", param="n")
        if request.num_replies > limit:
            raise InvalidRequest(
                f"{len(request.raw_prompts)} prompts with n = {request.num_choices} ask for {request.num_replies} "
                f"replies; at most {limit} are made at once",
                param="prompt",
            )
        if self._num_choices + request.num_replies > limit:
            raise Overloaded(f"{self._num_choices} of {limit} replies are in flight; try again soon")
        self._num_requests += 1
        self._num_choices += request.num_replies
        try:
            yield
        finally:
            self._reserved_tokens.pop(request.request_id, None)
            self._num_requests -= 1
            self._num_choices -= request.num_replies

    async def _prepare(self, request: ChatRequest, on_prepared: Callable[[Preparation], None]) -> list[DecodeRequest]:
        """Return one decode request per reply, those of one prompt together; choice i of each draws with `seed + i`."""
        timer = StageTimer()
        media = media_in_scope(request.messages, request.scope)
        self._encoding.check(media)
        with timer.stage("prompt"):
            prompts = self._prompts.build_each(request)
            self._reserve(request, prompts)
        with timer.stage("embed"):
            joint, said = await self._read_media(request, media)
        with timer.stage("cache"):
            joint = await self._encoding.refine(joint, request.cache) if joint else None
        reports = joint.media if joint else ()
        with timer.stage("prompt"):
            prompts, said, seen = await self._with_experts(request, prompts, said, joint)
            has_context = any(report.in_prompt for report in said)
            concerns = self._prompts.is_conditioned(request)
            blend = await self._blends.read(request, None if has_context else joint, concerns_media=concerns)
            told = self._fitting(request, blend.messages) if blend.messages else ()
            prompts, has_context = ((told,), True) if told else (prompts, has_context)
        is_conditioned = self._prompts.is_conditioned(request, with_context=has_context)
        with timer.stage("condition"):
            vector = joint.vector if joint and is_conditioned else None
            condition, verdict = await self._conditioner.condition(
                request, vector, joint_confidence(reports), [named.part for named in blend.parts]
            )
        condition = blend.condition if told else seen or condition
        self._log.event(
            "request_prepared",
            request_id=request.request_id,
            num_media=len(media),
            prompt_tokens=sum(map(len, prompts)),
            stages_ms=timer.milliseconds,
        )
        known: dict[str, Any] = {"cache": joint.cache, "memo": joint.memo, "experts": tuple(said)} if joint else {}
        known |= {"started_ns": timer.started_ns, "verdict": verdict, "parts": blend.parts}
        on_prepared(Preparation(media=reports, stages_ms=timer.milliseconds, is_conditioned=is_conditioned, **known))
        return decode_requests(request, prompts, condition)

    async def _read_media(
        self, request: ChatRequest, media: Sequence[MediaBlob]
    ) -> tuple[JointEmbedding | None, list[ExpertReport]]:
        """Return the blend of the media, and beside it what the experts say about them."""
        experts = self._experts
        if experts is None and request.experts:
            raise InvalidRequest("this server has no experts; leave bind.experts out", param="bind.experts")
        concerns = self._prompts.is_conditioned(request)
        called_for = self._attributes.called_for(request, concerns_media=concerns) if media else ()
        pairs = experts.choose(request.experts, media, unasked=called_for) if experts else []
        if not media:
            return None, []
        if experts is None or not pairs:
            return await self._encoding.embed(media, tenant=request.tenant), []
        encode = partial(self._encoding.encode, tenant=request.tenant)
        decoding = await experts.decoding(pairs, media, lambda blob, decode: encode(blob, decode=decode))
        embedded = self._encoding.embed(media, encode=decoding.encode)
        asked = experts.ask(pairs, media, decoding, request.tenant)
        both: list[Coroutine[Any, Any, Any]] = [embedded, asked]
        joint, said = await gather_or_cancel(both)
        return joint, said

    async def _with_experts(
        self, request: ChatRequest, prompts: Prompts, said: list[ExpertReport], joint: JointEmbedding | None
    ) -> tuple[Prompts, list[ExpertReport], Condition]:
        """Return the prompt with what the experts said, as much of it as fits; the client's own words are never cut.

        Colour or setting as the answer to a question for them come with a condition of their own.
        """
        seen = await self._attributes.tell(request, said, joint.vector if joint else None)
        if seen is not None and (prompt := self._fitting(request, seen.messages)):
            return (prompt,), seen.reports, seen.condition
        room = self._experts.max_chars if self._experts and said else 0
        while room:
            experts = cast("ExpertService", self._experts)
            reports = with_room(said, room)
            if not any(report.in_prompt for report in reports):
                break
            if prompt := self._fitting(request, with_context(request.messages, reports, experts.wording)):
                return (prompt,), reports, None
            room //= 2
        return prompts, with_room(said, 0), None

    def _fitting(self, request: ChatRequest, messages: Sequence[ChatMessage]) -> tuple[int, ...]:
        """Return the prompt of messages with a context, its tokens reserved, or nothing when it does not fit."""
        try:
            prompt = self._prompts.build(request, messages)
            self._reserve(request, [prompt])
        except (InvalidRequest, Overloaded):
            return ()
        return prompt

    def _reserve(self, request: ChatRequest, prompts: Sequence[Sequence[int]]) -> None:
        """Count the tokens of an admitted request. Raises `Overloaded` beyond the bound."""
        limit = self._config.max_tokens_in_flight
        if limit is None:
            return
        wanted = request.num_choices * sum(len(prompt) + request.sampling.max_tokens for prompt in prompts)
        if wanted > limit:
            raise InvalidRequest(
                f"the prompt and the tokens asked for are {wanted} tokens in all; at most {limit} may be in flight "
                "(max_tokens_in_flight); ask for fewer",
                param="max_completion_tokens",
            )
        in_flight = sum(self._reserved_tokens.values()) - self._reserved_tokens.get(request.request_id, 0)
        if in_flight + wanted > limit:
            raise Overloaded(f"{in_flight} of {limit} tokens are in flight (max_tokens_in_flight); try again soon")
        self._reserved_tokens[request.request_id] = wanted

    def _generate(self, request: DecodeRequest) -> AsyncGenerator[TokenEvent, None]:
        return cast("AsyncGenerator[TokenEvent, None]", self._backend.generate(request))
