"""From a checked body and its files to the `ChatRequest` the engine takes."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from core.errors import InvalidRequest, MediaTooLarge, PromptTooLong, UnknownName
from core.types import ChatMessage, ChatRequest, MediaBlob, Role, SamplingParams, ToolCall
from server.forms import UploadedFile
from server.media_reader import MediaReader, ReadFile
from server.schemas.chat import ChatCompletionBody, Message
from server.schemas.parts import MediaPart
from server.schemas.tools import asked_tools
from server.token_preferences import token_preferences

if TYPE_CHECKING:
    from engine.intake import MediaIntake
    from engine.pipeline import ModelDescription, Pipeline

MAX_TEMPLATE_TOKENS = 32  # what a chat template may add around one turn; a token of text holds at least one byte


@dataclass(frozen=True, slots=True, kw_only=True)
class ChatLimits:
    """What one chat request may ask for, and what it gets when it does not say."""

    max_choices: int
    max_messages: int
    max_prompt_chars: int
    default_max_tokens: int
    default_temperature: float
    default_top_p: float
    max_timeout_s: float


class ChatRequestBuilder:
    """Check a body against the model and the limits, and take its media in."""

    def __init__(
        self,
        pipeline: Pipeline,
        intake: MediaIntake,
        limits: ChatLimits,
        read_file: ReadFile | None = None,
        *,
        tenant: str = "",
    ) -> None:
        self._pipeline = pipeline
        self._tenant = tenant
        self._intake = intake
        self._limits = limits
        self._read_file = read_file

    async def build(self, body: ChatCompletionBody, files: Sequence[UploadedFile], *, request_id: str) -> ChatRequest:
        """Return the request for the engine.

        Raises `UnknownName` for the model, `InvalidRequest` for a value out of range, and what the intake raises for
        a medium. Cheap checks come first, so a refused request costs no decoding of base64.
        """
        model = self.model_named(body.model)
        self._check_counts(body, files)
        deadline_s = self._deadline_s(body.timeout_s)
        num_choices = self._num_choices(body)
        sampling = self._sampling(body, model)
        messages = await self._messages(body, files, model)
        request = ChatRequest(
            request_id=request_id,
            model=model.name,
            messages=messages,
            sampling=sampling,
            num_choices=num_choices,
            scope=body.bind.scope if body.bind else "latest",
            stream=bool(body.stream),
            tools=asked_tools(body.tools or (), body.tool_choice)[0],
            cache=body.bind.cache_choice if body.bind else None,
            experts=tuple(body.bind.experts) if body.bind and body.bind.experts is not None else None,
            tenant=self._tenant,
            priority=body.priority or 0,
            deadline_s=deadline_s,
        )
        names_no_limit = body.max_tokens is None and body.max_completion_tokens is None
        return self._fit_default_limit(request, model) if names_no_limit else request

    def model_named(self, name: str | None) -> ModelDescription:
        """Return the model asked for, the only one when none is named. Raises `UnknownName` listing the known ones."""
        served = {model.name: model for model in self._pipeline.describe()}
        if name is None and len(served) == 1:
            return next(iter(served.values()))
        if name not in served:
            raise UnknownName(
                f"there is no model {(name or '')[:80]!r}; models: {', '.join(sorted(served))}",
                param="model",
                code="model_not_found",
            )
        return served[name]

    def _check_counts(self, body: ChatCompletionBody, files: Sequence[UploadedFile]) -> None:
        if len(body.messages) > self._limits.max_messages:
            raise InvalidRequest(
                f"{len(body.messages)} messages; at most {self._limits.max_messages} are read", param="messages"
            )
        num_chars = sum(len(message.text) for message in body.messages)
        if num_chars > self._limits.max_prompt_chars:
            raise PromptTooLong(
                f"the messages hold {num_chars} characters; at most {self._limits.max_prompt_chars} are read",
                param="messages",
            )
        max_parts = self._intake.limits.max_parts
        num_media = len(files) + sum(isinstance(part, MediaPart) for m in body.messages for part in m.content)
        if num_media > max_parts:
            raise MediaTooLarge(
                f"{num_media} media in one request; at most {max_parts} are taken",
                param="messages",
                code="too_many_media",
            )

    def _deadline_s(self, timeout_s: float | None) -> float | None:
        """Return when the reply must be over, by `time.monotonic`; None leaves it to the server's own limit."""
        if timeout_s is None:
            return None
        if timeout_s > self._limits.max_timeout_s:
            raise InvalidRequest(
                f"timeout_s must be at most {self._limits.max_timeout_s:g} (request_timeout_s), got {timeout_s:g}",
                param="timeout_s",
            )
        return time.monotonic() + timeout_s

    def _num_choices(self, body: ChatCompletionBody) -> int:
        num_choices = 1 if body.n is None else body.n
        if not 1 <= num_choices <= self._limits.max_choices:
            raise InvalidRequest(f"n must be in [1, {self._limits.max_choices}], got {num_choices}", param="n")
        return num_choices

    def _sampling(self, body: ChatCompletionBody, model: ModelDescription) -> SamplingParams:
        limits = self._limits
        return SamplingParams(
            max_tokens=self._max_tokens(body, model),
            temperature=limits.default_temperature if body.temperature is None else body.temperature,
            top_p=limits.default_top_p if body.top_p is None else body.top_p,
            top_k=body.top_k or 0,
            min_p=body.min_p or 0.0,
            seed=body.seed,
            stop=tuple(body.stop or ()),
            ignore_eos=bool(body.ignore_eos),
            **token_preferences(body),
        )

    def _max_tokens(self, body: ChatCompletionBody, model: ModelDescription) -> int:
        old_name, new_name = body.max_tokens, body.max_completion_tokens
        if old_name is not None and new_name is not None and old_name != new_name:
            raise InvalidRequest(
                f"max_tokens is {old_name} and max_completion_tokens is {new_name}; send one of them",
                param="max_tokens",
            )
        asked = new_name if new_name is not None else old_name
        if asked is None:
            return min(self._limits.default_max_tokens, model.max_context)
        if not 1 <= asked <= model.max_context:
            param = "max_tokens" if new_name is None else "max_completion_tokens"
            raise InvalidRequest(f"{param} must be in [1, {model.max_context}], got {asked}", param=param)
        return asked

    def _fit_default_limit(self, request: ChatRequest, model: ModelDescription) -> ChatRequest:
        """Lower a limit the client did not choose to what the prompt leaves; only long prompts are counted twice."""
        most_tokens = sum(len(turn.text.encode()) + MAX_TEMPLATE_TOKENS for turn in request.messages)
        if request.tools or any(turn.tool_calls for turn in request.messages):
            most_tokens = model.max_context  # the template writes more than the texts
        if most_tokens + request.sampling.max_tokens <= model.max_context:
            return request
        room = max(1, model.max_context - self._pipeline.count_prompt_tokens(request))
        return replace(request, sampling=replace(request.sampling, max_tokens=min(request.sampling.max_tokens, room)))

    async def _messages(
        self, body: ChatCompletionBody, files: Sequence[UploadedFile], model: ModelDescription
    ) -> tuple[ChatMessage, ...]:
        last_user = max((i for i, message in enumerate(body.messages) if message.role == "user"), default=None)
        if files and last_user is None:
            raise InvalidRequest("files join the last user message, and there is none; add one", param="messages")
        reader = MediaReader(
            self._intake, model=model.name, modalities=model.media_modalities, read_file=self._read_file
        )
        uploads = await reader.uploads(files)
        turns: list[ChatMessage] = []
        for index, message in enumerate(body.messages):
            media = await _media(message, f"messages[{index}]", reader)
            if index == last_user:
                media += uploads
            calls = tuple(
                ToolCall(name=call.function.name, arguments=call.function.arguments)
                for call in message.tool_calls or ()
            )
            turns.append(
                ChatMessage(role=_engine_role(message), text=message.text, media=tuple(media), tool_calls=calls)
            )
        return tuple(turns)


async def _media(message: Message, path: str, reader: MediaReader) -> list[MediaBlob]:
    blobs = []
    for index, part in enumerate(message.content):
        if not isinstance(part, MediaPart):
            continue
        param = f"{path}.content[{index}]"
        if message.role != "user":
            raise InvalidRequest(f"{param}: media belong in user messages, not in {message.role}", param=param)
        blobs.append(await reader.part(part, param=param))
    return blobs


def _engine_role(message: Message) -> Role:
    return "system" if message.role == "developer" else message.role
