"""Turn one sequence's tokens into text, token by token: whole UTF-8 only, and nothing past a stop string."""

from __future__ import annotations

import codecs
from collections.abc import Sequence

from core.types import Tokenizer, TokenLogprob


class TextStream:
    """Detokenise one reply.

    Bytes of an unfinished character and text that may still become a stop string are held back; `stopped` turns
    True when a stop string is complete, and no text from it on ever leaves. The space with which SentencePiece marks a
    first word is dropped, as `decode` does for a whole reply, unless the reply `continues_text` of its prompt.
    """

    def __init__(self, tokenizer: Tokenizer, stop: Sequence[str] = (), *, continues_text: bool = False) -> None:
        self._tokenizer = tokenizer
        self._stop = tuple(stop)
        self._utf8 = codecs.getincrementaldecoder("utf-8")(errors="replace")
        self._held = ""
        self._at_marked_start = tokenizer.marks_first_word and not continues_text
        self.stopped = False

    def push(self, token_id: int) -> str:
        """Return the text that one more token makes safe to send, often a few characters, sometimes none."""
        text = self._utf8.decode(self._tokenizer.token_bytes(token_id))
        if text and self._at_marked_start:
            text, self._at_marked_start = text.removeprefix(" "), False
        return self._release(text, final=False)

    def flush(self) -> str:
        """Return what is still held at the end; bytes of an unfinished character become U+FFFD."""
        return self._release(self._utf8.decode(b"", final=True), final=True)

    def describe(self, token_id: int, logprob: float) -> TokenLogprob:
        """Return a token alone: its bytes as text (U+FFFD for parts of characters), or the name of a special token."""
        token_bytes = self._tokenizer.token_bytes(token_id) or None
        names = (name for name, special_id in self._tokenizer.special_ids.items() if special_id == token_id)
        text = next(names, "") if token_bytes is None else token_bytes.decode(errors="replace")
        return TokenLogprob(token_id=token_id, text=text, token_bytes=token_bytes, logprob=logprob)

    def _release(self, text: str, *, final: bool) -> str:
        if self.stopped:
            return ""
        held = self._held + text
        starts = [start for stop in self._stop if (start := held.find(stop)) >= 0]
        if starts:
            self.stopped, self._held = True, ""
            return held[: min(starts)]
        num_held = 0 if final else max((_overlap(held, stop) for stop in self._stop), default=0)
        self._held = held[len(held) - num_held :]
        return held[: len(held) - num_held]


def _overlap(text: str, stop: str) -> int:
    """Return the length of the longest proper prefix of `stop` that `text` ends with."""
    longest = min(len(text), len(stop) - 1)
    return next((size for size in range(longest, 0, -1) if text.endswith(stop[:size])), 0)
