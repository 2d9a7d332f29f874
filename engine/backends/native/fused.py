"""A step on the CPU: torch's matrix products, and one compiled pass over memory between two of them.

The arithmetic is that of `models.llama.model`, with float32 inside every pass; its operators one by one would spend
more time on dispatch and on attention over padded slots than on the products.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from itertools import pairwise
from typing import Any, cast

import numpy as np
import torch
from torch import Tensor

from core.errors import EngineFault
from core.types import AnyArray
from engine.backends.native import cpu_kernels as kernels
from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.cpu_kernels import raw
from engine.backends.native.crew import Crew
from engine.backends.native.crowd import CrowdLayers, packed_output
from engine.backends.native.crowd_stages import Places
from engine.backends.native.eight_bits import EightBitProducts, crowd_ways, packed_ways
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.layered_prefill import LayerSpan
from engine.backends.native.linears import (
    CROWD,
    OWN_CROWD,
    ByRows,
    Int8Linear,
    LinearFunction,
    max_few_rows,
    product_rows,
    way_for,
)
from engine.backends.native.prompt_chunk import PromptChunk, prompt_chunks
from engine.backends.native.scheduler import StepPlan
from models.llama.model import Block, Llama

Multiply = Callable[[Any, Tensor], AnyArray]  # a way of multiplying and the rows that it takes

_ATTENDED_BY_ROWS = 2048  # tokens per prompt: as many take one by one as long as torch needs to attend them together
_SHARED_TOKENS = 3072  # attended tokens of a step from which a second thread earns its hand-over


def supports(decoder: Llama) -> bool:
    """Say whether the kernels can run a decoder's steps."""
    weight = decoder.tok_embeddings.weight
    return weight.device.type == "cpu" and weight.dtype in (torch.bfloat16, torch.float32)


@dataclass(frozen=True, slots=True)
class _Layer:
    """One block: its four linears for few rows, for many and for a crowd, and the arrays its kernels read.

    `constants` `(R, H, Dh)` has no rows at a layer without adapters.
    """

    few: tuple[LinearFunction, ...]
    many: tuple[LinearFunction, ...]
    crowd: tuple[Int8Linear, ...]
    attention_norm: AnyArray
    ffn_norm: AnyArray
    kv: tuple[AnyArray, AnyArray]
    constants: AnyArray


@dataclass(frozen=True, slots=True)
class _Scratch:
    """What passes hand on to each other, for N tokens, and the same memory as the kernels take it.

    `normed` `(N, D)`, `hidden` `(N, hidden)`, `queries` and `mixed` `(N, H, Dh)`.
    """

    normed: Tensor
    hidden: Tensor
    queries: Tensor
    mixed: Tensor

    def first(self, num_tokens: int) -> _Scratch:
        """Return the part for the first tokens."""
        return _Scratch(*(x[:num_tokens] for x in (self.normed, self.hidden, self.queries, self.mixed)))


@dataclass(frozen=True, slots=True)
class _Step:
    """What all layers of one step share: `turns` `(N, 2, Dh / 2)`, `places` `(N, 2)`, `names` of constants `(N,)`."""

    num_decode: int
    turns: AnyArray
    places: AnyArray
    names: AnyArray
    chunks: list[PromptChunk]

    @property
    def goes_by_rows(self) -> bool:
        """Say whether prompt tokens attend one by one, as running replies do."""
        return not self.chunks and len(self.places) > self.num_decode

    def shared(self, layer: _Layer) -> tuple[AnyArray, AnyArray, AnyArray]:
        """Return what `attend_step` takes at a layer; where nothing is injected, no row names a constant."""
        names = self.names if len(layer.constants) else np.full_like(self.names, -1)
        return self.turns, self.places, names


@dataclass(slots=True)
class _Pass:
    """Tokens on their way through the layers: their states `x` `(N, D)`, and `delta` `(N, D)`, not yet added."""

    step: _Step
    num_rows: int
    is_crowd: bool
    x: Tensor
    delta: AnyArray


def _multiply(way: LinearFunction, x: Tensor) -> AnyArray:
    return raw(way(x))


class FusedDecoder:
    """Runs steps of running replies and prompt chunks together; belongs to the loop's thread."""

    def __init__(self, decoder: Llama, cache: KVCache, conditions: ConditionSlots, crew: Crew) -> None:
        self._decoder = decoder
        self._cache = cache
        self._conditions = conditions
        self._crew = crew
        self._frequencies = decoder.frequencies.float().numpy()  # (Dh / 2,)
        self._final_norm = raw(decoder.norm.weight.detach())
        blocks = [cast(Block, block) for block in decoder.layers]
        self.max_few = max(max_few_rows(linear) for block in blocks for linear in block.linears())
        self._is_packed = any(isinstance(linear, ByRows) for block in blocks for linear in block.linears())
        self._layers = [self._layer(index, block) for index, block in enumerate(blocks)]
        packed = [packed_ways(block.linears()) for block in blocks]
        self._crowd = CrowdLayers(decoder, cache, conditions, packed) if all(packed) else None
        has_crowd = all(layer.crowd for layer in self._layers)
        self._least_crowd = OWN_CROWD if self._crowd else CROWD if has_crowd else sys.maxsize
        self._output = packed_output(decoder.output)
        self._scratch = self._allocate(cache.keys.shape[1])
        self._passing: _Pass | None = None

    def forward(self, token_ids: Tensor, plan: StepPlan) -> Tensor:
        """Return the final normed hidden states `(N, D)` of the plan's flat tokens, and store their keys and values.

        The result is overwritten by the next call.
        """
        passing = self._begin(token_ids, plan)
        self._pass_through(range(len(self._layers)), passing)
        return self._end(passing)

    def forward_part(self, token_ids: Tensor, plan: StepPlan, span: LayerSpan) -> Tensor | None:
        """Go on with a pass where its last part ended; only the final part returns what `forward` does."""
        passing, self._passing = self._passing, None  # a part that fails is not gone on from
        if span.first == 0:
            passing = self._begin(token_ids, plan)
        elif passing is None:
            raise EngineFault("the earlier layers of this pass are lost")
        self._pass_through(range(span.first, span.last), passing)
        if span.is_final:
            return self._end(passing)
        self._passing = passing
        return None

    def _begin(self, token_ids: Tensor, plan: StepPlan) -> _Pass:
        x = self._decoder.tok_embeddings(token_ids)  # (N, D)
        num_rows = product_rows(len(x)) if self._is_packed else len(x)
        if num_rows > len(self._scratch.normed):
            self._scratch = self._allocate(num_rows)
        is_crowd = len(plan.rows) >= self._least_crowd
        nothing = self._crowd.new_delta(len(x)) if self._crowd is not None and is_crowd else np.zeros_like(raw(x))
        return _Pass(self._step(plan), num_rows, is_crowd, x, nothing)

    def _pass_through(self, layers: range, passing: _Pass) -> None:
        """Take the tokens through some layers."""
        if passing.is_crowd and self._crowd is not None:
            self._pass_through_crowd(self._crowd, layers, passing)
            return
        state, num_rows, eps = raw(passing.x), passing.num_rows, self._decoder.config.norm_eps
        num_tokens = len(state)
        # Products take num_rows rows, of which the first N count; everything else takes N.
        scratch, padded = self._scratch.first(num_tokens), self._scratch.first(num_rows)
        normed, hidden, mixed = padded.normed, padded.hidden, padded.mixed.view(num_rows, -1)  # (num_rows, D) at last
        normed_array, hidden_array = raw(scratch.normed), raw(scratch.hidden)
        multiply: Multiply = _multiply
        if passing.is_crowd:
            multiply = EightBitProducts(num_tokens, num_rows)
        is_few, delta = num_tokens <= self.max_few, passing.delta
        for index in layers:
            layer = self._layers[index]
            wqkv, wo, w13, w2 = layer.crowd if passing.is_crowd else layer.few if is_few else layer.many
            kernels.add_and_norm(state, delta, layer.attention_norm, eps, normed_array)
            self._attention(index, multiply(wqkv, normed)[:num_tokens], passing.step, scratch)
            delta = multiply(wo, mixed)[:num_tokens]  # (N, D)
            kernels.add_and_norm(state, delta, layer.ffn_norm, eps, normed_array)
            kernels.gate_with_silu(multiply(w13, normed)[:num_tokens], hidden_array)
            delta = multiply(w2, hidden)[:num_tokens]  # (N, D)
        passing.delta = delta

    def _pass_through_crowd(self, crowd: CrowdLayers, layers: range, passing: _Pass) -> None:
        """Take the tokens of many replies through some layers, with prompt chunks attended to between the stages."""
        step, num_tokens = passing.step, len(passing.x)
        scratch = self._scratch.first(num_tokens)
        num_attending = step.num_decode if step.chunks else num_tokens
        places = Places(step.turns, step.places, step.names, num_attending)
        memory = raw(passing.x), passing.delta, raw(scratch.queries), raw(scratch.mixed)
        between = partial(self._attend_chunks, step=step, scratch=scratch) if step.chunks else None
        crowd.pass_through(layers, self._crew, places, memory, between)

    def _end(self, passing: _Pass) -> Tensor:
        normed = self._scratch.first(len(passing.x)).normed
        delta = np.ascontiguousarray(passing.delta[: len(normed), : normed.shape[1]])  # a crowd's is padded
        eps = self._decoder.config.norm_eps
        kernels.add_and_norm(raw(passing.x), delta, self._final_norm, eps, raw(normed))
        return normed

    def output(self, hidden: Tensor) -> Tensor:
        """Return the logits `(B, V)` of hidden states `(B, D)`."""
        if self._output is None:
            return cast(Tensor, self._decoder.output(hidden))
        return self._output(hidden, self._crew)

    def attend(self, queries: Tensor, layer: int, places: AnyArray) -> Tensor:
        """Return `(N, H, Dh)`: what turned queries find in their slots, for a step with more than constants to add."""
        out = torch.empty_like(queries)
        arrays = raw(queries), self._layers[layer].kv, places, raw(out)
        self._share(places[:, 1], lambda rows: kernels.attend_rows(rows, *arrays))
        return out

    def _attention(self, index: int, flat: AnyArray, step: _Step, scratch: _Scratch) -> None:
        """Store keys and values of projected heads `(N, (H + 2 Hkv) Dh)`, and fill `mixed`, condition included."""
        layer = self._layers[index]
        num_tokens, _, width = scratch.mixed.shape
        heads = flat.reshape(num_tokens, -1, width)  # (N, H + 2 Hkv, Dh)
        shared = step.shared(layer)
        queries_array, mixed_array = raw(scratch.queries), raw(scratch.mixed)
        if step.goes_by_rows:  # all are stored first: a token of a prompt attends to those before it in this step
            kernels.turn_and_store((0, num_tokens), heads, step.turns, layer.kv, step.places, queries_array)
            arrays = queries_array, layer.kv, step.places, mixed_array
            self._share(step.places[:, 1], lambda rows: kernels.attend_rows(rows, *arrays))
            kernels.add_constants((0, num_tokens), mixed_array, layer.constants, shared[2])
            return
        if step.num_decode:
            whole = heads, shared, layer.kv, layer.constants, (queries_array, mixed_array)
            self._share(step.places[: step.num_decode, 1], lambda rows: kernels.attend_step(rows, *whole))
        if not step.chunks:
            return
        rows = step.num_decode, num_tokens
        kernels.turn_and_store(rows, heads, step.turns, layer.kv, step.places, queries_array)
        self._attend_chunks(index, step, scratch)

    def _attend_chunks(self, index: int, step: _Step, scratch: _Scratch) -> None:
        """Fill `mixed` for the tokens of prompt chunks, whose keys and values are stored."""
        num_tokens, _, width = scratch.mixed.shape
        for chunk in step.chunks:
            queries = scratch.queries[chunk.tokens]
            grouped = queries.view(len(queries), -1, self._cache.num_groups, width)  # (n, Hkv, G, Dh)
            scratch.mixed[chunk.tokens] = chunk.attend(index, grouped, self._cache).flatten(1, 2)
        layer, rows = self._layers[index], (step.num_decode, num_tokens)
        kernels.add_constants(rows, raw(scratch.mixed), layer.constants, step.shared(layer)[2])

    def _share(self, attended: AnyArray, work: Callable[[tuple[int, int]], None]) -> None:
        """Do the work of all rows, on every thread when there is enough: `attended` `(N,)` tokens by row."""
        num_rows, done = len(attended), np.cumsum(attended)
        num_threads = self._crew.num_threads
        if num_threads == 1 or num_rows == 1 or done[-1] < _SHARED_TOKENS:
            work((0, num_rows))
            return
        shares = np.arange(1, num_threads) * done[-1] / num_threads
        spans = [span for span in pairwise((0, *np.searchsorted(done, shares).tolist(), num_rows)) if span[0] < span[1]]
        others = [self._crew.submit(work, span) for span in spans[1:]]
        work(spans[0])
        for other in others:
            other.result()

    def _step(self, plan: StepPlan) -> _Step:
        spans = [(row.sequence.slot, row.start, row.length) for row in plan.rows]
        tokens = [(slot, start + i) for slot, start, length in spans for i in range(length)]
        places = np.array(tokens, dtype=np.int64)  # (N, 2)
        angles = places[:, 1, None].astype(np.float32) * self._frequencies  # (N, Dh / 2)
        turns = np.stack((np.cos(angles), np.sin(angles)), axis=1)  # (N, 2, Dh / 2)
        names = self._conditions.rows(places[:, 0])  # (N,)
        attended = (places[len(plan.decode) :, 1] + 1).sum()
        goes_by_rows = attended <= _ATTENDED_BY_ROWS * len(plan.prefill)
        return _Step(len(plan.decode), turns, places, names, [] if goes_by_rows else prompt_chunks(plan, self._cache))

    def _layer(self, index: int, block: Block) -> _Layer:
        config, weight = self._decoder.config, self._decoder.tok_embeddings.weight
        table = self._conditions.constants(index)
        if table is None:
            table = weight.new_zeros(0, config.num_heads, config.head_width)
        return _Layer(
            few=tuple(way_for(linear, self.max_few) for linear in block.linears()),
            many=tuple(way_for(linear, self.max_few + 1) for linear in block.linears()),
            crowd=crowd_ways(block.linears()),
            attention_norm=raw(block.attention_norm.weight.detach()),
            ffn_norm=raw(block.ffn_norm.weight.detach()),
            kv=(raw(self._cache.keys[index]), raw(self._cache.values[index])),
            constants=raw(table),
        )

    def _allocate(self, num_tokens: int) -> _Scratch:
        config, weight = self._decoder.config, self._decoder.tok_embeddings.weight
        queries = weight.new_zeros(num_tokens, config.num_heads, config.head_width)
        return _Scratch(
            normed=weight.new_zeros(num_tokens, config.width),
            hidden=weight.new_zeros(num_tokens, config.hidden_width),
            queries=queries,
            mixed=torch.zeros_like(queries),
        )
