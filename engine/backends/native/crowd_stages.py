"""A decode step of many replies as one compiled function: ten stages a layer, shared by several threads.

Each layer is that of `models.llama.model`: norm, projections, rotary turns, attention with the condition's constant,
output projection, norm, SwiGLU. Products take 8-bit rows (`vnni`); all else is float32 inside a stage, and states, keys
and values are stored as the model stores them.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from core.types import AnyArray
from engine.backends.native.cpu_kernels import (
    add_constants,
    attend_rows,
    compiled,
    exp,
    helper,
    narrow,
    round_values,
    turn_and_store,
    widen,
)
from engine.backends.native.crew import finish, take, wait
from engine.backends.native.vnni import OUTPUTS, Rows8, multiply_block

STAGES = 10  # of a layer
ATTENDED = 4  # of them come before the stage that rounds what attention has mixed
_PIECE = 4  # rows of a stage that goes row by row
_BLOCKS = 8  # of outputs, a piece of a large matrix


class Layers(NamedTuple):
    """What L layers hold: norms `(L, 2, D)`, addresses of the four matrices `(L, 4, 3)`, keys and values
    `(L, S, T, Hkv, Dh)`, constants `(A, S, H, Dh)` and for each layer its row of them, -1 for none, `(L,)`.

    `eps` is what norms add to mean squares.
    """

    norms: AnyArray
    matrices: AnyArray
    keys: AnyArray
    values: AnyArray
    constants: AnyArray
    adapted: AnyArray
    eps: np.float32


class Places(NamedTuple):
    """Where the N tokens of a step stand: `turns` `(N, 2, Dh / 2)`, `places` `(N, 2)`, `names` of constants `(N,)`.

    The first `num_attending` rows attend one by one in stage 3.
    """

    turns: AnyArray
    places: AnyArray
    names: AnyArray
    num_attending: int


class Buffers(NamedTuple):
    """Memory between stages, for N tokens, or N padded to whole products, N'.

    `state` `(N, D)`, stored as the model stores it; `delta` `(N', >= D)`, float32, not yet added to it; rounded rows of
    the widths D, H Dh and F; `heads` `(N', >= (H + 2 Hkv) Dh)` and `gates` `(N', >= 2 F)`, float32; `queries` and
    `mixed` `(N, H, Dh)`.
    """

    state: AnyArray
    delta: AnyArray
    normed: Rows8
    attended: Rows8
    hidden: Rows8
    heads: AnyArray
    gates: AnyArray
    queries: AnyArray
    mixed: AnyArray


@helper
def _norm(counters: Any, stage: Any, layers: Any, which: Any, buffers: Any, values: Any) -> None:
    """Add `delta` to the states and round their root-mean-square norm."""
    state, delta, rows = buffers.state, buffers.delta, buffers.normed
    weight = layers.norms[which[0], which[1]]
    num_rows, width = state.shape
    num_pieces = (num_rows + _PIECE - 1) // _PIECE
    while True:
        piece = take(counters, stage)
        if piece >= num_pieces:
            break
        for n in range(piece * _PIECE, min(num_rows, (piece + 1) * _PIECE)):
            squares = np.float32(0)
            for i in range(width):
                stored = narrow(widen(state[n, i]) + delta[n, i], state)
                state[n, i] = stored
                value = widen(stored)
                values[i] = value
                squares += value * value
            scale = np.float32(1) / np.sqrt(squares / np.float32(width) + layers.eps)
            for i in range(width):
                values[i] = values[i] * scale * widen(weight[i])
            rows.scales[n] = round_values(values[:width], rows.levels[n])
        finish(counters, stage)
    wait(counters, stage, num_pieces)


@helper
def _multiply(counters: Any, stage: Any, rows: Any, weights: Any, out: Any) -> None:
    """Multiply rounded rows with a matrix, a block of its outputs at a time."""
    num_pieces = out.shape[1] // OUTPUTS
    while True:
        piece = take(counters, stage)
        if piece >= num_pieces:
            break
        multiply_block(rows, weights, piece, out, piece)
        finish(counters, stage)
    wait(counters, stage, num_pieces)


@helper
def _store(counters: Any, stage: Any, kv: Any, step: Any, buffers: Any) -> None:
    """Turn queries and keys, and put keys and values into their slots."""
    num_rows, num_heads, width = buffers.queries.shape
    num_pieces = (num_rows + _PIECE - 1) // _PIECE
    total = num_heads + 2 * kv[0].shape[2]
    while True:
        piece = take(counters, stage)
        if piece >= num_pieces:
            break
        for n in range(piece * _PIECE, min(num_rows, (piece + 1) * _PIECE)):
            heads = buffers.heads[n, : total * width].reshape(1, total, width)
            own = step.turns[n : n + 1], step.places[n : n + 1], buffers.queries[n : n + 1]
            turn_and_store((0, 1), heads, own[0], kv, own[1], own[2])
        finish(counters, stage)
    wait(counters, stage, num_pieces)


@helper
def _attend(counters: Any, stage: Any, kv: Any, constants: Any, step: Any, buffers: Any) -> None:
    """Attend, and add what the conditions inject, a token at a time: slots are of unlike lengths.

    `constants` are all layers' and this layer's row of them.
    """
    table, row = constants
    while True:
        n = take(counters, stage)
        if n >= step.num_attending:
            break
        attend_rows((n, n + 1), buffers.queries, kv, step.places, buffers.mixed)
        if row >= 0:
            add_constants((n, n + 1), buffers.mixed, table[row], step.names)
        finish(counters, stage)
    wait(counters, stage, step.num_attending)


@helper
def _round(counters: Any, stage: Any, flat: Any, rows: Any, values: Any) -> None:
    """Round stored rows `(N, K)`."""
    num_rows, width = flat.shape
    num_pieces = (num_rows + _PIECE - 1) // _PIECE
    while True:
        piece = take(counters, stage)
        if piece >= num_pieces:
            break
        for n in range(piece * _PIECE, min(num_rows, (piece + 1) * _PIECE)):
            for i in range(width):
                values[i] = widen(flat[n, i])
            rows.scales[n] = round_values(values[:width], rows.levels[n])
        finish(counters, stage)
    wait(counters, stage, num_pieces)


@helper
def _gate(counters: Any, stage: Any, num_rows: Any, buffers: Any, values: Any) -> None:
    """Round `silu(gate) * up` (SwiGLU)."""
    gates, rows = buffers.gates, buffers.hidden
    width = rows.levels.shape[1]
    num_pieces = (num_rows + _PIECE - 1) // _PIECE
    while True:
        piece = take(counters, stage)
        if piece >= num_pieces:
            break
        for n in range(piece * _PIECE, min(num_rows, (piece + 1) * _PIECE)):
            for i in range(width):
                gate = gates[n, i]
                values[i] = gate / (np.float32(1) + exp(-gate)) * gates[n, width + i]
            rows.scales[n] = round_values(values[:width], rows.levels[n])
        finish(counters, stage)
    wait(counters, stage, num_pieces)


@compiled
def run_stages(span: tuple[int, int], counters: AnyArray, layers: Layers, step: Places, buffers: Buffers) -> None:
    """Run the stages `span[0]` to `span[1]`, counted from the first layer's first on; every thread calls this."""
    widths = buffers.normed.levels.shape[1], buffers.attended.levels.shape[1], buffers.hidden.levels.shape[1]
    values = np.empty(max(widths), np.float32)
    num_rows = len(buffers.state)
    for stage in range(span[0], span[1]):
        layer, kind = stage // STAGES, stage % STAGES
        matrices = layers.matrices[layer]
        kv = layers.keys[layer], layers.values[layer]
        if kind == 0:
            _norm(counters, stage, layers, (layer, 0), buffers, values)
        elif kind == 1:
            _multiply(counters, stage, buffers.normed, matrices[0], buffers.heads)
        elif kind == 2:
            _store(counters, stage, kv, step, buffers)
        elif kind == 3:
            _attend(counters, stage, kv, (layers.constants, layers.adapted[layer]), step, buffers)
        elif kind == 4:
            mixed = buffers.mixed.reshape(num_rows, buffers.attended.levels.shape[1])
            _round(counters, stage, mixed, buffers.attended, values)
        elif kind == 5:
            _multiply(counters, stage, buffers.attended, matrices[1], buffers.delta)
        elif kind == 6:
            _norm(counters, stage, layers, (layer, 1), buffers, values)
        elif kind == 7:
            _multiply(counters, stage, buffers.normed, matrices[2], buffers.gates)
        elif kind == 8:
            _gate(counters, stage, num_rows, buffers, values)
        else:
            _multiply(counters, stage, buffers.hidden, matrices[3], buffers.delta)


@helper
def _store_outputs(products: Any, out: Any, first: Any, width: Any) -> None:
    for n in range(len(out)):
        for i in range(width):
            out[n, first + i] = narrow(products[n, i], out)


@compiled
def run_output(counters: AnyArray, x: AnyArray, rows: Rows8, matrix: AnyArray, out: AnyArray) -> None:
    """Write the products `(N, V)` of stored rows `x` `(N, K)` with a large matrix; every thread calls this.

    `rows` is memory for N padded to whole products, `matrix` the addresses `(3,)` of a `Weights8`.
    """
    _round(counters, 0, x, rows, np.empty(x.shape[1], np.float32))
    num_outputs = out.shape[1]
    per_piece = _BLOCKS * OUTPUTS
    num_pieces = (num_outputs + per_piece - 1) // per_piece
    products = np.empty((len(rows.levels), per_piece), np.float32)
    while True:
        piece = take(counters, 1)
        if piece >= num_pieces:
            break
        first = piece * per_piece
        width = min(per_piece, num_outputs - first)
        for place in range((width + OUTPUTS - 1) // OUTPUTS):
            multiply_block(rows, matrix, piece * _BLOCKS + place, products, place)
        _store_outputs(products, out, first, width)
        finish(counters, 1)
    wait(counters, 1, num_pieces)
