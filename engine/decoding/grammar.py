"""Hold a reply to a schema, an expression or tool calls: which tokens may come next, and whether it is whole.

The only importer of llguidance, whose limits count work instead of time, so that a refusal does not depend on the load.
"""

from __future__ import annotations

import asyncio
import json
import re
import threading
from collections import OrderedDict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from math import prod
from typing import Any

import numpy as np
import numpy.typing as npt
from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from core.errors import InvalidRequest
from core.types import Grammar, Tokenizer
from engine.decoding.tool_calls import JSON_STYLE, expression_of, lark_source, schemas_of

MAX_SOURCE_CHARS = 65_536
MAX_DEPTH = 32  # of a schema's objects and lists
MAX_REPETITIONS = 10_000  # one length or count in a schema, or the product of all counts in one expression
COMPILE_TIMEOUT_S = 20.0
_MAX_KEPT = 32
_COUNT = re.compile(
    r"\\[xuU]\{\w*\}|\\.|\{(\d*)(?:,(\d*))?\}", re.DOTALL
)  # escapes first, so that \x{2603} is no count


class OutputGuide:
    """The state of one reply in its grammar. Used by one thread at a time."""

    def __init__(self, matcher: LLMatcher, param: str) -> None:
        self._matcher = matcher
        self._param = param

    @property
    def is_complete(self) -> bool:
        """True when nothing may follow."""
        return bool(self._matcher.is_stopped())

    def fill_mask(self, mask: npt.NDArray[np.uint8]) -> None:
        """Write one bit per token that may come next, lowest first, into `(ceil(V / 32) * 4,)`.

        Safe to repeat. Raises `InvalidRequest` when the grammar needs too much work at this point.
        """
        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        size = min(len(bits), len(mask))
        mask[:size] = bits[:size]
        self._check()

    def advance(self, token_id: int) -> None:
        """Take a drawn token in."""
        self._matcher.consume_token(token_id)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise InvalidRequest(
                f"{self._param} became too costly to follow in the middle of the reply; simplify it", param=self._param
            )


class GrammarCompiler:
    """Compile grammars for one tokenizer in threads of its own; the last ones used are kept."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._vocabulary: LLTokenizer | None = None
        self._kept: OrderedDict[Grammar, LLMatcher] = OrderedDict()
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(max_workers=2, thread_name_prefix="grammar")
        self._limits = LLParserLimits(
            step_lexer_fuel=100_000, max_lexer_states=20_000, max_grammar_size=100_000, verbose_errors=False
        )

    async def guide(self, grammar: Grammar) -> OutputGuide:
        """Return a fresh guide. Raises `InvalidRequest` for a grammar that cannot be followed exactly or is too big."""
        check_size(grammar)
        try:
            async with asyncio.timeout(COMPILE_TIMEOUT_S):
                matcher = await asyncio.get_running_loop().run_in_executor(self._threads, self._fresh_matcher, grammar)
        except TimeoutError:
            raise InvalidRequest(
                f"{grammar.param} took longer than {COMPILE_TIMEOUT_S:g} s to compile; simplify it", param=grammar.param
            ) from None
        return OutputGuide(matcher, grammar.param)

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _fresh_matcher(self, grammar: Grammar) -> LLMatcher:
        with self._lock:
            compiled = self._kept.pop(grammar, None)
        compiled = compiled or self._compile(grammar)
        with self._lock:
            self._kept[grammar] = compiled
            if len(self._kept) > _MAX_KEPT:
                self._kept.popitem(last=False)
            return compiled.deep_copy()

    def _compile(self, grammar: Grammar) -> LLMatcher:
        if grammar.kind == "regex":
            source = LLMatcher.grammar_from_regex(grammar.source)
        elif grammar.kind == "tools":
            source = LLMatcher.grammar_from_lark(lark_source(grammar.source))
        else:
            source = LLMatcher.grammar_from_json_schema(grammar.source, overrides=JSON_STYLE)  # type: ignore[arg-type]
        matcher = LLMatcher(self._ll_tokenizer(), source, log_level=0, limits=self._limits)
        if not matcher.is_error():
            matcher.compute_bitmask()  # the first step finds what construction puts off
        if matcher.is_error() or (matcher.is_stopped() and not matcher.is_accepting()):
            reason = " ".join(matcher.get_error().split())[:300] or "nothing can match it"
            raise InvalidRequest(f"{grammar.param} cannot be honoured: {reason}", param=grammar.param)
        return matcher

    def _ll_tokenizer(self) -> LLTokenizer:
        with self._lock:
            if self._vocabulary is None:
                words = TokenizerWrapper(_Words(self._tokenizer))
                self._vocabulary = LLTokenizer(words, eos_token=sorted(self._tokenizer.eos_token_ids))
            return self._vocabulary


class _Words:
    """The vocabulary as llguidance reads it; tokens without bytes can never be part of a reply."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self.eos_token_id = min(tokenizer.eos_token_ids)
        self.bos_token_id = None
        words = [tokenizer.token_bytes(token_id) for token_id in range(tokenizer.vocab_size)]
        self.special_token_ids = [token_id for token_id, word in enumerate(words) if not word]
        self.tokens = [word or b"\xff<%d>" % token_id for token_id, word in enumerate(words)]

    def __call__(self, text: str | bytes) -> list[int]:
        return self._tokenizer.encode(text if isinstance(text, str) else text.decode())


def check_size(grammar: Grammar) -> None:
    """Raise `InvalidRequest` for a grammar whose size or repetitions would cost too much before any limit counts."""
    if len(grammar.source) > MAX_SOURCE_CHARS:
        _refuse(grammar, f"has {len(grammar.source)} characters; at most {MAX_SOURCE_CHARS} are taken")
    if grammar.kind == "regex":
        _check_counts(grammar, grammar.source)
        return
    is_tools = grammar.kind == "tools"
    if is_tools and (expression := expression_of(grammar.source)) is not None:
        _check_counts(grammar, expression)
    for schema in schemas_of(grammar.source) if is_tools else [json.loads(grammar.source)]:
        _check_schema(grammar, schema)


def _check_schema(grammar: Grammar, schema: Any) -> None:
    for depth, key, value in _entries(schema, 1):
        if depth > MAX_DEPTH:
            _refuse(grammar, f"is nested deeper than {MAX_DEPTH} levels; flatten it")
        if isinstance(value, str) and key in ("pattern", "patternProperties"):
            _check_counts(grammar, value)
        is_count = key.startswith(("min", "max")) and key.endswith(("Length", "Items", "Properties", "Contains"))
        if is_count and isinstance(value, int | float) and value > MAX_REPETITIONS:
            _refuse(grammar, f"has {key} {value:g}; at most {MAX_REPETITIONS} is taken")


def _entries(schema: Any, depth: int) -> Iterator[tuple[int, str, Any]]:
    """Yield `(depth, key, value)` of every entry, and every key of `patternProperties` as its value."""
    pending: list[tuple[int, str, Any]] = [(depth, "", schema)]
    while pending:
        depth, key, value = pending.pop()
        yield depth, key, value
        if isinstance(value, dict):
            if key == "patternProperties":
                pending += [(depth, key, pattern) for pattern in value]
            pending += [(depth + 1, name, inner) for name, inner in value.items()]
        elif isinstance(value, list):
            pending += [(depth + 1, "", inner) for inner in value]


def _check_counts(grammar: Grammar, pattern: str) -> None:
    counts = [int(low_high[-1] or low_high[0] or 1) for low_high in _COUNT.findall(pattern)]
    if prod(max(count, 1) for count in counts) > MAX_REPETITIONS:
        _refuse(grammar, f"repeats more than {MAX_REPETITIONS} times; use smaller counts or *")


def _refuse(grammar: Grammar, sentence: str) -> None:
    raise InvalidRequest(f"{grammar.param} {sentence}", param=grammar.param)
