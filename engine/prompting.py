"""Messages to the prompt's token ids, and the media that condition the reply. Nothing is ever cut."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import replace

from core.errors import PromptTooLong
from core.types import BindScope, ChatMessage, ChatRequest, Condition, DecodeRequest, MediaBlob, Tokenizer
from engine.tool_prompt import turns_with_tools
from models.bundle import ModelBundle

_NUM_KEY_TOKENS = 32  # of a raw prompt: what continues a text begins like it


class PromptBuilder:
    """Render chat requests for one model with its own chat template."""

    def __init__(self, bundle: ModelBundle, *, max_context: int) -> None:
        self._plain: Tokenizer = bundle.tokenizer
        self._conditioned = bundle.conditioned_tokenizer or bundle.tokenizer
        self._media_questions = bundle.media_questions
        self._conditions_context = bundle.conditions_context
        self.max_context = max_context

    def token_ids(self, request: ChatRequest, messages: Sequence[ChatMessage] | None = None) -> tuple[int, ...]:
        """Return the prompt up to where the assistant's turn begins, of any length.

        A request without media, or one that asks for something else, renders exactly as the base model's template says.
        `messages` are those of the request with the texts of experts in them.
        """
        is_conditioned = self.is_conditioned(request, with_context=messages is not None)
        tokenizer = self._conditioned if is_conditioned else self._plain
        turns, tools = turns_with_tools(tokenizer, request.messages if messages is None else messages, request.tools)
        return tuple(tokenizer.apply_chat_template(turns, tools))

    def is_conditioned(self, request: ChatRequest, *, with_context: bool = False) -> bool:
        """Say whether media condition the reply: there are some, and the last question of the user concerns them.

        `with_context`: experts' texts are in the prompt, beside which not every adapter conditions.
        """
        media = media_in_scope(request.messages, request.scope)
        if not media or (with_context and not self._conditions_context):
            return False
        question, questions = last_question(request.messages), self._media_questions
        return questions is None or questions.concerns_media(question, are_several=len(media) > 1)

    def build(self, request: ChatRequest, messages: Sequence[ChatMessage] | None = None) -> tuple[int, ...]:
        """Return the prompt's ids. Raises `PromptTooLong` when they and the tokens asked for exceed the context."""
        token_ids = self.token_ids(request, messages)
        check_length(len(token_ids), request.sampling.max_tokens, self.max_context)
        return token_ids

    def build_each(self, request: ChatRequest) -> tuple[tuple[int, ...], ...]:
        """Return the ids of the chat's one prompt, or the raw prompts as they came. Raises what `build` raises."""
        for token_ids in request.raw_prompts:
            check_length(len(token_ids), request.sampling.max_tokens, self.max_context, param="prompt")
        return request.raw_prompts or (self.build(request),)

    def encode(self, text: str, *, add_special_tokens: bool = True) -> tuple[int, ...]:
        """Return the ids of ordinary text, by default after what the model expects before every sequence."""
        token_ids = self._plain.encode(text)
        return tuple(token_ids if add_special_tokens else token_ids[len(self._plain.encode("")) :])

    def decode(self, token_ids: Sequence[int]) -> str:
        """Return the text of `token_ids`; special tokens are left out."""
        return self._plain.decode(token_ids)


def last_question(messages: Sequence[ChatMessage]) -> str:
    """Return the text of the user's last message, empty without one."""
    return next((message.text for message in reversed(messages) if message.role == "user"), "")


def with_last_question(messages: Sequence[ChatMessage], text: str) -> tuple[ChatMessage, ...]:
    """Return the messages with another text for the user's last one; as they are without one."""
    place = max((place for place, message in enumerate(messages) if message.role == "user"), default=None)
    if place is None:
        return tuple(messages)
    return (*messages[:place], replace(messages[place], text=text), *messages[place + 1 :])


def media_in_scope(messages: Sequence[ChatMessage], scope: BindScope) -> tuple[MediaBlob, ...]:
    """Return the media that condition the reply: all, or those of the latest user message that has any."""
    if scope == "all":
        return tuple(blob for message in messages for blob in message.media)
    with_media = (message.media for message in reversed(messages) if message.role == "user" and message.media)
    return next(with_media, ())


def decode_requests(
    request: ChatRequest, prompts: Sequence[tuple[int, ...]], condition: Condition
) -> list[DecodeRequest]:
    """Return one decode request per reply, those of one prompt together; choice i of each draws with `seed + i`."""
    seed, conversation = request.sampling.seed, conversation_key(request, condition)
    return [
        DecodeRequest(
            request_id=f"{request.request_id}/{place * request.num_choices + choice}",
            token_ids=token_ids,
            sampling=replace(request.sampling, seed=None if seed is None else seed + choice),
            condition=condition,
            continues_text=bool(request.raw_prompts),
            tenant=request.tenant,
            priority=request.priority,
            deadline_s=request.deadline_s,
            conversation=conversation,
            is_streamed=request.stream,
        )
        for place, token_ids in enumerate(prompts)
        for choice in range(request.num_choices)
    ]


def conversation_key(request: ChatRequest, condition: Condition) -> str:
    """Return what every turn of one conversation has in common: tenant, condition, and all up to the first question.

    Keys and values are reused under the same tenant and condition only. Raw prompts count by their first tokens.
    """
    users = (place for place, message in enumerate(request.messages) if message.role == "user")
    opening = request.messages[: next(users, len(request.messages)) + 1]
    digest = hashlib.sha256(
        repr(
            (
                request.tenant,
                [(message.role, message.text) for message in opening],
                request.tools,
                [prompt[:_NUM_KEY_TOKENS] for prompt in request.raw_prompts],
            )
        ).encode()
    )
    if condition is not None:
        digest.update(condition.prompts.tobytes())
    return digest.hexdigest()


def check_length(num_prompt_tokens: int, max_tokens: int, max_context: int, *, param: str = "messages") -> None:
    """Raise `PromptTooLong` with the three numbers when prompt and reply do not fit the context together."""
    if num_prompt_tokens + max_tokens > max_context:
        raise PromptTooLong(
            f"the prompt has {num_prompt_tokens} tokens and max_completion_tokens is {max_tokens}, together more than "
            f"the context of {max_context} tokens; shorten the {param} or ask for fewer tokens",
            param=param,
        )
