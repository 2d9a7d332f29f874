"""The parameters of a body that prefer, forbid or prescribe tokens, in the words of the engine."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from core.errors import InvalidRequest
from core.types import Grammar
from engine.decoding.tool_calls import tool_grammar
from server.schemas.chat import ChatCompletionBody
from server.schemas.output import choice_grammar
from server.schemas.tools import NamedTool, asked_tools


def token_preferences(body: ChatCompletionBody) -> dict[str, Any]:
    """Return fields of `SamplingParams`; ranges are checked there.

    Raises `InvalidRequest` for `top_logprobs` without `logprobs`, for a key of `logit_bias` that is no token id, and
    for two ways to prescribe the reply at once.
    """
    repetition_penalty = body.repetition_penalty
    return {
        "num_logprobs": _num_logprobs(body),
        "scores_prompt": body.scores_prompt,
        "frequency_penalty": body.frequency_penalty or 0.0,
        "presence_penalty": body.presence_penalty or 0.0,
        "repetition_penalty": 1.0 if repetition_penalty is None else repetition_penalty,
        "logit_bias": _logit_bias(body.logit_bias or {}),
        "min_tokens": body.min_tokens or 0,
        "stop_token_ids": frozenset(body.stop_token_ids or ()),
        "grammar": _grammar(body),
    }


def _grammar(body: ChatCompletionBody) -> Grammar | None:
    grammars = [
        None if body.response_format is None else body.response_format.grammar(),
        None if body.regex is None else Grammar(kind="regex", source=body.regex, param="regex"),
        None if body.choice is None else choice_grammar(body.choice),
    ]
    asked = [grammar for grammar in grammars if grammar is not None]
    if len(asked) > 1:
        names = " and ".join(grammar.param for grammar in asked)
        raise InvalidRequest(f"{names} prescribe the reply at once; send one of them", param=asked[1].param)
    prescribed = asked[0] if asked else None
    tools, mode = asked_tools(body.tools or (), body.tool_choice)
    if not tools:
        return prescribed
    several = body.parallel_tool_calls is not False and not isinstance(body.tool_choice, NamedTool)
    return tool_grammar(tools, must_call=mode == "required", several=several, otherwise=prescribed)


def _num_logprobs(body: ChatCompletionBody) -> int | None:
    if body.logprobs:
        return body.top_logprobs or 0
    if body.top_logprobs:
        raise InvalidRequest("top_logprobs needs logprobs: true", param="top_logprobs")
    return None


def _logit_bias(biases: Mapping[str, float]) -> tuple[tuple[int, float], ...]:
    for key in biases:
        if not (key.isascii() and key.isdigit() and len(key) <= 9 and str(int(key)) == key):
            raise InvalidRequest(
                f'logit_bias takes token ids such as "1234" as keys, got {key[:40]!r}', param="logit_bias"
            )
    return tuple((int(key), bias) for key, bias in biases.items())
