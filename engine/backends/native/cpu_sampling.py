"""Draw tokens on the CPU in one pass over each row of logits, as `sampler.sample` does with tensors.

Most chats draw at a temperature within a top-p. Tensor operators copy, sort and sum the whole vocabulary of every row
for that, which took as long as half of a step; here only the candidates that the filters may keep are sorted.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from core.types import AnyArray
from engine.backends.native.cpu_kernels import compiled, exp, helper, ordered, widen

_BLOCK = 512


@compiled
def draw(logits: AnyArray, rows: AnyArray, options: AnyArray, out: AnyArray) -> None:
    """Write a token for each of some rows of `logits` `(B, V)` to `out` `(N,)`, -1 where a value is not finite.

    `options` `(N, 5)` are the uniform number, top_k (0: none), top_p, min_p and the temperature, 0 for the likeliest.
    """
    width = logits.shape[1]
    scaled = np.empty(width, np.float32)
    for n in range(len(rows)):
        best = _largest(logits, rows[n])
        out[n] = best
        if best < 0 or options[n, 4] == 0:
            continue
        largest = widen(logits[rows[n], best])
        sharpness = np.float32(1) / np.float32(options[n, 4])
        for i in range(width):
            scaled[i] = (widen(logits[rows[n], i]) - largest) * sharpness
        is_limited = 0 < options[n, 1] < width
        if is_limited or options[n, 2] < 1 or options[n, 3] > 0:
            out[n] = _among_likely(scaled, options[n], is_limited)
        else:
            out[n] = _among_all(scaled, options[n, 0])


@helper
def _largest(logits: Any, row: Any) -> Any:
    """Return the first place of the largest value of a row, -1 when a value is not finite."""
    largest, extreme = np.int32(-(2**31)), np.int32(0)
    for i in range(logits.shape[1]):
        value = np.float32(widen(logits[row, i]))
        largest = max(largest, ordered(value))
        extreme = max(extreme, np.int32(value.view(np.int32) & np.int32(0x7FFFFFFF)))
    if extreme >= np.int32(0x7F800000):
        return -1
    place = 0
    while ordered(widen(logits[row, place])) < largest:
        place += 1
    return place


@helper
def _sum_of_powers(scaled: Any, first: Any, last: Any) -> Any:
    total = np.float32(0)
    for i in range(first, last):
        total += exp(scaled[i])
    return np.float64(total)


@helper
def _among_all(scaled: Any, uniform: Any) -> Any:
    """Return the first place whose cumulative mass exceeds the uniform share of the whole; sums go by blocks."""
    width = len(scaled)
    num_blocks = (width + _BLOCK - 1) // _BLOCK
    masses = np.empty(num_blocks, np.float64)
    for block in range(num_blocks):
        masses[block] = _sum_of_powers(scaled, block * _BLOCK, min(width, (block + 1) * _BLOCK))
    left = uniform * masses.sum()
    block = 0
    while block < num_blocks - 1 and left >= masses[block]:
        left -= masses[block]
        block += 1
    for i in range(block * _BLOCK, min(width, (block + 1) * _BLOCK)):
        left -= np.float64(exp(scaled[i]))
        if left < 0:
            return i
    return min(width, (block + 1) * _BLOCK) - 1


@helper
def _among_likely(scaled: Any, options: Any, is_limited: Any) -> Any:
    """Return a place among the most likely ones that top_k, then top_p, then min_p leave."""
    uniform, top_k, top_p, min_p = options[0], options[1], options[2], options[3]
    total = _sum_of_powers(scaled, 0, len(scaled))
    places = np.empty(len(scaled), np.int64)
    count = 0
    for depth in (6.0, 12.0, 24.0, np.inf):  # in units of the exponent: e^-6 of the likeliest is a fair first guess
        count, mass = 0, 0.0
        for i in range(len(scaled)):
            if scaled[i] >= -depth:
                places[count] = i
                count += 1
                mass += np.float64(exp(scaled[i]))
        if is_limited:
            if count >= top_k:
                break
        elif mass > 1.000001 * top_p * total or np.exp(-depth) < min_p:
            break
    order = np.argsort(-scaled[places[:count]], kind="mergesort")  # stable: of equals the first token comes first
    masses = np.empty(min(count, int(top_k)) if is_limited else count, np.float64)
    for rank in range(len(masses)):
        masses[rank] = np.float64(exp(scaled[places[order[rank]]]))
    whole = masses.sum() if is_limited else total
    kept, num_kept = 0.0, 0
    while num_kept < len(masses) and kept <= top_p * whole and masses[num_kept] >= min_p * masses[0]:
        kept += masses[num_kept]
        num_kept += 1
    target, cumulative = uniform * kept, 0.0
    for rank in range(num_kept - 1):
        cumulative += masses[rank]
        if cumulative > target:
            return places[order[rank]]
    return places[order[num_kept - 1]]
