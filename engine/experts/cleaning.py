"""Text of an expert, made harmless: whatever stands in a picture is data between our delimiters, never a turn.

What goes: control, format and unassigned characters; texts of special tokens, of any model's chat template; marks
that open a turn; our own delimiter. What stays is what people would read.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable

DELIMITER = '"""'
_DROPPED_CATEGORIES = frozenset({"Cc", "Cf", "Cs", "Co", "Cn"})
_TOKEN_TEXTS = re.compile(
    r"<\s*[|/]?[^<>\n]{0,64}[|]\s*>"  # <|im_start|>, <|end|>
    r"|<\s*/?\s*(?:s|bos|eos|unk|pad|mask|start_of_turn|end_of_turn|tool_call|tool_response|think)\s*>"
    r"|\[\s*/?\s*(?:INST|SYS|TOOL_CALLS|AVAILABLE_TOOLS|TOOL_RESULTS|IMG)\s*\]"
    r"|<<\s*/?\s*SYS\s*>>",
    re.IGNORECASE,
)
_SPEAKER = re.compile(r"(?i)\b(?P<role>system|user|assistant|human|gpt)[\s*_]*:")  # some templates need no new line
_HEADING = re.compile(r"(?im)^[\s#*>_=-]*(?P<role>bot|tool|instruction|response|input|question|answer)[\s*_]*:")
_HASHES = re.compile(r"#{2,}")  # ### Instruction, ###Assistant
_QUOTES = re.compile(r"[\"“”„‟«»″‶〝〞＂'`]{2,}")


def cleaned(text: str, special_texts: Iterable[str] = ()) -> str:
    """Return `text` without anything that could end our delimiters, open a turn or hide from a reader.

    `special_texts` are those of the served model's own special tokens. Line breaks stay, at most one in a row.
    """
    text = unicodedata.normalize("NFKC", text.replace("\r\n", "\n").replace("\r", "\n").replace("\u2028", "\n"))
    text = "".join(c for c in text if c in "\n\t" or unicodedata.category(c) not in _DROPPED_CATEGORIES)
    specials = sorted((special for special in special_texts if special), key=len, reverse=True)
    before = None
    while before != text:  # what is taken out may leave another token behind: <|im_<|x|>start|>
        before = text
        for special in specials:
            text = text.replace(special, " ")
        text = _TOKEN_TEXTS.sub(" ", text)
    text = _QUOTES.sub('"', _HASHES.sub("#", text))
    for turn in (_SPEAKER, _HEADING):
        text = turn.sub(lambda found: f"{found['role']} -", text)
    lines = (" ".join(line.split()) for line in text.split("\n"))
    return "\n".join(line for line in lines if line)


def shortened(text: str, max_chars: int) -> str:
    """Return `text` cut at the last space or line break before `max_chars`."""
    if len(text) <= max_chars:
        return text
    cut = text[:max_chars]
    kept = cut[: max(cut.rfind(" "), cut.rfind("\n"))] if " " in cut or "\n" in cut else cut
    return kept.rstrip()
