"""The parts of a decode step between its matrix products, each one pass over memory, compiled for the CPU.

Arrays hold float32, or bfloat16 as its raw uint16 bits; arithmetic is float32 everywhere. N rows of width D; H heads
and Hkv key-value heads of width Dh; S slots of T tokens. A row never depends on another one, so kernels that take
`first` and `last` may run on several threads, each over its own rows.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar, cast

import numba
import numpy as np
import torch
from numba.extending import overload
from torch import Tensor

from core.types import AnyArray

Compiled = TypeVar("Compiled", bound=Callable[..., Any])
_ROTATED = 64  # channels that share their values before 8 bits round them; beyond, little is won
_FLAGS = {"reassoc", "contract", "nsz", "arcp"}  # no `nnan`: a row that turns to NaN must show it


def raw(tensor: Tensor) -> AnyArray:
    """Return the memory of a CPU tensor as the kernels take it: bfloat16 as its bits."""
    return tensor.view(torch.uint16).numpy() if tensor.dtype == torch.bfloat16 else tensor.numpy()


def compiled(function: Compiled) -> Compiled:
    """Compile on first use and keep the machine code on disk; without a place to write, compile in every process."""
    for cache in (True, False):
        try:
            kernel = numba.njit(fastmath=_FLAGS, nogil=True, error_model="numpy", cache=cache)(function)
            return cast(Compiled, kernel)
        except RuntimeError:  # no folder for the cache can be written
            if not cache:
                raise
    raise AssertionError("the second turn returns or raises")


def helper(function: Compiled) -> Compiled:
    """Compile a function that only compiled code calls; it is part of its caller's machine code."""
    return cast(Compiled, numba.njit(fastmath=_FLAGS, nogil=True, error_model="numpy")(function))


def inlined(function: Compiled) -> Compiled:
    """Compile a function into each of its callers, where an argument may be a constant that unrolls a loop."""
    return cast(Compiled, numba.njit(fastmath=_FLAGS, nogil=True, error_model="numpy", inline="always")(function))


def widen(value: Any) -> Any:
    """Return a stored value as float32; compiled code only."""


def narrow(value: Any, like: Any) -> Any:
    """Return a float32 as an array `like` stores it, rounded to nearest even; compiled code only."""


@overload(widen, inline="always")
def _widen_overload(value: Any) -> Any:
    def shift(value: Any) -> Any:
        return np.uint32(np.uint32(value) << np.uint32(16)).view(np.float32)

    def keep(value: Any) -> Any:
        return value

    return shift if value == numba.types.uint16 else keep


@overload(narrow, inline="always")
def _narrow_overload(value: Any, like: Any) -> Any:
    def cut(value: Any, like: Any) -> Any:
        bits = np.float32(value).view(np.uint32)
        odd = (bits >> np.uint32(16)) & np.uint32(1)
        return np.uint16((bits + np.uint32(0x7FFF) + odd) >> np.uint32(16))

    def keep(value: Any, like: Any) -> Any:
        return value

    return cut if like.dtype == numba.types.uint16 else keep


@helper
def exp(x: Any) -> Any:
    """Return e^x to within 3e-7 relative, in vector code: 2^n times a polynomial of the rest (Cephes' coefficients)."""
    power = x * np.float32(1.44269504)
    power = power if power > np.float32(-126.0) else np.float32(-126.0)
    power = power if power < np.float32(126.0) else np.float32(126.0)
    whole = np.int32(power + np.float32(126.5)) - np.int32(126)
    rest = power - np.float32(whole)
    total = np.float32(1.535336188e-4)
    total = total * rest + np.float32(1.339887440e-3)
    total = total * rest + np.float32(9.618437357e-3)
    total = total * rest + np.float32(5.550332471e-2)
    total = total * rest + np.float32(2.402264791e-1)
    total = total * rest + np.float32(6.931472028e-1)
    total = total * rest + np.float32(1.0)
    return total * np.int32((whole + np.int32(127)) << np.int32(23)).view(np.float32)


@compiled
def add_and_norm(x: AnyArray, delta: AnyArray, weight: AnyArray, eps: float, out: AnyArray) -> None:
    """Add `delta` `(N, D)` to `x` `(N, D)` in place and write its root-mean-square norm times `weight` `(D,)`."""
    num_rows, width = out.shape
    for n in range(num_rows):
        squares = np.float32(0)
        for i in range(width):
            stored = narrow(widen(x[n, i]) + widen(delta[n, i]), x)
            x[n, i] = stored
            value = widen(stored)
            squares += value * value
        scale = np.float32(1) / np.sqrt(squares / np.float32(width) + np.float32(eps))
        for i in range(width):
            out[n, i] = narrow(widen(x[n, i]) * scale * widen(weight[i]), out)


@compiled
def gate_with_silu(both: AnyArray, out: AnyArray) -> None:
    """Write `silu(gate) * up` `(N, F)` of `both` `(N, 2 F)`, gate first (SwiGLU)."""
    num_rows, width = out.shape
    for n in range(num_rows):
        for i in range(width):
            gate = widen(both[n, i])
            up = widen(both[n, width + i])
            out[n, i] = narrow(gate / (np.float32(1) + exp(-gate)) * up, out)


@compiled
def turn_and_store(
    rows: tuple[int, int],
    heads: AnyArray,
    turns: AnyArray,
    kv: tuple[AnyArray, AnyArray],
    places: AnyArray,
    queries: AnyArray,
) -> None:
    """Turn queries and keys of the rows `rows[0]` to `rows[1]`, and put keys and values where `places` says.

    `heads` `(N, H + 2 Hkv, Dh)` are the projected queries, keys and values; `turns` `(N, 2, Dh / 2)` the cosines and
    sines of the rows' positions. `kv` are keys and values `(S, T, Hkv, Dh)`, `places` `(N, 2)` slots and positions.
    The turned queries go to `queries` `(N, H, Dh)`.
    """
    num_heads, width = queries.shape[1], queries.shape[2]
    keys, values = kv
    num_kv_heads = keys.shape[2]
    half = width // 2
    for n in range(rows[0], rows[1]):
        slot, position = places[n, 0], places[n, 1]
        for head in range(num_heads + num_kv_heads):
            target = queries[n, head] if head < num_heads else keys[slot, position, head - num_heads]
            for i in range(half):
                cos, sin = turns[n, 0, i], turns[n, 1, i]
                low, high = widen(heads[n, head, i]), widen(heads[n, head, half + i])
                target[i] = narrow(low * cos - high * sin, keys)
                target[half + i] = narrow(high * cos + low * sin, keys)
        for h in range(num_kv_heads):
            for i in range(width):
                values[slot, position, h, i] = narrow(widen(heads[n, num_heads + num_kv_heads + h, i]), values)


@helper
def _softmax(scores: Any, num_tokens: Any) -> None:
    """Turn the first scores of a row into shares that sum to one, in place."""
    largest = scores[0]
    for t in range(num_tokens):
        largest = scores[t] if scores[t] > largest else largest
    mass = np.float32(0)
    for t in range(num_tokens):
        share = exp(scores[t] - largest)
        scores[t] = share
        mass += share
    for t in range(num_tokens):
        scores[t] = scores[t] / mass


@inlined
def _score(query: Any, keys: Any, place: Any, width: Any, group: Any, scores: Any) -> None:
    """Write the products of a key-value head's queries, of `(H, Dh)`, with one key to `scores` `(H, T)`.

    `place` is slot, token and head: a view of `keys` would hide that its rows are contiguous. Three queries share the
    key while it is in registers.
    """
    slot, t, h = place
    in_threes = group - group % 3
    for g in range(h * group, h * group + in_threes, 3):
        first, second, third = np.float32(0), np.float32(0), np.float32(0)
        for i in range(width):
            key = widen(keys[slot, t, h, i])
            first += query[g, i] * key
            second += query[g + 1, i] * key
            third += query[g + 2, i] * key
        scores[g, t], scores[g + 1, t], scores[g + 2, t] = first, second, third
    for g in range(h * group + in_threes, (h + 1) * group):
        score = np.float32(0)
        for i in range(width):
            score += query[g, i] * widen(keys[slot, t, h, i])
        scores[g, t] = score


@inlined
def _mix(shares: Any, values: Any, place: Any, width: Any, group: Any, total: Any) -> None:
    """Add the values of two tokens weighted by `shares` `(H, T)` to a key-value head's part of `total` `(H, Dh)`.

    `place` is slot, the first token and head. Sums are read and written once for both, and three of them share a value.
    """
    slot, t, h = place
    in_threes = group - group % 3
    for g in range(h * group, h * group + in_threes, 3):
        a, b, c = shares[g, t], shares[g + 1, t], shares[g + 2, t]
        d, e, f = shares[g, t + 1], shares[g + 1, t + 1], shares[g + 2, t + 1]
        for i in range(width):
            value, following = widen(values[slot, t, h, i]), widen(values[slot, t + 1, h, i])
            total[g, i] += a * value + d * following
            total[g + 1, i] += b * value + e * following
            total[g + 2, i] += c * value + f * following
    for g in range(h * group + in_threes, (h + 1) * group):
        for i in range(width):
            value, following = widen(values[slot, t, h, i]), widen(values[slot, t + 1, h, i])
            total[g, i] += shares[g, t] * value + shares[g, t + 1] * following


@inlined
def _attend(query: Any, kv: Any, where: Any, width: Any, group: Any, work: Any) -> None:
    """Attend from the queries `(H, Dh)` of one token to the first tokens of a slot, read once, front to back.

    `where` is slot and number of tokens, `work` the scores `(H, T)` and the sums `(H, Dh)`, which are the result.
    """
    slot, num_tokens = where
    scores, total = work
    num_heads, num_kv_heads = len(query), kv[0].shape[2]
    for t in range(num_tokens):
        for h in range(num_kv_heads):
            _score(query, kv[0], (slot, t, h), width, group, scores)
    for head in range(num_heads):
        _softmax(scores[head], num_tokens)
    total[:] = np.float32(0)
    in_twos = num_tokens - num_tokens % 2
    for t in range(0, in_twos, 2):
        for h in range(num_kv_heads):
            _mix(scores, kv[1], (slot, t, h), width, group, total)
    if in_twos < num_tokens:
        for head in range(num_heads):
            for i in range(width):
                value = widen(kv[1][slot, in_twos, head // group, i])
                total[head, i] += scores[head, in_twos] * value


@compiled
def attend_rows(
    rows: tuple[int, int], queries: AnyArray, kv: tuple[AnyArray, AnyArray], places: AnyArray, out: AnyArray
) -> None:
    """Attend from the rows `rows[0]` to `rows[1]`, one token each, to all tokens of their slots up to their own.

    `queries` and `out` are `(N, H, Dh)`, `kv` keys and values `(S, T, Hkv, Dh)`, `places` `(N, 2)` slots and positions.
    """
    first, last = rows
    num_heads, width = out.shape[1], out.shape[2]
    group = num_heads // kv[0].shape[2]
    is_small = width == 64 and group == 3  # the embedded decoder's; loops of a known length are unrolled
    scale = np.float32(1) / np.sqrt(np.float32(width))
    query = np.empty((num_heads, width), np.float32)
    total = np.empty((num_heads, width), np.float32)
    scores = np.empty((num_heads, places[first:last, 1].max() + 1), np.float32)
    for n in range(first, last):
        where = (places[n, 0], places[n, 1] + 1)
        for head in range(num_heads):
            for i in range(width):
                query[head, i] = widen(queries[n, head, i]) * scale
        if is_small:
            _attend(query, kv, where, 64, 3, (scores, total))
        else:
            _attend(query, kv, where, width, group, (scores, total))
        for head in range(num_heads):
            for i in range(width):
                out[n, head, i] = narrow(total[head, i], out)


@compiled
def add_constants(rows: tuple[int, int], out: AnyArray, constants: AnyArray, names: AnyArray) -> None:
    """Add to the rows `rows[0]` to `rows[1]` of `out` `(N, H, Dh)` the constant `(H, Dh)` each names; -1 adds none."""
    num_heads, width = out.shape[1], out.shape[2]
    for n in range(rows[0], rows[1]):
        if names[n] < 0:
            continue
        for head in range(num_heads):
            for i in range(width):
                value = widen(out[n, head, i]) + widen(constants[names[n], head, i])
                out[n, head, i] = narrow(value, out)


@compiled
def attend_step(
    rows: tuple[int, int],
    heads: AnyArray,
    step: tuple[AnyArray, AnyArray, AnyArray],
    kv: tuple[AnyArray, AnyArray],
    constants: AnyArray,
    scratch: tuple[AnyArray, AnyArray],
) -> None:
    """Do all three for rows that are one token of a slot each: one call instead of three is felt at one row.

    `step` is turns, places and the names of the constants; `scratch` the turned queries and what comes out.
    """
    turn_and_store(rows, heads, step[0], kv, step[1], scratch[0])
    attend_rows(rows, scratch[0], kv, step[1], scratch[1])
    add_constants(rows, scratch[1], constants, step[2])


@helper
def _rotate(values: Any, run: Any) -> None:
    """Multiply groups of places, `run` apart, by a Hadamard matrix of ones and minus ones, in place.

    Two doublings at a time, while there are two: memory is passed half as often.
    """
    width, span = len(values), run
    while span * 4 <= width:
        for first in range(0, width, 4 * span):
            a, b = values[first : first + span], values[first + span : first + 2 * span]
            c, d = values[first + 2 * span : first + 3 * span], values[first + 3 * span : first + 4 * span]
            for i in range(span):
                low, low_difference = a[i] + b[i], a[i] - b[i]
                high, high_difference = c[i] + d[i], c[i] - d[i]
                a[i], c[i] = low + high, low - high
                b[i], d[i] = low_difference + high_difference, low_difference - high_difference
        span *= 4
    if span < width:
        low_half, high_half = values[:span], values[span:]
        for i in range(span):
            total, difference = low_half[i] + high_half[i], low_half[i] - high_half[i]
            low_half[i], high_half[i] = total, difference


def rotated_together(width: int) -> int:
    """Return how many of `width` channels share their values in 8 bits: the largest power of two up to 64."""
    return min(width & -width, _ROTATED)


_rotated_together = helper(rotated_together)


@helper
def round_values(values: Any, levels: Any) -> Any:
    """Rotate float32 `values` `(K,)` in place, write them as `levels` `(K,)` around 128, and return their scale.

    Few channels of a LLaMA carry values a hundred times the others'; rotated in groups they are shared out, and 8 bits
    hold the rest better.
    """
    _rotate(values, len(values) // _rotated_together(len(values)))
    extreme = np.int32(0)
    for i in range(len(values)):
        extreme = max(extreme, np.int32(np.float32(values[i]).view(np.int32) & np.int32(0x7FFFFFFF)))
    if extreme >= np.int32(0x7F800000):  # not finite: the product must show it
        levels[:] = 128
        return np.float32(np.nan)
    scale = max(np.int32(extreme).view(np.float32), np.float32(1e-30)) / np.float32(127)
    sharpness = np.float32(1) / scale
    for i in range(len(values)):
        levels[i] = np.uint8(np.int32(values[i] * sharpness + np.float32(128.5)))  # dropping the fraction rounds
    return scale


@compiled
def rotate_and_round(x: AnyArray, levels: AnyArray, scales: AnyArray) -> None:
    """Write rows of `x` `(N, K)`, rotated, as 8-bit levels around 128 `(N, K)` with a scale each `(N,)`."""
    num_rows, width = x.shape
    values = np.empty(width, np.float32)
    for n in range(num_rows):
        for i in range(width):
            values[i] = widen(x[n, i])
        scales[n] = round_values(values, levels[n])


@compiled
def scale_rows(products: AnyArray, scales: AnyArray, out: AnyArray) -> None:
    """Write rows of `products` `(N, F)`, float32, times their scales `(N,)` to `out` `(N, F)`."""
    num_rows, width = out.shape
    for n in range(num_rows):
        for i in range(width):
            out[n, i] = narrow(products[n, i] * scales[n], out)


@helper
def ordered(value: Any) -> Any:
    """Return a float32 as an integer of the same order: comparing those vectorises without a promise of no NaN."""
    bits = np.float32(value).view(np.int32)
    return np.int32(bits ^ ((bits >> np.int32(31)) & np.int32(0x7FFFFFFF)))
