"""Products of 8-bit rows with the AVX-512 VNNI instructions, compiled to machine code of our own.

Weights lie as the instruction reads them, so that sums stay in registers over the whole inner dimension: three times
sixteen outputs of eight rows at once, 24 of the 32 registers. A library's product of as few rows as a decode step has
spends more time around the sums than in them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from llvmlite.binding import get_host_cpu_features
from numba import types
from torch import Tensor, nn

from core.types import AnyArray
from engine.backends.native import cpu_kernels as kernels
from engine.backends.native import machine_code as code
from engine.backends.native.cpu_kernels import compiled, helper, raw, rotated_together
from engine.backends.native.machine_code import LANES, Memory, emitted

COLUMNS = 3  # registers of outputs
OUTPUTS = LANES * COLUMNS  # of a block of weights
DEPTH = 4  # places of the inner dimension that one instruction takes to a sum
ROWS = 4  # products take a multiple of so many rows
_BYTES_A_SECOND, _PRODUCTS_A_SECOND = 20e9, 0.2e12  # of a thread on a 2.6 GHz AMD EPYC, about
_INSTRUCTION = "llvm.x86.avx512.vpdpbusd.512"


def is_supported() -> bool:
    """Say whether this processor has the instructions."""
    return bool(get_host_cpu_features().get("avx512vnni"))


class Rows8(NamedTuple):
    """Rounded rows, a multiple of `ROWS`: `levels` `(N, K)` around 128, uint8; `scales` `(N,)`, float32."""

    levels: AnyArray
    scales: AnyArray

    @classmethod
    def empty(cls, num_rows: int, width: int) -> Rows8:
        return cls(np.empty((num_rows, width), dtype=np.uint8), np.empty(num_rows, dtype=np.float32))


class Weights8(NamedTuple):
    """Rotated, rounded weights: `levels` `(B, K / 4, 48, 4)`, int8, and of each output, `(48 B,)`:

    `starts`, int32, what sums begin with, as the levels of rows lie around 128, and `scales`, float32.
    """

    levels: AnyArray
    starts: AnyArray
    scales: AnyArray


def packed(linear: nn.Linear) -> Weights8:
    """Return the weights `(outputs, K)` of a linear layer, K a multiple of 4, padded with zeros to whole blocks."""
    weight = raw(linear.weight.detach())
    num_outputs, width = weight.shape
    num_blocks = -(-num_outputs // OUTPUTS)
    levels = np.full((num_blocks * OUTPUTS, width), 128, dtype=np.uint8)
    scales = np.zeros(num_blocks * OUTPUTS, dtype=np.float32)
    kernels.rotate_and_round(weight, levels[:num_outputs], scales[:num_outputs])
    signed = (levels ^ 128).view(np.int8)  # levels lie around 128
    starts = signed.sum(axis=1, dtype=np.int32) * np.int32(-128)
    blocks = signed.reshape(num_blocks, OUTPUTS, width // DEPTH, DEPTH).transpose(0, 2, 1, 3)
    return Weights8(np.ascontiguousarray(blocks), starts, scales / np.float32(rotated_together(width)))


def padded_rows(num_rows: int) -> int:
    """Return for how many rows memory is needed."""
    return -(-num_rows // ROWS) * ROWS


def expected_seconds(num_bytes: int, num_rows: int) -> float:
    """Return about how long one thread multiplies rows with 8-bit weights: bound by memory or by arithmetic."""
    return num_bytes * max(1 / _BYTES_A_SECOND, num_rows / _PRODUCTS_A_SECOND)


def _multiplier(num_rows: int) -> Any:
    """Return a function, for compiled code, that takes a tuple in the order of `_Operands`."""

    @emitted
    def multiply(typing_context: Any, operands: Any) -> Any:
        def generate(context: Any, builder: Any, signature: Any, arguments: Sequence[Any]) -> Any:
            given = _Operands(*(builder.extract_value(arguments[0], i) for i in range(len(_Operands._fields))))
            _store(builder, given, _sums(builder, given, num_rows))
            return context.get_dummy_value()

        return types.void(operands), generate

    return multiply


class _Operands(NamedTuple):
    """Addresses of rows and of a block of weights, how far rows lie apart, and how often the inner loop runs."""

    rows: Any
    row_stride: Any
    weights: Any
    num_turns: Any
    starts: Any
    scales: Any
    row_scales: Any
    out: Any
    out_stride: Any


def _sums(builder: Any, operands: _Operands, num_rows: int) -> list[Any]:
    """Emit the loop over the inner dimension and return the registers with its sums, row by row."""
    memory = Memory(builder)
    starts = [memory.load(operands.starts, code.words, 4 * LANES * column) for column in range(COLUMNS)]
    rows = [operands.rows]
    for _ in range(1, num_rows):
        rows.append(builder.add(rows[-1], operands.row_stride))

    def turn(number: Any, sums: list[Any]) -> list[Any]:
        block = builder.add(operands.weights, builder.mul(number, code.number(DEPTH * OUTPUTS)))
        weights = [memory.load(block, code.bytes_, DEPTH * LANES * column, align=1) for column in range(COLUMNS)]
        place = builder.mul(number, code.number(DEPTH))
        added = []
        for i, row in enumerate(rows):
            four = memory.spread(memory.load(row, code.word, place, align=1), code.words)
            levels = builder.bitcast(four, code.bytes_)
            for total, weight in zip(sums[i * COLUMNS : (i + 1) * COLUMNS], weights, strict=True):
                added.append(code.instruction(builder, _INSTRUCTION, code.words, [total, levels, weight]))
        return added

    return code.loop(builder, operands.num_turns, starts * num_rows, turn)


def _store(builder: Any, operands: _Operands, sums: list[Any]) -> None:
    """Emit the products: sums times the scales of weights and rows, float32."""
    memory = Memory(builder)
    scales = [memory.load(operands.scales, code.singles, 4 * LANES * column) for column in range(COLUMNS)]
    out = operands.out
    for n in range(len(sums) // COLUMNS):
        row_scale = memory.spread(memory.load(operands.row_scales, code.single, 4 * n), code.singles)
        for column, scale in enumerate(scales):
            total = builder.sitofp(sums[n * COLUMNS + column], code.singles)
            memory.store(builder.fmul(builder.fmul(total, scale), row_scale), out, 4 * LANES * column)
        out = builder.add(out, operands.out_stride)


_multiply_four: Callable[..., None] = _multiplier(4)
_multiply_eight: Callable[..., None] = _multiplier(8)


@helper
def multiply_block(rows: Any, weights: Any, block: Any, out: Any, place: Any) -> None:
    """Write a block of outputs of all `Rows8` to block `place` of `out` `(N, 48 P)`, float32; compiled code only.

    `weights` are the addresses `(3,)` of a `Weights8`.
    """
    levels, scales = rows
    num_rows, width = levels.shape
    num_outputs = out.shape[1]
    block_levels = weights[0] + block * OUTPUTS * width
    starts, block_scales = weights[1] + 4 * OUTPUTS * block, weights[2] + 4 * OUTPUTS * block
    first_row, first_scale = np.intp(levels.ctypes.data), np.intp(scales.ctypes.data)
    first_out = np.intp(out.ctypes.data) + 4 * OUTPUTS * place
    turns, out_stride = width // DEPTH, 4 * num_outputs
    in_eights = num_rows - num_rows % 8
    for n in range(0, in_eights, 8):
        row, scale, target = first_row + n * width, first_scale + 4 * n, first_out + n * out_stride
        _multiply_eight((row, width, block_levels, turns, starts, block_scales, scale, target, out_stride))
    if in_eights < num_rows:
        row, scale = first_row + in_eights * width, first_scale + 4 * in_eights
        target = first_out + in_eights * out_stride
        _multiply_four((row, width, block_levels, turns, starts, block_scales, scale, target, out_stride))


def addresses_of(weights: Weights8) -> AnyArray:
    """Return where the three arrays lie, `(3,)`; they must be kept as long as the addresses are used."""
    return np.array([array.ctypes.data for array in weights], dtype=np.intp)


@compiled
def multiply(rows: Any, weights: AnyArray, out: AnyArray) -> None:
    """Write the products of all rows with a matrix, `weights` its addresses, to `out` `(N, 48 B)`, float32."""
    for block in range(out.shape[1] // OUTPUTS):
        multiply_block(rows, weights, block, out, block)


class VnniLinear:
    """A linear layer with 8-bit weights, which rounds the rows that it takes; on the calling thread alone."""

    def __init__(self, linear: nn.Linear) -> None:
        self.weights = packed(linear)
        self.num_outputs = linear.out_features
        self.bias = None if linear.bias is None else linear.bias.detach()

    def multiply(self, levels: Tensor) -> AnyArray:
        """Return float32 products `(N, outputs)` of rotated, rounded rows `(N, K)`, before the scales of these rows."""
        num_rows, width = levels.shape
        rows = Rows8.empty(padded_rows(num_rows), width)
        rows.levels[:num_rows], rows.scales[:] = levels.numpy(), 1
        return self._products(rows)[:num_rows]

    def __call__(self, x: Tensor) -> Tensor:
        flat = x if x.dim() == 2 else x.flatten(0, -2)  # (N, K)
        rows = Rows8.empty(padded_rows(len(flat)), flat.shape[1])
        kernels.rotate_and_round(raw(flat), rows.levels[: len(flat)], rows.scales[: len(flat)])
        out = torch.from_numpy(self._products(rows)[: len(flat)]).to(flat.dtype)
        out = out if x.dim() == 2 else out.view(*x.shape[:-1], -1)
        return out if self.bias is None else out.add_(self.bias)

    def _products(self, rows: Rows8) -> AnyArray:
        out = np.empty((len(rows.levels), len(self.weights.starts)), dtype=np.float32)
        multiply(rows, addresses_of(self.weights), out)
        return out[:, : self.num_outputs]
