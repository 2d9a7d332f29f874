"""Decide who runs in a step, and book what came out of it.

Running sequences occupy slots 0 to R-1 without holes: when one leaves, the last one moves into its place, so that
decode attention reads a plain view of the cache.
"""

from __future__ import annotations

import random
from collections import deque
from dataclasses import dataclass, field, replace
from itertools import starmap
from typing import Protocol

from core.types import DecodeRequest, FinishReason, SamplingParams, TokenEvent, TokenUsage
from engine.backends.native.channel import Channel
from engine.backends.native.sampler import Candidates
from engine.decoding.grammar import OutputGuide
from engine.decoding.text_stream import TextStream


@dataclass(frozen=True, slots=True)
class Sample:
    """A drawn token, with the most likely ones and their log-probabilities when they were asked for."""

    token_id: int
    logprob: float
    most_likely: Candidates = ()


@dataclass(slots=True, eq=False)
class TokenSequence:
    """One request on its way: prompt, reply so far, and how many of its tokens are in the cache."""

    request: DecodeRequest
    channel: Channel
    text: TextStream
    eos_token_ids: frozenset[int]
    slot: int = -1
    num_computed: int = 0
    output_ids: list[int] = field(default_factory=list)
    uniform: float = 0.0
    generated_counts: dict[int, int] | None = None  # of each token a penalty touches, 0 for one of the prompt alone
    ending_ids: frozenset[int] = frozenset()
    guide: OutputGuide | None = None
    _random: random.Random = field(init=False)

    def __post_init__(self) -> None:
        sampling = self.request.sampling
        self._random = random.Random(sampling.seed)
        self.ending_ids = sampling.stop_token_ids | (frozenset() if sampling.ignore_eos else self.eos_token_ids)
        if sampling.repetition_penalty != 1:
            self.generated_counts = dict.fromkeys(self.request.token_ids, 0)
        elif sampling.frequency_penalty or sampling.presence_penalty:
            self.generated_counts = {}

    @property
    def num_prompt_tokens(self) -> int:
        return len(self.request.token_ids)

    @property
    def is_decoding(self) -> bool:
        return bool(self.output_ids)

    def draw_uniform(self) -> None:
        """Draw the number in [0, 1) that decides the next token; a repeated step reuses it."""
        self.uniform = self._random.random()

    def usage(self) -> TokenUsage:
        return TokenUsage(prompt_tokens=self.num_prompt_tokens, completion_tokens=len(self.output_ids))

    def accept(self, sample: Sample) -> TokenEvent:
        """Append one token and return its event, the last one with `finish`."""
        token_id = sample.token_id
        self.output_ids.append(token_id)
        if self.generated_counts is not None:
            self.generated_counts[token_id] = self.generated_counts.get(token_id, 0) + 1
        is_end = token_id in self.ending_ids
        if self.guide is not None and not is_end:
            self.guide.advance(token_id)
        text = "" if is_end else self.text.push(token_id)
        finish: FinishReason | None = None
        if is_end or self.text.stopped or (self.guide is not None and self.guide.is_complete):
            finish = "stop"
        elif len(self.output_ids) >= self.request.sampling.max_tokens:
            finish = "length"
        if finish is not None:
            text += self.text.flush()
            finish = "stop" if self.text.stopped else finish
        usage = None if finish is None else self.usage()
        event = TokenEvent(token_id=token_id, text=text, logprob=sample.logprob, finish=finish, usage=usage)
        return event if is_end or self.request.sampling.num_logprobs is None else self._with_logprobs(event, sample)

    def _with_logprobs(self, event: TokenEvent, sample: Sample) -> TokenEvent:
        drawn = self.text.describe(sample.token_id, sample.logprob)
        return replace(event, drawn=drawn, most_likely=tuple(starmap(self.text.describe, sample.most_likely)))

    def abort_event(self) -> TokenEvent:
        """Return the end of an aborted sequence; it adds no token and names the last one again."""
        last = self.output_ids[-1] if self.output_ids else self.request.token_ids[-1]
        return TokenEvent(token_id=last, text="", logprob=0.0, finish="abort", usage=self.usage())


@dataclass(frozen=True, slots=True)
class Row:
    """The tokens `start` to `start + length` of one sequence in this step; `samples` if a new token comes out."""

    sequence: TokenSequence
    start: int
    length: int
    samples: bool

    def token_ids(self) -> list[int]:
        if self.sequence.is_decoding:
            return self.sequence.output_ids[-1:]
        return list(self.sequence.request.token_ids[self.start : self.start + self.length])


@dataclass(frozen=True, slots=True)
class StepPlan:
    """One forward pass: decode rows of one token each, in slot order, then prefill rows."""

    decode: tuple[Row, ...]
    prefill: tuple[Row, ...]

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.decode + self.prefill

    @property
    def sampling_rows(self) -> tuple[Row, ...]:
        return tuple(row for row in self.rows if row.samples)

    def alone(self) -> list[StepPlan]:
        """Return one plan per row, for finding the row that breaks a batch."""
        return [StepPlan((row,), ()) for row in self.decode] + [StepPlan((), (row,)) for row in self.prefill]


class Runner(Protocol):
    """What executes a plan and owns whatever a slot holds."""

    def check(self, sampling: SamplingParams) -> None:
        """Raise `InvalidRequest` for a parameter this runner does not honour; called from any thread."""
        ...

    def admit(self, sequence: TokenSequence) -> None:
        """Prepare `sequence.slot`; may raise for this sequence alone."""
        ...

    def move(self, source: int, target: int, num_tokens: int) -> None: ...

    def release(self, slot: int) -> None: ...

    def run(self, plan: StepPlan) -> list[Sample]:
        """Run one forward pass and return one sample for each of `plan.sampling_rows`; safe to repeat."""
        ...


class Scheduler:
    """First come, first served; all decode rows run in every step, prefill rows share a token budget."""

    def __init__(self, runner: Runner, *, max_slots: int, max_prefill_tokens: int) -> None:
        self._runner = runner
        self._max_slots = max_slots
        self._max_prefill_tokens = max_prefill_tokens
        self.waiting: deque[TokenSequence] = deque()
        self.running: list[TokenSequence] = []
        self._prefilling: deque[TokenSequence] = deque()

    @property
    def has_work(self) -> bool:
        return bool(self.waiting or self.running)

    def next_admissible(self) -> TokenSequence | None:
        """Take the oldest waiting sequence out of the queue when a slot is free."""
        return self.waiting.popleft() if self.waiting and len(self.running) < self._max_slots else None

    def place(self, sequence: TokenSequence) -> None:
        """Give a sequence its slot. An error of `Runner.admit` leaves no trace of it here."""
        sequence.slot = len(self.running)
        self._runner.admit(sequence)
        self.running.append(sequence)
        self._prefilling.append(sequence)

    def schedule(self) -> StepPlan:
        """Plan the next forward pass over the running sequences."""
        decode = [Row(sequence, sequence.num_computed, 1, True) for sequence in self.running if sequence.is_decoding]
        budget = self._max_prefill_tokens
        prefill: list[Row] = []
        for sequence in self._prefilling:
            if budget == 0:
                break
            remaining = sequence.num_prompt_tokens - sequence.num_computed
            length = min(budget, remaining)
            prefill.append(Row(sequence, sequence.num_computed, length, length == remaining))
            budget -= length
        plan = StepPlan(tuple(decode), tuple(prefill))
        for row in plan.rows:
            if row.samples:
                row.sequence.draw_uniform()
        return plan

    def advance(self, row: Row) -> None:
        """Book that the row's tokens are in the cache."""
        row.sequence.num_computed = row.start + row.length
        if row.samples and not row.sequence.is_decoding:
            self._prefilling.remove(row.sequence)

    def remove(self, sequence: TokenSequence) -> None:
        """Take a sequence out of the queue or free its slot, closing the hole with the last one."""
        if sequence.slot < 0:
            self.waiting.remove(sequence)
            return
        if sequence in self._prefilling:
            self._prefilling.remove(sequence)
        last = self.running.pop()
        if last is not sequence:
            self._runner.move(last.slot, sequence.slot, last.num_computed)
            self._runner.release(last.slot)
            self.running[sequence.slot] = last
            last.slot = sequence.slot
        else:
            self._runner.release(sequence.slot)
        sequence.slot = -1

    def reset(self) -> None:
        """Forget every sequence; what their slots hold is overwritten by the next ones."""
        self.waiting.clear()
        self.running.clear()
        self._prefilling.clear()
