"""Our sampling parameters as vLLM's."""

from __future__ import annotations

import json
from typing import Any

from core.errors import InvalidRequest
from core.types import DecodeRequest, Grammar


def sampling_fields(request: DecodeRequest, eos_token_ids: frozenset[int]) -> dict[str, Any]:
    """Return the fields of `vllm.SamplingParams`, without structured output and condition.

    Stop strings are cut by our own text stream, which holds text back exactly as the native engine does.
    Raises `InvalidRequest` for scores of the prompt.
    """
    sampling = request.sampling
    if sampling.scores_prompt:
        raise InvalidRequest("logprobs of an echoed prompt need the backend native; leave echo out", param="echo")
    ends = sampling.stop_token_ids | (frozenset() if sampling.ignore_eos else eos_token_ids)
    return {
        "max_tokens": sampling.max_tokens,
        "min_tokens": sampling.min_tokens,
        "temperature": sampling.temperature,
        "top_p": sampling.top_p,
        "top_k": sampling.top_k,
        "min_p": sampling.min_p,
        "seed": sampling.seed,
        "frequency_penalty": sampling.frequency_penalty,
        "presence_penalty": sampling.presence_penalty,
        "repetition_penalty": sampling.repetition_penalty,
        "logit_bias": dict(sampling.logit_bias) or None,
        "logprobs": sampling.num_logprobs,
        "stop_token_ids": sorted(ends),
        "ignore_eos": True,  # the end tokens stand in stop_token_ids
        "detokenize": False,
    }


def grammar_fields(grammar: Grammar, *, has_tokenizer: bool) -> dict[str, Any]:
    """Return the fields of `vllm.sampling_params.StructuredOutputsParams`.

    Raises `InvalidRequest` for what vLLM cannot hold a reply to.
    """
    if not has_tokenizer:
        raise InvalidRequest(
            f"{grammar.param} needs a tokenizer that vLLM reads; this model has none", param=grammar.param
        )
    match grammar.kind:
        case "json_schema":
            return {"json": json.loads(grammar.source)}
        case "regex":
            return {"regex": grammar.source}
        case _:
            raise InvalidRequest(
                f"{grammar.param} is not held to a grammar by the backend vllm; use the backend native",
                param=grammar.param,
            )
