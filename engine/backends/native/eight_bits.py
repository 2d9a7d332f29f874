"""A step's products with 8-bit weights, in memory that every layer uses again."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
from torch import Tensor, nn

from core.types import AnyArray
from engine.backends.native import cpu_kernels as kernels
from engine.backends.native.cpu_kernels import raw
from engine.backends.native.linears import ByRows, Int8Linear
from engine.backends.native.vnni import VnniLinear, Weights8


def crowd_ways(linears: Sequence[nn.Module]) -> tuple[Int8Linear, ...]:
    """Return the 8-bit ways of a block's linears for many replies; none when one of them has no such way."""
    ways = [linear.crowd for linear in linears if isinstance(linear, ByRows)]
    found = [way for way in ways if isinstance(way, Int8Linear)]
    return tuple(found) if len(found) == len(linears) else ()


def packed_ways(linears: Sequence[nn.Module]) -> tuple[Weights8, ...]:
    """Return the 8-bit weights of a block's linears as our own kernels take them; none when one of them has none."""
    ways = [linear.crowd for linear in linears if isinstance(linear, ByRows)]
    found = [way.weights for way in ways if isinstance(way, VnniLinear)]
    return tuple(found) if len(found) == len(linears) else ()


class EightBitProducts:
    """Multiplies `num_tokens` bfloat16 rows, padded to `num_rows`. What it returns is overwritten by a later call."""

    def __init__(self, num_tokens: int, num_rows: int) -> None:
        self._num_tokens = num_tokens
        self._num_rows = num_rows
        self._scales = np.empty(num_tokens, dtype=np.float32)
        self._levels: dict[int, tuple[Tensor, AnyArray]] = {}  # by width: all rows, and those of tokens
        self._products: dict[int, AnyArray] = {}

    def __call__(self, way: Int8Linear, x: Tensor) -> AnyArray:
        """Return `(N, rows)`, bfloat16 as its bits, of `x` `(num_rows, K)`."""
        levels, used = self._levels_of(x.shape[1])
        kernels.rotate_and_round(raw(x)[: self._num_tokens], used, self._scales)
        products = way.multiply(levels)[: self._num_tokens]
        width = products.shape[1]
        if width not in self._products:
            self._products[width] = np.empty(products.shape, dtype=np.uint16)
        out = self._products[width]
        kernels.scale_rows(products, self._scales, out)
        return out

    def _levels_of(self, width: int) -> tuple[Tensor, AnyArray]:
        if width not in self._levels:
            levels = torch.full((self._num_rows, width), 128, dtype=torch.uint8)
            self._levels[width] = levels, levels.numpy()[: self._num_tokens]
        return self._levels[width]
