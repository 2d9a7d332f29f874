"""The text form of tool calls: what a reply may look like, and the way back from its text to the calls.

A call is written as Hermes and Qwen models were trained to write it,

    <tool_call>
    {"name": "NAME", "arguments": {...}}
    </tool_call>

with exactly these spaces, so that the reader below needs no JSON parser.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from core.types import Grammar, Tool

OPEN, CLOSE = "<tool_call>", "</tool_call>"
MAX_CALLS = 16  # in one reply; a small model that repeats itself ends here
JSON_STYLE = {"whitespace_flexible": True, "whitespace_pattern": r"[ \n]?", "lenient": False, "coerce_one_of": False}
"""How llguidance writes JSON: at most one space or line break between two symbols."""

_HEAD = re.compile(re.escape(OPEN) + r'\n\{"name": "([a-zA-Z0-9_-]+)", "arguments": ')


def tool_grammar(
    tools: Sequence[Tool], *, must_call: bool, several: bool, otherwise: Grammar | None = None, param: str = "tools"
) -> Grammar:
    """Return the grammar of a reply that calls one of `tools`, or with `several` up to `MAX_CALLS` times.

    Unless it `must_call`, the reply may begin with or be text; where `otherwise` is given, it is that or the calls.
    """
    source = {
        "tools": {tool.name: json.loads(tool.parameters) for tool in tools},
        "must_call": must_call,
        "several": several,
        "otherwise": None if otherwise is None else {"kind": otherwise.kind, "source": otherwise.source},
    }
    return Grammar(kind="tools", source=json.dumps(source), param=param)


def schemas_of(source: str) -> list[Any]:
    """Return every JSON Schema inside the source of a tool grammar."""
    parts = json.loads(source)
    other = parts["otherwise"] or {}
    schemas = list(parts["tools"].values())
    return [*schemas, json.loads(other["source"])] if other.get("kind") == "json_schema" else schemas


def expression_of(source: str) -> str | None:
    """Return the regular expression inside the source of a tool grammar, None without one."""
    other = json.loads(source)["otherwise"] or {}
    return other["source"] if other.get("kind") == "regex" else None


def lark_source(source: str) -> str:
    """Return the grammar in llguidance's Lark dialect; a lazy lexeme ends free text where a call opens."""
    parts = json.loads(source)
    more = f"more{{0,{MAX_CALLS - 1}}}" if parts["several"] else ""
    begin = f"{json.dumps(OPEN)} call {more}"
    lines = ["%llguidance {}"]
    if parts["must_call"]:
        lines.append(f"start: {begin}")
    elif parts["otherwise"] is not None:  # no free text before a call: its lexeme would swallow any other
        lines.append(f"start: {_otherwise(parts['otherwise'])} | {begin}")
    else:
        lines += [
            f"start: TEXT | opening call {more}",
            f"opening[lazy]: TEXT {json.dumps(OPEN)}",
            r"TEXT: /(.|\n)*/",
        ]
    lines += [
        f"more: {json.dumps(chr(10) + OPEN)} call",
        f'call: "\\n" body {json.dumps(chr(10) + CLOSE)}',
        "body: " + " | ".join(f"body_{place}" for place in range(len(parts["tools"]))),
    ]
    for place, (name, schema) in enumerate(parts["tools"].items()):
        head = json.dumps(f'{{"name": "{name}", "arguments": ')
        lines.append(f'body_{place}: {head} {_json_rule(schema)} "}}"')
    return "\n".join(lines)


def _otherwise(other: dict[str, str]) -> str:
    if other["kind"] == "json_schema":
        return _json_rule(json.loads(other["source"]))
    expression = re.sub(r"(\\.)|/", lambda found: found[1] or r"\/", other["source"], flags=re.DOTALL)
    return "/" + expression.replace("\n", r"\n") + "/"


def _json_rule(schema: Any) -> str:
    styled = {**schema, "x-guidance": JSON_STYLE} if isinstance(schema, dict) else schema
    return f"%json {json.dumps(styled)}"


@dataclass(frozen=True, slots=True)
class ReplyPiece:
    """Something a reply said next: text, the head of a call (its name), or more of that call's arguments.

    `call` counts the calls of the reply from 0, `call_id` is new with each; both are unset for text.
    """

    kind: Literal["text", "call", "arguments"]
    text: str
    call: int = -1
    call_id: str = ""


class ToolCallReader:
    """Split the growing text of one reply into text and calls; white space before a call belongs to neither."""

    def __init__(self) -> None:
        self._held = ""
        self._arguments: _JsonEnd | None = None  # of the call that is open
        self._has_ended = False
        self.num_calls = 0

    def push(self, text: str) -> list[ReplyPiece]:
        """Return what `text` makes certain, often nothing while a tag may be starting."""
        self._held += text
        return list(self._pieces())

    def flush(self) -> list[ReplyPiece]:
        """Return what is still held at the end of the reply; a call that was cut keeps what it has."""
        held, self._held = self._held, ""
        is_text = self.num_calls == 0 and bool(held)
        return [ReplyPiece("text", held)] if is_text and not held.startswith(OPEN) else []

    def _pieces(self) -> Iterator[ReplyPiece]:
        while self._held:
            if self._arguments is not None:
                yield from self._take_arguments(self._arguments)
                if self._arguments is not None:
                    return
            start = self._held.find(OPEN)
            if start < 0:
                yield from self._take_text(len(self._held) - _num_undecided(self._held))
                return
            yield from self._take_text(len(self._held[:start].rstrip()))
            self._held = self._held.lstrip()
            head = _HEAD.match(self._held)
            if head is None:
                return
            self._held = self._held[head.end() :]
            self._arguments = _JsonEnd()
            self.num_calls += 1
            yield ReplyPiece("call", head[1], self.num_calls - 1, f"call_{secrets.token_hex(12)}")

    def _take_text(self, num_chars: int) -> Iterator[ReplyPiece]:
        """Release text before the first call; what stands between calls is only the end of one and white space."""
        text, self._held = self._held[:num_chars], self._held[num_chars:]
        if text and self.num_calls == 0:
            yield ReplyPiece("text", text)

    def _take_arguments(self, arguments: _JsonEnd) -> Iterator[ReplyPiece]:
        num_chars = arguments.length_in(self._held)
        text, self._held = self._held[:num_chars], self._held[num_chars:]
        if text:
            yield ReplyPiece("arguments", text, self.num_calls - 1)
        if arguments.is_over:
            self._arguments = None


class _JsonEnd:
    """Find where one JSON object ends in text that arrives in pieces."""

    def __init__(self) -> None:
        self._depth = 0
        self._in_string = self._is_escaped = False
        self.is_over = False

    def length_in(self, text: str) -> int:
        """Return how many characters of `text` belong to the object."""
        for place, character in enumerate(text):
            if self._in_string:
                self._in_string = self._is_escaped or character != '"'
                self._is_escaped = character == "\\" and not self._is_escaped
                continue
            self._in_string = character == '"'
            self._depth += (character in "{[") - (character in "}]")
            if self._depth == 0:
                self.is_over = True
                return place + 1
        return len(text)


def _num_undecided(text: str) -> int:
    """Return the length of the end of `text` that may still become white space before a call, or the tag of one."""
    sizes = range(min(len(text), len(OPEN) - 1), 0, -1)
    num_tag = next((size for size in sizes if OPEN.startswith(text[-size:])), 0)
    before = text[: len(text) - num_tag]
    return num_tag + len(before) - len(before.rstrip())
