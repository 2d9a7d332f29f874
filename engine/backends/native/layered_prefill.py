"""Read a prompt a few layers at a time between the steps of running replies (layered prefill, arXiv 2510.08055).

Prompt tokens that join such a step make it longer, and so few may join that reading them hardly pays: products of few
rows cost nearly what those of many do, and the steps of few replies run through smaller weights than theirs. Instead
a step of the replies alone and a part of the prompt's pass take turns: many tokens, through as many layers as the
replies can wait for. A short prompt still joins a step of many replies, where it is nearly free.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.backends.native.scheduler import Row

PASS_TOKENS = 128  # products of as many rows run at nearly full speed, and a layer of them is still short
JOINING_TOKENS = 64  # of prompts in all: so many still join a step of many replies
FIRST_LAYERS = 2  # of a pass of a new size


@dataclass(frozen=True, slots=True)
class LayerSpan:
    """The layers `first` to `last`, exclusive, of `total`."""

    first: int
    last: int
    total: int

    @property
    def is_final(self) -> bool:
        return self.last == self.total


class LayeredPrefill:
    """The pass over prompt tokens that is under way, and how many layers of it are next."""

    def __init__(self, num_layers: int) -> None:
        self._num_layers = num_layers
        self._rows: tuple[Row, ...] = ()
        self._done = 0
        self._layer_s: dict[int, float] = {}  # by the number of tokens, alike between two powers of two

    def resume(self, allowed_s: float) -> tuple[tuple[Row, ...], LayerSpan] | None:
        """Return the rows of the pass under way and their next layers; None when there is none, or it is void."""
        if not self._done or not all(_is_waiting(row) for row in self._rows):
            return None
        return self._rows, self._span(self._done, allowed_s)

    def begin(self, rows: Iterable[Row], allowed_s: float) -> tuple[tuple[Row, ...], LayerSpan]:
        """Return the rows of a new pass and its first layers."""
        self._rows = tuple(rows)
        return self._rows, self._span(0, allowed_s)

    def observe(self, span: LayerSpan, seconds: float) -> None:
        """Book a finished part, and learn how long its layers took."""
        layer_s, past_s = seconds / (span.last - span.first), self._layer_s.get(self._size)
        self._layer_s[self._size] = layer_s if past_s is None else (past_s + layer_s) / 2
        self._done = span.last % span.total

    @property
    def _size(self) -> int:
        return sum(row.length for row in self._rows).bit_length()

    def _span(self, first: int, allowed_s: float) -> LayerSpan:
        layer_s = self._layer_s.get(self._size)
        layers = FIRST_LAYERS if layer_s is None else max(1, int(allowed_s / layer_s))
        return LayerSpan(first, min(self._num_layers, first + layers), self._num_layers)


def _is_waiting(row: Row) -> bool:
    sequence = row.sequence
    return sequence.slot >= 0 and sequence.num_computed == row.start and not sequence.is_decoding
