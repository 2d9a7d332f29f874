"""Ask the experts of one request in parallel, each within its time, and keep what they said about a medium.

An expert never fails the request: what went wrong is reported beside the others' texts.
"""

from __future__ import annotations

import asyncio
import time
from collections import OrderedDict
from collections.abc import Sequence
from dataclasses import dataclass, replace

from core.errors import AppError, ConfigError, InvalidRequest
from core.telemetry import EventLog, Measurements
from core.types import MediaBlob
from engine.encoding.medium import MediaDecoder
from engine.encoding.sharing import SharedWork
from engine.experts import EXPERTS, Expert, ExpertContext, ExpertMedium, Reading
from engine.experts.cleaning import cleaned
from engine.experts.decoding import EncodeDecoded, RequestDecoding
from models.mini.attribute_words import Attributes
from models.nanodet.detector import FoundObject

PARAM = "bind.experts"
MAX_MEMO_CHARS = 4_000_000
OBJECT_CHARS = 300  # what one found object takes, as text
MAX_TEXT_CHARS = 100_000  # of one expert on one medium, before the prompt takes its share
MemoKey = tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ExpertReport:
    """What became of one expert on one medium, counted from 0 among those in scope; `text` is cleaned.

    `in_prompt` is the part of it that joined the prompt. `objects` are those it speaks of, with their places. `error`
    is a sentence when there is no text for a reason. `attributes` are those of its `Reading`.
    """

    expert: str
    medium: int
    modality: str
    text: str = ""
    in_prompt: str = ""
    objects: tuple[FoundObject, ...] = ()
    attributes: Attributes | None = None
    error: str | None = None
    elapsed_ms: float = 0.0
    from_memo: bool = False


class ExpertService:
    """Own the experts that can be built here. Raises `ConfigError` when one that runs by default cannot.

    `starts_decoder`: nobody else does, so it is started with the first request that has experts.
    """

    def __init__(
        self,
        context: ExpertContext,
        special_texts: Sequence[str],
        decoder: MediaDecoder,
        *,
        starts_decoder: bool = False,
        measurements: Measurements,
    ) -> None:
        self._decoder = decoder
        self._starts_decoder = asyncio.Lock() if starts_decoder else None
        self._has_started_decoder = False
        self._options = context.options
        self._special_texts = tuple(special_texts)
        self._measurements = measurements
        self._log = EventLog("bindchat.experts")
        self._shared: SharedWork[Reading] = SharedWork()
        self._memo = _ReadingMemo(MAX_MEMO_CHARS)
        self._experts: dict[str, Expert] = {}
        self._missing: dict[str, str] = {}
        for name in EXPERTS.names():
            try:
                self._experts[name] = EXPERTS.load(name)(context)
            except ConfigError as error:
                self._missing[name] = error.message
        try:
            self._check(self._options.by_default)
        except InvalidRequest as error:
            raise ConfigError(error.message, param="experts_by_default") from None

    @property
    def max_chars(self) -> int:
        return self._options.max_chars

    @property
    def names(self) -> tuple[str, ...]:
        """Return what a request may name."""
        return tuple(self._experts)

    async def stop(self) -> None:
        if self._has_started_decoder:
            await self._decoder.stop()
        for expert in self._experts.values():
            await expert.stop()

    def choose(
        self, asked: Sequence[str] | None, media: Sequence[MediaBlob], *, unasked: Sequence[str] = ()
    ) -> list[tuple[str, int]]:
        """Return which expert reads which medium: those asked for, or those that run by default, in that order.

        `unasked` join the latter: what the question calls for.
        Raises `InvalidRequest` for a name that is unknown, not installed, or has no medium here to read.
        """
        names = tuple(dict.fromkeys((*self._options.by_default, *unasked) if asked is None else asked))
        self._check(names)
        pairs = []
        for name in names:
            taken = self._experts[name].modalities
            places = [place for place, blob in enumerate(media) if blob.modality in taken]
            if asked is not None and not places:
                reads = ", ".join(sorted(str(modality) for modality in taken))
                raise InvalidRequest(
                    f"the expert {name} reads {reads}, and the media in scope have none; leave it out of {PARAM}",
                    param=PARAM,
                )
            pairs += [(name, place) for place in places]
        return pairs

    async def decoding(
        self, pairs: Sequence[tuple[str, int]], media: Sequence[MediaBlob], encode: EncodeDecoded
    ) -> RequestDecoding:
        """Return the decoding and encoding that the experts of a request share with its encoder."""
        if self._starts_decoder is not None:
            async with self._starts_decoder:
                if not self._has_started_decoder:
                    await self._decoder.start()
                    self._has_started_decoder = True
        read = [media[at] for name, at in pairs if self._experts[name].reads_details]
        return RequestDecoding(self._decoder, encode, read)

    async def ask(
        self, pairs: Sequence[tuple[str, int]], media: Sequence[MediaBlob], decoding: RequestDecoding, tenant: str
    ) -> list[ExpertReport]:
        """Return one report per pair, in order. Cancelling the call ends them all."""
        tasks = [asyncio.ensure_future(self._report(name, place, media, decoding, tenant)) for name, place in pairs]
        try:
            return list(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def wording(self, name: str) -> tuple[str, str]:
        """Return what stands before an expert's text, with `{medium}` still in it, and after the question."""
        return self._experts[name].heading, self._experts[name].instruction

    def _check(self, names: Sequence[str]) -> None:
        for name in names:
            if name in self._missing:
                raise InvalidRequest(self._missing[name], param=PARAM)
            if name not in self._experts:
                known = ", ".join(self._experts) or "none is installed"
                raise InvalidRequest(f"there is no expert {name[:40]!r}; experts: {known}", param=PARAM)

    async def _report(
        self, name: str, place: int, media: Sequence[MediaBlob], decoding: RequestDecoding, tenant: str
    ) -> ExpertReport:
        blob, expert = media[place], self._experts[name]
        report = ExpertReport(expert=name, medium=place, modality=str(blob.modality))
        key = (expert.expert_id, tenant, str(blob.modality), blob.container, blob.sha256, str(blob.sampling))
        if (known := self._memo.get(key)) is not None:
            return replace(report, text=known.text, objects=known.objects, attributes=known.attributes, from_memo=True)
        decode = decoding.for_expert if expert.reads_details else decoding.for_encoder
        medium = ExpertMedium(
            blob=blob, tenant=tenant, decode=lambda: decode(blob), encode=lambda: decoding.encode(blob)
        )
        started_s = time.perf_counter()
        reading, error = Reading(text=""), None
        with self._measurements.timed("expert", expert=name):
            try:
                async with asyncio.timeout(self._options.timeout_s):
                    reading = await self._shared.run(key, lambda: self._read(expert, medium))
                self._memo.put(key, reading)
            except TimeoutError:
                error = f"took longer than {self._options.timeout_s:g} s (expert_timeout_s) and was stopped"
            except AppError as refusal:
                error = refusal.message
            except Exception as fault:  # whatever an expert's library raises, the chat goes on without it
                self._log.fault("expert_failed", fault, expert=name)
                error = "failed for a reason of its own; the log has the details"
        elapsed_ms = round((time.perf_counter() - started_s) * 1000, 3)
        report = replace(report, text=reading.text, objects=reading.objects, attributes=reading.attributes)
        return replace(report, error=error, elapsed_ms=elapsed_ms)

    async def _read(self, expert: Expert, medium: ExpertMedium) -> Reading:
        reading = await expert.read(medium)
        text = await asyncio.to_thread(cleaned, reading.text[:MAX_TEXT_CHARS], self._special_texts)
        return replace(reading, text=text)


class _ReadingMemo:
    """Readings by key, the least recently used dropped beyond `max_chars`; used in the event loop's thread only."""

    def __init__(self, max_chars: int) -> None:
        self._max_chars = max_chars
        self._num_chars = 0
        self._readings: OrderedDict[MemoKey, Reading] = OrderedDict()

    def get(self, key: MemoKey) -> Reading | None:
        reading = self._readings.get(key)
        if reading is not None:
            self._readings.move_to_end(key)
        return reading

    def put(self, key: MemoKey, reading: Reading) -> None:
        self._num_chars += _num_chars(reading) - _num_chars(self._readings.pop(key, None))
        self._readings[key] = reading
        while self._num_chars > self._max_chars or len(self._readings) > self._max_chars // 1000:
            self._num_chars -= _num_chars(self._readings.popitem(last=False)[1])


def _num_chars(reading: Reading | None) -> int:
    """Count an object as much as the characters that take as much memory."""
    return len(reading.text) + OBJECT_CHARS * len(reading.objects) if reading else 0
