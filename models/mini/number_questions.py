"""Questions for a number of things, which an embedding does not hold, told from others by their words."""

from __future__ import annotations

import re
from dataclasses import dataclass

from models.mini.attribute_questions import plain_words

MAX_CHARS = 300  # a longer text tells more than it asks
_MEDIUM = r"(?:picture|image|photo|photograph|pic|shot|snapshot|scene)"
_POINTING = re.compile(
    r"(?:(?:of|are)\s+)?(?:(?:the|these|those|them|they|of|things?|objects?|items?|ones?)\b\s*)*(?:in all)?\s*"
)
_SEEN = (
    r"(?:(?:are|is|were|was)\s+(?:there|shown|visible|depicted|they|these|those|it|here|in|on)\b.*|"
    rf"(?:do|can|could)\s+(?:you|i|we)\s+(?:see|count|find|spot|notice|make\s+out)\b.*|does\s+(?:it|(?:the|this|my)\s+{_MEDIUM})\s+"
    r"(?:show|have|contain|depict)\b.*|)"
)
_BEFORE_US = re.compile(
    rf"\b(?:{_MEDIUM}|of\s+(?:these|those|them)|(?:do|can|could)\s+(?:you|i|we)\s+(?:see|count|find|spot|notice|make\s+out))\b"
)
_QUESTIONS = (
    re.compile(rf"(?:and\s+)?(?:how\s+many|(?:what\s+is\s+)?(?:what|the)\s+number\s+of)\b\s*(?P<thing>.*?)\s*{_SEEN}"),
    re.compile(rf"count\s+(?P<thing>.*?)(?:\s+(?:in|on|that|you|here|for)\b.*|\s+{_SEEN})?"),
)


@dataclass(frozen=True, slots=True)
class NumberQuestion:
    """What is to be counted, empty for whatever is shown; `points`: the words speak of what lies before the asker."""

    thing: str
    points: bool


def number_question(text: str) -> NumberQuestion | None:
    """Return what the last question for a number counts, or None where none is asked for."""
    if len(text) > MAX_CHARS:
        return None
    for sentence in reversed(re.findall(r"[^.?!\n]+", text)):
        words = plain_words(sentence)
        for pattern in _QUESTIONS:
            if found := pattern.fullmatch(words):
                thing = re.sub(r"^(?:of\s+)?(?:(?:the|these|those|all)\s+)+", "", found["thing"])
                is_pointing = bool(_POINTING.fullmatch(found["thing"]))
                thing = re.sub(r"\s+(?:in|on)\s+.*", "", thing)
                return NumberQuestion("" if is_pointing else thing, bool(_BEFORE_US.search(words)))
    return None
