"""Steps of many replies through `crowd_stages`: memory as the stages take it, and what lies between them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import cast

import numpy as np
from torch import Tensor, nn

from core.types import AnyArray
from engine.backends.native.conditions import ConditionSlots
from engine.backends.native.cpu_kernels import raw
from engine.backends.native.crew import Crew, new_counters
from engine.backends.native.crowd_stages import ATTENDED, STAGES, Buffers, Layers, Places, run_output, run_stages
from engine.backends.native.kv_cache import KVCache
from engine.backends.native.linears import ByRows
from engine.backends.native.vnni import Rows8, VnniLinear, Weights8, addresses_of, expected_seconds, padded_rows
from models.llama.model import Block, Llama


class CrowdLayers:
    """The layers of a decoder with 8-bit weights, `(qkv, out, gate and up, down)` of each."""

    def __init__(
        self, decoder: Llama, cache: KVCache, conditions: ConditionSlots, weights: Sequence[Sequence[Weights8]]
    ) -> None:
        config = decoder.config
        blocks = [cast(Block, block) for block in decoder.layers]
        self._weights = weights  # kept, because addresses do not
        self._num_bytes = sum(matrix.levels.nbytes for matrix in weights[0])  # of a layer
        self._num_outputs = tuple(len(matrix.starts) for matrix in weights[0])
        self._widths = config.width, config.query_width, config.hidden_width
        constants, adapted = conditions.all_constants()
        norms = [(raw(block.attention_norm.weight.detach()), raw(block.ffn_norm.weight.detach())) for block in blocks]
        self._layers = Layers(
            norms=np.array(norms),
            matrices=np.array([[addresses_of(matrix) for matrix in layer] for layer in weights]),
            keys=raw(cache.keys),
            values=raw(cache.values),
            constants=raw(constants),
            adapted=np.array(adapted, dtype=np.int64),
            eps=np.float32(config.norm_eps),
        )
        self._room = 0

    def new_delta(self, num_tokens: int) -> AnyArray:
        """Return what a pass begins with: nothing to add, for rows padded to whole products."""
        return np.zeros((padded_rows(num_tokens), self._num_outputs[1]), dtype=np.float32)

    def pass_through(
        self,
        layers: range,
        crew: Crew,
        step: Places,
        memory: tuple[AnyArray, AnyArray, AnyArray, AnyArray],
        between: Callable[[int], None] | None,
    ) -> None:
        """Take tokens through some layers; `memory` is states, delta, queries and mixed heads (see `Buffers`).

        `between`, if there is one, attends for the rows that do not attend one by one, at each layer.
        """
        buffers = self._buffers(memory)
        counters = new_counters(STAGES * layers.stop)
        seconds = expected_seconds(self._num_bytes, len(buffers.delta))  # of a layer
        begun = STAGES * layers.start
        if between is not None:
            for layer in layers:
                stop = STAGES * layer + ATTENDED
                crew.work(seconds, run_stages, (begun, stop), counters, self._layers, step, buffers)
                between(layer)
                begun = stop
        crew.work(
            seconds * len(layers), run_stages, (begun, STAGES * layers.stop), counters, self._layers, step, buffers
        )

    def _buffers(self, memory: tuple[AnyArray, AnyArray, AnyArray, AnyArray]) -> Buffers:
        state, delta, queries, mixed = memory
        num_rows = len(delta)
        if num_rows > self._room:
            self._room = num_rows
            self._rows = [Rows8.empty(num_rows, width) for width in self._widths]
            self._heads = np.empty((num_rows, self._num_outputs[0]), dtype=np.float32)
            self._gates = np.empty((num_rows, self._num_outputs[2]), dtype=np.float32)
        normed, attended, hidden = (Rows8(levels[:num_rows], scales[:num_rows]) for levels, scales in self._rows)
        heads, gates = self._heads[:num_rows], self._gates[:num_rows]
        return Buffers(state, delta, normed, attended, hidden, heads, gates, queries, mixed)


class PackedOutput:
    """An output layer with 8-bit weights, on all threads; rows and outputs have the decoder's dtype.

    The next call overwrites what this one returns: fresh memory for a few megabytes would cost a tenth of a step.
    """

    def __init__(self, linear: VnniLinear) -> None:
        self._linear = linear
        self._matrix = addresses_of(linear.weights)
        self._out: Tensor | None = None

    def __call__(self, hidden: Tensor, crew: Crew) -> Tensor:
        rows = Rows8.empty(padded_rows(len(hidden)), hidden.shape[1])
        if self._out is None or len(self._out) < len(hidden):
            self._out = hidden.new_empty(len(hidden), self._linear.num_outputs)
        out = self._out[: len(hidden)]
        seconds = expected_seconds(self._linear.weights.levels.nbytes, len(hidden))
        crew.work(seconds, run_output, new_counters(2), raw(hidden), rows, self._matrix, raw(out))
        return out


def packed_output(output: nn.Module) -> PackedOutput | None:
    """Return the way of an output layer through our own kernels, if it has one."""
    way = output.way(1) if isinstance(output, ByRows) else None
    return PackedOutput(way) if isinstance(way, VnniLinear) and way.bias is None else None
