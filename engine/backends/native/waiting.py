"""The queue before the slots, and how much of a long prompt one step takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.backends.native.scheduler import TokenSequence

AGING_S = 10.0
MIN_PREFILL_TOKENS = 8
STRETCH = 2.0  # a step that also reads a prompt may take this many times a step that does not
_MEMORY = 0.8  # share of the past in a running mean


class WaitingQueue:
    """Sequences by priority, lower first, and by arrival within one; `clock` returns seconds.

    Every ten seconds of waiting count as one level of priority, so no sequence waits for ever.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._sequences: list[TokenSequence] = []

    def __len__(self) -> int:
        return len(self._sequences)

    def __iter__(self) -> Iterator[TokenSequence]:
        return iter(tuple(self._sequences))

    def add(self, sequence: TokenSequence) -> None:
        sequence.arrived_s = self._clock()
        self._sequences.append(sequence)

    def first(self) -> TokenSequence | None:
        """Return the sequence whose turn it is; it stays in the queue."""
        now_s = self._clock()
        return min(self._sequences, key=lambda s: s.request.priority - (now_s - s.arrived_s) // AGING_S, default=None)

    def remove(self, sequence: TokenSequence) -> None:
        self._sequences.remove(sequence)

    def clear(self) -> None:
        self._sequences.clear()


class PrefillPacer:
    """Choose how many prompt tokens join a step, from how long steps took: running replies go on at half speed or more.

    Without running replies a step takes `max_tokens`.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._decode_s: float | None = None
        self._token_s: float | None = None

    def budget(self, num_decode_rows: int) -> int:
        """Return the prompt tokens that may join a step of `num_decode_rows` running replies."""
        if num_decode_rows == 0:
            return self._max_tokens
        if self._decode_s is None or self._token_s is None:
            return min(self._max_tokens, 4 * MIN_PREFILL_TOKENS)
        tokens = int((STRETCH - 1) * self._decode_s / self._token_s)
        return min(self._max_tokens, max(MIN_PREFILL_TOKENS, tokens))

    def observe(self, num_decode_rows: int, num_prefill_tokens: int, seconds: float) -> None:
        """Learn from one finished step."""
        if num_prefill_tokens == 0:
            self._decode_s = _mean(self._decode_s, seconds)
        elif num_prefill_tokens >= MIN_PREFILL_TOKENS:
            decode_s = (self._decode_s or 0.0) if num_decode_rows else 0.0
            self._token_s = _mean(self._token_s, max(seconds - decode_s, 0.1 * seconds) / num_prefill_tokens)


def _mean(past: float | None, new: float) -> float:
    return new if past is None else _MEMORY * past + (1 - _MEMORY) * new
