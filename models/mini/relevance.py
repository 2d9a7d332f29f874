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

_MEDIA = re.compile(
    r"\b(picture|image|photo|photograph|sound|recording|clip|film|video|shape|thing|file)s\b", re.IGNORECASE
)


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

    def concerns_media(self, question: str, *, are_several: bool = False) -> bool:
        """Say whether the medium matters to this text; without any words it does.

        Beside several media the plural counts like the singular, which alone was trained: these pictures, this picture.
        """
        if are_several and self.concerns_media(_in_singular(question)):
            return True
        log_odds = self._bias + float(self._weights[buckets_of(question)].sum())
        return not question.strip() or log_odds < _LOG_ODDS


def _in_singular(question: str) -> str:
    return re.sub(r"\bthese\b", "this", _MEDIA.sub(r"\1", question), flags=re.IGNORECASE)
