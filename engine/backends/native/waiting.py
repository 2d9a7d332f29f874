"""The queue before the slots, and how much of a long prompt one step takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from engine.backends.native.scheduler import TokenSequence

AGING_S = 10.0
ROW_BLOCK = 16  # rows of a step with prompt tokens come in multiples of it: every new number costs a kernel's making
MIN_PREFILL_TOKENS = 8  # fewer would cost nearly as much: the weights are read anyway
FIRST_PREFILL_TOKENS = 24
STRETCH = 2.3  # a step that also reads a prompt may take this many times a step that does not
WAIT = 0.35  # of the time of a step of running replies, which they may wait for a part of a prompt after it
WAIT_OF_MANY = 0.6  # for as many replies as `MANY_REPLIES`: their steps are longer and vary less
MANY_REPLIES = 8
SHORT_PROMPT_TOKENS = 32  # a question about a picture has a dozen
BURST, BURST_PROMPT_TOKENS = 4, 128  # so many prompts, and none longer, are a burst of chats that begin
SHORT_SHARE, BURST_SHARE = 2, 4  # replies that run for each such prompt, at most: else few would make many wait
MAX_GROWTH = 1.5  # of the prompt tokens, from one step to the next


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
    """Choose how many prompt tokens join a step, from how long steps took: running replies keep a share of their speed.

    Without running replies a step takes `max_tokens`; so does one where short prompts wait, at least half as many as
    replies run, or a burst of a quarter as many: read in small portions, its last ones would begin when the first ones
    end, and steps of few rows cost nearly what steps of many do. Otherwise the number follows what one prompt token has
    cost lately, so that such a step takes `STRETCH` times one without any, whose time is known by the number of
    replies: it is measured once, by holding the prompt back for a step, when there has been none of about so many.
    """

    def __init__(self, max_tokens: int) -> None:
        self._max_tokens = max_tokens
        self._quiet_s: dict[int, float] = {}
        self._tokens = float(FIRST_PREFILL_TOKENS)

    def budget(self, num_decode_rows: int, unread: Sequence[int] = ()) -> int:
        """Return the prompt tokens that may join a step of some running replies.

        `unread` are the tokens left of each prompt that waits.
        """
        if num_decode_rows == 0 or self.lets_in_all(num_decode_rows, unread):
            return self._max_tokens
        if num_decode_rows.bit_length() not in self._quiet_s:
            return 0
        tokens = max(self._tokens, MIN_PREFILL_TOKENS)
        rows = int(num_decode_rows + tokens) // ROW_BLOCK * ROW_BLOCK
        if rows < num_decode_rows + MIN_PREFILL_TOKENS:
            rows = -(-(num_decode_rows + MIN_PREFILL_TOKENS) // ROW_BLOCK) * ROW_BLOCK
        return min(self._max_tokens, rows - num_decode_rows)

    def lets_in_all(self, num_decode_rows: int, unread: Sequence[int]) -> bool:
        """Say whether short prompts wait, enough of them to be read at once."""
        longest, share = (
            (BURST_PROMPT_TOKENS, BURST_SHARE) if len(unread) >= BURST else (SHORT_PROMPT_TOKENS, SHORT_SHARE)
        )
        return max(unread, default=0) <= longest and share * len(unread) >= num_decode_rows

    def wait_s(self, num_decode_rows: int) -> float | None:
        """Return how long so many replies may wait between two steps; None while their steps' time is unknown."""
        quiet_s = self._quiet_s.get(num_decode_rows.bit_length())
        share = WAIT_OF_MANY if num_decode_rows >= MANY_REPLIES else WAIT
        return None if quiet_s is None else share * quiet_s

    def observe(self, num_decode_rows: int, num_prefill_tokens: int, seconds: float) -> None:
        """Learn from one finished step."""
        size = num_decode_rows.bit_length()  # batches between two powers of two count as alike
        if num_prefill_tokens == 0:
            self._quiet_s[size] = _mean(self._quiet_s.get(size), seconds)
        elif num_decode_rows and size in self._quiet_s and num_prefill_tokens >= MIN_PREFILL_TOKENS:
            quiet_s = self._quiet_s[size]
            allowed_s, token_s = (STRETCH - 1) * quiet_s, max(seconds - quiet_s, 1e-9) / num_prefill_tokens
            wanted = min(allowed_s / token_s, MAX_GROWTH * self._tokens)
            self._tokens = min(max(_mean(self._tokens, wanted), MIN_PREFILL_TOKENS), self._max_tokens)


def _mean(past: float | None, new: float) -> float:
    return new if past is None else (past + new) / 2
