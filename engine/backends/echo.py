"""A backend without a model: it answers with the tokens of its prompt, through the same step loop as `native`."""

from __future__ import annotations

from core.errors import InvalidRequest
from core.telemetry import EventLog
from core.types import SamplingParams
from engine.backends import DecodingConfig
from engine.backends.native.backend import BatchingBackend
from engine.backends.native.scheduler import Row, Sample, StepPlan, TokenSequence
from models.bundle import ModelBundle

_NEEDS_DISTRIBUTION = {
    "num_logprobs": "logprobs",
    "frequency_penalty": "frequency_penalty",
    "presence_penalty": "presence_penalty",
    "repetition_penalty": "repetition_penalty",
    "logit_bias": "logit_bias",
    "min_tokens": "min_tokens",
    "grammar": "response_format",
}


def build_echo(bundle: ModelBundle, config: DecodingConfig) -> BatchingBackend:
    """Build the echo backend; of the bundle it uses the tokenizer and the context length."""
    config = config.within(bundle.decoder.config)
    runner = EchoRunner(bundle.tokenizer.eos_token_ids)
    return BatchingBackend(runner=runner, tokenizer=bundle.tokenizer, config=config, log=EventLog("engine"))


class EchoRunner:
    """A `Runner` that repeats the prompt once, without its end tokens, then ends the reply.

    With `ignore_eos` it starts over instead of ending.
    """

    num_layers = 1
    few_rows = 0

    def __init__(self, eos_token_ids: frozenset[int]) -> None:
        self._eos_token_ids = eos_token_ids

    def prepare(self) -> None:
        """Nothing is compiled."""

    def check(self, sampling: SamplingParams) -> None:
        """Refuse what only a distribution over tokens can honour."""
        plain = SamplingParams(max_tokens=sampling.max_tokens)
        for name, param in _NEEDS_DISTRIBUTION.items():
            if getattr(sampling, name) != getattr(plain, name):
                raise InvalidRequest(f"the echo backend has no distribution, so {param} has no meaning", param=param)

    def admit(self, sequence: TokenSequence) -> None:
        """Nothing is kept per slot."""

    def release(self, slot: int) -> None:
        """Nothing is kept per slot."""

    def discard(self, slot: int) -> None:
        """Nothing is kept per slot."""

    def run(self, plan: StepPlan) -> list[Sample]:
        return [Sample(self._next_token_id(row), 0.0) for row in plan.sampling_rows]

    def _next_token_id(self, row: Row) -> int:
        request = row.sequence.request
        echoed = [token_id for token_id in request.token_ids if token_id not in self._eos_token_ids]
        place = len(row.sequence.output_ids)
        if echoed and (place < len(echoed) or request.sampling.ignore_eos):
            return echoed[place % len(echoed)]
        return min(self._eos_token_ids)
