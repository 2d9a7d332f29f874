"""Execute a plan on a LLaMA decoder: one forward pass over all tokens, logits for the rows that sample."""

from __future__ import annotations

import math
from types import SimpleNamespace
from typing import cast

import numpy as np
import torch
from torch import Tensor

from core.errors import EngineFault
from core.types import SamplingParams
from engine.backends import DecodingConfig
from engine.backends.native import cpu_sampling
from engine.backends.native.adjustment import adjust
from engine.backends.native.attention import BatchAttention
from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.cpu_kernels import raw
from engine.backends.native.crew import Crew
from engine.backends.native.fused import FusedDecoder, supports
from engine.backends.native.graphs import DecodeGraphs
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.linears import CROWD, fastest_thread_count, prepare_linears
from engine.backends.native.prompt_scores import score_prompts
from engine.backends.native.sampler import most_likely, sample
from engine.backends.native.scheduler import Row, Sample, StepPlan, TokenSequence
from models.llama.model import Llama

FEW_TOKENS = 2  # so few rows may run faster on one thread: barriers can cost more than a second one brings


class NativeRunner:
    """A `Runner` over slots of keys, values and conditions. Used by the loop's thread only.

    It takes the decoder over: its linears are replaced in place.
    """

    def __init__(self, decoder: Llama, config: DecodingConfig, *, captures_graphs: bool = True) -> None:
        self._decoder = decoder.eval()
        self.weights = prepare_linears(decoder, dtype=config.weights_dtype)
        weight = decoder.tok_embeddings.weight
        self._device = weight.device
        self._num_threads = config.num_threads or torch.get_num_threads()
        is_cuda = self._device.type == "cuda"
        num_slots = config.max_slots + (1 if is_cuda else 0)  # graphs write what is dropped into the last one
        self._cache = KVCache(decoder.config, num_slots=num_slots, max_context=config.max_context, like=weight)
        self._conditions = ConditionSlots(decoder, num_slots=config.max_slots)
        self._fused: FusedDecoder | None = None
        self._graphs: DecodeGraphs | None = None
        if supports(decoder):
            self._fused = FusedDecoder(decoder, self._cache, self._conditions, Crew(self._num_threads))
        elif is_cuda:
            self._graphs = DecodeGraphs(decoder, self._cache, self._conditions, captures=captures_graphs)
        self._output = decoder.output if self._fused is None else self._fused.output
        self._few_threads: int | None = None
        is_layered = self._fused is not None and self._conditions.add_constants
        self.num_layers = decoder.config.num_layers if is_layered else 1
        self.few_rows = 0 if self._fused is None else self._fused.max_few

    def prepare(self) -> None:
        """Choose the threads, and run a prompt, a token and a crowd, which compiles the kernels before they are used.

        Compiling takes half a minute when no earlier process has left its machine code on disk.
        """
        self._use_threads(1)
        if self._fused is None:
            return
        trials = [cast(TokenSequence, SimpleNamespace(slot=slot)) for slot in range(self._cache.keys.shape[1])]
        crowd = tuple(Row(trial, 3, 1, True) for trial in trials[:CROWD])
        alone = trials[0]
        for plan in (
            StepPlan((), (Row(alone, 0, 2, True),)),
            StepPlan((Row(alone, 2, 1, True),), ()),
            StepPlan(crowd, ()),
        ):
            token_ids = torch.zeros(sum(row.length for row in plan.rows), dtype=torch.int64)
            logits = self._fused.output(self._fused.forward(token_ids, plan))
            options, drawn = np.zeros((len(logits), 5)), np.empty(len(logits), dtype=np.int64)
            cpu_sampling.draw(raw(logits), np.arange(len(logits)), options, drawn)
        for trial in crowd:
            self._cache.discard(trial.sequence.slot)

    def check(self, sampling: SamplingParams) -> None:
        """Every parameter is honoured."""

    def admit(self, sequence: TokenSequence) -> None:
        """Take the condition, which the next step projects. One of the wrong shape fails this sequence alone."""
        self._conditions.fill(sequence.slot, sequence.request.condition)

    def release(self, slot: int) -> None:
        self._conditions.clear(slot)

    def discard(self, slot: int) -> None:
        self._cache.discard(slot)

    def run(self, plan: StepPlan) -> list[Sample]:
        """Run the decoder over the plan and sample. Raises `EngineFault` when a row's logits are not finite."""
        self._conditions.project_pending(row.sequence.slot for row in plan.rows)
        token_ids = [token_id for row in plan.rows for token_id in row.token_ids()]
        sampling_rows = plan.sampling_rows
        if self._graphs is not None and not plan.prefill:
            logits = self._graphs.logits(token_ids, plan.decode)  # (B, V)
        else:
            hidden = self._forward(plan, token_ids)  # (N, D)
            if hidden is None:  # more layers follow
                return []
            score_prompts(plan, hidden, self._output)
            if not sampling_rows:
                return []
            logits = self._output(self._last_tokens(plan, hidden))  # (B, V)
        samples = self._samples(logits, sampling_rows)
        if any(not math.isfinite(drawn.logprob) or drawn.token_id < 0 for drawn in samples):
            self._erase(plan)
            raise EngineFault("the decoder's logits are not finite")
        return samples

    def _samples(self, logits: Tensor, rows: tuple[Row, ...]) -> list[Sample]:
        """Return a sample for each row of `logits` `(B, V)`; plain rows get their token without its probability."""
        sequences = [row.sequence for row in rows]
        plain = [place for place, sequence in enumerate(sequences) if sequence.is_plain]
        if self._fused is None:
            if len(plain) < len(rows) or any(sequence.request.sampling.temperature > 0 for sequence in sequences):
                return self._drawn(logits.float(), sequences)
            largest, places = logits.max(dim=-1)
            return [Sample(token_id, 0.0) for token_id in places.where(largest.isfinite(), -1).tolist()]
        found = dict(zip(plain, self._drawn_plainly(logits, plain, sequences), strict=True))
        others = [place for place in range(len(rows)) if place not in found]
        if others:
            drawn = self._drawn(logits[others].float(), [sequences[place] for place in others])
            found |= dict(zip(others, drawn, strict=True))
        return [found[place] for place in range(len(rows))]

    @staticmethod
    def _drawn_plainly(logits: Tensor, places: list[int], sequences: list[TokenSequence]) -> list[Sample]:
        chosen = [sequences[place] for place in places]
        params = [(sequence.uniform, sequence.request.sampling) for sequence in chosen]
        options = [(uniform, p.top_k, p.top_p, p.min_p, p.temperature) for uniform, p in params]
        token_ids = np.empty(len(places), dtype=np.int64)
        if places:
            cpu_sampling.draw(raw(logits), np.array(places), np.array(options, dtype=np.float64), token_ids)
        return [Sample(token_id, 0.0) for token_id in token_ids.tolist()]

    def _drawn(self, logits: Tensor, sequences: list[TokenSequence]) -> list[Sample]:
        params = [sequence.request.sampling for sequence in sequences]
        adjusted = adjust(logits, sequences)
        token_ids, logprobs = sample(logits, params, [sequence.uniform for sequence in sequences], adjusted)
        return [Sample(*drawn) for drawn in zip(token_ids, logprobs, most_likely(logits, params), strict=True)]

    def _forward(self, plan: StepPlan, token_ids: list[int]) -> Tensor | None:
        self._use_threads(len(token_ids))
        if self._fused is not None and self._conditions.are_constants(row.sequence.slot for row in plan.rows):
            if plan.layers is not None:
                return self._fused.forward_part(torch.tensor(token_ids), plan, plan.layers)
            return self._fused.forward(torch.tensor(token_ids), plan)
        positions = [position for row in plan.rows for position in range(row.start, row.start + row.length)]
        slots = [row.sequence.slot for row in plan.rows for _ in range(row.length)]
        table = torch.tensor([token_ids, positions, slots], device=self._device)  # (3, N)
        places = table[2] * self._cache.max_context + table[1]
        attention = BatchAttention(plan, self._cache, places, fused=self._fused)
        return self._decoder(table[0], table[1], attention, self._conditions.view(plan))  # type: ignore[no-any-return]

    def _use_threads(self, num_tokens: int) -> None:
        """Set the threads of this step; how many serve few tokens best is measured once, in the thread that steps."""
        if self._few_threads is None:
            torch.set_num_threads(self._num_threads)
            measures = self._fused is not None and self._num_threads > 1
            self._few_threads = fastest_thread_count(self._decoder, self._num_threads) if measures else 1
        torch.set_num_threads(self._few_threads if num_tokens <= FEW_TOKENS else self._num_threads)

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
