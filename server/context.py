"""What the endpoints of one app share; built in `server/app.py`, reached through the request."""

from __future__ import annotations

import asyncio
import hashlib
import json
import time
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import TYPE_CHECKING, Any

from starlette.requests import Request

from core.errors import AppError, NotReady, UnknownName
from core.telemetry import EventLog, Measurements
from server import __version__
from server.api_keys import KeyRing
from server.chat_request import ChatLimits, ChatRequestBuilder
from server.choice_stream import ChoiceStream
from server.event_tape import EventTape
from server.media_reader import ReadFile
from server.metrics import ServerMetrics
from server.middleware import Unanswered
from server.settings import Settings
from server.throttle import KeyThrottle
from server.tracing import RequestTracer
from server.uploads import BodyLimits, JsonLimits

if TYPE_CHECKING:  # the engine imports torch; the socket is bound before that
    from engine.batch_journal import BatchJournal
    from engine.classifiers import PictureClassifiers
    from engine.document_store import DocumentStore
    from engine.encoding.caches import VisualCaches
    from engine.file_store import FileStore
    from engine.intake import MediaIntake
    from engine.pipeline import ChoiceEvent, MemoStats, Pipeline, PipelineHealth


@dataclass(frozen=True, slots=True, kw_only=True)
class ModelFacts:
    """What `doctor` prints: the device, the size, and each file of the model with its sha256."""

    device: str = ""
    num_parameters: int = 0
    sources: Mapping[str, str] = field(default_factory=dict)

    @property
    def fingerprint(self) -> str:
        """Return OpenAI's `system_fingerprint`: it changes with the version, the device and every file of the model."""
        text = json.dumps([__version__, self.device, self.num_parameters, dict(self.sources)])
        return f"fp_{hashlib.sha256(text.encode()).hexdigest()[:16]}"


@dataclass(frozen=True, slots=True)
class Service:
    """The loaded part of the server."""

    pipeline: Pipeline
    intake: MediaIntake
    facts: ModelFacts = field(default_factory=ModelFacts)
    files: FileStore | None = None
    stored_documents: DocumentStore | None = None
    journal: BatchJournal | None = None
    caches: VisualCaches | None = None
    measurements: Measurements = field(default_factory=Measurements)
    classifiers: PictureClassifiers | None = None

    @property
    def documents(self) -> DocumentStore:
        """Return the store of responses and batches. Raises `UnknownName` when there is none."""
        if self.stored_documents is None:
            raise UnknownName("this server keeps no responses", code="documents_off")
        return self.stored_documents

    async def stop(self) -> None:
        """End the live requests and close the files."""
        await self.pipeline.stop()
        if self.classifiers is not None:
            await self.classifiers.stop()
        for store in (self.stored_documents, self.journal):
            if store is not None:
                store.close()
        if self.files is not None:
            self.files.close()

    def file_reader(self, owner: str) -> ReadFile | None:
        """Return what reads the files of one API key, None when no files are kept."""
        return None if self.files is None else partial(self.files.read, owner, max_bytes=self.intake.limits.max_bytes)


@dataclass(slots=True)
class AppContext:
    """Settings, metrics, the log, and the service once it is loaded."""

    settings: Settings
    log: EventLog
    loaded: Service | None = None
    load_error: Exception | None = None
    draining: bool = False
    streams: set[ChoiceStream] = field(default_factory=set)
    background: dict[str, asyncio.Task[None]] = field(default_factory=dict)  # by the id of what they work for
    tapes: dict[str, EventTape] = field(default_factory=dict)  # of background responses that are streamed, by id
    metrics: ServerMetrics = field(init=False)
    keys: KeyRing = field(init=False)
    throttle: KeyThrottle = field(init=False)
    unanswered: Unanswered = field(init=False)
    tracer: RequestTracer | None = field(init=False)

    def __post_init__(self) -> None:
        settings = self.settings
        self.unanswered = Unanswered(settings.body_timeout_s + settings.request_timeout_s)
        self.keys = KeyRing(keys=settings.api_keys, admin_keys=settings.admin_keys, file=settings.api_key_file)
        self.tracer = None if settings.otlp_endpoint is None else RequestTracer(settings)
        self.throttle = KeyThrottle(
            requests_per_minute=settings.requests_per_minute, max_concurrent=settings.max_concurrent
        )
        self.metrics = ServerMetrics(self.health, self.memo_stats)

    def health(self) -> PipelineHealth | None:
        """Return the pipeline's health, or None while nothing is loaded."""
        return self.loaded.pipeline.health() if self.loaded else None

    def memo_stats(self) -> MemoStats | None:
        """Return the counters of the memo, None without one or while nothing is loaded."""
        return self.loaded.pipeline.memo_stats() if self.loaded else None

    def service(self) -> Service:
        """Return the service. Raises `NotReady` while the model loads and while the server drains."""
        if self.draining:
            raise NotReady("the server is stopping; send the request to another one")
        if self.load_error is not None:
            raise NotReady("start-up failed; the log says why")
        if self.loaded is None:
            raise NotReady(f"model {self.settings.model} is loading; try again in a moment")
        return self.loaded

    def reload_keys(self) -> None:
        """Read the key file again; when it is wrong, the keys stay and the log says why."""
        try:
            self.keys.reload()
        except AppError as error:
            self.log.fault("keys_not_reloaded", error)
        else:
            self.log.event("keys_reloaded", names=self.keys.names)

    def open_stream(
        self, events: AsyncIterator[ChoiceEvent], on_first: Callable[[], None], deadline_s: float | None = None
    ) -> ChoiceStream:
        """Start a reply that a draining server can still stop; `deadline_s` is on the clock of `time.monotonic`."""
        limit_s = self.settings.request_timeout_s
        stream = ChoiceStream(
            events,
            timeout_s=limit_s if deadline_s is None else min(limit_s, deadline_s - time.monotonic()),
            on_first=on_first,
            on_gap=self.metrics.inter_token_seconds.observe,
        )
        self.streams.add(stream)
        stream.task.add_done_callback(lambda _: self.streams.discard(stream))
        return stream

    def end_requests(self) -> None:
        """End every running request with an honest error: an answer, or the last frame of a stream."""
        for stream in tuple(self.streams):
            stream.stop(NotReady("the server is stopping; the reply is incomplete"))
        self.unanswered.end()

    def forget_background(self, name: str) -> None:
        """Let go of a background task that has ended."""
        self.background.pop(name, None)
        self.tapes.pop(name, None)

    async def end_background(self) -> None:
        """Cancel what runs for nobody's connection, and wait until it has written down where it is."""
        tasks = list(self.background.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks)

    @property
    def watch(self) -> dict[str, Any]:
        """What follows every request, for the middleware."""
        return {"metrics": self.metrics, "log": self.log, "unanswered": self.unanswered, "tracer": self.tracer}

    def body_limits(self, service: Service) -> BodyLimits:
        """Return what one request body may hold."""
        return BodyLimits(
            max_body_bytes=service.intake.limits.max_body_bytes,
            max_file_bytes=service.intake.limits.max_bytes,
            max_files=service.intake.limits.max_parts,
            timeout_s=self.settings.body_timeout_s,
            max_fields=self.settings.max_form_fields,
            json=JsonLimits(max_depth=self.settings.max_json_depth, max_items=self.settings.max_json_items),
        )

    def request_builder(self, service: Service, owner: str = "") -> ChatRequestBuilder:
        """Return the builder of chat requests under this app's limits; `owner` is whose files it may read."""
        limits = ChatLimits(
            max_choices=self.settings.max_choices,
            max_messages=self.settings.max_messages,
            max_prompt_chars=self.settings.max_prompt_chars,
            default_max_tokens=self.settings.default_max_tokens,
            default_temperature=self.settings.default_temperature,
            default_top_p=self.settings.default_top_p,
            max_timeout_s=self.settings.request_timeout_s,
        )
        return ChatRequestBuilder(service.pipeline, service.intake, limits, service.file_reader(owner), tenant=owner)


def context_of(request: Request) -> AppContext:
    """Return the context of the app that received the request."""
    context: AppContext = request.app.state.context
    return context
