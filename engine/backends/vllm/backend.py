"""`DecoderBackend` over vLLM's asynchronous engine, which runs in processes of its own."""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch

from core.errors import DeadlineExceeded, EngineFault, InvalidRequest, NotReady, Overloaded
from core.telemetry import EventLog
from core.types import AdapterPrompt, BackendStats, Condition, DecodeRequest, FinishReason, TokenEvent, TokenUsage
from engine.backends import DecodingConfig
from engine.backends.native.conditions import ConditionSlots
from engine.backends.vllm import payload
from engine.backends.vllm.cores import cores_shared
from engine.backends.vllm.folder import has_tokenizer, write_folder
from engine.backends.vllm.plugin import ROW_TRACKER, check_version
from engine.backends.vllm.sampling import grammar_fields, sampling_fields
from engine.decoding.text_stream import TextStream
from engine.prompting import check_length
from models.bundle import ModelBundle

if TYPE_CHECKING:
    from vllm.v1.engine.async_llm import AsyncLLM


def build_vllm(bundle: ModelBundle, config: DecodingConfig) -> VllmBackend:
    """Build the backend. Raises `ConfigError` without a vLLM of the tested range."""
    check_version()
    return VllmBackend(bundle, config.within(bundle.decoder.config), EventLog("engine"))


class VllmBackend:
    """Serve one model by vLLM. The bundle's own decoder only projects conditions."""

    def __init__(self, bundle: ModelBundle, config: DecodingConfig, log: EventLog) -> None:
        self._bundle = bundle
        self._config = config
        self._log = log
        self._engine: AsyncLLM | None = None
        self._folder: tempfile.TemporaryDirectory[str] | None = None
        self._has_tokenizer = False
        self._projector = ConditionSlots(bundle.decoder, num_slots=1)
        self._projecting = asyncio.Lock()
        self._live: set[str] = set()
        self._num_tokens = 0
        self._num_steps = 0
        self._lora: Any = None

    async def start(self) -> None:
        """Write the model where vLLM reads it and start the engine's processes."""
        self._folder = tempfile.TemporaryDirectory(prefix="bindchat-vllm-")
        folder = await asyncio.to_thread(write_folder, self._bundle, Path(self._folder.name))
        self._has_tokenizer = has_tokenizer(folder)
        self._engine = await asyncio.to_thread(self._start_engine, folder)

    async def stop(self) -> None:
        """End the engine's processes; live requests end with `NotReady`."""
        engine, self._engine = self._engine, None
        if engine is not None:
            await asyncio.to_thread(engine.shutdown)
        if self._folder is not None:
            self._folder.cleanup()

    async def generate(self, request: DecodeRequest) -> AsyncIterator[TokenEvent]:
        """Yield events until one carries `finish`; closing the iterator aborts the request in vLLM."""
        engine = self._check(request)
        grammar = request.sampling.grammar
        guided = None if grammar is None else grammar_fields(grammar, has_tokenizer=self._has_tokenizer)
        self._live.add(request.request_id)
        try:
            prompt, params = self._prompt(request, await self._payload(request.condition), guided)
            async for event in self._events(engine, request, prompt, params):
                yield event
                if event.finish is not None:
                    return
        finally:
            self._live.discard(request.request_id)

    def abort(self, request_id: str) -> None:
        """End a request with a `finish="abort"` event."""
        if self._engine is not None and request_id in self._live:
            task = asyncio.get_running_loop().create_task(self._engine.abort(request_id))
            task.add_done_callback(lambda done: done.exception())

    def stats(self) -> BackendStats:
        return BackendStats(
            slots_total=self._config.max_slots,
            slots_in_use=min(len(self._live), self._config.max_slots),
            queue_length=max(0, len(self._live) - self._config.max_slots),
            num_steps=self._num_steps,
            num_tokens=self._num_tokens,
        )

    def _check(self, request: DecodeRequest) -> AsyncLLM:
        """Return the running engine. Raises what every backend raises before the first event."""
        if self._engine is None:
            raise NotReady("the engine is starting or stopping; try again soon")
        if not request.token_ids:
            raise InvalidRequest("the prompt has no tokens; send at least one", param="messages")
        if request.request_id in self._live:
            raise InvalidRequest(f"the request id {request.request_id} is in use", param="request_id")
        check_length(len(request.token_ids), request.sampling.max_tokens, self._config.max_context)
        limit = self._config.max_slots + self._config.max_queue
        if len(self._live) >= limit:
            raise Overloaded(f"{len(self._live)} of {limit} sequences are in flight; try again soon")
        return self._engine

    async def _payload(self, condition: Condition) -> tuple[dict[str, str], str] | None:
        """Project a condition once, away from the event loop."""
        if condition is None:
            return None
        async with self._projecting:
            return await asyncio.to_thread(self._project, condition)

    @torch.no_grad()
    def _project(self, condition: AdapterPrompt) -> tuple[dict[str, str], str]:
        return payload.pack(self._projector.project(condition))

    def _prompt(
        self, request: DecodeRequest, packed: tuple[dict[str, str], str] | None, guided: dict[str, Any] | None
    ) -> tuple[dict[str, Any], Any]:
        from vllm import SamplingParams
        from vllm.sampling_params import RequestOutputKind, StructuredOutputsParams

        prompt: dict[str, Any] = {"prompt_token_ids": list(request.token_ids)}
        fields = sampling_fields(request, self._bundle.tokenizer.eos_token_ids)
        salt = request.tenant
        if packed is not None:
            fields["extra_args"], condition_salt = packed
            salt = f"{salt}/{condition_salt}"
        if salt:  # cached blocks are shared within one tenant and one condition only
            prompt["cache_salt"] = salt
        if guided is not None:
            fields["structured_outputs"] = StructuredOutputsParams(**guided)
        return prompt, SamplingParams(output_kind=RequestOutputKind.DELTA, **fields)

    async def _events(
        self, engine: AsyncLLM, request: DecodeRequest, prompt: dict[str, Any], params: Any
    ) -> AsyncIterator[TokenEvent]:
        reply = _Reply(self._bundle, request)
        order = {"lora_request": self._lora, "priority": request.priority}
        stream = engine.generate(prompt, params, request.request_id, **order)
        try:
            while not reply.ended:
                async with asyncio.timeout_at(request.deadline_s):  # the loop's clock is time.monotonic
                    events = reply.take(await anext(stream))
                self._num_steps += 1
                self._num_tokens += len(events)
                for event in events:
                    yield event
        except TimeoutError as error:
            raise DeadlineExceeded("the request ran out of its time while its reply was generated") from error
        except (InvalidRequest, asyncio.CancelledError, GeneratorExit):
            raise
        except Exception as error:  # the engine's processes are gone, or vLLM refused what we let through
            self._log.fault("vllm_failed", error, request_id=request.request_id)
            raise EngineFault("the engine failed on this request; the log has the details") from error
        finally:
            await stream.aclose()

    def _start_engine(self, folder: Path) -> AsyncLLM:
        from vllm import AsyncEngineArgs
        from vllm.v1.engine.async_llm import AsyncLLM

        from engine.backends.vllm.plugin import register

        register()
        options, config = self._config.vllm, self._config
        arguments: dict[str, Any] = {
            "model": str(folder),
            "dtype": str(self._bundle.decoder.tok_embeddings.weight.dtype).removeprefix("torch."),
            "skip_tokenizer_init": not self._has_tokenizer,
            "max_model_len": config.max_context,
            "max_num_seqs": config.max_slots,
            "max_logprobs": 20,
            "tensor_parallel_size": options.tensor_parallel_size,
            "pipeline_parallel_size": options.pipeline_parallel_size,
            "quantization": options.quantization,
            "gpu_memory_utilization": options.gpu_memory_share,
            "kv_cache_memory_bytes": options.kv_cache_bytes,
            "max_num_batched_tokens": options.max_batched_tokens,
            "block_size": options.block_size,
            "enable_prefix_caching": options.prefix_caching,
            "enforce_eager": options.eager,
            "disable_log_stats": True,
            "scheduling_policy": "priority",
        }
        on_cpu = not torch.cuda.is_available()
        if on_cpu:  # the V1 runner, which needs the row tracker
            arguments["logits_processors"] = [ROW_TRACKER]
        if options.lora_folder is not None:
            from vllm.lora.request import LoRARequest

            self._lora = LoRARequest("operator", 1, options.lora_folder)
            arguments |= {"enable_lora": True, "max_loras": 1, "max_lora_rank": 64}
        chosen = {name: value for name, value in arguments.items() if value is not None}
        with cores_shared(options.tensor_parallel_size * options.pipeline_parallel_size if on_cpu else 1):
            return AsyncLLM.from_engine_args(AsyncEngineArgs(**chosen))


class _Reply:
    """Turn vLLM's outputs of one request into our events."""

    def __init__(self, bundle: ModelBundle, request: DecodeRequest) -> None:
        sampling = request.sampling
        self._ends = sampling.stop_token_ids | (frozenset() if sampling.ignore_eos else bundle.tokenizer.eos_token_ids)
        continues = request.continues_text or sampling.grammar is not None
        self._text = TextStream(bundle.tokenizer, sampling.stop, continues_text=continues)
        self._num_logprobs = sampling.num_logprobs
        self._num_prompt_tokens = len(request.token_ids)
        self._num_tokens = 0
        self.ended = False

    def take(self, output: Any) -> list[TokenEvent]:
        """Return the events of one output; `ended` turns True with the one that carries `finish`."""
        completion = output.outputs[0]
        events: list[TokenEvent] = []
        token_ids = list(completion.token_ids)
        for place, token_id in enumerate(token_ids):
            is_last = place == len(token_ids) - 1
            ended = is_last and completion.finish_reason is not None
            reason = _finish(completion.finish_reason) if ended else None
            events.append(self._event(token_id, completion.logprobs and completion.logprobs[place], reason))
            if self.ended:
                return events
        if not token_ids and completion.finish_reason is not None:
            events.append(self._last(-1, self._text.flush(), 0.0, _finish(completion.finish_reason)))
        return events

    def _event(self, token_id: int, logprobs: Any, reason: FinishReason | None) -> TokenEvent:
        self._num_tokens += 1
        logprob = float(logprobs[token_id].logprob) if logprobs else 0.0
        if reason == "stop" and token_id in self._ends:
            return self._last(token_id, self._text.flush(), logprob, "stop")
        text = self._text.push(token_id)
        if self._text.stopped:
            reason = "stop"
        if reason is not None and not self._text.stopped:
            text += self._text.flush()
        details: dict[str, Any] = {}
        if self._num_logprobs is not None:
            ranked = sorted(logprobs.items(), key=lambda item: -item[1].logprob)[: self._num_logprobs]
            details["drawn"] = self._text.describe(token_id, logprob)
            details["most_likely"] = tuple(self._text.describe(i, float(entry.logprob)) for i, entry in ranked)
        if reason is None:
            return TokenEvent(token_id=token_id, text=text, logprob=logprob, **details)
        return self._last(token_id, text, logprob, reason, **details)

    def _last(self, token_id: int, text: str, logprob: float, reason: FinishReason, **details: Any) -> TokenEvent:
        self.ended = True
        usage = TokenUsage(prompt_tokens=self._num_prompt_tokens, completion_tokens=self._num_tokens)
        return TokenEvent(token_id=token_id, text=text, logprob=logprob, finish=reason, usage=usage, **details)


def _finish(reason: str) -> FinishReason:
    match reason:
        case "stop" | "length" | "abort":
            return reason
        case _:
            raise EngineFault(f"the engine ended the request with {reason!r}")
