"""The front of the step loop: admits requests, streams their events, and ends each exactly once."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Iterable

from core.errors import AppError, InvalidRequest
from core.telemetry import EventLog
from core.types import BackendStats, DecodeRequest, TokenEvent, Tokenizer
from engine.backends import DecodingConfig
from engine.backends.native.channel import Channel
from engine.backends.native.loop import StepLoop
from engine.backends.native.runner import NativeRunner
from engine.backends.native.scheduler import Runner, Scheduler, TokenSequence
from engine.decoding.grammar import GrammarCompiler, OutputGuide
from engine.decoding.text_stream import TextStream
from engine.prompting import check_length
from models.bundle import ModelBundle


def build_native(bundle: ModelBundle, config: DecodingConfig) -> BatchingBackend:
    """Build the native backend for one model."""
    config = config.within(bundle.decoder.config)
    runner = NativeRunner(bundle.decoder.to(config.device), config)
    return BatchingBackend(runner=runner, tokenizer=bundle.tokenizer, config=config, log=EventLog("engine"))


class BatchingBackend:
    """A `DecoderBackend` that runs a `Runner` in one dedicated thread."""

    def __init__(self, *, runner: Runner, tokenizer: Tokenizer, config: DecodingConfig, log: EventLog) -> None:
        self._runner = runner
        self._tokenizer = tokenizer
        self._grammars = GrammarCompiler(tokenizer)
        self._config = config
        scheduler = Scheduler(runner, config)
        self._loop = StepLoop(scheduler, runner, log=log, config=config)
        self._thread = threading.Thread(target=self._loop.run, name="decoder", daemon=True)

    async def start(self) -> None:
        self._thread.start()
        await asyncio.to_thread(self._loop.prepared.wait)
        self._loop.start_accepting()

    async def stop(self) -> None:
        """End every live request with `NotReady`, then the thread."""
        self._loop.stop()
        self._grammars.close()
        if self._thread.ident is not None:
            await asyncio.to_thread(self._thread.join)

    async def generate(self, request: DecodeRequest) -> AsyncIterator[TokenEvent]:
        """Yield events until one carries `finish`. Closing the iterator returns once the slot is free.

        Raises before the first event: `PromptTooLong`, `InvalidRequest` for an empty prompt or an id in use,
        `Overloaded` when slots and queue are taken, `NotReady` before start and after stop.
        """
        self._check(request)
        grammar = request.sampling.grammar
        channel = self._submit(request, None if grammar is None else await self._grammars.guide(grammar))
        ended = False
        try:
            while not ended:
                item = await channel.get()
                if isinstance(item, AppError):
                    ended = True
                    raise item
                ended = item.finish is not None
                yield item
        finally:
            if not ended:
                self.abort(request.request_id)
                await channel.wait_until_ended()

    def abort(self, request_id: str) -> None:
        """End a request at the next step with a `finish="abort"` event; unknown ids are already over."""
        self._loop.abort(request_id)

    def stats(self) -> BackendStats:
        return self._loop.stats(self._config.max_slots, self._config.max_context)

    def _submit(self, request: DecodeRequest, guide: OutputGuide | None) -> Channel:
        channel = Channel()
        continues_text = request.continues_text or guide is not None
        text = TextStream(self._tokenizer, request.sampling.stop, continues_text=continues_text)
        sequence = TokenSequence(request, channel, text, self._tokenizer.eos_token_ids, guide=guide)
        self._loop.submit(sequence, max_live=self._config.max_slots + self._config.max_queue)
        return channel

    def _check(self, request: DecodeRequest) -> None:
        if not request.token_ids:
            raise InvalidRequest("the prompt has no tokens; send at least one", param="messages")
        check_length(len(request.token_ids), request.sampling.max_tokens, self._config.max_context)
        self._runner.check(request.sampling)
        self._check_token_ids("logit_bias", (token_id for token_id, _ in request.sampling.logit_bias))
        self._check_token_ids("stop_token_ids", request.sampling.stop_token_ids)

    def _check_token_ids(self, param: str, token_ids: Iterable[int]) -> None:
        last = self._tokenizer.vocab_size - 1
        if (unknown := next((i for i in token_ids if not 0 <= i <= last), None)) is not None:
            raise InvalidRequest(f"{param} names token {unknown}; ids are in [0, {last}]", param=param)
