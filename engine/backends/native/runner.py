"""Execute a plan on a LLaMA decoder: one forward pass over all tokens, logits for the rows that sample."""

from __future__ import annotations

import math

import torch
from torch import Tensor

from core.errors import EngineFault
from core.types import SamplingParams
from engine.backends import DecodingConfig
from engine.backends.native.adjustment import adjust
from engine.backends.native.attention import BatchAttention
from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.packing import pack_linears
from engine.backends.native.sampler import most_likely, sample
from engine.backends.native.scheduler import Sample, StepPlan, TokenSequence
from models.llama.model import Llama

FEW_TOKENS = 2  # one or two rows are bound by one core's reads; a second thread costs more in barriers than it brings


class NativeRunner:
    """A `Runner` over slots of keys, values and conditions. Used by the loop's thread only.

    It takes the decoder over: bfloat16 linears are packed in place.
    """

    def __init__(self, decoder: Llama, config: DecodingConfig) -> None:
        self._decoder = decoder.eval()
        pack_linears(decoder)
        weight = decoder.tok_embeddings.weight
        self._device = weight.device
        self._num_threads = config.num_threads or torch.get_num_threads()
        self._cache = KVCache(decoder.config, num_slots=config.max_slots, max_context=config.max_context, like=weight)
        self._conditions = ConditionSlots(decoder, num_slots=config.max_slots)
        self._num_groups = decoder.config.num_heads // decoder.config.num_kv_heads

    def check(self, sampling: SamplingParams) -> None:
        """Every parameter is honoured."""

    def admit(self, sequence: TokenSequence) -> None:
        """Project the condition once. A condition of the wrong shape fails this sequence alone."""
        self._conditions.fill(sequence.slot, sequence.request.condition)

    def move(self, source: int, target: int, num_tokens: int) -> None:
        self._cache.move(source, target, num_tokens)
        self._conditions.move(source, target)

    def release(self, slot: int) -> None:
        self._conditions.clear(slot)

    def run(self, plan: StepPlan) -> list[Sample]:
        """Run the decoder over the plan and sample. Raises `EngineFault` when a row's logits are not finite."""
        hidden = self._forward(plan)  # (N, D)
        sampling_rows = plan.sampling_rows
        if not sampling_rows:
            return []
        logits = self._decoder.logits(self._last_tokens(plan, hidden))  # (B, V)
        params = [row.sequence.request.sampling for row in sampling_rows]
        adjusted = adjust(logits, [row.sequence for row in sampling_rows])
        token_ids, logprobs = sample(logits, params, [row.sequence.uniform for row in sampling_rows], adjusted)
        if not all(map(math.isfinite, logprobs)):
            self._erase(plan)
            raise EngineFault("the decoder's logits are not finite")
        return [Sample(*drawn) for drawn in zip(token_ids, logprobs, most_likely(logits, params), strict=True)]

    def _forward(self, plan: StepPlan) -> Tensor:
        token_ids = [token_id for row in plan.rows for token_id in row.token_ids()]
        positions = [position for row in plan.rows for position in range(row.start, row.start + row.length)]
        slots = [row.sequence.slot for row in plan.rows for _ in range(row.length)]
        torch.set_num_threads(1 if len(token_ids) <= FEW_TOKENS else self._num_threads)
        table = torch.tensor([token_ids, positions, slots], device=self._device)  # (3, N)
        places = table[2] * self._cache.max_context + table[1]
        attention = BatchAttention(plan, self._cache, places, self._num_groups)
        return self._decoder(table[0], table[1], attention, self._conditions.view(plan))  # type: ignore[no-any-return]

    def _last_tokens(self, plan: StepPlan, hidden: Tensor) -> Tensor:
        """Return the hidden states `(B, D)` of the last token of every row that samples."""
        if not plan.prefill:
            return hidden
        ends, end = [], 0
        for row in plan.rows:
            end += row.length
            if row.samples:
                ends.append(end - 1)
        return hidden[ends]

    def _erase(self, plan: StepPlan) -> None:
        """Keep values that are not finite from outliving the one row that made them."""
        if len(plan.rows) == 1:
            (row,) = plan.rows
            self._cache.erase(row.sequence.slot, row.start + row.length)
