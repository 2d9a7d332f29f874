"""Does a question concern the medium beside it? A linear model of its words and pairs of words.

"What is this?" does, "What is the capital of Peru?" does not: the words that point (this, it, picture, hear) tell, and
they are few. A question that does not is answered by the base model alone, as if no medium were there.
"""

from __future__ import annotations

import math
import re
import zlib
from itertools import pairwise

from core.types import FloatArray

NUM_BUCKETS = 16384
UNRELATED_ABOVE = 0.6  # an unclear question concerns the medium
_LOG_ODDS = math.log(UNRELATED_ABOVE / (1 - UNRELATED_ABOVE))


def buckets_of(text: str) -> list[int]:
    """Return the buckets of the distinct words and neighbouring pairs of a question, its start and end included."""
    words = ["<s>", *re.findall(r"[^\W_]+", text.lower().replace("what's", "what is")), "</s>"]
    pairs = [f"{one} {other}" for one, other in pairwise(words)]
    return sorted({bucket_of(gram) for gram in (*words, *pairs)})


def bucket_of(gram: str) -> int:
    """Return the bucket of one word or pair of words."""
    return zlib.crc32(gram.encode()) % NUM_BUCKETS


class MediaQuestions:
    """Tell questions about a medium from others; `weights` `(NUM_BUCKETS,)` and `bias` give the log-odds of others."""

    def __init__(self, weights: FloatArray, bias: float) -> None:
        self._weights, self._bias = weights, bias

    def concerns_media(self, question: str) -> bool:
        """Say whether the medium matters to this text; without any words it does."""
        log_odds = self._bias + float(self._weights[buckets_of(question)].sum())
        return not question.strip() or log_odds < _LOG_ODDS
