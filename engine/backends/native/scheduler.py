"""Decide who runs in a step, and book what came out of it.

A sequence keeps its slot until it ends; `slots` decides which one, and what of the prompt is already there.
"""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import starmap
from typing import Protocol

from core.types import DecodeRequest, FinishReason, SamplingParams, TokenEvent, TokenLogprob, TokenUsage
from engine.backends import DecodingConfig
from engine.backends.native.channel import Channel
from engine.backends.native.layered_prefill import JOINING_TOKENS, PASS_TOKENS, LayeredPrefill, LayerSpan
from engine.backends.native.sampler import Candidates
from engine.backends.native.slots import PrefixScope, SlotPool, prefix_scope
from engine.backends.native.waiting import PrefillPacer, WaitingQueue
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
    num_cached: int = 0
    arrived_s: float = 0.0
    scope: PrefixScope | None = None
    output_ids: list[int] = field(default_factory=list)
    uniform: float = 0.0
    num_drawn: int = 0
    generated_counts: dict[int, int] | None = None  # of each token a penalty touches, 0 for one of the prompt alone
    ending_ids: frozenset[int] = frozenset()
    guide: OutputGuide | None = None
    prompt_scores: dict[int, Sample] = field(default_factory=dict)  # by place in the prompt, from 1
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

    @property
    def is_plain(self) -> bool:
        """Say whether the next token is drawn from the unmodified logits, and no probabilities are asked for."""
        sampling = self.request.sampling
        is_modified = self.guide is not None or self.generated_counts is not None or bool(sampling.logit_bias)
        waits_to_end = len(self.output_ids) < sampling.min_tokens
        return sampling.num_logprobs is None and not (is_modified or waits_to_end)

    def draw_uniform(self) -> None:
        """Draw the number in [0, 1) that decides the next token, once: a repeated step reuses it."""
        if self.num_drawn == len(self.output_ids):
            self.uniform = self._random.random()
            self.num_drawn += 1

    def usage(self) -> TokenUsage:
        return TokenUsage(
            prompt_tokens=self.num_prompt_tokens,
            completion_tokens=len(self.output_ids),
            cached_tokens=self.num_cached,
        )

    def computed_ids(self) -> list[int]:
        """Return the tokens whose keys and values are in the slot."""
        return [*self.request.token_ids, *self.output_ids][: self.num_computed]

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
        sampling = self.request.sampling
        is_bare = sampling.num_logprobs is None or (is_end and not sampling.scores_prompt)
        return event if is_bare else self._with_logprobs(event, sample)

    def _with_logprobs(self, event: TokenEvent, sample: Sample) -> TokenEvent:
        drawn = self.text.describe(sample.token_id, sample.logprob)
        likely = tuple(starmap(self.text.describe, sample.most_likely))
        return replace(event, drawn=drawn, most_likely=likely, prompt=self._scored_prompt())

    def _scored_prompt(self) -> tuple[tuple[TokenLogprob, tuple[TokenLogprob, ...]], ...]:
        """Return the prompt's tokens and their alternatives, once."""
        scores, self.prompt_scores = self.prompt_scores, {}
        if not self.request.sampling.scores_prompt or len(self.output_ids) > 1:
            return ()
        samples = [Sample(self.request.token_ids[0], 0.0), *(scores[i] for i in range(1, self.num_prompt_tokens))]
        describe = self.text.describe
        return tuple((describe(s.token_id, s.logprob), tuple(starmap(describe, s.most_likely))) for s in samples)

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
    """One forward pass: decode rows of one token each, in slot order, then prefill rows.

    With `layers` it is a part of the pass of prefill rows alone, and rows come to their end in the final part.
    """

    decode: tuple[Row, ...]
    prefill: tuple[Row, ...]
    layers: LayerSpan | None = None

    @property
    def rows(self) -> tuple[Row, ...]:
        return self.decode + self.prefill

    @property
    def finished_rows(self) -> tuple[Row, ...]:
        return self.rows if self.layers is None or self.layers.is_final else ()

    @property
    def sampling_rows(self) -> tuple[Row, ...]:
        return tuple(row for row in self.finished_rows if row.samples)

    def alone(self) -> list[StepPlan]:
        """Return one plan per row, through all layers, for finding the row that breaks a batch."""
        return [StepPlan((row,), ()) for row in self.decode] + [StepPlan((), (row,)) for row in self.prefill]


class Runner(Protocol):
    """What executes a plan and owns whatever a slot holds.

    A prompt's pass may pause after each of `num_layers` layers; one layer means that it may not. Up to `few_rows` rows
    run through smaller weights than more of them.
    """

    num_layers: int
    few_rows: int

    def prepare(self) -> None:
        """Do in the loop's thread, before the first request, what would make it slow."""
        ...

    def check(self, sampling: SamplingParams) -> None:
        """Raise `InvalidRequest` for a parameter this runner does not honour; called from any thread."""
        ...

    def admit(self, sequence: TokenSequence) -> None:
        """Prepare `sequence.slot`; may raise for this sequence alone."""
        ...

    def release(self, slot: int) -> None:
        """The sequence of a slot has ended; its keys and values may still be reused."""
        ...

    def discard(self, slot: int) -> None:
        """Nothing in a slot is needed any more."""
        ...

    def run(self, plan: StepPlan) -> list[Sample]:
        """Run one forward pass and return one sample for each of `plan.sampling_rows`; safe to repeat in whole."""
        ...


class Scheduler:
    """First come, first served within a priority; all decode rows run in every step, prefill rows share a budget."""

    def __init__(self, runner: Runner, config: DecodingConfig, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._runner = runner
        self._clock = clock
        self._pacer = PrefillPacer(config.max_prefill_tokens)
        self._layered = LayeredPrefill(runner.num_layers)
        self._took_part = False
        self._pass_tokens = min(PASS_TOKENS, config.max_prefill_tokens)
        self._pool = SlotPool(
            config.max_slots,
            max_tokens=config.max_cache_tokens or config.max_slots * config.max_context,
            keeps_prefixes=config.reuse_prefixes,
        )
        self.waiting = WaitingQueue(clock)
        self.running: list[TokenSequence] = []
        self._prefilling: deque[TokenSequence] = deque()

    @property
    def has_work(self) -> bool:
        return bool(len(self.waiting) or self.running)

    def overdue(self) -> list[TokenSequence]:
        """Return the sequences, waiting or running, whose deadline has passed."""
        now_s = self._clock()
        deadlines = [(s.request.deadline_s, s) for s in (*self.waiting, *self.running)]
        return [sequence for deadline_s, sequence in deadlines if deadline_s is not None and deadline_s <= now_s]

    def next_admissible(self) -> TokenSequence | None:
        """Take the sequence whose turn it is out of the queue when a slot and room in the cache are free for it.

        One that needs much room is not overtaken by smaller ones, so that it gets its turn.
        """
        sequence = self.waiting.first()
        if sequence is None:
            return None
        request = sequence.request
        if sequence.scope is None:
            sequence.scope = prefix_scope(request.tenant, request.condition)
        num_tokens = len(request.token_ids) + request.sampling.max_tokens
        reusable = () if request.sampling.scores_prompt else request.token_ids  # scores need every token computed
        place = self._pool.take(sequence.scope, reusable, num_tokens)
        if place is None:
            return None
        self.waiting.remove(sequence)
        sequence.slot, sequence.num_cached = place.slot, place.num_cached
        sequence.num_computed = place.num_cached
        for slot in place.evicted:
            self._runner.discard(slot)
        return sequence

    def place(self, sequence: TokenSequence) -> None:
        """Let an admitted sequence run. An error of `Runner.admit` leaves no trace of it here."""
        try:
            self._runner.admit(sequence)
        except Exception:
            self._pool.free(sequence.slot)
            sequence.slot = -1
            raise
        self.running.append(sequence)
        self._prefilling.append(sequence)

    def schedule(self) -> StepPlan:
        """Plan the next forward pass over the running sequences."""
        decoding = sorted((s for s in self.running if s.is_decoding), key=lambda sequence: sequence.slot)
        plan = self._plan(decoding)
        for row in plan.sampling_rows:
            row.sequence.draw_uniform()
        return plan

    def _plan(self, decoding: list[TokenSequence]) -> StepPlan:
        rows = tuple(Row(s, s.num_computed, 1, True) for s in decoding)
        unread = [s.num_prompt_tokens - s.num_computed for s in self._prefilling]
        if not unread:
            return StepPlan(rows, ())
        if not self._takes_turns(len(rows), unread):
            return StepPlan(rows, self._prefill_rows(self._pacer.budget(len(rows), unread)))
        wait_s = self._pacer.wait_s(len(rows))
        self._took_part = not self._took_part and wait_s is not None
        if not self._took_part or wait_s is None:
            return StepPlan(rows, ())
        part = self._layered.resume(wait_s) or self._layered.begin(self._prefill_rows(self._pass_tokens), wait_s)
        return StepPlan((), *part)

    def _takes_turns(self, num_decode_rows: int, unread: list[int]) -> bool:
        """Say whether prompts are read in parts between the steps of the replies, and not within these steps."""
        if self._runner.num_layers == 1 or num_decode_rows == 0 or self._pacer.lets_in_all(num_decode_rows, unread):
            return False
        return num_decode_rows <= self._runner.few_rows or sum(unread) > JOINING_TOKENS

    def _prefill_rows(self, budget: int) -> tuple[Row, ...]:
        """Return the next prompt tokens, first come, first served."""
        rows: list[Row] = []
        for sequence in self._prefilling:
            if budget == 0:
                break
            remaining = sequence.num_prompt_tokens - sequence.num_computed
            length = min(budget, remaining)
            rows.append(Row(sequence, sequence.num_computed, length, length == remaining))
            budget -= length
        return tuple(rows)

    def observe(self, plan: StepPlan, seconds: float) -> None:
        """Learn how long a step took, for the next choice of prompt tokens."""
        if plan.layers is not None:
            self._layered.observe(plan.layers, seconds)
        else:
            self._pacer.observe(len(plan.decode), sum(row.length for row in plan.prefill), seconds)

    def advance(self, row: Row) -> None:
        """Book that the row's tokens are in the cache."""
        row.sequence.num_computed = row.start + row.length
        if row.samples and not row.sequence.is_decoding:
            self._prefilling.remove(row.sequence)

    def remove(self, sequence: TokenSequence, *, keep: bool) -> None:
        """Take a sequence out of the queue, or out of its slot, which stays parked if its content is worth keeping."""
        if sequence.slot < 0:
            self.waiting.remove(sequence)
            return
        if sequence in self._prefilling:
            self._prefilling.remove(sequence)
        self.running.remove(sequence)
        self._runner.release(sequence.slot)
        if keep and sequence.scope is not None:
            self._pool.park(sequence.slot, sequence.scope, sequence.computed_ids())
        else:
            self._pool.free(sequence.slot)
        sequence.slot = -1

    def num_cache_tokens(self) -> int:
        """Return the tokens in the cache, those kept for reuse too; a snapshot from any thread."""
        return sum(s.num_computed for s in tuple(self.running)) + self._pool.num_parked_tokens()

    def reset(self) -> None:
        """Forget every sequence."""
        self.waiting.clear()
        self.drop_running()

    def drop_running(self) -> None:
        """Forget the sequences that have a slot; what their slots hold is overwritten by the next ones."""
        self.running.clear()
        self._prefilling.clear()
        self._pool.reset()
